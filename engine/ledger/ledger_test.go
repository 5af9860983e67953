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

// A ledger in a directory of the operating system's, which has to be made and is synced or not, is
// what a log has to be. Its segments are smaller than some records.
func TestConforms(t *testing.T) {
	for _, durability := range []ledger.Durability{ledger.Fsync, ledger.OS} {
		t.Run(durability.String(), func(t *testing.T) {
			ledgertest.Conform(t, func(t testing.TB) ledgertest.Open {
				dir := filepath.Join(t.TempDir(), "a", "b")
				return ledgertest.In(dir, ledger.Options{Durability: durability, SegmentBytes: 2 * ledger.SegmentBytesMin})
			})
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
	if err != nil || !strings.Contains(string(out), ledger.ErrLocked.Error()) || !strings.Contains(string(out), dir) {
		t.Fatalf("the other process: %v\n%s", err, out)
	}
}

func TestMisusePanics(t *testing.T) {
	cases := map[string]func(){
		"no kind":             func() { ledger.AppendRecord(nil, 0, 1, 1, nil) },
		"no agency, no count": func() { ledger.AppendRecord(nil, ledger.Bets, 0, 0, nil) },
		"payload too long":    func() { ledger.AppendRecord(nil, ledger.Bets, 1, 1, make([]byte, ledger.RecordPayloadBytesMax+1)) },
		"nothing to unpack":   func() { ledger.Unpack(nil) },
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
			t.Errorf("%v: %v allocations a commit", durability, allocations)
		}
	}
}

// A reader beside the writer, through the operating system's cache, finds what was committed past
// it, and the other way round. All who count come to the same.
func TestCommitsPastTheCache(t *testing.T) {
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
			var seen, held []entry
			var err, errHeld error
			tail, err = ledger.Scan(dir, o, ledgertest.Collect(&seen))
			tailHeld, errHeld := l.Scan(ledgertest.Collect(&held))
			if err != nil || errHeld != nil || tail.Torn || tailHeld != tail || l.Stats() != tail.Stats {
				t.Fatalf("life %d, commit %d: Scan: %+v, %v, the holder's %+v, %v, Stats %+v", life, i, tail, err, tailHeld, errHeld, l.Stats())
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
