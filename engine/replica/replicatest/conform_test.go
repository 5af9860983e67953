package replicatest_test

import (
	"errors"
	"testing"

	"loteria/engine/ledger/ledgertest"
	"loteria/engine/replica"
	"loteria/engine/replica/replicatest"
)

func TestMemoryConforms(t *testing.T) {
	replicatest.Conform(t, func(testing.TB) replicatest.Open {
		m := replicatest.NewMemory(1)
		return func() (replica.Store, error) { return m.Open(), nil }
	})
}

func TestMemorySurvives(t *testing.T) {
	replicatest.CheckCrashes(t, func(seed uint64) replicatest.Disk { return replicatest.NewMemory(seed).Disk() })
}

// A crash leaves what was synced, and of a save that wasn't one of the things that it may.
func TestMemoryCrashes(t *testing.T) {
	data := ledgertest.Run(ledgertest.Bets(100, 1))
	entry := func(index, term uint64) replica.Entry {
		return replica.Entry{Index: index, Term: term, Records: data}
	}
	type left struct {
		term   uint64
		last   uint64
		lastOf uint64 // term of the last entry
	}
	found := map[left]bool{}
	for seed := range uint64(300) {
		m := replicatest.NewMemory(seed)
		s := m.Open()
		if err := s.Save(replica.State{Term: 1}, []replica.Entry{entry(1, 1), entry(2, 1), entry(3, 1)}); err != nil {
			t.Fatal(err)
		}
		if seed%2 == 0 {
			if err := s.Write(replica.State{Term: 2}, []replica.Entry{entry(2, 2), entry(3, 2)}); err != nil {
				t.Fatal(err)
			}
			m.Crash()
		} else {
			m.Fail(1)
			if err := s.Save(replica.State{Term: 2}, []replica.Entry{entry(2, 2), entry(3, 2)}); !errors.Is(err, replicatest.ErrInjected) {
				t.Fatal(err)
			}
			if last, err := s.LastIndex(); err != nil || last != 3 {
				t.Fatalf("after a failure, LastIndex returned %d, %v", last, err)
			}
			if err := s.Save(replica.State{Term: 3}, nil); err == nil {
				t.Fatal("after a failure, Save succeeds")
			}
		}
		state, log := m.Durable()
		l := left{term: state.Term, last: uint64(len(log)), lastOf: log[len(log)-1].Term}
		found[l] = true
		s = m.Open()
		last, err := s.LastIndex()
		if err != nil || last != l.last {
			t.Fatalf("opened with %d entries, %v, want %d", last, err, l.last)
		}
	}
	for _, l := range []left{
		{1, 3, 1}, // nothing of it
		{2, 3, 1}, // its state
		{2, 1, 1}, // and the old entries cut off
		{2, 2, 2}, // and one new entry
		{2, 3, 2}, // all of it
	} {
		if !found[l] {
			t.Errorf("no crash left %+v", l)
		}
		delete(found, l)
	}
	if len(found) > 0 {
		t.Errorf("crashes left %v", found)
	}
}
