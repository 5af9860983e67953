package ledgertest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// largePayloadBytes is the payload size of the checks' largest records. It doesn't fit
// into a segment of the smallest size.
const largePayloadBytes = 10 << 10

// crashSeeds is how often Check tries a crash at each operation. The seeds change the groups and
// the losses.
const crashSeeds = 16

// Check runs the checks of [Conform] that need only one goroutine, and then makes the log fail and
// crash. Each check is a subtest. newStore makes an empty store, and seed decides all its chance. A
// failure after a crash names the seed.
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

// checkFailure makes the n-th operation of a series of commits and seals fail, and reports whether
// there were fewer. After the failure the log takes nothing more, and its scans see what was
// acknowledged. The next Open finds that, and all, some first ones or none of the failed group's
// records.
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
	when := fmt.Sprintf("operation %d failed", n)
	checkFound(t, when, found, slices.Concat(acknowledged, failed), len(acknowledged))
	mustClose(t, l)
	return first == nil
}

// checkFound fails unless found holds the first of the submitted records, and at least the
// acknowledged ones.
func checkFound(t testing.TB, when string, found, submitted []Entry, acknowledged int) {
	t.Helper()
	if agree := Agreement(found, submitted); agree != len(found) || len(found) < acknowledged {
		t.Fatalf("%s: found %d records, the first %d are right; %d were acknowledged",
			when, len(found), agree, acknowledged)
	}
}

// checkCrash runs four lives of one log. In each life except the last, the operation with number
// at, counted from the life's start, fails. It may be one that creates, fills, seals, reopens or
// repairs the log. Each life ends with the end of the process or the machine. checkCrash reports
// whether no life came to its failure.
func checkCrash(t testing.TB, s Store, seed uint64, at int) (done bool) {
	const lives, groups = 4, 5
	rng := rand.New(rand.NewPCG(seed, 1))
	var submitted []Entry
	acknowledged := 0
	var sealed uint64 // the last record that the seal must cover, as Seal, Open or Close promised
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
				t.Fatalf("%s: found %d records, %d were sealed; %+v", when, len(found), sealed, tail)
			}
			sealed = tail.SealedSeq
			// What a restart replays counts as acknowledged, because agencies are told of it.
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
