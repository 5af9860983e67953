package ledgertest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"

	"loteria/engine/ledger"
)

// largePayloadBytes is the payload of the checks' largest records. A local ledger under test has segments that are smaller.
const largePayloadBytes = 10 << 10

// crashSeeds is how often a crash at each operation is tried, each time with other groups and other losses.
const crashSeeds = 16

// Check runs what every ledger must pass, each point as a subtest. newStore makes an empty store; what it leaves
// to chance, seed decides. A failure names the seed.
func Check(t *testing.T, newStore func(seed uint64) Store) {
	t.Run("round trip", func(t *testing.T) { checkRoundTrip(t, newStore(1)) })
	t.Run("seal", func(t *testing.T) { checkSeal(t, newStore(6)) })
	t.Run("committing a run again", func(t *testing.T) { checkRunAgain(t, newStore(2)) })
	t.Run("visit's error", func(t *testing.T) { checkVisitError(t, newStore(3)) })
	t.Run("one at a time", func(t *testing.T) { checkLock(t, newStore(4)) })
	t.Run("closed", func(t *testing.T) { checkClosed(t, newStore(5)) })
	t.Run("a failure is final", func(t *testing.T) {
		for n, done := 1, false; !done; n++ {
			done = checkFailure(t, newStore(uint64(n)), n)
		}
	})
	t.Run("a crash anywhere", func(t *testing.T) {
		for at, done := 1, false; !done; at++ {
			done = true
			for i := range uint64(crashSeeds) {
				seed := uint64(at)*crashSeeds + i
				done = checkCrash(t, newStore(seed), seed, at) && done
			}
		}
	})
}

func open(t testing.TB, s Store) (Ledger, []Entry) {
	t.Helper()
	var found []Entry
	l, err := s.Open(Collect(&found))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return l, found
}

func closed(t testing.TB, l Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func equal(t testing.TB, got, want []Entry) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("found %d records, want %d; they agree up to %d", len(got), len(want), Agreement(got, want))
	}
}

// What is committed is replayed, by every later Open, in order and unchanged, however it was grouped and packed.
func checkRoundTrip(t testing.TB, s Store) {
	groups := [][]Entry{
		{Opened("settings")},
		{Bets(2000, 1), Bets(1, 2), Bets(7, 3), Bets(8, 4), Bets(9, 5)},
		{Reported(1), {ledger.Reported, 1<<32 - 1, 1<<32 - 1, ""}, {255, 0, 1, "a kind of a later version"}},
		{Bets(largePayloadBytes, 6)},
		{},
		{Bets(largePayloadBytes, 7), Bets(100, 8), Bets(largePayloadBytes, 9), Bets(100, 10)},
	}
	var want []Entry
	for i, group := range groups {
		l, found := open(t, s)
		equal(t, found, want)
		if seq := l.Stats().Seq; seq != uint64(len(want)) {
			t.Fatalf("Stats before group %d: %d records, want %d", i, seq, len(want))
		}
		var runs [][]byte // each entry a run of its own, and an empty one
		for _, e := range group {
			runs = append(runs, Run(e), nil)
		}
		if err := l.Commit(runs); err != nil {
			t.Fatalf("group %d: %v", i, err)
		}
		want = append(want, group...)
		if seq := l.Stats().Seq; seq != uint64(len(want)) {
			t.Fatalf("Stats after group %d: %d records, want %d", i, seq, len(want))
		}
		closed(t, l)
	}
	l, found := open(t, s)
	equal(t, found, want)
	closed(t, l)
}

// A seal covers what was committed, and what comes after it from the next Seal, Close or Open on. Without one there is none.
func checkSeal(t testing.TB, s Store) {
	reopened := func(through uint64) Ledger {
		t.Helper()
		l, found := open(t, s)
		if tail := l.Recovered(); tail.Sealed != (through > 0) || tail.SealedSeq != through {
			t.Fatalf("of %d records, sealed through %d, Open finds %+v", len(found), through, tail)
		}
		return l
	}
	commit := func(l Ledger, number int) {
		t.Helper()
		if err := l.Commit([][]byte{Run(Bets(100, number))}); err != nil {
			t.Fatal(err)
		}
	}
	seal := func(l Ledger) {
		t.Helper()
		if err := l.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	l, _ := open(t, s)
	seal(l) // there is nothing to seal
	commit(l, 1)
	closed(t, l)
	l = reopened(0)
	seal(l)
	seal(l)
	commit(l, 2)
	s.Kill()
	closed(t, reopened(1))
	l = reopened(2)
	commit(l, 3)
	closed(t, l)
	l = reopened(3)
	commit(l, 4)
	seal(l)
	s.Kill()
	closed(t, reopened(4))
}

// Runs stay the caller's: changed after Commit, they change nothing; committed again, they are new records.
func checkRunAgain(t testing.TB, s Store) {
	l, _ := open(t, s)
	a, b := Bets(100, 1), Bets(700, 2)
	run := Run(a, b)
	for range 3 {
		if err := l.Commit([][]byte{run}); err != nil {
			t.Fatal(err)
		}
	}
	copy(run, bytes.Repeat([]byte{0xff}, len(run)))
	closed(t, l)
	l, found := open(t, s)
	equal(t, found, []Entry{a, b, a, b, a, b})
	closed(t, l)
}

// An error of visit ends Open and comes back as it is. It harms nothing.
func checkVisitError(t testing.TB, s Store) {
	want := []Entry{Bets(10, 1), Bets(20, 2)}
	l, _ := open(t, s)
	if err := l.Commit([][]byte{Run(want...)}); err != nil {
		t.Fatal(err)
	}
	closed(t, l)
	stop, calls := errors.New("stop"), 0
	if _, err := s.Open(func(ledger.Record) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Fatalf("Open returned %v after %d calls", err, calls)
	}
	l, found := open(t, s)
	equal(t, found, want)
	closed(t, l)
}

// Nobody opens a ledger that is open, and the one who has it isn't disturbed. When the process ends, it is free.
func checkLock(t testing.TB, s Store) {
	l, _ := open(t, s)
	if _, err := s.Open(nil); !errors.Is(err, ledger.ErrLocked) {
		t.Fatalf("the second Open returned %v", err)
	}
	if err := l.Commit([][]byte{Run(Bets(10, 1))}); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	l, found := open(t, s)
	equal(t, found, []Entry{Bets(10, 1)})
	closed(t, l)
}

// After Close nothing is committed. Closing twice is harmless.
func checkClosed(t testing.TB, s Store) {
	l, _ := open(t, s)
	closed(t, l)
	closed(t, l)
	for name, err := range map[string]error{"Commit": l.Commit([][]byte{Run(Bets(1, 1))}), "Seal": l.Seal()} {
		if !errors.Is(err, ledger.ErrFailed) || !errors.Is(err, fs.ErrClosed) {
			t.Fatalf("%s after Close: %v", name, err)
		}
	}
}

// checkFailure fails the n-th operation of a series of commits and seals, and reports whether there were fewer. The ledger never works
// again; what was acknowledged is found, and of the group that failed a beginning.
func checkFailure(t testing.TB, s Store, n int) (done bool) {
	const groups = 8
	l, _ := open(t, s)
	s.BreakNext(n, false)
	var acknowledged, failed []Entry
	var first error
	for i := range 2 * groups {
		var group []Entry
		do := l.Seal
		if i%2 == 0 {
			group = []Entry{Bets(largePayloadBytes/8, i), Bets(largePayloadBytes/8, groups+i)}
			do = func() error { return l.Commit([][]byte{Run(group...)}) }
		}
		switch err := do(); {
		case err == nil && first == nil:
			acknowledged = append(acknowledged, group...)
		case err == nil:
			t.Fatalf("operation %d failed, a later commit or seal succeeded", n)
		case first == nil:
			first, failed = err, group
			if !errors.Is(err, ledger.ErrFailed) {
				t.Fatalf("operation %d failed: %v does not match ErrFailed", n, err)
			}
		case err.Error() != first.Error():
			t.Fatalf("operation %d failed with %v, later with %v", n, first, err)
		}
	}
	if s.Failed() != (first != nil) {
		t.Fatalf("operation %d failed, but no commit or seal", n)
	}
	if seq := l.Stats().Seq; seq != uint64(len(acknowledged)) {
		t.Fatalf("operation %d failed: Stats count %d records, %d were acknowledged", n, seq, len(acknowledged))
	}
	if first == nil {
		closed(t, l)
	}
	s.Kill()
	l, found := open(t, s)
	checkFound(t, fmt.Sprintf("operation %d failed", n), found, slices.Concat(acknowledged, failed), len(acknowledged))
	closed(t, l)
	return first == nil
}

// checkFound wants a beginning of what was submitted, and all that was acknowledged.
func checkFound(t testing.TB, when string, found, submitted []Entry, acknowledged int) {
	t.Helper()
	if agree := Agreement(found, submitted); agree != len(found) || len(found) < acknowledged {
		t.Fatalf("%s: found %d records of which %d are right; %d were acknowledged", when, len(found), agree, acknowledged)
	}
}

// checkCrash lives four lives with one ledger. In each but the last, the operation number at fails, counted from its beginning: while
// the ledger is made, filled, sealed, opened again or repaired. Then the process ends, and perhaps the machine. It reports whether all
// lives ended before their crash was due.
func checkCrash(t testing.TB, s Store, seed uint64, at int) (done bool) {
	const lives, groups = 4, 5
	rng := rand.New(rand.NewPCG(seed, 1))
	var submitted []Entry
	acknowledged := 0
	var sealed uint64 // what some Seal or Open has promised that the seal covers
	sealing := false  // whether there may be a seal
	done = true
	for life := range lives {
		when := fmt.Sprintf("seed %d, crash at operation %d, life %d", seed, at, life)
		if life < lives-1 {
			s.BreakNext(at, rng.IntN(2) == 0)
		}
		var found []Entry
		l, err := s.Open(Collect(&found))
		switch {
		case err != nil && !s.Failed():
			t.Fatalf("%s: %v", when, err)
		case err == nil:
			checkFound(t, when, found, submitted, acknowledged)
			tail := l.Recovered()
			if tail.SealedSeq < sealed || tail.SealedSeq > uint64(len(found)) || tail.Sealed && !sealing {
				t.Fatalf("%s: of %d records that are found, %d were sealed; %+v", when, len(found), sealed, tail)
			}
			sealed = tail.SealedSeq
			// What a restart replays, it promises: an agency is told how much of its own is stored.
			submitted, acknowledged = submitted[:len(found):len(found)], len(found)
			for range groups {
				group := make([]Entry, 1+rng.IntN(3))
				for i := range group {
					group[i] = Bets(rng.IntN(1500), rng.IntN(1e8))
				}
				if rng.IntN(10) == 0 {
					group[0] = Bets(largePayloadBytes, rng.IntN(1e8))
				}
				submitted = append(submitted, group...)
				if err = l.Commit([][]byte{Run(group...)}); err != nil {
					break
				}
				acknowledged = len(submitted)
				if rng.IntN(groups) == 0 {
					sealing = true
					if err = l.Seal(); err != nil {
						break
					}
					sealed = uint64(acknowledged)
				}
			}
			if err == nil && rng.IntN(3) == 0 && l.Close() == nil && sealed > 0 {
				sealed = uint64(acknowledged)
			}
		}
		done = done && !s.Failed()
		if rng.IntN(2) == 0 {
			s.Crash()
		} else {
			s.Kill() // the machine may follow later
		}
	}
	return done
}
