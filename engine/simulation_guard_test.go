package engine

import (
	"fmt"
	"math/rand/v2"

	"loteria/codec"
	"loteria/engine/front"
)

// simGuard is what a draw has whose agencies authenticate; nil is one whose
// agencies don't. It decides by a PCG of its own, so that the other draws are
// those that they would be without it.
type simGuard struct {
	rng     *rand.Rand
	secrets []codec.Secret // by agency
	decoy   codec.Secret
}

// simGuarded is how many draws have a guarded one among them.
const simGuarded = 4

// simProofTakes is how much longer than to say a first word it takes to
// authenticate: a server that gives less time would never be spoken to.
const simProofTakes = 100

// An agency's questions that the codec knows as no requests.
const (
	simAuth codec.RequestKind = 1<<7 + iota
	simProof
)

func newSimGuard(seed uint64) *simGuard {
	rng := rand.New(rand.NewPCG(seed, 1))
	if rng.IntN(simGuarded) != 0 {
		return nil
	}
	secret := func() codec.Secret {
		s, err := codec.ParseSecret(fmt.Appendf(nil, "sesame-%016x", rng.Uint64()))
		if err != nil {
			panic(err)
		}
		return s
	}
	g := &simGuard{rng: rng, decoy: secret()}
	for range simAgencies {
		g.secrets = append(g.secrets, secret())
	}
	return g
}

// watch has a front's sessions authenticate.
func (g *simGuard) watch(cfg *front.Config) {
	if g != nil {
		cfg.Secrets, cfg.Nonce = front.NewSecrets(g.secrets, g.decoy), g.nonce
	}
}

func (g *simGuard) nonce() (n codec.Nonce) {
	for i := range n {
		n[i] = byte(g.rng.Uint32())
	}
	return n
}

// secret is an agency's; none if it needs none.
func (g *simGuard) secret(id codec.Agency) codec.Secret {
	if g == nil {
		return codec.Secret{}
	}
	return g.secrets[id-1]
}

// guardedFrames are what strangers say beside strangeFrames.
var guardedFrames = append([]string{
	"6\nAUTH|1", "7\nAUTH|99", "7\nAUTH|01", fmt.Sprintf("70\nPROOF|%064x", 1),
	"6\nAUTH|170\nPROOF|" + fmt.Sprintf("%064x", 1), "6\nAUTH|113\nGET_WINNERS|1", "13\nGET_WINNERS|1", "7\nHELLO|1",
}, strangeFrames...)

func (g *simGuard) strangeFrames() []string {
	if g == nil {
		return strangeFrames
	}
	return guardedFrames
}

// guarded is what a stranger is owed for a message; CodeNone is a challenge.
func (a *audit) guarded(payload []byte) codec.Code {
	_, isAuth := codec.ParseAuth(payload)
	_, isProof := codec.ParseProof(payload)
	switch {
	case len(payload) == 0:
		return codec.CodeEmptyBatch
	case isAuth && !a.challenged:
		a.challenged = true
		return codec.CodeNone
	case isProof && a.challenged:
		return codec.CodeAuthenticationFailed
	}
	return codec.CodeAuthenticationRequired
}
