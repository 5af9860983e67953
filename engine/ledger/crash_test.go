package ledger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// The machine crashes at each operation in turn: while a ledger is made, filled, rotated and reopened, and again
// while it recovers. What was acknowledged is there afterwards, in order, and what was not is there as a beginning or not at all.
func TestCrashAtEveryOperation(t *testing.T) {
	for _, segmentBytes := range []int64{SegmentBytesMin, 3 * SegmentBytesMin} {
		for failAt, done := 1, false; !done; failAt++ {
			done = true
			for seed := range uint64(16) {
				done = crashRun(t, segmentBytes, failAt, seed) && done
			}
		}
	}
}

// crashRun reports whether the run ended before its crash was due.
func crashRun(t *testing.T, segmentBytes int64, failAt int, seed uint64) (done bool) {
	name := fmt.Sprintf("segments of %d, crash at operation %d, seed %d", segmentBytes, failAt, seed)
	rng := rand.New(rand.NewPCG(uint64(failAt), seed))
	fsys := newMemFS()
	o := Options{FS: fsys, SegmentBytes: segmentBytes}
	var submitted []entry
	acknowledged := 0
	done = true
	for life := range 4 {
		if life < 3 { // the last life is a quiet one
			fsys.failAt, fsys.dead = fsys.ops+failAt, seed%2 == 0
		}
		var found []entry
		l, err := Open(testDir, o, collect(t, &found))
		switch {
		case errors.Is(err, errInjected):
		case err != nil:
			t.Fatalf("%s, life %d: %v", name, life, err)
		default:
			if agreement(found, submitted) != len(found) || len(found) < acknowledged {
				t.Fatalf("%s, life %d, after %q: found %d records, %d were acknowledged, %d agree",
					name, life, fsys.failed, len(found), acknowledged, agreement(found, submitted))
			}
			// What a restart replays, it promises: an agency is told how much of its own is stored.
			submitted, acknowledged = submitted[:len(found):len(found)], len(found)
			for range 5 {
				group := make([]entry, 1+rng.IntN(3))
				for i := range group {
					payloadBytes := rng.IntN(1500)
					if rng.IntN(10) == 0 {
						payloadBytes += SegmentBytesMin
					}
					group[i] = bets(payloadBytes, rng.IntN(1e8))
				}
				submitted = append(submitted, group...)
				if err = commit(l, group...); err != nil {
					break
				}
				acknowledged = len(submitted)
			}
		}
		if life < 3 && fsys.ops >= fsys.failAt {
			done = false
		}
		if rng.IntN(2) == 0 {
			fsys.crash(rng)
		} else {
			fsys.kill() // only the process ended; the machine may follow later
		}
	}
	return done
}

// A failed sync may leave records that only the operating system's memory holds, and that a later sync
// doesn't write. A restart replays them, so it must make them durable after all.
func TestRestartAfterFailedSync(t *testing.T) {
	for _, groupsBefore := range []int{0, 1, 5} {
		fsys := newMemFS()
		o := Options{FS: fsys, SegmentBytes: SegmentBytesMin}
		l, _ := mustOpen(t, testDir, o)
		for i := range groupsBefore {
			mustCommit(t, l, bets(900, i))
		}
		fsys.failAt = fsys.ops + 2
		if err := commit(l, bets(100, 77)); err == nil || fsys.failed != "sync data" {
			t.Fatalf("%q failed: %v", fsys.failed, err)
		}
		fsys.kill()
		l, replayed := mustOpen(t, testDir, o)
		if l.Stats().Seq != uint64(groupsBefore+1) {
			t.Fatalf("Stats %+v after %d groups and one that failed", l.Stats(), groupsBefore)
		}
		fsys.crash(rand.New(rand.NewPCG(1, uint64(groupsBefore))))
		l, found := mustOpen(t, testDir, o)
		mustClose(t, l)
		wantEntries(t, found, replayed)
	}
}

// With Durability OS, a crash of the machine loses what was not synced, and the ledger opens.
func TestCrashWithoutSync(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(2, seed))
		fsys := newMemFS()
		o := Options{FS: fsys, SegmentBytes: SegmentBytesMin, Durability: OS}
		var submitted []entry
		for range 3 {
			l, found := mustOpen(t, testDir, o)
			if agreement(found, submitted) != len(found) {
				t.Fatalf("seed %d: record %d is not what was written", seed, agreement(found, submitted)+1)
			}
			submitted = found
			for range rng.IntN(12) {
				e := bets(rng.IntN(900), rng.IntN(1e8))
				mustCommit(t, l, e)
				submitted = append(submitted, e)
			}
			fsys.crash(rng)
		}
	}
}
