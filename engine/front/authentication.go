package front

import (
	"crypto/rand"

	"loteria/codec"
	"loteria/engine/commit"
)

// randomNonce is where challenges come from, but in tests.
func randomNonce() (n codec.Nonce) {
	_, _ = rand.Read(n[:]) // it never returns an error
	return n
}

// handshake is how far a connection has come with its proof: it has said AUTH.
type handshake struct {
	agency codec.Agency // whose it says it is
	nonce  codec.Nonce  // for its one proof
}

// stranger reports whether the connection has yet to prove whose it is.
func (s *Session) stranger(rd *reader) bool { return rd.secrets != nil && s.proved == 0 }

// claimed is whose connection it is, or says it is; 0 if it hasn't said, or if
// nobody has to prove it.
func (s *Session) claimed() codec.Agency {
	if s.handshake != nil {
		return s.handshake.agency
	}
	return s.proved
}

// authenticate takes a stranger's message. Nothing of it reaches the lottery.
func (s *Session) authenticate(payload []byte, rd *reader) {
	if len(payload) == 0 {
		rd.stage.Add(commit.Refusal(&s.Peer, codec.CodeEmptyBatch, ""), nil, nil) // a health check, which has no secret
		return
	}
	if s.handshake == nil {
		agency, ok := codec.ParseAuth(payload)
		if !ok {
			s.refuse(codec.CodeAuthenticationRequired, rd)
			return
		}
		s.handshake = &handshake{agency: agency, nonce: rd.nonce()}
		rd.stage.Add(commit.Request{Peer: &s.Peer, Kind: commit.Answer, Reply: commit.Challenge, Agency: agency, Detail: string(s.handshake.nonce[:])}, nil, nil)
		return
	}
	proof, ok := codec.ParseProof(payload)
	switch {
	case !ok:
		s.refuse(codec.CodeAuthenticationRequired, rd)
	case !rd.secrets.verify(s.handshake.agency, s.handshake.nonce, proof):
		s.refuse(codec.CodeAuthenticationFailed, rd)
	default:
		s.proved, s.handshake = s.handshake.agency, nil
		rd.stage.Add(commit.Request{Peer: &s.Peer, Kind: commit.Answer, Reply: commit.Authenticated, Agency: s.proved}, nil, nil)
	}
}
