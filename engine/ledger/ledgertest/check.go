package ledgertest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// largePayloadBytes is the payload of the checks' largest records. A local ledger under test has segments that are smaller.
const largePayloadBytes = 10 << 10

// crashSeeds is how often a crash at each operation is tried, each time with other groups and other losses.
const crashSeeds = 16

// Check runs what every log must pass that one goroutine has, and breaks it, each point as a
// subtest. newStore makes an empty store; what it leaves to chance, seed decides. A failure names
// the seed.
func Check(t *testing.T, newStore func(seed uint64) Store) {
	for i, c := range conformance {
		t.Run(c.name, func(t *testing.T) { c.check(t, newStore(uint64(i+1)).Open) })
	}
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

// checkFailure fails the n-th operation of a series of commits and seals, and reports whether there
// were fewer. The log never takes anything again, and its scans see what was acknowledged; who
// opens it next finds that, and of the group that failed a beginning.
func checkFailure(t testing.TB, s Store, n int) (done bool) {
	const groups = 8
	l, _ := mustOpen(t, s.Open)
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
		case err.Error() != first.Error():
			t.Fatalf("operation %d failed with %v, later with %v", n, first, err)
		}
	}
	if s.Failed() != (first != nil) {
		t.Fatalf("operation %d failed, but no commit or seal", n)
	}
	found, _ := mustScan(t, l)
	equal(t, found, acknowledged)
	if first == nil {
		mustClose(t, l)
	}
	s.Kill()
	l, found = mustOpen(t, s.Open)
	checkFound(t, fmt.Sprintf("operation %d failed", n), found, slices.Concat(acknowledged, failed), len(acknowledged))
	mustClose(t, l)
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
			_, tail := mustScan(t, l)
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
