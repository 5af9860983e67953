package front

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/settings"
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

// Secrets are the secrets with which agencies authenticate. With nil, nobody has to. They never
// change, so any goroutine may use them.
type Secrets struct {
	expected []codec.Secret // by agency id-1
	// decoy checks the proofs of agencies that are not expected, so that they take as long as any
	// other.
	decoy codec.Secret
}

// NewSecrets makes the secrets of agencies 1, 2 and so on, in order. It keeps the slice. The proof
// of any other agency is compared with decoy, and always fails.
func NewSecrets(expected []codec.Secret, decoy codec.Secret) *Secrets {
	return &Secrets{expected: expected, decoy: decoy}
}

// verify reports whether the proof for this challenge is agency a's.
func (k *Secrets) verify(a codec.Agency, nonce codec.Nonce, proof codec.Proof) bool {
	secret, expected := k.decoy, 1 <= a && int(a) <= len(k.expected)
	if expected {
		secret = k.expected[a-1]
	}
	return secret.Verify(nonce, a, proof) && expected
}

// OpenSecrets reads the file that SERVER_AGENCY_SECRETS_FILE names. It needs a secret for each of
// the agencies from 1 on. If name is empty, OpenSecrets returns nil. The error wraps
// settings.ErrIllegal and never shows a secret.
func OpenSecrets(name string, agencies int, log *zap.Logger) (*Secrets, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: SERVER_AGENCY_SECRETS_FILE: %w", settings.ErrIllegal, err)
	}
	expected, err := readSecrets(f, agencies)
	info, errStat := f.Stat()
	if err := errors.Join(err, errStat, f.Close()); err != nil {
		return nil, fmt.Errorf("%w: SERVER_AGENCY_SECRETS_FILE=%s: %w", settings.ErrIllegal, name, err)
	}
	const othersMayRead = 0o004
	if info.Mode()&othersMayRead != 0 {
		log.Warn("config", zap.String("result", "success"), zap.String("SERVER_AGENCY_SECRETS_FILE", name),
			zap.String("aviso", "everybody on this machine may read the agencies' secrets: chmod o-r"))
	}
	if first, second, more := sharedSecret(expected); first != 0 {
		others := ""
		if more > 0 {
			others = fmt.Sprintf(", and %d more have that of another", more)
		}
		log.Warn("config", zap.String("result", "success"), zap.String("SERVER_AGENCY_SECRETS_FILE", name),
			zap.String("aviso", fmt.Sprintf("agencies %d and %d have the same secret%s: "+
				"each of them can pass for the other: give every agency its own", first, second, others)))
	}
	decoy, err := codec.ParseSecret([]byte(rand.Text()))
	if err != nil {
		panic("front: a random text is no secret: " + err.Error())
	}
	return NewSecrets(expected, decoy), nil
}

// sharedSecret finds two agencies with the same secret; first is 0 if there are none. more is how
// many other agencies, besides second, have the secret of an agency before them.
func sharedSecret(expected []codec.Secret) (first, second codec.Agency, more int) {
	// Equal secrets give equal proofs for one challenge, and proofs can be map keys.
	owners := make(map[codec.Proof]codec.Agency, len(expected))
	for i, secret := range expected {
		id, proof := codec.Agency(i+1), secret.Prove(codec.Nonce{}, 0)
		owner, shared := owners[proof]
		switch {
		case !shared:
			owners[proof] = id
		case first == 0:
			first, second = owner, id
		default:
			more++
		}
	}
	return first, second, more
}

// readSecrets reads one line for each agency from 1 to agencies, in any order: its id, space, and
// its secret. It skips empty lines and those that begin with '#'.
func readSecrets(r io.Reader, agencies int) ([]codec.Secret, error) {
	expected := make([]codec.Secret, agencies)
	lines := bufio.NewScanner(r)
	number := 1
	for ; lines.Scan(); number++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		fields := bytes.Fields(line)
		if len(fields) != 2 {
			return nil, fmt.Errorf("line %d has %d fields: want an agency's id and its secret",
				number, len(fields))
		}
		id, ok := codec.ParseAgency(fields[0])
		switch {
		case !ok:
			// Don't show the field: it may be the secret.
			return nil, fmt.Errorf("line %d does not begin with an agency's id: want an agency's id and its secret", number)
		case id < 1 || int(id) > agencies:
			return nil, fmt.Errorf("line %d: agency %d is not expected: want 1 to SERVER_AGENCIES=%d",
				number, id, agencies)
		case expected[id-1].IsSet():
			return nil, fmt.Errorf("line %d: agency %d has a secret on an earlier line: remove one of them",
				number, id)
		}
		secret, err := codec.ParseSecret(fields[1])
		if err != nil {
			return nil, fmt.Errorf("line %d: agency %d: %w", number, id, err)
		}
		expected[id-1] = secret
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", number, err)
	}
	var missing []codec.Agency
	for i, secret := range expected {
		if !secret.IsSet() {
			missing = append(missing, codec.Agency(i+1))
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("agencies without a secret: %s: give each a line with its id and its secret", codec.ListAgencies(missing, codec.AgenciesListed))
	}
	return expected, nil
}
