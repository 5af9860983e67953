package ledger_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// On a real disk: readers of all kinds beside a writer that also cuts entries off see committed
// entries as they are, and of the others each as a whole.
func TestEntryLogBesideReaders(t *testing.T) {
	dir := t.TempDir()
	o := ledger.EntryOptions{SegmentBytes: 64 << 10, ID: clusterID, Create: true, First: clusterFirst}
	e, err := ledger.OpenEntryLog(dir, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Entry i of term t is the same whenever it is made, so that readers know what they have to
	// find.
	make1 := func(index, term uint64) ledger.Entry {
		var run []byte
		for i := range index % 4 {
			run = bets(int(index*97%5000), int(term*100000+index*10+i)).AppendTo(run)
		}
		return ledger.Entry{Index: index, Term: term, Records: run}
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for seed := range uint64(2) {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 6))
			for running := true; running; {
				select {
				case <-done:
					running = false
				default:
				}
				committed := e.State().Commit
				last := e.LastIndex()
				if last == 0 {
					continue
				}
				first := 1 + rng.Uint64N(last)
				to := first + rng.Uint64N(last-first+1)
				got, err := e.Entries(first, to, rng.IntN(30000))
				// What isn't committed may have been cut off meanwhile.
				if err != nil && (!errors.Is(err, ledger.ErrNoEntry) || to <= committed) {
					t.Errorf("Entries: %v", err)
					return
				}
				for i, entry := range got {
					if want := make1(first+uint64(i), entry.Term); !sameEntry(entry, want) {
						t.Errorf("entry %d is another one", first+uint64(i))
						return
					}
				}
				var records []entry
				tail, err := e.Scan(ledgertest.Collect(&records))
				if err != nil || tail.Entries.Commit < committed || tail.Seq != uint64(len(records)) {
					t.Errorf("Scan: %+v, %v; %d entries were committed", tail, err, committed)
					return
				}
				records = nil // who reads the state from its file may find an older one
				tail, err = ledger.Scan(dir, ledger.Options{}, ledgertest.Collect(&records))
				if err != nil || tail.Seq != uint64(len(records)) {
					t.Errorf("Scan without opening: %+v, %v", tail, err)
					return
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 6))
	m := &entryModel{}
	for range 120 {
		s := entrySave{state: m.state}
		first := m.last() + 1
		if uncommitted := m.last() - m.state.Commit; s.state.Term == 0 || uncommitted > 3 && rng.IntN(3) == 0 {
			s.state.Term++
			first -= rng.Uint64N(uncommitted + 1)
		}
		for i := range 1 + rng.Uint64N(4) {
			s.entries = append(s.entries, make1(first+i, s.state.Term))
		}
		end := first + uint64(len(s.entries)) - 1
		s.state.Commit += rng.Uint64N(min(4, end-s.state.Commit) + 1)
		if err := e.Save(s.state, s.entries); err != nil {
			t.Fatal(err)
		}
		m = m.after(s)
	}
	close(done)
	readers.Wait()
	m.check(t, "at the end", e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err = ledger.OpenEntryLog(dir, o, nil); err != nil {
		t.Fatal(err)
	}
	m.check(t, "opened anew", e)
	if _, err := ledger.OpenEntryLog(dir, o, nil); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := e.Seal(); !errors.Is(err, ledger.ErrGone) {
		t.Errorf("its directory is gone, and Seal returned %v", err)
	}
	if err := e.Close(); !errors.Is(err, ledger.ErrGone) {
		t.Errorf("its directory is gone, and Close returned %v", err)
	}
}

// Without Create, nothing is made.
func TestEntryLogIsNotMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	o := ledger.EntryOptions{ID: clusterID, First: clusterFirst}
	if _, err := ledger.OpenEntryLog(dir, o, nil); !errors.Is(err, ledger.ErrNone) {
		t.Errorf("got %v, want ErrNone", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
	o.Create = true
	for _, first := range [][]byte{nil, clusterFirst[:20], append(bytes.Clone(clusterFirst), clusterFirst...)} {
		o.First = first
		if _, err := ledger.OpenEntryLog(dir, o, nil); !errors.Is(err, ledger.ErrRecords) {
			t.Errorf("with a first record of %d bytes: %v", len(first), err)
		}
	}
}

// A ledger of several servers that an earlier build wrote is read for ever, and the same entries
// are still written as the same bytes.
func TestEntryFormatIsStable(t *testing.T) {
	fsys := ledgertest.NewFS(1)
	e := mustOpenEntries(t, entryOptions(fsys))
	m := &entryModel{}
	for _, s := range []entrySave{
		{ledger.State{Term: 1, Vote: 2}, []ledger.Entry{
			{Index: 1, Term: 1},
			{Index: 2, Term: 1, Records: ledgertest.Run(goldenBets(30), goldenBets(2))},
			{Index: 3, Term: 1, Records: ledgertest.Run(goldenBets(7))}, // is cut off
		}},
		{ledger.State{Term: 300, Vote: 3, Commit: 2}, []ledger.Entry{
			{Index: 3, Term: 300},
			{Index: 4, Term: 300, Records: ledgertest.Run(goldenBets(60), reported(2))}, // begins the second segment
			{Index: 5, Term: 300, Records: ledgertest.Run(reported(1))},
		}},
		{ledger.State{Term: 300, Vote: 3, Commit: 3}, nil},
		{ledger.State{Term: 300, Vote: 3, Commit: 4}, nil},
	} {
		if err := e.Save(s.state, s.entries); err != nil {
			t.Fatal(err)
		}
		m = m.after(s)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(ledgers, "v2")
	files, kept := imageOf(fsys), image{}
	for name, got := range files {
		if strings.HasSuffix(name, ".ledger") {
			got = got[:files.end(name)] // what follows in the live segment is reserved
		}
		path := filepath.Join(dir, name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		written, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, written) {
			t.Errorf("%s: wrote\n%x\nwant\n%x", name, got, written)
		}
		kept[name] = written
	}
	if len(kept) != 3 {
		t.Errorf("%d files, want two segments and the state", len(kept))
	}
	state, last, err := reopenEntries(t, kept, m)
	if err != nil || state != m.state || last != m.last() {
		t.Errorf("%+v, %d entries, %v", state, last, err)
	}
	var found []entry
	tail, err := ledger.Scan(dir, ledger.Options{}, ledgertest.Collect(&found))
	if err != nil || !slices.Equal(found, m.records()) || tail.Entries.State != m.state || tail.Entries.LastIndex != 5 {
		t.Errorf("%d records, %+v, %v", len(found), tail, err)
	}
}
