package ledger_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// clusterID and clusterFirst are what a cluster gives its servers' ledgers.
var (
	clusterID    = [16]byte([]byte("three servers' .."))
	clusterFirst = ledgertest.Run(opened("version=1 agencies=2 winning_number=7574"))
)

func entryOptions(fsys *ledgertest.FS) ledger.EntryOptions {
	return ledger.EntryOptions{
		FS: fsys, SegmentBytes: ledger.SegmentBytesMin, ID: clusterID, Create: true, First: clusterFirst,
	}
}

func mustOpenEntries(t testing.TB, o ledger.EntryOptions) *ledger.EntryLog {
	t.Helper()
	e, err := ledger.OpenEntryLog(testDir, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// entryModel is the slow, obvious entry log.
type entryModel struct {
	state   ledger.State
	entries []ledger.Entry // entry 1 first
}

func (m *entryModel) last() uint64 { return uint64(len(m.entries)) }

func (m *entryModel) term(index uint64) uint64 {
	if index == 0 {
		return 0
	}
	return m.entries[index-1].Term
}

// after is the model after a Save that is legal.
func (m *entryModel) after(s entrySave) *entryModel {
	next := &entryModel{s.state, m.entries}
	if len(s.entries) > 0 {
		next.entries = slices.Concat(m.entries[:s.entries[0].Index-1], s.entries)
	}
	return next
}

// records are those that a scan visits: the first one, and those of committed entries with their
// marks.
func (m *entryModel) records() []entry {
	all := unpack(clusterFirst)
	for _, e := range m.entries[:m.state.Commit] {
		records := unpack(e.Records)
		mark := entry{Kind: ledger.Mark, Count: uint32(len(records) + 1), Payload: fmt.Sprintf("%d %d", e.Index, e.Term)}
		all = append(append(all, mark), records...)
	}
	return all
}

func unpack(run []byte) (records []entry) {
	for len(run) > 0 {
		var r ledger.Record
		r, run = ledger.Unpack(run)
		records = append(records, entry{Kind: r.Kind, Agency: r.Agency, Count: r.Count, Payload: string(r.Payload)})
	}
	return records
}

func sameEntry(a, b ledger.Entry) bool {
	return a.Index == b.Index && a.Term == b.Term && bytes.Equal(a.Records, b.Records)
}

// check compares all that a log says with the model.
func (m *entryModel) check(t testing.TB, when string, e *ledger.EntryLog) {
	t.Helper()
	if e.State() != m.state || e.LastIndex() != m.last() {
		t.Fatalf("%s: %+v and %d entries, want %+v and %d", when, e.State(), e.LastIndex(), m.state, m.last())
	}
	for index := uint64(0); index <= m.last(); index++ {
		if term, err := e.TermOf(index); err != nil || term != m.term(index) {
			t.Fatalf("%s: entry %d has term %d, want %d (%v)", when, index, term, m.term(index), err)
		}
	}
	members := uint64(0)
	for index := uint64(0); index <= m.last(); index++ {
		if index > 0 && ledger.FirstKind(m.entries[index-1].Records) == ledger.Members {
			members = index
		}
		if got := e.LastMembers(index); got != members {
			t.Fatalf("%s: the last members through entry %d are in %d, want %d", when, index, got, members)
		}
	}
	if m.last() > 0 {
		m.checkEntries(t, when, e, 1, m.last(), 1<<30)
	}
	var found []entry
	tail, err := e.Scan(ledgertest.Collect(&found))
	if want := m.records(); err != nil || !slices.Equal(found, want) || tail.Seq != uint64(len(want)) ||
		tail.Entries != (ledger.EntryTail{Shared: true, State: m.state, LastIndex: m.last()}) {
		t.Fatalf("%s: a scan visits %d records, want %d, and ends with %+v, %v", when, len(found), len(want), tail, err)
	}
}

// checkEntries reads some entries back.
func (m *entryModel) checkEntries(t testing.TB, when string, e *ledger.EntryLog, first, last uint64, bytesMax int) {
	t.Helper()
	want := m.entries[first-1 : last]
	for n, sum := 0, 0; n < len(want); n++ {
		if sum += len(want[n].Records); n > 0 && sum > bytesMax {
			want = want[:n]
		}
	}
	got, err := e.Entries(first, last, bytesMax)
	if err != nil || !slices.EqualFunc(got, want, sameEntry) {
		t.Fatalf("%s: entries %d to %d, %d bytes: got %d, want %d (%v)", when, first, last, bytesMax, len(got), len(want), err)
	}
}

// entrySave is what a Save is called with.
type entrySave struct {
	state   ledger.State
	entries []ledger.Entry
}

// randomSave is some legal Save.
func (m *entryModel) randomSave(rng *rand.Rand, number *int) entrySave {
	s := entrySave{state: m.state}
	if s.state.Term == 0 || rng.IntN(3) == 0 {
		s.state.Term += 1 + rng.Uint64N(2)
		s.state.Vote = rng.Uint64N(4)
	} else if s.state.Vote == 0 && rng.IntN(3) == 0 {
		s.state.Vote = 1 + rng.Uint64N(3)
	}
	first := m.last() + 1
	if uncommitted := m.last() - m.state.Commit; uncommitted > 0 && rng.IntN(3) == 0 {
		first -= 1 + rng.Uint64N(uncommitted)
	}
	end := m.last()
	if n := rng.IntN(7); n > 0 {
		term := m.term(first - 1)
		for i := range n {
			if term == 0 || rng.IntN(2) == 0 {
				term = s.state.Term
			}
			s.entries = append(s.entries, ledger.Entry{Index: first + uint64(i), Term: term, Records: randomRecords(rng, number)})
		}
		end = first + uint64(n) - 1
	}
	if end > s.state.Commit && rng.IntN(2) == 0 {
		s.state.Commit += rng.Uint64N(end-s.state.Commit) + 1
	}
	return s
}

// members is a membership, as far as the ledger knows.
func members() []byte { return ledger.AppendRecord(nil, ledger.Members, 0, 1, []byte("voters=1")) }

func randomRecords(rng *rand.Rand, number *int) []byte {
	if rng.IntN(6) == 0 {
		return members()
	}
	var run []byte
	for range rng.IntN(4) {
		*number++
		size := rng.IntN(900)
		if rng.IntN(20) == 0 {
			size = 10 << 10
		}
		run = bets(size, *number).AppendTo(run)
	}
	return run
}

// cutsOff is how many entries of the model a Save replaces.
func (m *entryModel) cutsOff(s entrySave) uint64 {
	if len(s.entries) == 0 {
		return 0
	}
	return m.last() - s.entries[0].Index + 1
}

// checkIdentical compares a ledger's segments, byte for byte, and its chain values with those of a
// server that was given the same entries one by one, and that never crashed nor cut anything off.
func (m *entryModel) checkIdentical(t testing.TB, when string, e *ledger.EntryLog, files image, segmentBytes int64) {
	t.Helper()
	fsys := ledgertest.NewFS(99)
	o := entryOptions(fsys)
	o.SegmentBytes, o.ReserveBytes = segmentBytes, ledger.BlockBytes
	other := mustOpenEntries(t, o)
	for index := uint64(0); index <= m.last(); index++ {
		if index > 0 {
			one := m.entries[index-1]
			if err := other.Save(ledger.State{Term: one.Term}, []ledger.Entry{one}); err != nil {
				t.Fatal(err)
			}
		}
		want, errWant := other.ChainAt(index)
		got, err := e.ChainAt(index)
		if got != want || err != nil || errWant != nil {
			t.Fatalf("%s: the chain value behind entry %d is %x, want %x (%v, %v)", when, index, got, want, err, errWant)
		}
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	want := imageOf(fsys)
	for name := range files {
		if want[name] == nil {
			t.Fatalf("%s: %s is there", when, name)
		}
	}
	for name, data := range want {
		if name == ledger.StateName {
			continue
		}
		size := max(len(data), len(files[name])) // what is reserved doesn't count
		if !bytes.Equal(pad(data, size), pad(files[name], size)) {
			t.Fatalf("%s: %s is another one", when, name)
		}
	}
}

func pad(b []byte, size int) []byte { return append(slices.Clone(b), make([]byte, size-len(b))...) }
