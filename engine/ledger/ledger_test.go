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

func TestRoundTrip(t *testing.T) {
	for _, durability := range []ledger.Durability{ledger.Fsync, ledger.OS} {
		t.Run(durability.String(), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "b")
			o := ledger.Options{Durability: durability, SegmentBytes: 1 << 20}
			groups := [][]entry{
				{opened("7574")},
				{bets(8192, 1), bets(1, 2), bets(7, 3), bets(8, 4), bets(9, 5)},
				{reported(1), {Kind: ledger.Reported, Agency: 1<<32 - 1, Count: 1<<32 - 1}},
				{bets(3<<20, 6)},             // larger than a segment
				{bets(ledger.BlockBytes, 7)}, // nor is there room for this behind it
			}
			var want []entry
			for i, group := range groups {
				l, found := mustOpen(t, dir, o)
				wantEntries(t, found, want)
				var runs [][]byte // every entry a run of its own, and an empty one
				for _, e := range group {
					runs = append(runs, e.AppendTo(nil), nil)
				}
				if err := l.Commit(runs); err != nil {
					t.Fatalf("group %d: %v", i, err)
				}
				want = append(want, group...)
				if got := l.Stats(); got.Seq != uint64(len(want)) {
					t.Fatalf("Stats after group %d: %+v", i, got)
				}
				mustClose(t, l)
			}
			var found []entry
			tail, err := ledger.Scan(dir, o, ledgertest.Collect(&found))
			if err != nil {
				t.Fatal(err)
			}
			wantEntries(t, found, want)
			l, _ := mustOpen(t, dir, o)
			defer mustClose(t, l)
			if l.Stats() != tail.Stats || l.Recovered() != tail || tail.Torn {
				t.Fatalf("Stats %+v, Recovered %+v, Scan %+v", l.Stats(), l.Recovered(), tail)
			}
			if tail.Segments != 3 {
				t.Fatalf("%d segments, want 3", tail.Segments)
			}
		})
	}
}

// A record that ends anywhere around the end of a segment is found again, and so is what follows.
func TestRotationAtEveryBoundary(t *testing.T) {
	const room = ledger.SegmentBytesMin - ledger.SegmentHeaderBytes
	for first := room - 3*ledger.RecordHeaderBytes; first <= room+ledger.RecordHeaderBytes; first += ledger.RecordAlignBytes {
		for _, second := range []int{0, 1, 8, 40} {
			fsys := ledgertest.NewFS(1)
			o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin}
			l, _ := mustOpen(t, testDir, o)
			want := []entry{bets(first-ledger.RecordHeaderBytes, 1), bets(second, 2), bets(0, 3), bets(room, 4), bets(0, 5)}
			mustCommit(t, l, want[:4]...) // in one run: it is cut at the segment's end
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

// Segments are as large as was said, and a sealed one ends with its last record.
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
				t.Errorf("sealed segment %s has %d bytes", name, size)
			}
		} else if size != ledger.SegmentBytesMin {
			t.Errorf("live segment has %d bytes", size)
		}
	}
	if stats.Segments != len(names) || stats.Bytes <= used || stats.Bytes > used+ledger.SegmentBytesMin {
		t.Errorf("Stats %+v; %d segments, of which the sealed ones have %d bytes", stats, len(names), used)
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
	if tail, err := ledger.Scan(testDir, ledger.Options{FS: fsys}, nil); err != nil || tail != (ledger.Tail{}) {
		t.Fatalf("Scan of an empty directory: %+v, %v", tail, err)
	}
	if changes := fsys.Count(ledgertest.Changes) - before; changes != 0 {
		t.Fatalf("Scan did %d operations that change something", changes)
	}
}

// Whatever else stands in the directory is left alone.
func TestOtherFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"bets.csv", "1.ledger", "00000000000000000002.ledger.bak", "x0000000000000000002.ledger"} {
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
		if _, err := ledger.Open(testDir, ledger.Options{FS: ledgertest.NewFS(1), SegmentBytes: size}, nil); err == nil {
			t.Errorf("segments of %d bytes were accepted", size)
		}
	}
	for _, size := range []int64{-1, 1, ledger.BlockBytes - 1} {
		if _, err := ledger.Open(testDir, ledger.Options{FS: ledgertest.NewFS(1), ReserveBytes: size}, nil); err == nil {
			t.Errorf("%d bytes to reserve at a time were accepted", size)
		}
	}
}

// The live segment takes space step by step, up to its size, also after a restart.
func TestReservation(t *testing.T) {
	const step, segment = 2 * ledger.BlockBytes, 5 * ledger.BlockBytes
	fsys := ledgertest.NewFS(1)
	o := ledger.Options{FS: fsys, SegmentBytes: segment, ReserveBytes: step + 5}
	for i, want := range []int{step, 2 * step, 2 * step, segment, step, 2 * step} { // the last two are the second segment's
		l, _ := mustOpen(t, testDir, o)
		mustCommit(t, l, bets(ledger.BlockBytes-40, i)) // a block with its header, nearly; the segment's comes before the first
		mustClose(t, l)
		files := imageOf(fsys)
		names := slices.Sorted(maps.Keys(files))
		if got := len(files[names[len(names)-1]]); got != want {
			t.Errorf("after %d records the live segment, of %d, has %d bytes, want %d", i+1, len(names), got, want)
		}
	}
}

func TestLockedInProcess(t *testing.T) {
	dir := t.TempDir()
	l, _ := mustOpen(t, dir, ledger.Options{SegmentBytes: ledger.SegmentBytesMin})
	if _, err := ledger.Open(dir, ledger.Options{}, nil); !errors.Is(err, ledger.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("the second Open returned %v", err)
	}
	mustCommit(t, l, bets(10, 1)) // the first isn't disturbed
	if _, err := ledger.Scan(dir, ledger.Options{}, nil); err != nil {
		t.Fatalf("Scan beside an open ledger: %v", err)
	}
	mustClose(t, l)
	l, _ = mustOpen(t, dir, ledger.Options{})
	mustClose(t, l)
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
	if err != nil || !strings.Contains(string(out), ledger.ErrLocked.Error()) {
		t.Fatalf("the other process: %v\n%s", err, out)
	}
}

func TestMisusePanics(t *testing.T) {
	whole := ledgertest.Run(bets(100, 1))
	unlawful := slices.Clone(whole)
	unlawful[4] = 0
	cases := map[string]func(l *ledger.Ledger){
		"no kind":             func(*ledger.Ledger) { ledger.AppendRecord(nil, 0, 1, 1, nil) },
		"no agency, no count": func(*ledger.Ledger) { ledger.AppendRecord(nil, ledger.Bets, 0, 0, nil) },
		"payload too long": func(*ledger.Ledger) {
			ledger.AppendRecord(nil, ledger.Bets, 1, 1, make([]byte, ledger.RecordPayloadBytesMax+1))
		},
		"half a record": func(l *ledger.Ledger) { l.Commit([][]byte{whole[:len(whole)-8]}) },
		"half a header": func(l *ledger.Ledger) { l.Commit([][]byte{whole[:24]}) },
		"not a record":  func(l *ledger.Ledger) { l.Commit([][]byte{unlawful}) },
	}
	for name, misuse := range cases {
		t.Run(name, func(t *testing.T) {
			l, _ := mustOpen(t, testDir, ledger.Options{FS: ledgertest.NewFS(1), SegmentBytes: ledger.SegmentBytesMin})
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			misuse(l)
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
			t.Errorf("%v: %v allocations a commit", durability, allocations)
		}
	}
}

// A reader beside the writer, through the operating system's cache, finds what was committed past it, and the other way round.
func TestCommitsPastTheCache(t *testing.T) {
	dir := t.TempDir()
	var want []entry
	for life := range 6 {
		o := ledger.Options{Durability: []ledger.Durability{ledger.Fsync, ledger.OS}[life%2]}
		l, found := mustOpen(t, dir, o)
		wantEntries(t, found, want)
		for i := range 40 {
			e := bets(1+(life*40+i)*97%9000, i)
			mustCommit(t, l, e)
			want = append(want, e)
			var seen []entry
			if tail, err := ledger.Scan(dir, o, ledgertest.Collect(&seen)); err != nil || tail.Torn {
				t.Fatalf("life %d, commit %d: Scan: %+v, %v", life, i, tail, err)
			}
			wantEntries(t, seen, want)
		}
		mustClose(t, l)
	}
}

// A group that is larger than what is written at once, in records that never end with a block.
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
