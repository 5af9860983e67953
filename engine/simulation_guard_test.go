package engine

import (
	"fmt"
	"math/rand/v2"

	"loteria/codec"
	"loteria/engine/front"
)

// simGuard is the secrets and nonces of a draw in which agencies authenticate; nil in other draws.
// It has its own PCG, so the other draws are the same as they would be without it.
type simGuard struct {
	rng     *rand.Rand
	secrets []codec.Secret // by agency
	decoy   codec.Secret
}

// One draw of simGuarded is guarded.
const simGuarded = 4

// simProofTakes is how many times as long authenticating takes as a first message. With less time,
// no agency could ever speak to the server.
const simProofTakes = 100

// An agency's questions that are no requests to the codec.
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

// watch makes a front require authentication, if the draw is guarded.
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

// secret is the agency's secret; zero if the draw is not guarded.
func (g *simGuard) secret(id codec.Agency) codec.Secret {
	if g == nil {
		return codec.Secret{}
	}
	return g.secrets[id-1]
}

// guardedFrames are what strangers say in a guarded draw.
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

// guarded is what a stranger has to be answered in a guarded draw; CodeNone is a challenge.
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
