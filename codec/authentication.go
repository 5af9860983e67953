package codec

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// Sizes of a nonce and a proof, in bytes. On the wire, each byte is two lower-case hexadecimal
// digits.
const (
	NonceBytes = 32
	ProofBytes = sha256.Size
)

// AuthenticationBytesMax limits the payloads of a connection until it has authenticated, in bytes.
// The longest one is a PROOF.
const AuthenticationBytesMax = len(prefixProof) + 2*ProofBytes

// Nonce is a server's challenge: random bytes that are good for one proof.
type Nonce [NonceBytes]byte

// Proof is what an agency computes from a challenge and its secret. Compare proofs only with
// [Secret.Verify], which takes constant time.
type Proof [ProofBytes]byte

const (
	prefixAuth           = "AUTH|"
	prefixProof          = "PROOF|"
	prefixChallenge      = "CHALLENGE|"
	payloadAuthenticated = "AUTHENTICATED"

	// proofContext makes a proof useless in any other protocol, and in a later version of this one.
	// It and the nonce have fixed lengths, so the message is unambiguous.
	proofContext = "LOTERIA PROOF 1\n"
)

// Prove returns the proof that answers the challenge nonce for agency a:
//
//	HMAC-SHA-256(secret, "LOTERIA PROOF 1\n" + nonce + agency in decimal)
func (s Secret) Prove(nonce Nonce, a Agency) Proof {
	message := append([]byte(proofContext), nonce[:]...)
	message = AppendAgency(message, a)
	mac := hmac.New(sha256.New, []byte(s.reveal()))
	mac.Write(message)
	return Proof(mac.Sum(nil))
}

// Verify reports whether p is agency a's proof for this challenge. The zero Secret verifies no
// proof. The time that Verify takes tells nothing about p or the secret.
func (s Secret) Verify(nonce Nonce, a Agency, p Proof) bool {
	want := s.Prove(nonce, a)
	return hmac.Equal(want[:], p[:]) && s.IsSet()
}

// AppendAuth appends an agency's AUTH frame to dst.
func AppendAuth(dst []byte, a Agency) []byte { return appendNamed(dst, prefixAuth, a) }

// AppendProof appends an agency's PROOF frame to dst.
func AppendProof(dst []byte, p Proof) []byte { return appendHex(dst, prefixProof, p[:]) }

// AppendChallenge appends a server's CHALLENGE frame to dst.
func AppendChallenge(dst []byte, n Nonce) []byte { return appendHex(dst, prefixChallenge, n[:]) }

// AppendAuthenticated appends a server's AUTHENTICATED frame to dst.
func AppendAuthenticated(dst []byte) []byte { return append(dst, "13\n"+payloadAuthenticated...) }

func appendHex(dst []byte, prefix string, b []byte) []byte {
	dst = AppendFrameHeader(dst, len(prefix)+hex.EncodedLen(len(b)))
	dst = append(dst, prefix...)
	return hex.AppendEncode(dst, b)
}

// ParseAuth reads an AUTH; ok is false if the payload is not one.
//
// Call it and [ParseProof] only for connections that have yet to authenticate. On any other
// connection an AUTH or a PROOF is a payload of bets to [ParseRequest].
func ParseAuth(payload []byte) (a Agency, ok bool) {
	id, ok := bytes.CutPrefix(payload, []byte(prefixAuth))
	if !ok {
		return 0, false
	}
	return ParseAgency(id)
}

// ParseProof reads a PROOF; ok is false if the payload is not one.
func ParseProof(payload []byte) (p Proof, ok bool) {
	digits, ok := bytes.CutPrefix(payload, []byte(prefixProof))
	return p, ok && parseHex(p[:], digits)
}

// parseHex fills dst from digits, which must be lower-case.
func parseHex(dst, digits []byte) bool {
	if len(digits) != hex.EncodedLen(len(dst)) || bytes.ContainsAny(digits, "ABCDEF") {
		return false
	}
	_, err := hex.Decode(dst, digits)
	return err == nil
}
