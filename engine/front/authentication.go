package front

import (
	"crypto/rand"

	"loteria/codec"
	"loteria/engine/commit"
)

// randomNonce makes the nonce of a challenge, outside of tests.
func randomNonce() (n codec.Nonce) {
	_, _ = rand.Read(n[:]) // it never returns an error
	return n
}

// handshake is the state of a connection that has said AUTH and not yet PROOF.
type handshake struct {
	agency codec.Agency // the one it claims to be
	nonce  codec.Nonce  // for its one proof
}

// stranger reports whether the connection still has to authenticate.
func (s *Session) stranger(rd *reader) bool { return rd.cfg.Secrets != nil && s.proved == 0 }

// claimed is the agency that the connection has proved or claims to be. It is 0 before AUTH, and if
// nobody has to authenticate.
func (s *Session) claimed() codec.Agency {
	if s.handshake != nil {
		return s.handshake.agency
	}
	return s.proved
}

// authenticate answers a stranger's message. Nothing of it reaches the lottery.
func (s *Session) authenticate(payload []byte, rd *reader) {
	if len(payload) == 0 {
		// It is a health check, which has no secret.
		s.reject(codec.CodeEmptyBatch, "", 0, 0, rd)
		return
	}
	if s.handshake == nil {
		agency, ok := codec.ParseAuth(payload)
		if !ok {
			s.refuse(codec.CodeAuthenticationRequired, rd)
			return
		}
		s.handshake = &handshake{agency: agency, nonce: rd.cfg.Nonce()}
		rd.stage.Add(commit.Request{Peer: &s.Peer, Kind: commit.Answer, Reply: commit.Challenge,
			Agency: agency, Detail: string(s.handshake.nonce[:])}, nil, nil)
		return
	}
	proof, ok := codec.ParseProof(payload)
	switch {
	case !ok:
		s.refuse(codec.CodeAuthenticationRequired, rd)
	case !rd.cfg.Secrets.verify(s.handshake.agency, s.handshake.nonce, proof):
		s.refuse(codec.CodeAuthenticationFailed, rd)
	default:
		s.proved, s.handshake = s.handshake.agency, nil
		rd.stage.Add(commit.Request{Peer: &s.Peer, Kind: commit.Answer, Reply: commit.Authenticated,
			Agency: s.proved}, nil, nil)
	}
}
