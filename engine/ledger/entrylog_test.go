package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// A log does what the model does, over many saves and openings, and is what it would be without
// what was cut off.
func TestEntriesLikeTheModel(t *testing.T) {
	t.Parallel()
	cut, number := uint64(0), 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		fsys := ledgertest.NewFS(seed)
		e, m := mustOpenEntries(t, entryOptions(fsys)), &entryModel{}
		for n := range 25 {
			when := fmt.Sprintf("seed %d, save %d", seed, n)
			s := m.randomSave(rng, &number)
			kept := slices.Clone(s.entries)
			for i := range kept {
				kept[i].Records = bytes.Clone(kept[i].Records)
			}
			if err := e.Save(s.state, s.entries); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if !slices.EqualFunc(kept, s.entries, sameEntry) {
				t.Fatalf("%s has changed what it was given", when)
			}
			cut += m.cutsOff(s)
			m = m.after(s)
			m.check(t, when, e)
			for range 3 {
				if m.last() > 0 {
					first := 1 + rng.Uint64N(m.last())
					m.checkEntries(t, when, e, first, first+rng.Uint64N(m.last()-first+1), rng.IntN(4000))
				}
			}
			if rng.IntN(6) == 0 {
				if rng.IntN(2) == 0 {
					fsys.Kill()
				} else if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				var found []entry
				var err error
				if e, err = ledger.OpenEntryLog(testDir, entryOptions(fsys), ledgertest.Collect(&found)); err != nil {
					t.Fatalf("%s: %v", when, err)
				}
				wantEntries(t, found, m.records())
				m.check(t, when+", opened anew", e)
				found = nil
				if _, err := ledger.Scan(testDir, ledger.Options{FS: fsys}, ledgertest.Collect(&found)); err != nil {
					t.Fatalf("%s: %v", when, err)
				}
				wantEntries(t, found, m.records())
			}
		}
		m.checkIdentical(t, fmt.Sprintf("seed %d", seed), e, imageOf(fsys), ledger.SegmentBytesMin)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if fsys.OpenFiles() != 0 {
			t.Fatalf("seed %d: %d files are left open", seed, fsys.OpenFiles())
		}
	}
	if cut < 100 {
		t.Errorf("only %d entries were cut off", cut)
	}
}

// What may not be saved is refused, changes nothing, and the log goes on.
func TestEntriesRefused(t *testing.T) {
	fsys := ledgertest.NewFS(1)
	e := mustOpenEntries(t, entryOptions(fsys))
	run := ledgertest.Run(bets(100, 1), bets(0, 2))
	one := func(index, term uint64) ledger.Entry { return ledger.Entry{Index: index, Term: term, Records: run} }
	m := (&entryModel{}).after(entrySave{
		ledger.State{Term: 3, Vote: 2, Commit: 2},
		[]ledger.Entry{one(1, 1), one(2, 2), one(3, 2), one(4, 3)},
	})
	if err := e.Save(m.state, m.entries); err != nil {
		t.Fatal(err)
	}
	before := fsys.Count(ledgertest.Changes)
	bad := func(run []byte) ledger.Entry { return ledger.Entry{Index: 5, Term: 3, Records: run} }
	noKind := bytes.Clone(run)
	noKind[4] = 0
	for name, c := range map[string]struct {
		state   ledger.State
		entries []ledger.Entry
		want    error
	}{
		"a committed entry":         {m.state, []ledger.Entry{one(2, 3)}, ledger.ErrCommitted},
		"all entries":               {m.state, []ledger.Entry{one(1, 3)}, ledger.ErrCommitted},
		"entry 0":                   {m.state, []ledger.Entry{one(0, 3)}, ledger.ErrGap},
		"a gap behind the last":     {m.state, []ledger.Entry{one(6, 3)}, ledger.ErrGap},
		"a gap between":             {m.state, []ledger.Entry{one(5, 3), one(7, 3)}, ledger.ErrGap},
		"the same twice":            {m.state, []ledger.Entry{one(5, 3), one(5, 3)}, ledger.ErrGap},
		"commit ahead of the log":   {ledger.State{Term: 3, Vote: 2, Commit: 5}, nil, ledger.ErrGap},
		"commit ahead of the cut":   {ledger.State{Term: 3, Vote: 2, Commit: 4}, []ledger.Entry{one(3, 3)}, ledger.ErrGap},
		"an older term":             {ledger.State{Term: 2, Vote: 2, Commit: 2}, nil, ledger.ErrBackwards},
		"commit falls":              {ledger.State{Term: 3, Vote: 2, Commit: 1}, nil, ledger.ErrBackwards},
		"a second vote":             {ledger.State{Term: 3, Vote: 1, Commit: 2}, nil, ledger.ErrBackwards},
		"the vote is taken back":    {ledger.State{Term: 3, Vote: 0, Commit: 2}, nil, ledger.ErrBackwards},
		"an entry of an older term": {m.state, []ledger.Entry{one(5, 2)}, ledger.ErrBackwards},
		"terms that fall":           {m.state, []ledger.Entry{one(4, 3), one(5, 2)}, ledger.ErrBackwards},
		"an entry without a term":   {m.state, []ledger.Entry{one(5, 0)}, ledger.ErrBackwards},
		"a term ahead of the state": {m.state, []ledger.Entry{one(5, 4)}, ledger.ErrBackwards},
		"half a record":             {m.state, []ledger.Entry{bad(run[:len(run)-40])}, ledger.ErrRecords},
		"half a header":             {m.state, []ledger.Entry{bad(run[:20])}, ledger.ErrRecords},
		"a record without a kind":   {m.state, []ledger.Entry{bad(noKind)}, ledger.ErrRecords},
		"members and more":          {m.state, []ledger.Entry{bad(append(members(), run...))}, ledger.ErrRecords},
		"more and members":          {m.state, []ledger.Entry{bad(append(bytes.Clone(run), members()...))}, ledger.ErrRecords},
		"a mark":                    {m.state, []ledger.Entry{bad(ledger.AppendRecord(nil, ledger.Mark, 0, 1, []byte("6 3")))}, ledger.ErrRecords},
	} {
		if err := e.Save(c.state, c.entries); !errors.Is(err, c.want) || errors.Is(err, ledger.ErrFailed) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	for _, index := range []uint64{5, 1 << 63} {
		if _, err := e.TermOf(index); !errors.Is(err, ledger.ErrNoEntry) {
			t.Errorf("the term of %d: %v", index, err)
		}
		if _, err := e.ChainAt(index); !errors.Is(err, ledger.ErrNoEntry) {
			t.Errorf("the chain value of %d: %v", index, err)
		}
	}
	for _, r := range [][2]uint64{{0, 1}, {3, 2}, {4, 5}, {5, 5}} {
		if _, err := e.Entries(r[0], r[1], 1<<20); !errors.Is(err, ledger.ErrNoEntry) {
			t.Errorf("entries %d to %d: %v", r[0], r[1], err)
		}
	}
	if changes := fsys.Count(ledgertest.Changes) - before; changes != 0 {
		t.Errorf("%d operations changed something", changes)
	}
	m.check(t, "after all that", e)
	s := entrySave{m.state, []ledger.Entry{one(3, 3)}}
	if err := e.Save(ledger.State{}, s.entries); err != nil { // the zero State is the old one
		t.Fatal(err)
	}
	m.after(s).check(t, "at the end", e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Save(m.state, nil); !errors.Is(err, ledger.ErrFailed) {
		t.Errorf("closed, Save returned %v", err)
	}
	if _, err := e.Entries(1, 1, 1); !errors.Is(err, ledger.ErrFailed) {
		t.Errorf("closed, Entries returned %v", err)
	}
	if _, err := e.Scan(nil); !errors.Is(err, ledger.ErrFailed) {
		t.Errorf("closed, Scan returned %v", err)
	}
}

// What a Save costs: a sync for each entry, but one for many, and one to say that they share it, or
// no longer do; two for a new term or vote, or for Commit alone; none for Commit beside entries.
func TestSyncsPerSave(t *testing.T) {
	fsys := ledgertest.NewFS(1)
	o := entryOptions(fsys)
	o.SegmentBytes = 1 << 20
	e := mustOpenEntries(t, o)
	one := func(index, term uint64) ledger.Entry {
		return ledger.Entry{Index: index, Term: term, Records: ledgertest.Run(bets(100, int(index)))}
	}
	many := func(first uint64, n int) (entries []ledger.Entry) {
		for i := range n {
			entries = append(entries, one(first+uint64(i), 1))
		}
		return entries
	}
	for _, c := range []struct {
		name    string
		state   ledger.State
		entries []ledger.Entry
		syncs   int
		changes int // syncs included
	}{
		{"a term and an entry", ledger.State{Term: 1}, []ledger.Entry{one(1, 1)}, 3, 7},
		{"an entry", ledger.State{Term: 1}, []ledger.Entry{one(2, 1)}, 1, 3},
		{"three entries", ledger.State{Term: 1}, []ledger.Entry{one(3, 1), one(4, 1), one(5, 1)}, 3, 7},
		{"commit", ledger.State{Term: 1, Commit: 4}, nil, 2, 4},
		{"nothing", ledger.State{Term: 1, Commit: 4}, nil, 0, 0},
		{"a vote", ledger.State{Term: 1, Vote: 1, Commit: 4}, nil, 2, 4},
		{"many entries", ledger.State{Term: 1, Vote: 1, Commit: 4}, many(6, 500), 2, 5},
		{"many again", ledger.State{Term: 1, Vote: 1, Commit: 4}, many(506, 500), 2, 5},
		{"commit behind many", ledger.State{Term: 1, Vote: 1, Commit: 5}, nil, 2, 4},
		{"many behind that", ledger.State{Term: 1, Vote: 1, Commit: 5}, many(1006, 5), 2, 5},
		{"an entry behind many", ledger.State{Term: 1, Vote: 1, Commit: 6}, many(1011, 1), 2, 5},
		{"another entry", ledger.State{Term: 1, Vote: 1, Commit: 6}, many(1012, 1), 1, 3},
		{"four, the fewest that share", ledger.State{Term: 1, Vote: 1, Commit: 6}, many(1013, 4), 2, 5},
		{"a vote in a new term behind them", ledger.State{Term: 2, Vote: 1, Commit: 6}, nil, 2, 4},
		{"an entry behind that", ledger.State{Term: 2, Vote: 1, Commit: 6}, many(1017, 1), 1, 3},
		{"many in place of others, and a vote", ledger.State{Term: 3, Vote: 1, Commit: 6}, many(1015, 5), 7, 17},
	} {
		syncs, changes := fsys.Count(ledgertest.AnySync), fsys.Count(ledgertest.Changes)
		if err := e.Save(c.state, c.entries); err != nil {
			t.Fatal(err)
		}
		syncs, changes = fsys.Count(ledgertest.AnySync)-syncs, fsys.Count(ledgertest.Changes)-changes
		if syncs != c.syncs || changes != c.changes {
			t.Errorf("%s: %d syncs and %d operations, want %d and %d", c.name, syncs, changes, c.syncs, c.changes)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// Records that have a place in another ledger are saved like others.
func TestSaveOfCompleteRecords(t *testing.T) {
	packed := ledgertest.Run(bets(100, 1))
	complete := bytes.Clone(packed)
	ledger.Complete(complete, 77, 1234, 0x5678)
	given := bytes.Clone(complete)
	fsys := ledgertest.NewFS(1)
	e := mustOpenEntries(t, entryOptions(fsys))
	s := entrySave{ledger.State{Term: 1}, []ledger.Entry{{Index: 1, Term: 1, Records: complete}}}
	if err := e.Save(s.state, s.entries); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(complete, given) {
		t.Error("Save has changed what it was given")
	}
	m := &entryModel{s.state, []ledger.Entry{{Index: 1, Term: 1, Records: packed}}}
	m.check(t, "saved", e)
	m.checkIdentical(t, "saved", e, imageOf(fsys), ledger.SegmentBytesMin)
}
