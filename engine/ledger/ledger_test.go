package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// testDir is where tests keep a ledger in a memFS.
const testDir = "data"

// entry is a Record whose payload outlives the visit.
type entry struct {
	kind    Kind
	agency  uint32
	count   uint32
	payload string
}

func (e entry) appendTo(run []byte) []byte {
	return AppendRecord(run, e.kind, e.agency, e.count, []byte(e.payload))
}

// bets makes a record with a payload of that many bytes, of which no two are alike.
func bets(payloadBytes int, number int) entry {
	line := fmt.Sprintf("Juan|Pérez|%08d|1990-05-23|7574|1\n", number)
	return entry{Bets, uint32(number%5 + 1), 1, strings.Repeat(line, payloadBytes/len(line)+1)[:payloadBytes]}
}

// collect returns a visitor that checks the sequence numbers and keeps the records.
func collect(t testing.TB, into *[]entry) func(Record) error {
	return func(r Record) error {
		*into = append(*into, entry{r.Kind, r.Agency, r.Count, string(r.Payload)})
		if r.Seq != uint64(len(*into)) {
			t.Errorf("record %d was visited as number %d", r.Seq, len(*into))
		}
		return nil
	}
}

func mustOpen(t testing.TB, dir string, o Options) (*Ledger, []entry) {
	t.Helper()
	var found []entry
	l, err := Open(dir, o, collect(t, &found))
	if err != nil {
		t.Fatal(err)
	}
	return l, found
}

func mustCommit(t testing.TB, l *Ledger, entries ...entry) {
	t.Helper()
	if err := commit(l, entries...); err != nil {
		t.Fatal(err)
	}
}

func commit(l *Ledger, entries ...entry) error {
	var run []byte
	for _, e := range entries {
		run = e.appendTo(run)
	}
	return l.Commit([][]byte{run})
}

func mustClose(t testing.TB, l *Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func wantEntries(t testing.TB, got, want []entry) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("found %d records, want %d; they agree up to %d", len(got), len(want), agreement(got, want))
	}
}

func agreement(a, b []entry) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func TestRoundTrip(t *testing.T) {
	for _, durability := range []Durability{Fsync, OS} {
		t.Run(durability.String(), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "b")
			o := Options{Durability: durability, SegmentBytes: 1 << 20}
			groups := [][]entry{
				{{Opened, 0, 5, "7574"}},
				{bets(8192, 1), bets(1, 2), bets(7, 3), bets(8, 4), bets(9, 5)},
				{{Reported, 1, 0, ""}, {Reported, 1<<32 - 1, 1<<32 - 1, ""}},
				{bets(3<<20, 6)}, // larger than a segment
				{bets(100, 7)},
			}
			var want []entry
			for i, group := range groups {
				l, found := mustOpen(t, dir, o)
				wantEntries(t, found, want)
				var runs [][]byte // every entry a run of its own, and an empty one
				for _, e := range group {
					runs = append(runs, e.appendTo(nil), nil)
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
			tail, err := Scan(dir, o, collect(t, &found))
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
	const room = SegmentBytesMin - segmentHeaderBytes
	for first := room - 3*recordHeaderBytes; first <= room+recordHeaderBytes; first += recordAlignBytes {
		for _, second := range []int{0, 1, 8, 40} {
			fsys := newMemFS()
			o := Options{FS: fsys, SegmentBytes: SegmentBytesMin}
			l, _ := mustOpen(t, testDir, o)
			want := []entry{bets(first-recordHeaderBytes, 1), bets(second, 2), bets(0, 3), bets(room, 4), bets(0, 5)}
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
	fsys := newMemFS()
	l, _ := mustOpen(t, testDir, Options{FS: fsys, SegmentBytes: SegmentBytesMin + 5})
	for i := range 100 {
		mustCommit(t, l, bets(i, i))
	}
	stats := l.Stats()
	mustClose(t, l)
	names := sortedKeys(fsys.names)
	var used int64
	for i, name := range names {
		size := len(fsys.names[name].data)
		if i < len(names)-1 {
			used += int64(size)
			if next := RecordBytes(100); size > SegmentBytesMin || size < SegmentBytesMin-next {
				t.Errorf("sealed segment %s has %d bytes", name, size)
			}
		} else if size != SegmentBytesMin {
			t.Errorf("live segment has %d bytes", size)
		}
	}
	if stats.Segments != len(names) || stats.Bytes <= used || stats.Bytes > used+SegmentBytesMin {
		t.Errorf("Stats %+v; %d segments, of which the sealed ones have %d bytes", stats, len(names), used)
	}
}

func TestVisitError(t *testing.T) {
	fsys := newMemFS()
	o := Options{FS: fsys, SegmentBytes: SegmentBytesMin}
	l, _ := mustOpen(t, testDir, o)
	mustCommit(t, l, bets(10, 1), bets(10, 2))
	mustClose(t, l)

	stop := errors.New("stop")
	calls := 0
	visit := func(Record) error { calls++; return stop }
	before := fsys.ops
	if _, err := Open(testDir, o, visit); err != stop || calls != 1 {
		t.Fatalf("Open returned %v after %d calls", err, calls)
	}
	if _, err := Scan(testDir, o, visit); err != stop || calls != 2 {
		t.Fatalf("Scan returned %v after %d calls", err, calls)
	}
	if changes := fsys.ops - before - 1; changes != 0 { // Open's MkdirAll counts as one
		t.Fatalf("a refused Open did %d operations that change something", changes)
	}
	l, found := mustOpen(t, testDir, o) // the lock was given back
	defer mustClose(t, l)
	wantEntries(t, found, []entry{bets(10, 1), bets(10, 2)})
}

func TestScanChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	if _, err := Scan(dir, Options{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Scan of a missing directory: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Scan made something: %v", err)
	}
	fsys := newMemFS()
	if tail, err := Scan(testDir, Options{FS: fsys}, nil); err != nil || tail != (Tail{}) || fsys.ops != 0 {
		t.Fatalf("Scan of an empty directory: %+v, %v, %d operations", tail, err, fsys.ops)
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
	l, _ := mustOpen(t, dir, Options{SegmentBytes: SegmentBytesMin})
	mustCommit(t, l, bets(10, 1))
	mustClose(t, l)
	l, found := mustOpen(t, dir, Options{})
	mustClose(t, l)
	wantEntries(t, found, []entry{bets(10, 1)})
}

func TestOptions(t *testing.T) {
	for _, size := range []int64{-1, 1, SegmentBytesMin - 1, SegmentBytesMax + 1} {
		if _, err := Open(testDir, Options{FS: newMemFS(), SegmentBytes: size}, nil); err == nil {
			t.Errorf("segments of %d bytes were accepted", size)
		}
	}
	var d Durability
	for _, want := range []Durability{OS, Fsync} {
		if err := d.UnmarshalText([]byte(want.String())); err != nil || d != want {
			t.Errorf("%v was read as %v, %v", want, d, err)
		}
	}
	if err := d.UnmarshalText([]byte("Fsync")); err == nil || !strings.Contains(err.Error(), `"Fsync"`) {
		t.Errorf("Fsync: %v", err)
	}
}

// With Durability OS a Commit doesn't sync, and Close does.
func TestDurabilityOS(t *testing.T) {
	for seed := range uint64(10) {
		fsys := newMemFS()
		o := Options{FS: fsys, SegmentBytes: SegmentBytesMin, Durability: OS}
		l, _ := mustOpen(t, testDir, o)
		before := fsys.ops
		mustCommit(t, l, bets(700, 1))
		mustCommit(t, l, bets(10, 2))
		if got := fsys.ops - before; got != 2 {
			t.Errorf("two commits took %d operations, want one write each", got)
		}
		mustClose(t, l)
		fsys.crash(rand.New(rand.NewPCG(1, seed)))
		l, found := mustOpen(t, testDir, o)
		mustClose(t, l)
		wantEntries(t, found, []entry{bets(700, 1), bets(10, 2)})
	}
}

// A new ledger's directory may itself be new, and its name not yet durable.
func TestCreationSyncsParent(t *testing.T) {
	fsys := newMemFS()
	l, _ := mustOpen(t, testDir, Options{FS: fsys, SegmentBytes: SegmentBytesMin})
	mustClose(t, l)
	if !slices.Contains(fsys.synced, ".") || !slices.Contains(fsys.synced, testDir) {
		t.Errorf("synced %q, want the directory and its parent", fsys.synced)
	}
}

func TestLockedInProcess(t *testing.T) {
	dir := t.TempDir()
	l, _ := mustOpen(t, dir, Options{SegmentBytes: SegmentBytesMin})
	if _, err := Open(dir, Options{}, nil); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("the second Open returned %v", err)
	}
	mustCommit(t, l, bets(10, 1)) // the first isn't disturbed
	if _, err := Scan(dir, Options{}, nil); err != nil {
		t.Fatalf("Scan beside an open ledger: %v", err)
	}
	mustClose(t, l)
	l, _ = mustOpen(t, dir, Options{})
	mustClose(t, l)
}

const lockDirVariable = "LEDGER_TEST_LOCK_DIR"

func TestLockedByAnotherProcess(t *testing.T) {
	if dir := os.Getenv(lockDirVariable); dir != "" { // the other process
		_, err := Open(dir, Options{}, nil)
		fmt.Println("open:", err)
		return
	}
	dir := t.TempDir()
	l, _ := mustOpen(t, dir, Options{SegmentBytes: SegmentBytesMin})
	defer mustClose(t, l)
	other := exec.Command(os.Args[0], "-test.run=^TestLockedByAnotherProcess$", "-test.v")
	other.Env = append(os.Environ(), lockDirVariable+"="+dir)
	out, err := other.CombinedOutput()
	if err != nil || !strings.Contains(string(out), ErrLocked.Error()) {
		t.Fatalf("the other process: %v\n%s", err, out)
	}
}

// Whichever operation fails, and how it fails, the ledger never works again, and what was acknowledged is found.
func TestFailureIsFinal(t *testing.T) {
	for n := 1; ; n++ {
		fsys := newMemFS()
		o := Options{FS: fsys, SegmentBytes: SegmentBytesMin}
		l, _ := mustOpen(t, testDir, o)
		fsys.failAt = fsys.ops + n
		var acknowledged []entry
		var first error
		for i := range 8 {
			e := bets(1000, i)
			err := commit(l, e)
			switch {
			case err == nil && first == nil:
				acknowledged = append(acknowledged, e)
			case err == nil:
				t.Fatalf("%s failed, a later commit succeeded", fsys.failed)
			case first == nil:
				first = err
				if !errors.Is(err, ErrFailed) || !errors.Is(err, errInjected) {
					t.Fatalf("%s failed: %v", fsys.failed, err)
				}
			case err != first:
				t.Fatalf("%s failed with %v, later with %v", fsys.failed, first, err)
			}
		}
		if l.Stats().Seq != uint64(len(acknowledged)) {
			t.Fatalf("Stats %+v, %d records were acknowledged", l.Stats(), len(acknowledged))
		}
		fsys.kill()
		l, found := mustOpen(t, testDir, o)
		if agreement(found, acknowledged) != len(acknowledged) || len(found) > len(acknowledged)+1 {
			t.Fatalf("%s failed: found %d records, %d were acknowledged", fsys.failed, len(found), len(acknowledged))
		}
		mustClose(t, l)
		if first == nil {
			if n < 15 {
				t.Fatalf("only %d operations: no rotation was tested", n)
			}
			return
		}
	}
}

// After Close, nothing is committed; closing twice is harmless.
func TestClosed(t *testing.T) {
	l, _ := mustOpen(t, testDir, Options{FS: newMemFS(), SegmentBytes: SegmentBytesMin})
	mustClose(t, l)
	mustClose(t, l)
	if err := commit(l, bets(1, 1)); !errors.Is(err, ErrFailed) || !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("Commit after Close: %v", err)
	}
}

func TestMisusePanics(t *testing.T) {
	whole := bets(100, 1).appendTo(nil)
	unlawful := slices.Clone(whole)
	unlawful[4] = 0
	cases := map[string]func(l *Ledger){
		"no kind":             func(*Ledger) { AppendRecord(nil, 0, 1, 1, nil) },
		"no agency, no count": func(*Ledger) { AppendRecord(nil, Bets, 0, 0, nil) },
		"payload too long":    func(*Ledger) { AppendRecord(nil, Bets, 1, 1, make([]byte, RecordPayloadBytesMax+1)) },
		"half a record":       func(l *Ledger) { l.write(whole[:len(whole)-8]) },
		"half a header":       func(l *Ledger) { l.write(whole[:24]) },
		"not a record":        func(l *Ledger) { l.write(unlawful) },
	}
	for name, misuse := range cases {
		t.Run(name, func(t *testing.T) {
			l, _ := mustOpen(t, testDir, Options{FS: newMemFS(), SegmentBytes: SegmentBytesMin})
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
	for _, durability := range []Durability{Fsync, OS} {
		l, _ := mustOpen(t, t.TempDir(), Options{Durability: durability})
		payload := []byte(bets(8000, 1).payload)
		run := make([]byte, 0, 64<<10)
		runs := make([][]byte, 2)
		allocations := testing.AllocsPerRun(20, func() {
			run = run[:0]
			for range 4 {
				run = AppendRecord(run, Bets, 1, 200, payload)
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
