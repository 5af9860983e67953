package front

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/lottery"
)

// Two agencies are expected in these tests.
const (
	sesame1 = "sesame-of-agency-1"
	sesame2 = "sesame-of-agency-2"
)

func mustSecret(t testing.TB, text string) codec.Secret {
	t.Helper()
	s, err := codec.ParseSecret([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newGuardedReader makes a reader whose sessions have to authenticate. Its nth challenge has n in
// each byte.
func newGuardedReader(t testing.TB) *reader {
	t.Helper()
	rd := newTestReader()
	rd.cfg.Secrets = &Secrets{expected: []codec.Secret{mustSecret(t, sesame1), mustSecret(t, sesame2)}, decoy: mustSecret(t, "a-decoy-that-nobody-has")}
	n := 0
	rd.cfg.Nonce = func() codec.Nonce {
		n++
		return countedNonce(n)
	}
	return rd
}

func countedNonce(n int) (nonce codec.Nonce) {
	for i := range nonce {
		nonce[i] = byte(n)
	}
	return nonce
}

// proof is the payload of a PROOF for the nth challenge.
func proof(t testing.TB, secret string, n int, a codec.Agency) string {
	p := mustSecret(t, secret).Prove(countedNonce(n), a)
	return fmt.Sprintf("PROOF|%x", p[:])
}

// Everything that a connection may say before it has authenticated, and some of it afterwards.
func TestAuthentication(t *testing.T) {
	challenged := func(a, n int) string {
		nonce := countedNonce(n)
		return fmt.Sprintf("challenge %d with %x", a, nonce[:])
	}
	const (
		required = "refuse ERROR_AUTHENTICATION_REQUIRED of 0"
		failed   = "refuse ERROR_AUTHENTICATION_FAILED of 0"
		empty    = "refuse ERROR_EMPTY_BATCH of 0"
		foreign  = "refuse ERROR_INVALID_AGENCY of 0"
	)
	right1, right2 := proof(t, sesame1, 1, 1), proof(t, sesame2, 1, 2)
	betOf2 := strings.TrimSuffix(betJuan, "1") + "2"
	for _, test := range []struct {
		name string
		says []string
		want []string
		ends bool
	}{
		{"right proof", []string{"AUTH|1", right1, "HELLO|1"}, []string{challenged(1, 1), "authenticated 1", "hello 1"}, false},
		{"right proof of another", []string{"AUTH|2", right2, "GET_WINNERS|2"}, []string{challenged(2, 1), "authenticated 2", "get winners 2"}, false},
		{"health checks in between", []string{"", "AUTH|1", "", right1, ""}, []string{empty, challenged(1, 1), empty, "authenticated 1", empty}, false},

		{"wrong secret", []string{"AUTH|1", proof(t, "sesame-of-agency-?", 1, 1)}, []string{challenged(1, 1), failed}, true},
		{"another agency's secret", []string{"AUTH|1", proof(t, sesame2, 1, 1)}, []string{challenged(1, 1), failed}, true},
		{"another agency's proof", []string{"AUTH|1", right2}, []string{challenged(1, 1), failed}, true},
		{"proof for another challenge", []string{"AUTH|1", proof(t, sesame1, 2, 1)}, []string{challenged(1, 1), failed}, true},
		{"an agency that is not expected", []string{"AUTH|3", proof(t, sesame1, 1, 3)}, []string{challenged(3, 1), failed}, true},
		{"no agency", []string{"AUTH|0", proof(t, sesame1, 1, 0)}, []string{challenged(0, 1), failed}, true},
		{"the decoy's secret", []string{"AUTH|3", proof(t, "a-decoy-that-nobody-has", 1, 3)}, []string{challenged(3, 1), failed}, true},
		{"one attempt", []string{"AUTH|1", proof(t, sesame2, 1, 1), right1, "AUTH|1", proof(t, sesame1, 2, 1), "HELLO|1"}, []string{challenged(1, 1), failed}, true},

		{"HELLO first", []string{"HELLO|1", "AUTH|1"}, []string{required}, true},
		{"bets first", []string{betJuan}, []string{required}, true},
		{"GET_WINNERS first", []string{"GET_WINNERS|1"}, []string{required}, true},
		{"newlines first", []string{"\n\n"}, []string{required}, true},
		{"PROOF first", []string{right1}, []string{required}, true},
		{"HELLO after AUTH", []string{"AUTH|1", "HELLO|1", right1}, []string{challenged(1, 1), required}, true},
		{"GET_WINNERS after AUTH", []string{"AUTH|1", "GET_WINNERS|1"}, []string{challenged(1, 1), required}, true},
		{"bets after AUTH", []string{"AUTH|1", betJuan}, []string{challenged(1, 1), required}, true},
		{"AUTH twice", []string{"AUTH|1", "AUTH|1", proof(t, sesame1, 2, 1)}, []string{challenged(1, 1), required}, true},
		{"malformed AUTH", []string{"AUTH|01"}, []string{required}, true},
		{"malformed PROOF", []string{"AUTH|1", strings.ToUpper(right1)}, []string{challenged(1, 1), required}, true},
		{"a bet of a person named AUTH", []string{"AUTH" + strings.TrimPrefix(betJuan, "Juan")}, []string{required}, true},

		{"AUTH once more", []string{"AUTH|1", right1, "AUTH|1"}, []string{challenged(1, 1), "authenticated 1", "refuse ERROR_INVALID_BATCH of 1"}, false},
		{"the proof once more", []string{"AUTH|1", right1, right1}, []string{challenged(1, 1), "authenticated 1", "refuse ERROR_INVALID_BATCH of 1"}, false},
		{"HELLO for another", []string{"AUTH|1", right1, "HELLO|2", "HELLO|1"}, []string{challenged(1, 1), "authenticated 1", foreign, "hello 1"}, false},
		{"GET_WINNERS of another", []string{"AUTH|1", right1, "GET_WINNERS|2"}, []string{challenged(1, 1), "authenticated 1", foreign}, false},
		{"bets of another", []string{"AUTH|1", right1, betOf2 + "\n" + betOf2}, []string{challenged(1, 1), "authenticated 1", "refuse ERROR_INVALID_AGENCY of 2"}, false},
		{"a person named AUTH afterwards", []string{"AUTH|1", right1, "AUTH|" + strings.TrimPrefix(betMaria, "María|")}, []string{
			challenged(1, 1), "authenticated 1", fmt.Sprintf("bets 1 agency 1 %q winners \"\"", "AUTH|"+strings.TrimPrefix(betMaria, "María|")),
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := frames(test.says...)
			for _, step := range []int{len(in), 1} {
				rd := newGuardedReader(t)
				s := new(Session)
				for part := range slices.Chunk(in, step) {
					s.receive(part, rd)
				}
				got := heard(rd)
				for i, word := range got {
					if prefix, _, ok := strings.Cut(word, " of 1 1|"); ok {
						got[i] = prefix + " of 1" // other tests check the reason
					}
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("%d bytes at once: got %q, want %q", step, got, test.want)
				}
				if ended := !s.phase.hears(); ended != test.ends {
					t.Errorf("%d bytes at once: ended %v, want %v", step, ended, test.ends)
				}
				if s.partial != nil {
					t.Errorf("%d bytes at once: a half frame is left", step)
				}
			}
		})
	}
}

// Every connection gets a new challenge, so a proof that was overheard on one is of no use on
// another.
func TestAuthenticationReplay(t *testing.T) {
	rd := newGuardedReader(t)
	first, second := new(Session), new(Session)
	first.receive(frames("AUTH|1", proof(t, sesame1, 1, 1)), rd)
	second.receive(frames("AUTH|1", proof(t, sesame1, 1, 1)), rd)
	if first.proved != 1 || second.proved != 0 || second.phase.hears() {
		t.Errorf("proved: %d and, with the same proof again, %d", first.proved, second.proved)
	}
}

// Without secrets, AUTH and PROOF are invalid batches.
func TestNoAuthenticationWithoutSecrets(t *testing.T) {
	rd := newTestReader()
	s := new(Session)
	s.receive(frames("AUTH|1", proof(t, sesame1, 1, 1), "AUTH"+strings.TrimPrefix(betMaria, "María"), "HELLO|1", "GET_WINNERS|2"), rd)
	want := []string{
		"refuse ERROR_INVALID_BATCH of 1", "refuse ERROR_INVALID_BATCH of 1",
		fmt.Sprintf("bets 1 agency 1 %q winners \"\"", "AUTH"+strings.TrimPrefix(betMaria, "María")), "hello 1", "get winners 2",
	}
	if got := heard(rd); !slices.Equal(got, want) || !s.phase.hears() {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A stranger's frame is refused as soon as its header says that it is larger than any AUTH or
// PROOF, and takes no more memory than they do.
func TestAuthenticationFrameLimit(t *testing.T) {
	for _, test := range []struct {
		in   string
		want string // empty: the session waits for more
	}{
		{"70\n", ""},
		{"71", "refuse ERROR_AUTHENTICATION_REQUIRED of 0"},
		{"8192\nJuan", "refuse ERROR_AUTHENTICATION_REQUIRED of 0"},
		{"99999999999999999999\n", "refuse ERROR_AUTHENTICATION_REQUIRED of 0"},
		{"GET / HTTP/1.1\r\n", "refuse ERROR_INVALID_FRAME of 0"},
	} {
		for _, step := range []int{len(test.in), 1} {
			rd := newGuardedReader(t)
			s := new(Session)
			for part := range slices.Chunk([]byte(test.in), step) {
				s.receive(part, rd)
			}
			if got := strings.Join(heard(rd), ""); got != test.want {
				t.Errorf("%q, %d at once: got %q, want %q", test.in, step, got, test.want)
			}
			held := int(rd.partials.limit.bytes.Load())
			if held > 2*codec.AuthenticationBytesMax || held == 0 && s.partial != nil || len(rd.partials.spare) > 0 {
				t.Errorf("%q: a stranger holds a buffer of %d bytes, %d are kept", test.in, held, len(rd.partials.spare))
			}
		}
	}

	// After the proof the limit is the configured one, also in the same read.
	rd := newGuardedReader(t)
	s := new(Session)
	long := strings.Repeat(betMaria+"\n", 20)
	s.receive(frames("AUTH|1", proof(t, sesame1, 1, 1), long), rd)
	if got := heard(rd); len(got) != 3 || !strings.HasPrefix(got[2], "bets 20 ") {
		t.Errorf("after the proof: %q", got)
	}
}

// A stranger has SERVER_READ_TIMEOUT to authenticate, however much it says meanwhile. Afterwards it
// may be silent.
func TestAuthenticationTimeout(t *testing.T) {
	const timeoutTicks = 3
	auth, right := string(frames("AUTH|1")), string(frames(proof(t, sesame1, 1, 1)))
	for _, test := range []struct {
		name    string
		before  []string // what comes before each tick
		timeout int      // the tick that refuses, from 1; 0: none
	}{
		{"silence", []string{"", "", "", "", ""}, 4},
		{"an empty frame each tick", []string{"0\n", "0\n", "0\n", "0\n", "0\n"}, 4},
		{"AUTH, then silence", []string{"", "", auth, "", "", "", ""}, 4},
		{"half a PROOF", []string{auth, "", right[:20], "", "", ""}, 4},
		{"a byte a tick", []string{"6", "\n", "A", "U", "T"}, 4},
		{"proved in time", []string{"", auth, right, "", "", "", ""}, 0},
		{"half a frame after the proof has its own time", []string{"", auth, right + "7\nHEL", "", "", "", ""}, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			rd := newGuardedReader(t)
			s := new(Session)
			at := 0
			for i, in := range test.before {
				s.receive([]byte(in), rd)
				s.tick(timeoutTicks, rd)
				if slices.Contains(heard(rd), "refuse ERROR_TIMEOUT of 0") && at == 0 {
					at = i + 1
				}
			}
			if at != test.timeout {
				t.Errorf("timeout at tick %d, want %d", at, test.timeout)
			}
		})
	}
}

// The log lines of authentication. A wrong proof is logged even if its peer is gone before the
// answer.
func TestAuthenticationLog(t *testing.T) {
	failed := commit.Reply{Effect: lottery.Effect{Kind: lottery.Reject, Code: codec.CodeAuthenticationFailed, Agency: 3}}
	required := commit.Reply{Effect: lottery.Effect{Kind: lottery.Reject, Code: codec.CodeAuthenticationRequired, Agency: 3}}
	for _, test := range []struct {
		name  string
		reply commit.Reply
		told  bool
		want  string
	}{
		{"right proof", commit.Reply{Effect: lottery.Effect{Kind: commit.Authenticated, Agency: 3}}, true, "info autenticacion map[agencia:3 result:success]"},
		{"right proof, peer gone", commit.Reply{Effect: lottery.Effect{Kind: commit.Authenticated, Agency: 3}}, false, ""},
		{"wrong proof", failed, true, "warn autenticacion map[agencia:3 error:ERROR_AUTHENTICATION_FAILED result:fail]"},
		{"wrong proof, peer gone", failed, false, "warn autenticacion map[agencia:3 error:ERROR_AUTHENTICATION_FAILED result:fail]"},
		{"no proof", required, true, "info solicitud map[agencia:3 error:ERROR_AUTHENTICATION_REQUIRED result:fail]"},
		{"no proof, peer gone", required, false, ""},
		{"challenge", commit.Reply{Effect: lottery.Effect{Kind: commit.Challenge, Agency: 3}, Detail: string(make([]byte, codec.NonceBytes))}, true, "debug autenticacion map[agencia:3 result:in_progress]"},
		{"health check", commit.Reply{Effect: lottery.Effect{Kind: lottery.Reject, Code: codec.CodeEmptyBatch}}, true, "debug solicitud map[error:ERROR_EMPTY_BATCH result:fail]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			core, logs := observer.New(zap.DebugLevel)
			log := zap.New(core)
			cfg := testConfig()
			cfg.Agencies = 3
			lp := newLoop(New(cfg, log, nil), new(spy), nil)
			peer := new(Session)
			peer.Session.Peer = peer
			test.reply.Session = &peer.Session
			lp.logReply(&test.reply, test.told)
			got := ""
			for _, line := range logs.All() {
				got += fmt.Sprintf("%v %s %v", line.Level, line.Message, line.ContextMap())
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
