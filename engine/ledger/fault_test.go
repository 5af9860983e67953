package ledger_test

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// A ledger passes ledgertest.Check with segments that are smaller than the largest records, with
// larger segments, and with segments that are reserved step by step.
func TestLedger(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]ledger.Options{
		"small segments":    {SegmentBytes: ledger.SegmentBytesMin},
		"larger segments":   {SegmentBytes: 3 * ledger.SegmentBytesMin},
		"reserved stepwise": {SegmentBytes: 4 * ledger.SegmentBytesMin, ReserveBytes: ledger.BlockBytes},
	} {
		t.Run(name, func(t *testing.T) {
			ledgertest.Check(t, func(seed uint64) ledgertest.Store {
				return &ledgertest.Local{FS: ledgertest.NewFS(seed), Dir: testDir, Options: options}
			})
		})
	}
}

// After a failed sync, records may be only in the operating system's memory, and a later sync
// doesn't write them. A restart replays them, so it must make them durable.
func TestRestartAfterFailedSync(t *testing.T) {
	for _, groupsBefore := range []int{0, 1, 5} {
		for seed := range uint64(20) {
			fsys := ledgertest.NewFS(seed)
			o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin}
			l, _ := mustOpen(t, testDir, o)
			for i := range groupsBefore {
				mustCommit(t, l, bets(900, i))
			}
			fsys.Break(ledgertest.Fault{Op: ledgertest.SyncData, N: 1})
			if err := commit(l, bets(100, 77)); !errors.Is(err, ledger.ErrFailed) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("the sync failed, Commit returned %v", err)
			}
			fsys.Kill()
			l, replayed := mustOpen(t, testDir, o)
			if l.Stats().Seq != uint64(groupsBefore+1) {
				t.Fatalf("Stats %+v after %d groups and one that failed", l.Stats(), groupsBefore)
			}
			fsys.Crash()
			l, found := mustOpen(t, testDir, o)
			mustClose(t, l)
			wantEntries(t, found, replayed)
		}
	}
}

// The same for the header of a new segment. If its sync failed, a restart finds it in the operating
// system's memory. It must be on disk before the segment gets its first record: otherwise a crash
// could leave records without a header.
func TestRestartAfterFailedRotation(t *testing.T) {
	for seed := range uint64(100) {
		fsys := ledgertest.NewFS(seed)
		o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin}
		l, _ := mustOpen(t, testDir, o)
		mustCommit(t, l, bets(3000, 1))
		fsys.Break(ledgertest.Fault{Op: ledgertest.Sync, N: 2}) // the first one finishes the old segment
		if err := commit(l, bets(3000, 2)); !errors.Is(err, syscall.EIO) {
			t.Fatalf("the sync failed, Commit returned %v", err)
		}
		fsys.Kill()
		l, acknowledged := mustOpen(t, testDir, o)
		fsys.Break(ledgertest.Fault{Op: ledgertest.SyncData, N: 1})
		if err := commit(l, bets(3000, 3)); !errors.Is(err, syscall.EIO) {
			t.Fatalf("the sync failed, Commit returned %v", err)
		}
		fsys.Crash()
		l, found := mustOpen(t, testDir, o)
		mustClose(t, l)
		if ledgertest.Agreement(found, acknowledged) != len(acknowledged) {
			t.Fatalf("seed %d: found %d records, %d were acknowledged", seed, len(found), len(acknowledged))
		}
	}
}

// On a full disk, the group that finds no room is not acknowledged, nor is anything after it. Open
// fails if it needs room. Once there is room, the ledger goes on with all that was acknowledged.
func TestDiskFull(t *testing.T) {
	for seed := range uint64(50) {
		fsys := ledgertest.NewFS(seed)
		o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin}
		fsys.LimitSpace(ledger.SegmentBytesMin - 1)
		_, err := ledger.Open(testDir, o, nil)
		if full := (*ledger.NoSpaceError)(nil); !errors.Is(err, syscall.ENOSPC) || !errors.As(err, &full) ||
			full.Needs != ledger.SegmentBytesMin || full.Dir != testDir {
			t.Fatalf("seed %d: Open without room for a segment returned %v", seed, err)
		}
		fsys.LimitSpace(3*ledger.SegmentBytesMin + int64(seed)*61)
		l, _ := mustOpen(t, testDir, o)
		var acknowledged []entry
		err = nil
		for i := 0; err == nil; i++ {
			if e := bets(700+i, i); fsys.UsedBytes() > 4*ledger.SegmentBytesMin {
				t.Fatalf("seed %d: %d bytes are in use", seed, fsys.UsedBytes())
			} else if err = commit(l, e); err == nil {
				acknowledged = append(acknowledged, e)
			}
		}
		if !errors.Is(err, ledger.ErrFailed) || !errors.Is(err, syscall.ENOSPC) || len(acknowledged) < 8 {
			t.Fatalf("seed %d: after %d commits: %v", seed, len(acknowledged), err)
		}
		fsys.LimitSpace(0) // no room, even if a rotation gave some back
		if again := commit(l, bets(1, 1)); again != err {
			t.Fatalf("seed %d: a later commit returned %v", seed, again)
		}
		if seed%2 == 0 {
			fsys.Kill()
		} else {
			fsys.Crash()
		}
		if l, err := ledger.Open(testDir, o, nil); err == nil { // it needed no room
			mustClose(t, l)
		} else if full := (*ledger.NoSpaceError)(nil); !errors.As(err, &full) ||
			full.Needs <= 0 || full.Needs > ledger.SegmentBytesMin || full.Free >= 0 {
			t.Fatalf("seed %d: Open on a full disk returned %v", seed, err)
		}
		fsys.LimitSpace(-1)
		l, found := mustOpen(t, testDir, o)
		if ledgertest.Agreement(found, acknowledged) != len(acknowledged) ||
			len(found) > len(acknowledged)+1 {
			t.Fatalf("seed %d: found %d records, %d were acknowledged", seed, len(found), len(acknowledged))
		}
		mustCommit(t, l, bets(3000, 1))
		mustClose(t, l)
	}
}

// A read error isn't taken for a damaged or an empty ledger, and Open then changes nothing.
func TestReadError(t *testing.T) {
	for n := 1; ; n++ {
		fsys := ledgertest.NewFS(uint64(n))
		o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin}
		l, _ := mustOpen(t, testDir, o)
		var want []entry
		for i := range 10 {
			want = append(want, bets(900, i))
			mustCommit(t, l, want[i])
		}
		if err := l.Seal(); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
		before := imageOf(fsys)
		fsys.Break(ledgertest.Fault{Op: ledgertest.Read | ledgertest.OpenOld | ledgertest.List, N: n})
		l, err := ledger.Open(testDir, o, nil)
		if err == nil {
			broken := fsys.Broken()
			fsys.Break(ledgertest.Fault{}) // Close reads, too
			if mustClose(t, l); broken != 0 || n < 8 {
				t.Fatalf("read %d failed (%v), but Open didn't", n, broken)
			}
			return
		}
		if !errors.Is(err, syscall.EIO) || errors.Is(err, ledger.ErrCorrupt) {
			t.Fatalf("read %d failed: %v", n, err)
		}
		if fsys.OpenFiles() != 0 {
			t.Fatalf("read %d failed, %d files are left open", n, fsys.OpenFiles())
		}
		for name, data := range imageOf(fsys) {
			if !slices.Equal(data, before[name]) {
				t.Fatalf("read %d failed, and %s was changed", n, name)
			}
		}
		fsys.Kill()
		l, found := mustOpen(t, testDir, o)
		mustClose(t, l)
		wantEntries(t, found, want)
	}
}

// If visit returns an error, Open and Scan have changed nothing and leave nothing open.
func TestRefusedOpenChangesNothing(t *testing.T) {
	fsys := ledgertest.NewFS(1)
	o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin}
	l, _ := mustOpen(t, testDir, o)
	mustCommit(t, l, bets(10, 1))
	mustClose(t, l)
	before := fsys.Count(ledgertest.Changes &^ ledgertest.Mkdir)
	stop := errors.New("stop")
	if _, err := ledger.Open(testDir, o, func(ledger.Record) error { return stop }); err != stop {
		t.Fatalf("Open returned %v", err)
	}
	if _, err := ledger.Scan(testDir, o, func(ledger.Record) error { return stop }); err != stop {
		t.Fatalf("Scan returned %v", err)
	}
	changes := fsys.Count(ledgertest.Changes&^ledgertest.Mkdir) - before
	if changes != 0 || fsys.OpenFiles() != 0 {
		t.Fatalf("%d operations changed something, %d files are left open", changes, fsys.OpenFiles())
	}
}

// A commit takes one write, and with Fsync also one sync.
func TestSyncsPerCommit(t *testing.T) {
	for durability, syncs := range map[ledger.Durability]int{ledger.Fsync: 2, ledger.OS: 0} {
		for seed := range uint64(20) {
			fsys := ledgertest.NewFS(seed)
			o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin, Durability: durability}
			l, _ := mustOpen(t, testDir, o)
			changes, before := fsys.Count(ledgertest.Changes), fsys.Count(ledgertest.AnySync)
			mustCommit(t, l, bets(700, 1))
			mustCommit(t, l, bets(10, 2))
			if got := fsys.Count(ledgertest.AnySync) - before; got != syncs {
				t.Errorf("%v: two commits took %d syncs, want %d", durability, got, syncs)
			}
			if got := fsys.Count(ledgertest.Changes) - changes; got != syncs+2 {
				t.Errorf("%v: two commits took %d operations, want %d", durability, got, syncs+2)
			}
			mustClose(t, l) // makes everything durable
			fsys.Crash()
			l, found := mustOpen(t, testDir, o)
			mustClose(t, l)
			wantEntries(t, found, []entry{bets(700, 1), bets(10, 2)})
		}
	}
}

// With Durability OS, a crash of the process loses nothing. A crash of the machine may lose what
// was not synced, and the ledger opens.
func TestCrashWithoutSync(t *testing.T) {
	lost := 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(2, seed))
		fsys := ledgertest.NewFS(seed)
		o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin, Durability: ledger.OS}
		var submitted []entry
		killed := false
		for range 4 {
			l, found := mustOpen(t, testDir, o)
			agree := ledgertest.Agreement(found, submitted)
			if agree != len(found) || killed && agree != len(submitted) {
				t.Fatalf("seed %d: found %d records, %d were written; the first %d are equal",
					seed, len(found), len(submitted), agree)
			}
			lost += len(submitted) - len(found)
			submitted = found
			for range rng.IntN(12) {
				e := bets(rng.IntN(900), rng.IntN(1e8))
				mustCommit(t, l, e)
				submitted = append(submitted, e)
			}
			if killed = rng.IntN(2) == 0; killed {
				fsys.Kill()
			} else {
				fsys.Crash()
			}
		}
	}
	if lost == 0 {
		t.Error("no crash lost anything: the test tests nothing")
	}
}

// With Durability OS, a crash of the machine loses less than is reserved at a time, even within one
// segment.
func TestCrashWithoutSyncLosesLittle(t *testing.T) {
	const records, size, step = 40, 1000, 4 * ledger.BlockBytes
	for seed := range uint64(50) {
		fsys := ledgertest.NewFS(seed)
		o := ledger.Options{FS: fsys, SegmentBytes: 1 << 20, ReserveBytes: step, Durability: ledger.OS}
		l, _ := mustOpen(t, testDir, o)
		var want []entry
		for i := range records {
			want = append(want, bets(size, i))
			mustCommit(t, l, want[i])
		}
		fsys.Crash()
		l, found := mustOpen(t, testDir, o)
		mustClose(t, l)
		if ledgertest.Agreement(found, want) != len(found) || (len(want)-len(found))*size >= step {
			t.Fatalf("seed %d: %d of %d records are left, of %d bytes each",
				seed, len(found), len(want), size)
		}
	}
}

// A process may end between creating the ledger's directory and syncing its name. The next process
// finds the directory, and makes its name durable before it acknowledges anything.
func TestDirectoryIsDurable(t *testing.T) {
	for seed := range uint64(50) {
		fsys := ledgertest.NewFS(seed)
		dir := filepath.Join("new", "ledger")
		o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin}
		fsys.Break(ledgertest.Fault{Op: ledgertest.Mkdir, N: 1})
		if _, err := ledger.Open(dir, o, nil); !errors.Is(err, ledgertest.ErrInjected) {
			t.Fatalf("Open returned %v", err)
		}
		fsys.Kill()
		l, _ := mustOpen(t, dir, o)
		mustCommit(t, l, bets(10, 1))
		fsys.Crash()
		l, found := mustOpen(t, dir, o)
		mustClose(t, l)
		wantEntries(t, found, []entry{bets(10, 1)})
	}
}
