package ledgertest

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"sync/atomic"
	"testing"

	"loteria/engine/ledger"
)

// Log is an open log, as a committer needs it. [ledger.Ledger] documents the methods.
type Log interface {
	Commit(runs [][]byte) error
	Seal() error
	Read() error
	Term() uint64
	Scan(visit func(ledger.Record) error) (ledger.Tail, error)
	Close() error
}

// Open opens a log, the same one at every call. Like [ledger.Open], it replays the log through
// visit, which may be nil, and makes it ready to append.
type Open func(visit func(ledger.Record) error) (Log, error)

// In returns an Open of the ledger in directory dir.
func In(dir string, o ledger.Options) Open {
	return func(visit func(ledger.Record) error) (Log, error) {
		l, err := ledger.Open(dir, o, visit)
		if err != nil {
			return nil, err // the Log must be nil, too: a nil *Ledger in it would not be
		}
		return l, nil
	}
}

// Conform runs the checks that every log must pass, wherever it stores its records. Each check is a
// subtest. fresh makes a new, empty log at every call. [Check] also makes logs fail and crash.
func Conform(t *testing.T, fresh func(t testing.TB) Open) {
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) { c.check(t, fresh(t)) })
	}
	t.Run("scans beside commits", func(t *testing.T) { checkScansBeside(t, fresh(t)) })
}

// conformance lists the checks that need only one goroutine. They fail only by Fatal and Fatalf,
// because tests of the checks look for these.
var conformance = []struct {
	name  string
	check func(t testing.TB, open Open)
}{
	{"round trip", checkRoundTrip},
	{"committing a run again", checkRunAgain},
	{"scan", checkScan},
	{"visit's error", checkVisitError},
	{"seal", checkSeal},
	{"term", checkTerm},
	{"one at a time", checkLock},
	{"misuse", checkMisuse},
	{"closed", checkClosed},
}

func mustOpen(t testing.TB, open Open) (Log, []Entry) {
	t.Helper()
	var found []Entry
	l, err := open(Collect(&found))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return l, found
}

func mustCommit(t testing.TB, l Log, entries ...Entry) {
	t.Helper()
	if err := l.Commit([][]byte{Run(entries...)}); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

func mustScan(t testing.TB, l Log) ([]Entry, ledger.Tail) {
	t.Helper()
	var found []Entry
	tail, err := l.Scan(Collect(&found))
	if err != nil || tail.Seq != uint64(len(found)) || tail.Torn {
		t.Fatalf("Scan found %d records: %+v, %v", len(found), tail, err)
	}
	return found, tail
}

func mustClose(t testing.TB, l Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func equal(t testing.TB, got, want []Entry) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("found %d records, want %d; the first %d are equal",
			len(got), len(want), Agreement(got, want))
	}
}

// checkRoundTrip commits records in different groups and runs. The next Scan and every later Open
// visit them in order and unchanged.
func checkRoundTrip(t testing.TB, open Open) {
	groups := [][]Entry{
		{Opened("settings")},
		{Bets(2000, 1), Bets(1, 2), Bets(7, 3), Bets(8, 4), Bets(9, 5)},
		{Reported(1), {ledger.Reported, 1<<32 - 1, 1<<32 - 1, ""}, {255, 0, 1, "a kind of a later version"}},
		{Bets(largePayloadBytes, 6)},
		{},
		{Bets(largePayloadBytes, 7), Bets(100, 8), Bets(largePayloadBytes, 9), Bets(100, 10)},
	}
	var want []Entry
	for i, group := range slices.Concat(groups, groups) {
		l, found := mustOpen(t, open)
		equal(t, found, want)
		var runs [][]byte
		if i < len(groups) { // a run for each entry, and an empty one after it
			for _, e := range group {
				runs = append(runs, Run(e), nil)
			}
		} else {
			runs = [][]byte{{}, Run(group...)}
		}
		if err := l.Commit(runs); err != nil {
			t.Fatalf("group %d: %v", i, err)
		}
		want = append(want, group...)
		found, _ = mustScan(t, l)
		equal(t, found, want)
		mustClose(t, l)
	}
	l, found := mustOpen(t, open)
	equal(t, found, want)
	mustClose(t, l)
}

// checkRunAgain uses a run after its Commit. Committed again, it makes new records. Overwritten, it
// changes nothing in the log.
func checkRunAgain(t testing.TB, open Open) {
	l, _ := mustOpen(t, open)
	a, b := Bets(100, 1), Bets(700, 2)
	run := Run(a, b)
	for range 3 {
		if err := l.Commit([][]byte{run}); err != nil {
			t.Fatal(err)
		}
	}
	copy(run, bytes.Repeat([]byte{0xff}, len(run)))
	want := []Entry{a, b, a, b, a, b}
	found, _ := mustScan(t, l)
	equal(t, found, want)
	mustClose(t, l)
	l, found = mustOpen(t, open)
	equal(t, found, want)
	mustClose(t, l)
}

// checkScan scans, and commits in the middle of the scan. The scan sees what was committed before it
// began, doesn't block the commit, and sees all or nothing of its group.
func checkScan(t testing.TB, open Open) {
	l, _ := mustOpen(t, open)
	if tail, err := l.Scan(nil); err != nil || tail.Seq != 0 {
		t.Fatalf("in an empty log, Scan found %+v, %v", tail, err)
	}
	before := []Entry{Bets(10, 1), Bets(20, 2)}
	after := []Entry{Bets(30, 3), Bets(largePayloadBytes, 4)}
	mustCommit(t, l, before...)
	var found []Entry
	collect := Collect(&found)
	tail, err := l.Scan(func(r ledger.Record) error {
		if r.Seq == 1 {
			mustCommit(t, l, after...)
		}
		return collect(r)
	})
	if err != nil || tail.Seq != uint64(len(found)) {
		t.Fatalf("Scan found %d records: %+v, %v", len(found), tail, err)
	}
	if len(found) != len(before) {
		before = append(before, after...)
	}
	equal(t, found, before)
	mustClose(t, l)
}

// checkScansBeside scans while another goroutine commits and seals. Each scan sees at least what
// was committed before it, in whole groups.
func checkScansBeside(t testing.TB, open Open) {
	const groups, perGroup = 200, 3
	var all []Entry
	for i := range groups * perGroup {
		all = append(all, Bets(i*7%3000, i))
	}
	l, _ := mustOpen(t, open)
	var committed atomic.Int64 // groups
	done := make(chan error, 1)
	go func() {
		for g := range groups {
			group := all[g*perGroup:][:perGroup]
			err := l.Commit([][]byte{Run(group[0]), Run(group[1:]...)})
			if err == nil && g%20 == 0 {
				err = l.Seal()
			}
			if err != nil {
				done <- err
				return
			}
			committed.Add(1)
		}
		done <- nil
	}()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		before := int(committed.Load())
		found, tail := mustScan(t, l)
		if len(found) < before*perGroup || len(found)%perGroup != 0 || tail.SealedSeq > tail.Seq {
			t.Fatalf("%d groups of %d were committed, Scan found %d records: %+v",
				before, perGroup, len(found), tail)
		}
		equal(t, found, all[:len(found)])
	}
	mustClose(t, l)
}

// checkVisitError returns an error from visit. The error ends Scan and Open, which return it as it
// is, and the log loses nothing.
func checkVisitError(t testing.TB, open Open) {
	want := []Entry{Bets(10, 1), Bets(20, 2), Bets(30, 3)}
	l, _ := mustOpen(t, open)
	mustCommit(t, l, want...)
	calls := 0
	stop := errors.New("stop")
	same := func(err error) bool { return err == stop } //nolint:errorlint // as it is, not wrapped
	visit := func(ledger.Record) error {
		if calls++; calls%2 == 0 {
			return stop
		}
		return nil
	}
	if _, err := l.Scan(visit); !same(err) || calls != 2 {
		t.Fatalf("Scan returned %v after %d calls", err, calls)
	}
	found, _ := mustScan(t, l)
	equal(t, found, want)
	mustClose(t, l)
	if _, err := open(visit); !same(err) || calls != 4 {
		t.Fatalf("Open returned %v after %d calls", err, calls-2)
	}
	l, found = mustOpen(t, open)
	equal(t, found, want)
	mustClose(t, l)
}

// checkSeal commits, seals and reopens. After Seal, the seal covers all that was committed, also
// after the log is opened again. Without a Seal there is no seal.
func checkSeal(t testing.TB, open Open) {
	l, _ := mustOpen(t, open)
	seal := func() {
		t.Helper()
		if err := l.Seal(); err != nil {
			t.Fatalf("Seal: %v", err)
		}
	}
	want := func(sealed uint64) {
		t.Helper()
		_, tail := mustScan(t, l)
		if tail.Sealed != (sealed > 0) || tail.SealedSeq < sealed || tail.SealedSeq > tail.Seq {
			t.Fatalf("sealed through %d, Scan finds %+v", sealed, tail)
		}
	}
	again := func() {
		t.Helper()
		mustClose(t, l)
		l, _ = mustOpen(t, open)
	}
	seal() // there is nothing to seal
	mustCommit(t, l, Bets(100, 1))
	want(0)
	again()
	want(0)
	seal()
	want(1)
	seal()
	mustCommit(t, l, Bets(100, 2))
	want(1)
	seal()
	want(2)
	mustCommit(t, l, Bets(100, 3))
	again()
	want(2)
	mustClose(t, l)
}

// checkTerm opens the log several times. A holder's term doesn't change, and no later holder has a
// lower one.
func checkTerm(t testing.TB, open Open) {
	before := uint64(1)
	for i := range 3 {
		l, _ := mustOpen(t, open)
		term := l.Term()
		mustCommit(t, l, Bets(10, i))
		if again := l.Term(); term < before || again != term {
			t.Fatalf("the term is %d, then %d; the holder before had %d", term, again, before)
		}
		before = term
		mustClose(t, l)
	}
}

// checkLock opens a log that is open. That fails and doesn't disturb the first holder. Once the log
// is closed, it can be opened.
func checkLock(t testing.TB, open Open) {
	l, _ := mustOpen(t, open)
	if _, err := open(nil); !errors.Is(err, ledger.ErrLocked) {
		t.Fatalf("the second Open returned %v", err)
	}
	mustCommit(t, l, Bets(10, 1))
	mustClose(t, l)
	l, found := mustOpen(t, open)
	equal(t, found, []Entry{Bets(10, 1)})
	mustClose(t, l)
}

// checkMisuse commits runs that don't consist of packed records. Commit panics: this is a mistake
// in the program.
func checkMisuse(t testing.TB, open Open) {
	whole := Run(Bets(100, 1))
	unlawful := slices.Clone(whole)
	unlawful[4] = 0 // no kind
	for name, run := range map[string][]byte{
		"half a record": whole[:len(whole)-8], "half a header": whole[:24], "no record": unlawful,
	} {
		l, _ := mustOpen(t, open)
		func() {
			defer func() {
				if recover() == nil {
					t.Fatalf("%s: no panic", name)
				}
			}()
			_ = l.Commit([][]byte{run})
		}()
		mustClose(t, l)
	}
}

// checkClosed uses a log after Close: Commit, Seal and Scan fail. Closing twice is harmless.
func checkClosed(t testing.TB, open Open) {
	l, _ := mustOpen(t, open)
	mustCommit(t, l, Bets(10, 1))
	mustClose(t, l)
	mustClose(t, l)
	_, err := l.Scan(nil)
	for name, err := range map[string]error{
		"Commit": l.Commit([][]byte{Run(Bets(1, 1))}), "Seal": l.Seal(), "Scan": err,
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Fatalf("%s after Close: %v", name, err)
		}
	}
	l, found := mustOpen(t, open)
	equal(t, found, []Entry{Bets(10, 1)})
	mustClose(t, l)
}
