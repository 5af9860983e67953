package ledger_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// entryLives crashes one log again and again, and knows what each opening may find.
type entryLives struct {
	t    testing.TB
	fsys *ledgertest.FS
	o    ledger.EntryOptions
	name string

	m       *entryModel // what was saved, and found since
	pending *entrySave  // a Save that was interrupted, until an opening says what became of it
	made    bool        // whether the log was ever opened: then it can't be gone

	commit  uint64 // what the state must know to be committed at least
	durable uint64 // and after a crash of the machine

	outcomes [5]int // how often an opening found which of the legal outcomes of an interrupted Save
}

// The outcomes of an interrupted Save, as Save has them.
const (
	nothingSaved = iota
	stateSaved
	cutOnly
	someSaved
	allSaved
)

func newEntryLives(t testing.TB, seed uint64, name string) *entryLives {
	fsys := ledgertest.NewFS(seed)
	return &entryLives{t: t, fsys: fsys, o: entryOptions(fsys), name: name, m: &entryModel{}}
}

// open opens the log, and checks that what it finds may be there. It returns nil if the failure
// that was arranged came first.
func (l *entryLives) open() *ledger.EntryLog {
	l.t.Helper()
	e, err := ledger.OpenEntryLog(testDir, l.o, nil)
	if err != nil {
		if l.fsys.Broken() == 0 || errors.Is(err, ledger.ErrCorrupt) || errors.Is(err, ledger.ErrNone) {
			l.t.Fatalf("%s: %v", l.name, err)
		}
		return nil
	}
	state, found := e.State(), &entryModel{}
	if last := e.LastIndex(); last > 0 {
		if found.entries, err = e.Entries(1, last, 1<<30); err != nil {
			l.t.Fatalf("%s: %v", l.name, err)
		}
	}
	found.state = state
	if state.Commit < l.commit || state.Commit > found.last() {
		l.t.Fatalf("%s: %d of %d entries are committed, %d were", l.name, state.Commit, found.last(), l.commit)
	}
	l.outcomes[l.judge(found)]++
	if l.pending == nil {
		found.state.Vote, found.state.Term = l.m.state.Vote, l.m.state.Term // judge compared them
	}
	l.m, l.pending, l.made = found, nil, true
	l.commit, l.durable = state.Commit, state.Commit
	l.m.check(l.t, l.name, e)
	return e
}

// judge says which outcome was found, and fails if it isn't a legal one.
func (l *entryLives) judge(found *entryModel) int {
	l.t.Helper()
	same := func(entries []ledger.Entry) bool { return slices.EqualFunc(found.entries, entries, sameEntry) }
	promised := func(s ledger.State) bool { return found.state.Term == s.Term && found.state.Vote == s.Vote }
	switch old := promised(l.m.state) && same(l.m.entries); {
	case old && found.state.Commit <= l.m.state.Commit:
		return nothingSaved
	case l.pending == nil:
		l.t.Fatalf("%s: found %+v and %d entries, saved were %+v and %d",
			l.name, found.state, found.last(), l.m.state, l.m.last())
	case found.state.Commit > l.pending.state.Commit || !promised(l.pending.state):
		l.t.Fatalf("%s: found %+v and %d entries; %+v was, and %+v was being saved",
			l.name, found.state, found.last(), l.m.state, l.pending.state)
	case same(l.m.entries):
		return stateSaved
	}
	if n := len(l.pending.entries); n > 0 {
		keep := l.pending.entries[0].Index - 1
		for k := range n + 1 {
			if !same(slices.Concat(l.m.entries[:keep], l.pending.entries[:k])) {
				continue
			}
			switch k {
			case 0:
				return cutOnly
			case n:
				return allSaved
			}
			return someSaved
		}
	}
	l.t.Fatalf("%s: found %d entries, which are neither the %d old ones nor a part of what was being saved",
		l.name, found.last(), l.m.last())
	return 0
}

// save saves, and reports whether it succeeded.
func (l *entryLives) save(e *ledger.EntryLog, s entrySave) bool {
	l.t.Helper()
	if err := e.Save(s.state, s.entries); err != nil {
		if l.fsys.Broken() == 0 || !errors.Is(err, ledger.ErrFailed) {
			l.t.Fatalf("%s: %v", l.name, err)
		}
		if again := e.Save(s.state, s.entries); again != err {
			l.t.Fatalf("%s: failed with %v, then with %v", l.name, err, again)
		}
		l.pending = &s
		return false
	}
	if s.state.Term != l.m.state.Term || s.state.Vote != l.m.state.Vote || l.m.cutsOff(s) > 0 {
		l.durable = min(s.state.Commit, l.m.last()-l.m.cutsOff(s))
	}
	if len(s.entries) == 0 {
		l.durable = max(s.state.Commit, l.m.state.Commit) // the zero State stands for the last one
	}
	l.m = l.m.after(s)
	l.commit = l.m.state.Commit
	return true
}

func (l *entryLives) seal(e *ledger.EntryLog) bool {
	l.t.Helper()
	if err := e.Seal(); err != nil {
		if l.fsys.Broken() == 0 || !errors.Is(err, ledger.ErrFailed) {
			l.t.Fatalf("%s: %v", l.name, err)
		}
		return false
	}
	l.durable = l.m.state.Commit
	return true
}

// end ends the process, and perhaps the machine.
func (l *entryLives) end(crash bool) {
	if !crash {
		l.fsys.Kill()
		return
	}
	l.fsys.Crash()
	l.commit = l.durable
}

// smallEntries makes entries with that many bytes of payload each.
func smallEntries(first, term uint64, sizes ...int) (entries []ledger.Entry) {
	for i, size := range sizes {
		index := first + uint64(i)
		var run []byte
		if size >= 0 {
			run = ledgertest.Run(bets(size, int(term*100+index)))
		}
		entries = append(entries, ledger.Entry{Index: index, Term: term, Records: run})
	}
	return entries
}

// entryScripts are small logs: a few saves, of which the last is the one to look at.
var entryScripts = map[string][]entrySave{
	"first entries": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1, 700)},
	},
	"an entry more": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1, 700)},
		{ledger.State{Term: 1, Vote: 1, Commit: 2}, smallEntries(3, 1, 600)},
	},
	"an entry that begins a segment": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1, 3000)},
		{ledger.State{Term: 1, Vote: 1, Commit: 1}, smallEntries(3, 1, 2000)},
	},
	"an entry across segments": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1, 1000)},
		{ledger.State{Term: 1, Vote: 1, Commit: 1}, []ledger.Entry{{Index: 3, Term: 1,
			Records: ledgertest.Run(bets(1500, 1), bets(1500, 2), bets(9000, 3), bets(10, 4))}}},
	},
	"a term": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1)},
		{ledger.State{Term: 2, Vote: 0}, nil},
	},
	"a vote, commit and an entry": {
		{ledger.State{Term: 2}, smallEntries(1, 1, -1, 50)},
		{ledger.State{Term: 2, Vote: 3, Commit: 2}, smallEntries(3, 2, 10)},
	},
	"a cut within a segment": {
		{ledger.State{Term: 1, Vote: 1, Commit: 1}, smallEntries(1, 1, -1, 700, 600, 500)},
		{ledger.State{Term: 2, Commit: 2}, smallEntries(2, 2, 650, 20)},
	},
	"a cut of the last entry, within a sector": {
		{ledger.State{Term: 1, Vote: 1, Commit: 1}, smallEntries(1, 1, -1, 10, 15)},
		{ledger.State{Term: 2, Commit: 1}, smallEntries(3, 2, 5)},
	},
	"a cut across segments": {
		{ledger.State{Term: 1, Vote: 1, Commit: 1}, smallEntries(1, 1, -1, 700, 3000, 2500, 3500, 100)},
		{ledger.State{Term: 2, Commit: 1}, smallEntries(2, 2, 650)},
	},
	"a cut at a segment's beginning": {
		{ledger.State{Term: 1, Vote: 1, Commit: 1}, smallEntries(1, 1, -1, 3000, 3500)},
		{ledger.State{Term: 2, Commit: 3}, smallEntries(3, 2, 100)},
	},
	"a cut of the first mark in a segment": {
		{ledger.State{Term: 1, Vote: 1, Commit: 1}, smallEntries(1, 1, -1, 3840, 100, 200)},
		{ledger.State{Term: 2, Commit: 2}, smallEntries(3, 2, 100)},
	},
	"a cut of everything": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, 700, 3000, 2500)},
		{ledger.State{Term: 2}, smallEntries(1, 2, -1)},
	},
	"a cut in the same term": {
		{ledger.State{Term: 3}, smallEntries(1, 1, 700, 300)},
		{ledger.State{Term: 3}, smallEntries(2, 3, 100)},
	},
	"many entries": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1, 700)},
		{ledger.State{Term: 1, Vote: 1, Commit: 2}, smallEntries(3, 1, 600, 10, -1, 500, 300)},
	},
	"many entries at first": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1, 700, 500, 20, 400)},
	},
	"many entries across segments": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1, 700)},
		{ledger.State{Term: 1, Vote: 1, Commit: 2}, smallEntries(3, 1, 1600, 1500, 2500, 100, 3000, 900)},
	},
	"many entries behind many": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1, 700, 30, 500)},
		{ledger.State{Term: 1, Vote: 1, Commit: 2}, smallEntries(5, 1, 600, 10, 500, 300)},
	},
	"many entries in a new term": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1, 700)},
		{ledger.State{Term: 2, Vote: 3, Commit: 2}, smallEntries(3, 2, -1, 300, 500, 900)},
	},
	"many entries in place of others": {
		{ledger.State{Term: 1, Vote: 1, Commit: 1}, smallEntries(1, 1, -1, 700, 3000, 2500, 3500, 100)},
		{ledger.State{Term: 2, Commit: 1}, smallEntries(3, 2, 650, 20, 500, 600)},
	},
	"an entry behind many": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1, 700, 30, 500)},
		{ledger.State{Term: 1, Vote: 1, Commit: 2}, smallEntries(5, 1, 600)},
	},
	"a cut behind many": {
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1, 700, 30, 500)},
		{ledger.State{Term: 2, Vote: 1, Commit: 2}, smallEntries(4, 2, 600)},
	},
	"a cut, and the same again": {
		{ledger.State{Term: 1, Vote: 1, Commit: 1}, smallEntries(1, 1, -1, 700, 600, 500)},
		{ledger.State{Term: 2, Commit: 1}, smallEntries(2, 1, 700, 600)},
	},
}

// Every operation of a Save is the last one that is begun, of the process or of the machine; or it
// fails, in part. So is every operation of the opening that follows, and of the opening after that.
func TestSaveCrashesAnywhere(t *testing.T) {
	t.Parallel()
	runs, outcomes := crashSaves(t, crashSeeds(t, 1), func(l *entryLives) {})
	for outcome, n := range outcomes {
		if n == 0 {
			t.Errorf("no opening found outcome %d", outcome)
		}
	}
	t.Logf("%d runs; the openings found nothing of the Save, the state, the cut, a part and all of it: %v", runs, outcomes)
}

// crashSaves runs all scripts, with each of their crashes, so many times. prepare may change a life
// before it begins.
func crashSaves(t testing.TB, seeds int, prepare func(*entryLives)) (runs int, outcomes [5]int) {
	for script, saves := range entryScripts {
		last := len(saves) - 1
		for at, done := 1, false; !done; at++ {
			done = true
			for seed := range uint64(seeds) {
				for _, ends := range []struct{ dead, crash bool }{{true, false}, {true, true}, {false, false}, {false, true}} {
					l := newEntryLives(t, seed, fmt.Sprintf("%s, operation %d, seed %d, %+v", script, at, seed, ends))
					prepare(l)
					e := l.open()
					for _, s := range saves[:last] {
						l.save(e, s)
					}
					l.fsys.Break(ledgertest.Fault{N: at, Dead: ends.dead})
					if !l.save(e, saves[last]) {
						done = false
					}
					if l.fsys.Broken() == 0 {
						l.fsys.Break(ledgertest.Fault{}) // it isn't to come later
					}
					l.end(ends.crash)
					// The openings fail at some operation of their own: in the next seed at another
					// one.
					for life := range 2 {
						l.fsys.Break(ledgertest.Fault{N: 1 + (int(seed)+life*5)%11, Dead: ends.dead})
						if e := l.open(); e != nil {
							l.fsys.Break(ledgertest.Fault{})
						}
						l.end(ends.crash != (life == 1))
					}
					l.finish(l.open())
					runs++
					for i, n := range l.outcomes {
						outcomes[i] += n
					}
				}
			}
		}
	}
	return runs, outcomes
}

// entryLie is a disk that says to have done something, and has not.
type entryLie struct {
	*ledgertest.FS
	op    ledgertest.Op
	state bool // whether it lies about the state, or else about segments
}

func (l *entryLie) OpenFile(name string, flag int) (ledger.File, error) {
	file, err := l.FS.OpenFile(name, flag)
	if err != nil || (filepath.Base(name) == ledger.StateName) != l.state {
		return file, err
	}
	return &lyingFile{file, l.op}, nil
}

func (l *entryLie) SyncDir(dir string) error {
	if l.op&ledgertest.SyncDir != 0 {
		return nil
	}
	return l.FS.SyncDir(dir)
}

type lyingFile struct {
	ledger.File
	op ledgertest.Op
}

func (f *lyingFile) SyncData() error {
	if f.op&ledgertest.SyncData != 0 {
		return nil
	}
	return f.File.SyncData()
}

func (f *lyingFile) Sync() error {
	if f.op&ledgertest.Sync != 0 {
		return nil
	}
	return f.File.Sync()
}

func (f *lyingFile) Truncate(size int64) error {
	if f.op&ledgertest.Truncate != 0 {
		return nil
	}
	return f.File.Truncate(size)
}

// recorder is a testing.TB that notes the first fatal failure.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// The crashes notice a log that leaves anything out.
func TestSaveCrashesNotice(t *testing.T) {
	for name, lie := range map[string]entryLie{
		"no sync of an entry":          {op: ledgertest.SyncData},
		"no sync of a segment":         {op: ledgertest.Sync},
		"no sync of the state":         {op: ledgertest.SyncData, state: true},
		"no sync of the directory":     {op: ledgertest.SyncDir},
		"no truncation of what is cut": {op: ledgertest.Truncate},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				crashSaves(r, 4, func(l *entryLives) {
					lie.FS = l.fsys
					l.o.FS = &lie
				})
			}()
			<-done
			if r.failure == "" {
				t.Error("it isn't noticed")
			}
			t.Log(r.failure)
		})
	}
}

// finish saves a little more, and compares all with a server that never crashed.
func (l *entryLives) finish(e *ledger.EntryLog) {
	l.t.Helper()
	if e == nil {
		l.t.Fatalf("%s: it doesn't open", l.name)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	number := 9000
	for range 2 {
		if s := l.m.randomSave(rng, &number); !l.save(e, s) {
			l.t.Fatalf("%s: it failed at the end", l.name)
		}
	}
	l.end(true)
	e = l.open() // which finds nothing of what was cut off, and all that was saved since
	l.m.check(l.t, l.name, e)
	l.m.checkIdentical(l.t, l.name, e, imageOf(l.fsys), l.o.SegmentBytes)
	if err := e.Close(); err != nil {
		l.t.Fatalf("%s: %v", l.name, err)
	}
}

// crashSeeds is how often tests try each crash: n times, or LOTERIA_CRASHES times.
func crashSeeds(t *testing.T, n int) int {
	text := os.Getenv("LOTERIA_CRASHES")
	if text == "" {
		return n
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Whole lives, with larger logs: a log is made, saved to, cut, sealed, closed and opened, and
// crashes at a random operation of each life.
func TestEntryLives(t *testing.T) {
	t.Parallel()
	var outcomes [5]int
	for seed := range uint64(crashSeeds(t, 100)) {
		rng := rand.New(rand.NewPCG(seed, 4))
		l := newEntryLives(t, seed, "")
		number := 0
		l.o.SegmentBytes *= 1 + rng.Int64N(3)
		l.o.ReserveBytes = ledger.BlockBytes * rng.Int64N(4)
		for life := range 8 {
			l.name = fmt.Sprintf("seed %d, life %d", seed, life)
			l.o.Create = !l.made || rng.IntN(2) == 0
			l.fsys.Break(ledgertest.Fault{N: 1 + rng.IntN(60), Dead: rng.IntN(2) == 0})
			e := l.open()
			for e != nil {
				if !l.save(e, l.m.randomSave(rng, &number)) || rng.IntN(6) == 0 && !l.seal(e) {
					break
				}
				if rng.IntN(20) == 0 {
					if err := e.Close(); err == nil {
						l.durable = l.m.state.Commit
					}
					break
				}
			}
			l.end(rng.IntN(2) == 0)
		}
		l.name = fmt.Sprintf("seed %d", seed)
		l.finish(l.open())
		for i, n := range l.outcomes {
			outcomes[i] += n
		}
	}
	t.Logf("the openings found nothing of a Save, the state, the cut, a part and all of it: %v", outcomes)
}

// What a large Save has left, of which a crash took some sectors, is gone before another one is
// written over it, which ends with a block: nothing would separate it from the remains.
func TestTornEntryIsGone(t *testing.T) {
	t.Parallel()
	large := func(number int, sizes ...int) []byte {
		var run []byte
		for i, size := range sizes {
			run = bets(size, number+i).AppendTo(run)
		}
		return run
	}
	torn := 0
	for seed := range uint64(40) {
		fsys := ledgertest.NewFS(seed)
		o := entryOptions(fsys)
		o.SegmentBytes = 512 << 10
		e := mustOpenEntries(t, o)
		state := ledger.State{Term: 1}
		first := ledger.Entry{Index: 1, Term: 1, Records: large(100, 300)}
		if err := e.Save(state, []ledger.Entry{first}); err != nil {
			t.Fatal(err)
		}
		fsys.Break(ledgertest.Fault{Op: ledgertest.SyncData, N: 1, Dead: true})
		if err := e.Save(state, []ledger.Entry{{Index: 2, Term: 1, Records: large(200, 100e3, 100e3, 100e3)}}); err == nil {
			t.Fatal("the sync failed, Save didn't")
		}
		fsys.Crash()
		e = mustOpenEntries(t, o)
		if e.LastIndex() == 1 {
			torn++
			rest := 50*ledger.BlockBytes - int(e.Recovered().Offset) - ledger.RecordBytes(len("2 1"))
			second := ledger.Entry{Index: 2, Term: 1, Records: large(300, rest-ledger.RecordBytes(0))}
			if err := e.Save(state, []ledger.Entry{second}); err != nil {
				t.Fatal(err)
			}
			fsys.Crash()
			e = mustOpenEntries(t, o)
			if end := e.Recovered(); end.Offset != 50*ledger.BlockBytes || end.Torn {
				t.Fatalf("seed %d: the log ends with %+v", seed, end)
			}
			got, err := e.Entries(1, e.LastIndex(), 1<<30)
			if err != nil || !slices.EqualFunc(got, []ledger.Entry{first, second}, sameEntry) {
				t.Fatalf("seed %d: %d entries, %v", seed, len(got), err)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if torn < 20 {
		t.Errorf("only %d of the saves were torn", torn)
	}
}
