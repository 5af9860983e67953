package ledgertest

import (
	"errors"
	"testing"
)

func TestMemory(t *testing.T) {
	Conform(t, func(testing.TB) Open { return NewMemory(1).Open })
	Check(t, func(seed uint64) Store { return NewMemory(seed) })
}

// The chosen commit fails with the chosen error, and so does everything after it until the log is
// opened again.
func TestMemoryFails(t *testing.T) {
	lost := errors.New("another one leads")
	m := NewMemory(1)
	l, _ := mustOpen(t, m.Open)
	m.Fail(2, lost)
	mustCommit(t, l, Bets(10, 1))
	mustCommit(t, l) // no records, so it isn't counted
	for range 2 {
		if err := l.Commit([][]byte{Run(Bets(10, 2))}); err != lost || l.Seal() != lost {
			t.Fatalf("Commit returned %v", err)
		}
	}
	mustClose(t, l)
	next, _ := mustOpen(t, m.Open)
	if l.Term() != 1 || next.Term() != 2 {
		t.Errorf("terms %d and %d", l.Term(), next.Term())
	}
	mustCommit(t, next, Bets(10, 3))
	mustClose(t, next)
}
