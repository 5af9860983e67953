package replica_test

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"loteria/engine/replica"
)

// simMessage is a message on its way.
type simMessage struct {
	*raftpb.Message
	sent, due int // steps
}

func (w *world) cut(from, to uint64, until int) {
	if from != to {
		w.cutUntil[[2]uint64{from, to}] = until
		w.tracef("nothing gets from %d to %d until %d", from, to, until)
		if w.chance(30) {
			w.server(to).lose(from)
		}
	}
}

// send takes a message. It loses, repeats and delays it, which also reorders it.
func (w *world) send(m *raftpb.Message) {
	w.checkMessage(m)
	copies := 1
	if w.chaos() {
		switch {
		case w.chance(w.lossy):
			w.seen[seenLost]++
			return
		case w.chance(3):
			w.seen[seenDuplicated]++
			copies = 2
		}
	}
	for range copies {
		delay := w.rng.IntN(40)
		if w.chaos() && w.chance(3) {
			delay = w.rng.IntN(4000)
		}
		w.network = append(w.network, simMessage{m, w.step, w.step + delay})
	}
}

// deliver gives a message that is due to its receiver. Those that can't get there are lost.
func (w *world) deliver() {
	if len(w.network) == 0 {
		return
	}
	from := w.rng.IntN(len(w.network))
	for i := range w.network {
		at := (from + i) % len(w.network)
		m := w.network[at]
		s := w.server(m.GetTo())
		if m.due > w.step || s.paused() {
			continue
		}
		w.network[at] = w.network[len(w.network)-1]
		w.network = w.network[:len(w.network)-1]
		if w.step < w.cutUntil[[2]uint64{m.GetFrom(), m.GetTo()}] || s.replica == nil {
			w.seen[seenLost]++
			return
		}
		if m.sent < s.startedAt {
			w.seen[seenStale]++
		}
		s.receive(m.Message)
		return
	}
}

// checkMessage refuses what a server must not send.
func (w *world) checkMessage(m *raftpb.Message) {
	s := w.server(m.GetFrom())
	state, entries := s.disk.Durable()
	switch m.GetType() {
	case raftpb.MsgVote, raftpb.MsgVoteResp:
		if m.GetTerm() > state.Term {
			w.failf("server %d sends %v for term %d, and its disk is at %+v", s.id, m.GetType(), m.GetTerm(), state)
		}
		// A learner may vote: the candidate may know that it is none any more. Who asks has to know.
		learners := s.replica.Members().Learners()
		if m.GetType() == raftpb.MsgVote && (slices.Contains(learners, s.id) || slices.Contains(learners, m.GetTo())) {
			w.failf("a learner takes part in an election: %v from %d to %d", m.GetType(), s.id, m.GetTo())
		}
	case raftpb.MsgAppResp:
		if m.GetTerm() > state.Term {
			w.failf("server %d answers for term %d, and its disk is at %+v", s.id, m.GetTerm(), state)
		}
		if !m.GetReject() && m.GetIndex() > uint64(len(entries)) {
			w.failf("server %d acknowledges entry %d, and its disk has %d", s.id, m.GetIndex(), len(entries))
		}
	}
}

// watchedStore counts what a leader reads back, which is for a server that is behind.
type watchedStore struct {
	replica.Store
	s *simServer
}

func (c watchedStore) Entries(first, last uint64, bytesMax int) ([]replica.Entry, error) {
	if c.s.leadership != nil {
		c.s.w.seen[seenReadBack]++
	}
	return c.Store.Entries(first, last, bytesMax)
}
