package ledger_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// A ledger on the operating system's file system passes ledgertest.Conform with each durability. It
// has to create its directory, and its segments are smaller than some records.
func TestConforms(t *testing.T) {
	t.Parallel()
	for _, durability := range []ledger.Durability{ledger.Fsync, ledger.OS} {
		t.Run(durability.String(), func(t *testing.T) {
			ledgertest.Conform(t, func(t testing.TB) ledgertest.Open {
				dir := filepath.Join(t.TempDir(), "a", "b")
				o := ledger.Options{Durability: durability, SegmentBytes: 2 * ledger.SegmentBytesMin}
				return ledgertest.In(dir, o)
			})
		})
	}
}

// A record that ends anywhere around the end of a segment is found again, and so is what follows.
func TestRotationAtEveryBoundary(t *testing.T) {
	const room = ledger.SegmentBytesMin - ledger.SegmentHeaderBytes
	const begin, end = room - 3*ledger.RecordHeaderBytes, room + ledger.RecordHeaderBytes
	for first := begin; first <= end; first += ledger.RecordAlignBytes {
		for _, second := range []int{0, 1, 8, 40} {
			fsys := ledgertest.NewFS(1)
			o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin}
			l, _ := mustOpen(t, testDir, o)
			want := []entry{
				bets(first-ledger.RecordHeaderBytes, 1), bets(second, 2), bets(0, 3), bets(room, 4), bets(0, 5),
			}
			mustCommit(t, l, want[:4]...) // one run, which the segment's end divides
			mustCommit(t, l, want[4])
			stats := l.Stats()
			mustClose(t, l)

			l, found := mustOpen(t, testDir, o)
			wantEntries(t, found, want)
			if l.Stats() != stats {
				t.Fatalf("first %d, second %d: Stats were %+v, are %+v", first, second, stats, l.Stats())
			}
			mustClose(t, l)
		}
	}
}

// Segments have the size that Options say, and a finished one ends with its last record.
func TestSegmentSizes(t *testing.T) {
	fsys := ledgertest.NewFS(1)
	l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin + 5})
	for i := range 100 {
		mustCommit(t, l, bets(i, i))
	}
	stats := l.Stats()
	mustClose(t, l)
	files := imageOf(fsys)
	names := slices.Sorted(maps.Keys(files))
	var used int64
	for i, name := range names {
		size := len(files[name])
		if i < len(names)-1 {
			used += int64(size)
			if next := ledger.RecordBytes(100); size > ledger.SegmentBytesMin || size < ledger.SegmentBytesMin-next {
				t.Errorf("finished segment %s has %d bytes", name, size)
			}
		} else if size != ledger.SegmentBytesMin {
			t.Errorf("the live segment has %d bytes", size)
		}
	}
	if stats.Segments != len(names) ||
		stats.Bytes <= used || stats.Bytes > used+ledger.SegmentBytesMin {
		t.Errorf("Stats %+v; %d segments, the finished ones have %d bytes", stats, len(names), used)
	}
}

func TestScanChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	if _, err := ledger.Scan(dir, ledger.Options{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Scan of a missing directory: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Scan made something: %v", err)
	}
	fsys := ledgertest.NewFS(1)
	if err := fsys.MkdirAll(testDir); err != nil {
		t.Fatal(err)
	}
	before := fsys.Count(ledgertest.Changes)
	tail, err := ledger.Scan(testDir, ledger.Options{FS: fsys}, nil)
	if err != nil || tail != (ledger.Tail{}) {
		t.Fatalf("Scan of an empty directory: %+v, %v", tail, err)
	}
	if changes := fsys.Count(ledgertest.Changes) - before; changes != 0 {
		t.Fatalf("Scan did %d operations that change something", changes)
	}
}

// Other files in the directory don't disturb the ledger.
func TestOtherFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"bets.csv", "1.ledger", "00000000000000000002.ledger.bak", "x0000000000000000002.ledger",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, _ := mustOpen(t, dir, ledger.Options{SegmentBytes: ledger.SegmentBytesMin})
	mustCommit(t, l, bets(10, 1))
	mustClose(t, l)
	l, found := mustOpen(t, dir, ledger.Options{})
	mustClose(t, l)
	wantEntries(t, found, []entry{bets(10, 1)})
}

func TestOptions(t *testing.T) {
	for _, size := range []int64{-1, 1, ledger.SegmentBytesMin - 1, ledger.SegmentBytesMax + 1} {
		o := ledger.Options{FS: ledgertest.NewFS(1), SegmentBytes: size}
		if _, err := ledger.Open(testDir, o, nil); err == nil {
			t.Errorf("segments of %d bytes were accepted", size)
		}
	}
	for _, size := range []int64{-1, 1, ledger.BlockBytes - 1} {
		o := ledger.Options{FS: ledgertest.NewFS(1), ReserveBytes: size}
		if _, err := ledger.Open(testDir, o, nil); err == nil {
			t.Errorf("reserving %d bytes at a time was accepted", size)
		}
	}
}

// The live segment reserves space step by step, up to its size, also after restarts.
func TestReservation(t *testing.T) {
	const step, segment = 2 * ledger.BlockBytes, 5 * ledger.BlockBytes
	fsys := ledgertest.NewFS(1)
	o := ledger.Options{FS: fsys, SegmentBytes: segment, ReserveBytes: step + 5}
	// The last two sizes are the second segment's.
	for i, want := range []int{step, 2 * step, 2 * step, segment, step, 2 * step} {
		l, _ := mustOpen(t, testDir, o)
		mustCommit(t, l, bets(ledger.BlockBytes-40, i)) // a little less than a block, with its header
		mustClose(t, l)
		files := imageOf(fsys)
		names := slices.Sorted(maps.Keys(files))
		if got := len(files[names[len(names)-1]]); got != want {
			t.Errorf("after %d records the live segment of %d segments has %d bytes, want %d",
				i+1, len(names), got, want)
		}
	}
}

const lockDirVariable = "LEDGER_TEST_LOCK_DIR"

func TestLockedByAnotherProcess(t *testing.T) {
	if dir := os.Getenv(lockDirVariable); dir != "" { // the other process
		_, err := ledger.Open(dir, ledger.Options{}, nil)
		fmt.Println("open:", err)
		return
	}
	dir := t.TempDir()
	l, _ := mustOpen(t, dir, ledger.Options{SegmentBytes: ledger.SegmentBytesMin})
	defer mustClose(t, l)
	other := exec.Command(os.Args[0], "-test.run=^TestLockedByAnotherProcess$", "-test.v")
	other.Env = append(os.Environ(), lockDirVariable+"="+dir)
	out, err := other.CombinedOutput()
	if err != nil || !strings.Contains(string(out), ledger.ErrLocked.Error()) ||
		!strings.Contains(string(out), dir) {
		t.Fatalf("the other process: %v\n%s", err, out)
	}
}

func TestMisusePanics(t *testing.T) {
	cases := map[string]func(){
		"no kind":             func() { ledger.AppendRecord(nil, 0, 1, 1, nil) },
		"no agency, no count": func() { ledger.AppendRecord(nil, ledger.Bets, 0, 0, nil) },
		"payload too long": func() {
			ledger.AppendRecord(nil, ledger.Bets, 1, 1, make([]byte, ledger.RecordPayloadBytesMax+1))
		},
		"nothing to unpack": func() { ledger.Unpack(nil) },
	}
	for name, misuse := range cases {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			misuse()
		})
	}
}

func TestNoAllocations(t *testing.T) {
	for _, durability := range []ledger.Durability{ledger.Fsync, ledger.OS} {
		l, _ := mustOpen(t, t.TempDir(), ledger.Options{Durability: durability})
		payload := []byte(bets(8000, 1).Payload)
		run := make([]byte, 0, 64<<10)
		runs := make([][]byte, 2)
		allocations := testing.AllocsPerRun(20, func() {
			run = run[:0]
			for range 4 {
				run = ledger.AppendRecord(run, ledger.Bets, 1, 200, payload)
			}
			runs[0], runs[1] = run[:len(run)/2], run[len(run)/2:]
			if err := l.Commit(runs); err != nil {
				t.Fatal(err)
			}
		})
		mustClose(t, l)
		if allocations != 0 {
			t.Errorf("%v: %v allocations per commit", durability, allocations)
		}
	}
}

// Commits that bypass the operating system's cache, and commits that don't, are found by scans that
// read through it. The function Scan, the ledger's Scan, Stats and Recovered agree.
func TestCommitsPastTheCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var want []entry
	var tail ledger.Tail
	for life := range 6 {
		o := ledger.Options{Durability: []ledger.Durability{ledger.Fsync, ledger.OS}[life%2]}
		l, found := mustOpen(t, dir, o)
		wantEntries(t, found, want)
		if life > 0 && l.Recovered() != tail {
			t.Fatalf("life %d: Recovered %+v, Scan %+v", life, l.Recovered(), tail)
		}
		for i := range 40 {
			e := bets(1+(life*40+i)*97%9000, i)
			mustCommit(t, l, e)
			want = append(want, e)
			if i%4 != 3 {
				continue // the scan behind the fourth finds the others, too
			}
			var seen, held []entry
			var err, errHeld error
			tail, err = ledger.Scan(dir, o, ledgertest.Collect(&seen))
			tailHeld, errHeld := l.Scan(ledgertest.Collect(&held))
			if err != nil || errHeld != nil || tail.Torn || tailHeld != tail || l.Stats() != tail.Stats {
				t.Fatalf("life %d, commit %d: Scan: %+v, %v, the ledger's %+v, %v, Stats %+v",
					life, i, tail, err, tailHeld, errHeld, l.Stats())
			}
			wantEntries(t, seen, want)
			wantEntries(t, held, want)
		}
		mustClose(t, l)
		if err := commit(l, bets(1, 1)); !errors.Is(err, ledger.ErrFailed) {
			t.Fatalf("life %d: Commit after Close: %v", life, err)
		}
	}
}

// A group is larger than what is written at once, and its records' ends are not at blocks' ends.
func TestLargeGroup(t *testing.T) {
	fsys := ledgertest.NewFS(1)
	l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys})
	var want []entry
	for i := range 1400 {
		want = append(want, bets(4099, i))
	}
	writes := fsys.Count(ledgertest.Write)
	mustCommit(t, l, want...)
	if writes = fsys.Count(ledgertest.Write) - writes; writes != 2 {
		t.Errorf("5.8 MB took %d writes, want 2", writes)
	}
	mustCommit(t, l, bets(5, 1))
	fsys.Crash()
	l, found := mustOpen(t, testDir, ledger.Options{FS: fsys})
	mustClose(t, l)
	wantEntries(t, found, append(want, bets(5, 1)))
}
