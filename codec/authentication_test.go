package codec

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func mustSecret(t testing.TB, text string) Secret {
	t.Helper()
	s, err := ParseSecret([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// nonceCounting returns 000102...1f, the nonce of the example in PROTOCOL.md.
func nonceCounting() (n Nonce) {
	for i := range n {
		n[i] = byte(i)
	}
	return n
}

// The wanted proofs were computed by another implementation (python3: hmac.new(secret, context +
// nonce + agency, "sha256")). The first one is also in PROTOCOL.md.
func TestProofKnownAnswers(t *testing.T) {
	for _, test := range []struct {
		secret string
		agency Agency
		want   string
	}{
		{"sesame-of-agency-1", 1, "eb07bde1c4de5fcee42147204333c4a663524671441344fb401468bb72d39c9e"},
		{"sesame-of-agency-1", 999999999, "48ec0666970aa08935cd36ef136d02ffd90bb99c3ae0571e727d6f9a7f3237a2"},
		{"!!!!!!!!!!!!!!!!", 2, "8efe3b48969a0ad7af161d8831bc3764e8734a2311003ba5348af035e999936f"},
		{"~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~", 10, "d63c918adabfd4848e94ce3a2300f9fa9221d89abf6677a439b800381c5fcf79"},
	} {
		secret := mustSecret(t, test.secret)
		p := secret.Prove(nonceCounting(), test.agency)
		if got := hex.EncodeToString(p[:]); got != test.want {
			t.Errorf("proof of agency %d with %q is %s, want %s", test.agency, test.secret, got, test.want)
		}
		if !secret.Verify(nonceCounting(), test.agency, p) {
			t.Errorf("proof of agency %d with %q is not verified", test.agency, test.secret)
		}
	}
}

// A proof is valid for one secret, one challenge and one agency only.
func TestVerifyNothingElse(t *testing.T) {
	secret, other := mustSecret(t, "sesame-of-agency-1"), mustSecret(t, "sesame-of-agency-2")
	nonce := nonceCounting()
	p := secret.Prove(nonce, 1)
	for bit := range 8 * ProofBytes {
		wrong := p
		wrong[bit/8] ^= 1 << (bit % 8)
		if secret.Verify(nonce, 1, wrong) {
			t.Errorf("verified with bit %d flipped", bit)
		}
	}
	for bit := range 8 * NonceBytes {
		another := nonce
		another[bit/8] ^= 1 << (bit % 8)
		if secret.Verify(another, 1, p) {
			t.Errorf("verified for a nonce with bit %d flipped", bit)
		}
	}
	for _, a := range []Agency{0, 2, 10, 11, 999_999_999} {
		if secret.Verify(nonce, a, p) {
			t.Errorf("verified for agency %d", a)
		}
	}
	if other.Verify(nonce, 1, p) {
		t.Error("verified with another secret")
	}
	// The zero Secret is not a secret "" that could be proved.
	var none Secret
	if none.Verify(nonce, 1, none.Prove(nonce, 1)) {
		t.Error("verified without a secret")
	}
}

func TestParseAuth(t *testing.T) {
	for _, a := range []Agency{0, 1, 12, 999_999_999} {
		payload, _, ok, err := SplitFrame(AppendAuth(nil, a), AuthenticationBytesMax)
		if !ok || err != nil {
			t.Fatalf("AUTH of agency %d is no frame: %v", a, err)
		}
		if got, ok := ParseAuth(payload); !ok || got != a {
			t.Errorf("ParseAuth(%q) = %d, %v", payload, got, ok)
		}
	}
	for _, payload := range []string{"", "AUTH", "AUTH|", "AUTH|01", "AUTH|x", "AUTH|-1", "AUTH|1 ", "AUTH|1\n", "AUTH|1|", "AUTH||1", "AUTH|1000000000", "auth|1", " AUTH|1", "HELLO|1", "AUTH" + juan[4:]} {
		if a, ok := ParseAuth([]byte(payload)); ok {
			t.Errorf("ParseAuth(%q) = %d, want none", payload, a)
		}
	}
}

func TestParseProof(t *testing.T) {
	want := Proof(nonceCounting())
	frame := AppendProof([]byte("x"), want)
	payload, _, ok, err := SplitFrame(frame[1:], AuthenticationBytesMax)
	if !ok || err != nil || len(payload) != AuthenticationBytesMax {
		t.Fatalf("%q is no frame of %d bytes: %v", frame[1:], AuthenticationBytesMax, err)
	}
	if got, ok := ParseProof(payload); !ok || got != want {
		t.Errorf("ParseProof(%q) = %x, %v", payload, got, ok)
	}
	digits := strings.Repeat("ab", ProofBytes)
	for _, payload := range []string{
		"", "PROOF", "PROOF|", "PROOF|" + digits[1:], "PROOF|" + digits + "0", "PROOF|" + digits + "00", "PROOF|" + digits + "\n",
		"PROOF|" + strings.ToUpper(digits), "PROOF|" + digits[1:] + "B", "PROOF|" + digits[1:] + "g", "PROOF|" + digits[1:] + " ",
		"proof|" + digits, "PROOF" + digits, "CHALLENGE|" + digits, "PROOF" + juan[4:],
	} {
		if p, ok := ParseProof([]byte(payload)); ok {
			t.Errorf("ParseProof(%q) = %x, want none", payload, p)
		}
	}
}

// On a server without secrets, and on an authenticated connection, these messages are parsed as
// batches: invalid ones, unless AUTH is a person's name.
func TestAuthenticationIsNoRequest(t *testing.T) {
	for _, payload := range [][]byte{
		AppendAuth(nil, 1), AppendProof(nil, Proof{}), AppendChallenge(nil, Nonce{}), AppendAuthenticated(nil),
	} {
		_, payload, _ := bytes.Cut(payload, []byte("\n"))
		if o := parsed(t, payload, testRules); o.code != CodeInvalidBatch || o.line != 1 {
			t.Errorf("%q: %+v, want an invalid batch", payload, o)
		}
	}
	for _, name := range []string{"AUTH", "PROOF", "CHALLENGE", "AUTHENTICATED"} {
		r, _, err := ParseRequest([]byte(name+juan[4:]), testRules, nil)
		if err != nil || r.Kind != RequestBets {
			t.Errorf("a bet of a person named %s: %+v, %v", name, r, err)
		}
	}
}

// A payload that is an AUTH or a PROOF re-encodes identically, and is not a valid request.
func FuzzParseAuthentication(f *testing.F) {
	for _, payload := range [][]byte{AppendAuth(nil, 1), AppendProof(nil, Proof{1}), AppendProof(nil, Proof(nonceCounting()))} {
		_, payload, _ = bytes.Cut(payload, []byte("\n"))
		f.Add(payload)
		f.Add(bytes.ToUpper(payload))
		f.Add(append(payload, '\n'))
	}
	f.Add([]byte("AUTH" + juan[4:]))
	f.Fuzz(func(t *testing.T, payload []byte) {
		a, isAuth := ParseAuth(payload)
		p, isProof := ParseProof(payload)
		var again []byte
		switch {
		case isAuth && isProof:
			t.Fatalf("%q is an AUTH and a PROOF", payload)
		case isAuth:
			again = AppendAuth(nil, a)
		case isProof:
			again = AppendProof(nil, p)
		default:
			if digits, ok := strings.CutPrefix(string(payload), "PROOF|"); ok && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == "" ||
				strings.HasPrefix(string(payload), "AUTH|") && modelAgency(string(payload[len("AUTH|"):])) {
				t.Fatalf("%q is neither an AUTH nor a PROOF", payload)
			}
			return
		}
		if want := AppendFrame(nil, payload); !bytes.Equal(again, want) || len(payload) > AuthenticationBytesMax {
			t.Fatalf("%q re-encodes as %q", want, again)
		}
		if _, _, err := ParseRequest(payload, testRules, nil); err == nil {
			t.Fatalf("%q is a request, too", payload)
		}
	})
}
