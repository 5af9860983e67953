package front

import (
	"fmt"
	"testing"
)

// lifeModel is the life of a connection as separate facts, without phases.
type lifeModel struct {
	deaf     bool // what the peer says doesn't count
	lastSaid bool // the last answer is said
	shut     bool // our side is shut
	oneSided bool // the peer's side is shut
	closed   bool
}

func (m lifeModel) after(e event) lifeModel {
	if m.closed {
		return m
	}
	switch e {
	case silenced:
		m.deaf = true
	case lastSaid:
		m.deaf, m.lastSaid = true, true
	case allSent:
		m.closed = m.lastSaid && m.oneSided
		m.shut = m.lastSaid
	case peerShut:
		m.deaf, m.oneSided = true, true
	case closed:
		m.closed = true
	}
	if m.closed {
		return lifeModel{closed: true}
	}
	return m
}

// Whatever happens in whatever order, each phase stands for one set of facts. Every phase can be
// reached.
func TestPhases(t *testing.T) {
	seen := map[phase]lifeModel{}
	var visit func(p phase, m lifeModel, path string)
	visit = func(p phase, m lifeModel, path string) {
		if p == leaving {
			m.shut = false // whether our side is shut makes no difference any more
		}
		if before, again := seen[p]; again {
			if before != m {
				t.Errorf("phase %d is %+v, and after%s it is %+v", p, before, path, m)
			}
			return
		}
		seen[p] = m
		if p.hears() != (!m.deaf && !m.closed) || p.answers() != (!m.lastSaid && !m.closed) || p.oneSided() != m.oneSided {
			t.Errorf("phase %d, after%s, hears %v, answers %v, is one-sided %v: want %+v", p, path, p.hears(), p.answers(), p.oneSided(), m)
		}
		for e := range events {
			visit(p.after(e), m.after(e), fmt.Sprintf("%s %d", path, e))
		}
	}
	visit(talking, lifeModel{}, "")
	if len(seen) != int(phases) {
		t.Errorf("%d phases can be reached, want %d", len(seen), phases)
	}
}
