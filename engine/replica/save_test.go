package replica

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// A save that grows while it waits has what a store would have after all that it is made of.
func TestSaveReplaces(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	index := func(e Entry) [2]uint64 { return [2]uint64{e.Index, e.Term} }
	for range 2000 {
		var (
			s   save
			log [][2]uint64 // what a store would have
		)
		for range rng.IntN(10) {
			log = append(log, [2]uint64{uint64(len(log)) + 1, 1})
		}
		first := uint64(len(log)) + 1 // index of the lowest entry that was replaced or added
		for term := uint64(2); term < 10; term++ {
			var entries []Entry
			from := 1 + rng.IntN(len(log)+1)
			for i := range rng.IntN(4) {
				entries = append(entries, Entry{Index: uint64(from + i), Term: term})
			}
			s.append(entries)
			if len(entries) == 0 {
				continue
			}
			first = min(first, uint64(from))
			log = log[:from-1]
			for _, e := range entries {
				log = append(log, index(e))
			}
		}
		var got [][2]uint64
		for _, e := range s.entries {
			got = append(got, index(e))
		}
		want := log[first-1:]
		if len(got) != len(want) || !slices.Equal(got, want) {
			t.Fatalf("the save has %v, want %v", got, want)
		}
	}
}

// What a server promises itself, and what it says in elections, doesn't pile up while the disk
// stalls; what it promises others stays as it is.
func TestPromisesDontPileUp(t *testing.T) {
	var s save
	message := func(to, term uint64, kind raftpb.MessageType) *raftpb.Message {
		return &raftpb.Message{To: &to, Term: &term, Type: kind.Enum()}
	}
	const terms = 100
	for term := uint64(1); term <= terms; term++ {
		for to := uint64(1); to <= 3; to++ {
			s.promise(message(to, term, raftpb.MsgVoteResp), 1)
			s.promise(message(to, term, raftpb.MsgVote), 1)
			s.promise(message(to, term, raftpb.MsgPreVoteResp), 1)
			s.promise(message(to, term, raftpb.MsgAppResp), 1)
		}
	}
	acknowledgements := 0
	for _, m := range s.promises {
		switch {
		case m.GetType() == raftpb.MsgAppResp && m.GetTo() != 1:
			acknowledgements++
		case m.GetTerm() != terms:
			t.Errorf("%v of term %d to %d still waits", m.GetType(), m.GetTerm(), m.GetTo())
		}
	}
	if acknowledgements != 2*terms || len(s.promises) != acknowledgements+10 {
		t.Errorf("%d messages wait, %d of them are acknowledgements to others", len(s.promises), acknowledgements)
	}
}

// What raft panics with through its logger, because its log can't be true, is an error, and final.
// Any other panic is a mistake of the program, and goes on.
func TestRaftsPanicsAreErrors(t *testing.T) {
	for name, f := range map[string]func(){
		"Panic":  func() { logger{}.Panic("tocommit is out of range") },
		"Panicf": func() { logger{}.Panicf("tocommit(%d) is out of range", 7) },
		"Fatal":  func() { logger{}.Fatal("tocommit is out of range") },
		"Fatalf": func() { logger{}.Fatalf("tocommit(%d) is out of range", 7) },
	} {
		n := &Node{}
		err := n.guard(func() error {
			f()
			return nil
		})
		if !errors.Is(err, ErrDiverged) {
			t.Errorf("%s: %v", name, err)
		}
		if again := n.guard(func() error { return nil }); !errors.Is(again, ErrDiverged) {
			t.Errorf("after %s: %v", name, again)
		}
	}
	defer func() {
		if p := recover(); p != "a mistake" {
			t.Errorf("recovered %v", p)
		}
	}()
	_ = (&Node{}).guard(func() error { panic("a mistake") })
}
