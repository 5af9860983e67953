package replicatest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
	"loteria/engine/replica"
)

// Open opens a store, always the same one. If the store is an io.Closer, [Conform] closes it before
// it opens it again.
type Open func() (replica.Store, error)

// Conform runs what every store has to pass, each point as a subtest. fresh gives a new and empty
// store at every call. It doesn't crash anything: what a store keeps in a crash is to be tested
// where its files are.
func Conform(t *testing.T, fresh func(t testing.TB) Open) {
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) { c.check(t, fresh(t)) })
	}
}

// conformance is what a store has to pass. The checks fail with Fatal and Fatalf only.
var conformance = []struct {
	name  string
	check func(t testing.TB, open Open)
}{
	{"new", checkNew},
	{"state", checkState},
	{"entries", checkEntries},
	{"replaced entries", checkReplaced},
	{"limit of bytes", checkLimit},
	{"slices", checkSlices},
	{"a long life", checkLife},
	{"reading beside a save", checkBeside},
}

// Disk is where a store lies, with the means to hurt it. One goroutine uses it. [Memory.Disk] is an
// example.
type Disk struct {
	// Open is an [Open].
	Open Open
	// Crash ends the machine: what was not made durable may be lost. The next Open finds the rest.
	Crash func()
	// BreakNext arranges that the n-th operation from now on that changes something fails, from 1, and
	// all that follow; 0 arranges none. Crash ends that.
	BreakNext func(n int)
}

// CheckCrashes lets a save fail and the machine crash at every operation of some lives in a row,
// and looks at what is left: nothing that a Save had made durable is lost, and a Save that failed
// has left one of the things that [replica.Store] allows. newDisk makes an empty disk; what it
// leaves to chance, seed decides. A failure names the seed.
func CheckCrashes(t testing.TB, newDisk func(seed uint64) Disk) {
	t.Helper()
	for at, done := 1, false; !done; at++ {
		done = true
		for i := range uint64(crashSeeds) {
			seed := uint64(at)*crashSeeds + i
			done = checkCrash(t, newDisk(seed), seed, at) && done
		}
	}
}

// crashSeeds is how often a crash at each operation is tried, each time with other saves and
// losses.
const crashSeeds = 5

// content is what a store holds.
type content struct {
	state replica.State
	log   []replica.Entry
}

// with is the content after a save, or after a part of it.
func (c content) with(state replica.State, more []replica.Entry) content {
	if len(more) == 0 {
		return content{state, c.log}
	}
	first := more[0].Index
	return content{state, append(c.log[:first-1:first-1], more...)}
}

// checkCrash lives four lives with one store, of which each but the last ends at the operation
// number at, counted from its beginning. It reports whether all ended before that was due.
func checkCrash(t testing.TB, d Disk, seed uint64, at int) (done bool) {
	const lives, saves = 4, 6
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	done = true
	allowed := []content{{}} // what the next opening may find
	for life := range lives {
		d.BreakNext(0)
		if life < lives-1 {
			d.BreakNext(at)
		}
		s, err := d.Open()
		if err != nil {
			if life == lives-1 {
				t.Fatalf("seed %d, crash at operation %d: the last life doesn't begin: %v", seed, at, err)
			}
			done = false
			d.Crash()
			continue
		}
		now := found(t, s)
		i := slices.IndexFunc(allowed, now.equal)
		if i < 0 {
			t.Fatalf("seed %d, crash at operation %d, life %d: %+v and %d entries are left, and none of %d contents that may be",
				seed, at, life, now.state, len(now.log), len(allowed))
		}
		for range saves {
			first := uint64(len(now.log)) + 1
			if rng.IntN(3) == 0 {
				first -= rng.Uint64N(first - now.state.Commit)
			}
			state := replica.State{Term: now.state.Term + 1, Vote: rng.Uint64N(3), Commit: now.state.Commit + rng.Uint64N(first-now.state.Commit)}
			more := entries(first, rng.IntN(7), state.Term, rng.IntN(3000))
			if rng.IntN(4) == 0 {
				state.Term, state.Vote, more = now.state.Term, now.state.Vote, nil // nothing but Commit
			}
			if err = s.Save(state, more); err != nil {
				allowed = []content{now, now.with(state, nil)}
				for n := range len(more) + 1 {
					if n == 0 && len(more) > 0 {
						allowed = append(allowed, content{state, now.log[:first-1]})
					} else {
						allowed = append(allowed, now.with(state, more[:n]))
					}
				}
				done = false
				break
			}
			now = now.with(state, more)
			allowed = []content{now}
		}
		d.Crash()
	}
	return done
}

// found reads all that a store holds.
func found(t testing.TB, s replica.Store) content {
	t.Helper()
	state, err := s.State()
	if err != nil {
		t.Fatalf("State: %v", err)
	}
	last, err := s.LastIndex()
	if err != nil {
		t.Fatalf("LastIndex: %v", err)
	}
	if last == 0 {
		return content{state, nil}
	}
	log, err := s.Entries(1, last, 1<<30)
	if err != nil || uint64(len(log)) != last {
		t.Fatalf("Entries returned %d of %d entries, %v", len(log), last, err)
	}
	return content{state, log}
}

func (c content) equal(other content) bool {
	return c.state == other.state && slices.EqualFunc(c.log, other.log, same)
}

func mustOpen(t testing.TB, open Open) replica.Store {
	t.Helper()
	s, err := open()
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

// again closes the store and opens it.
func again(t testing.TB, s replica.Store, open Open) replica.Store {
	t.Helper()
	end(t, s)
	return mustOpen(t, open)
}

func end(t testing.TB, s replica.Store) {
	t.Helper()
	if c, ok := s.(io.Closer); ok {
		if err := c.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
}

func mustSave(t testing.TB, s replica.Store, state replica.State, entries ...replica.Entry) {
	t.Helper()
	if err := s.Save(state, entries); err != nil {
		t.Fatalf("Save(%+v, %d entries): %v", state, len(entries), err)
	}
}

// want compares all that a store holds.
func want(t testing.TB, s replica.Store, state replica.State, log []replica.Entry) {
	t.Helper()
	got, err := s.State()
	if err != nil || got != state {
		t.Fatalf("State returned %+v, %v, want %+v", got, err, state)
	}
	last, err := s.LastIndex()
	if err != nil || last != uint64(len(log)) {
		t.Fatalf("LastIndex returned %d, %v, want %d", last, err, len(log))
	}
	for _, e := range log {
		if term, err := s.Term(e.Index); err != nil || term != e.Term {
			t.Fatalf("Term(%d) returned %d, %v, want %d", e.Index, term, err, e.Term)
		}
	}
	for from := uint64(1); from <= last; {
		entries, err := s.Entries(from, last, 1<<10)
		if err != nil || len(entries) == 0 {
			t.Fatalf("Entries from %d on returned %d entries, %v", from, len(entries), err)
		}
		for _, e := range entries {
			if w := log[from-1]; !same(e, w) {
				t.Fatalf("entry %d is %d of term %d with %d bytes, want term %d with %d bytes",
					from, e.Index, e.Term, len(e.Records), w.Term, len(w.Records))
			}
			from++
		}
	}
}

func same(a, b replica.Entry) bool {
	return a.Index == b.Index && a.Term == b.Term && bytes.Equal(a.Records, b.Records)
}

// entries makes n of a term, from an index on, whose groups are about so long.
func entries(index uint64, n int, term uint64, bytes int) []replica.Entry {
	all := make([]replica.Entry, n)
	for i := range all {
		all[i] = replica.Entry{Index: index + uint64(i), Term: term, Records: group(index+uint64(i), term, bytes)}
	}
	return all
}

// A new store has nothing.
func checkNew(t testing.TB, open Open) {
	s := mustOpen(t, open)
	want(t, s, replica.State{}, nil)
	s = again(t, s, open)
	want(t, s, replica.State{}, nil)
	end(t, s)
}

// A state needs no entries.
func checkState(t testing.TB, open Open) {
	s := mustOpen(t, open)
	for i := range uint64(5) {
		state := replica.State{Term: 1<<40 + i, Vote: 1<<60 + i}
		mustSave(t, s, state)
		want(t, s, state, nil)
		if i%2 == 0 {
			s = again(t, s, open)
			want(t, s, state, nil)
		}
	}
	end(t, s)
}

// Entries of all sizes are there, also without data.
func checkEntries(t testing.TB, open Open) {
	s := mustOpen(t, open)
	var log []replica.Entry
	state := replica.State{Term: 1, Vote: 2}
	for _, bytes := range []int{0, 1, 0, 0, 500, 4096, 100_000, 0, 20_000} {
		state.Commit = uint64(len(log))
		more := entries(uint64(len(log))+1, 1+bytes%3, 1, bytes)
		log = append(log, more...)
		mustSave(t, s, state, more...)
		want(t, s, state, log)
	}
	s = again(t, s, open)
	want(t, s, state, log)
	end(t, s)
}

// Entries that aren't committed are replaced, all or from some index on, by more or by fewer.
func checkReplaced(t testing.TB, open Open) {
	s := mustOpen(t, open)
	log := entries(1, 10, 1, 300)
	mustSave(t, s, replica.State{Term: 1}, log...)
	state := replica.State{Commit: 4}
	for term, from := range []uint64{2: 11, 3: 12, 4: 8, 5: 8, 6: 5, 7: 5} {
		if from == 0 {
			continue
		}
		state.Term = uint64(term)
		more := entries(from, 1+term%3, state.Term, 200*(term%3))
		log = append(log[:from-1:from-1], more...)
		mustSave(t, s, state, more...)
		want(t, s, state, log)
		s = again(t, s, open)
		want(t, s, state, log)
	}
	end(t, s)
}

// Entries returns what fits, and at least one.
func checkLimit(t testing.TB, open Open) {
	s := mustOpen(t, open)
	log := entries(1, 20, 1, 1000)
	mustSave(t, s, replica.State{Term: 1}, log...)
	for _, bytesMax := range []int{1, 999, 3_000, 7_500, 1 << 30} {
		for first := uint64(1); first <= 20; first += 3 {
			for last := first; last <= 20; last += 5 {
				got, err := s.Entries(first, last, bytesMax)
				fits, bytes := 0, 0
				for _, e := range log[first-1 : last] {
					if bytes += len(e.Records); bytes > bytesMax && fits > 0 {
						break
					}
					fits++
				}
				if err != nil || len(got) != fits || got[0].Index != first {
					t.Fatalf("Entries(%d, %d, %d) returned %d entries, %v, want %d", first, last, bytesMax, len(got), err, fits)
				}
			}
		}
	}
	end(t, s)
}

// The slice that was saved, and the slice that is read, are the caller's.
func checkSlices(t testing.TB, open Open) {
	s := mustOpen(t, open)
	log := entries(1, 4, 1, 100)
	given := slices.Clone(log)
	mustSave(t, s, replica.State{Term: 1}, given...)
	clear(given)
	want(t, s, replica.State{Term: 1}, log)
	got, err := s.Entries(1, 4, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	clear(got)
	_ = append(got[:1], replica.Entry{Index: 9, Term: 9})
	want(t, s, replica.State{Term: 1}, log)
	end(t, s)
}

// A store is what a list is, after any saves and openings.
func checkLife(t testing.TB, open Open) {
	rng := rand.New(rand.NewPCG(1, 0))
	s := mustOpen(t, open)
	var (
		state replica.State
		log   []replica.Entry
	)
	for range 150 {
		switch rng.IntN(8) {
		case 0:
			s = again(t, s, open)
		case 1:
			state.Term, state.Vote = state.Term+1, rng.Uint64N(4)
			mustSave(t, s, state)
		case 2:
			state.Commit += rng.Uint64N(uint64(len(log)) - state.Commit + 1)
			mustSave(t, s, state)
		default:
			first := uint64(len(log)) + 1
			if rng.IntN(4) == 0 {
				first -= rng.Uint64N(first - state.Commit)
				state.Term++
			}
			state.Term = max(state.Term, 1)
			state.Commit += rng.Uint64N(first - state.Commit)
			more := entries(first, 1+rng.IntN(7), state.Term, rng.IntN(2000))
			log = append(log[:first-1:first-1], more...)
			mustSave(t, s, state, more...)
		}
		want(t, s, state, log)
	}
	s = again(t, s, open)
	want(t, s, state, log)
	end(t, s)
}

// Another goroutine reads what is committed, while more is saved and replaced behind it.
func checkBeside(t testing.TB, open Open) {
	s := mustOpen(t, open)
	log := entries(1, 20, 1, 700)
	mustSave(t, s, replica.State{Term: 1}, log...)
	done := make(chan error, 1)
	go func() {
		for term := uint64(2); term < 60; term++ {
			if err := s.Save(replica.State{Term: term, Commit: 20}, entries(21, int(1+term%5), term, 700)); err != nil {
				done <- err
				return
			}
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
		got, err := s.Entries(1, 20, 1<<20)
		if err != nil || !slices.EqualFunc(got, log, same) {
			t.Fatalf("Entries returned %d entries, %v", len(got), err)
		}
		if last, err := s.LastIndex(); err != nil || last < 20 {
			t.Fatalf("LastIndex returned %d, %v", last, err)
		}
		if term, err := s.Term(20); err != nil || term != 1 {
			t.Fatalf("Term returned %d, %v", term, err)
		}
	}
	end(t, s)
}

// group packs a group of about so many bytes, which tells the entry; of none for 0.
func group(index, term uint64, bytes int) []byte {
	if bytes == 0 {
		return nil
	}
	e := ledgertest.Bets(max(bytes-ledger.RecordBytes(0), 40), int((index*31+term*7)%1e8))
	return ledgertest.Run(e)
}
