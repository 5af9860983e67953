package ledger_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// damagedLog is a log of three segments to damage: entries of two terms, of which three are
// committed, and a state that was written when the process was killed.
func damagedLog(t testing.TB) (image, *entryModel) {
	t.Helper()
	fsys := ledgertest.NewFS(1)
	e, m := mustOpenEntries(t, entryOptions(fsys)), &entryModel{}
	for _, s := range []entrySave{
		{ledger.State{Term: 1, Vote: 1}, smallEntries(1, 1, -1, 700, 1400)},
		{ledger.State{Term: 2, Vote: 3, Commit: 2}, smallEntries(4, 2, 2500, 10)},
		{ledger.State{Term: 2, Vote: 3, Commit: 3}, smallEntries(6, 2, 3300, 20, 30)},
	} {
		if err := e.Save(s.state, s.entries); err != nil {
			t.Fatal(err)
		}
		m = m.after(s)
	}
	fsys.Kill()
	return imageOf(fsys), m
}

// reopenEntries opens the files, and checks that what it finds was saved. It returns how many
// entries that is. Without a model, it must find nothing.
func reopenEntries(t testing.TB, files image, m *entryModel) (ledger.State, uint64, error) {
	t.Helper()
	fsys := files.fs()
	var scanned, visited []entry
	tail, errScan := ledger.Scan(testDir, ledger.Options{FS: fsys}, ledgertest.Collect(&scanned))
	if !slices.Equal(files.names(), imageOf(fsys).names()) {
		t.Fatal("Scan has changed something")
	}
	o := entryOptions(fsys)
	o.Create = false
	before := fsys.Files()
	e, err := ledger.OpenEntryLog(testDir, o, ledgertest.Collect(&visited))
	for _, found := range [][]entry{scanned, visited} {
		if m == nil {
			break
		}
		all := (&entryModel{ledger.State{Commit: m.last()}, m.entries}).records()
		if ledgertest.Agreement(found, all) != len(found) {
			t.Fatalf("%d records are visited, %d agree", len(found), ledgertest.Agreement(found, all))
		}
	}
	if err != nil {
		for name, data := range fsys.Files() {
			if !slices.Equal(data, before[name]) {
				t.Fatalf("%s was changed, though the log is refused: %v", name, err)
			}
		}
		if fsys.OpenFiles() != 0 {
			t.Fatalf("%d files are left open", fsys.OpenFiles())
		}
		return ledger.State{}, 0, err
	}
	if errScan != nil || len(scanned) != len(visited) || tail.Entries.State != e.State() {
		t.Fatalf("Scan finds %d records, %+v and %v; OpenEntryLog %d and %+v",
			len(scanned), tail.Entries, errScan, len(visited), e.State())
	}
	last := e.LastIndex()
	if last > m.last() {
		t.Fatalf("%d entries are found, %d were saved", last, m.last())
	}
	(&entryModel{e.State(), m.entries[:last]}).check(t, "opened", e)
	state := e.State()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return state, last, nil
}

func (files image) names() []string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// A log without its state, a state without its log, a log that is shorter than what was promised,
// and what else doesn't belong together: row by row.
func TestEntryLogIsRefused(t *testing.T) {
	pristine, m := damagedLog(t)
	names := pristine.names() // the segments, then the state
	if len(names) != 4 || names[3] != ledger.StateName {
		t.Fatalf("the log consists of %q", names)
	}
	first, second, third, state := names[0], names[1], names[2], names[3]
	cut := func(name string, size int) func(image) {
		return func(files image) { files[name] = files[name][:size] }
	}
	remove := func(names ...string) func(image) {
		return func(files image) {
			for _, name := range names {
				delete(files, name)
			}
		}
	}
	other := func() image { // the same entries but the last, under another id
		fsys := ledgertest.NewFS(2)
		o := entryOptions(fsys)
		o.ID[0]++
		e := mustOpenEntries(t, o)
		if err := e.Save(m.state, m.entries[:7]); err != nil {
			t.Fatal(err)
		}
		fsys.Kill()
		return imageOf(fsys)
	}()
	diverged := func() image { // another last entry, in a log that is as long
		fsys := ledgertest.NewFS(2)
		e := mustOpenEntries(t, entryOptions(fsys))
		if err := e.Save(m.state, append(slices.Clone(m.entries[:7]), smallEntries(8, 2, 31)...)); err != nil {
			t.Fatal(err)
		}
		fsys.Kill()
		return imageOf(fsys)
	}()
	single := written(t, []entry{opened("7574"), bets(10, 1)})
	older := func() image {
		fsys := ledgertest.NewFS(2)
		e := mustOpenEntries(t, entryOptions(fsys))
		if err := e.Save(ledger.State{Term: 1}, m.entries[:3]); err != nil {
			t.Fatal(err)
		}
		fsys.Kill()
		return imageOf(fsys)
	}()
	end := pristine.end(third)
	for _, c := range []struct {
		name   string
		damage func(image)
		file   string
		reason string
		want   error
	}{
		{"no state", remove(state), state, "the state is missing", ledger.ErrCorrupt},
		{"an empty state", cut(state, 0), state, "the state is damaged", ledger.ErrCorrupt},
		{"zeros in place of the state", func(f image) { clear(f[state]) }, state, "the state is damaged", ledger.ErrCorrupt},
		{"both slots damaged", func(f image) { f[state][40]++; f[state][ledger.BlockBytes+40]++ }, state, "the state is damaged", ledger.ErrCorrupt},
		{"no log", remove(first, second, third), first, "not even its first record", ledger.ErrCorrupt},
		{"nothing", remove(first, second, third, state), "", "there is none", ledger.ErrNone},
		{"no last segment", remove(third), second, "promised the log through entry 8, and it ends at entry 5", ledger.ErrCorrupt},
		{"no segment in the middle", remove(second), third, "are missing", ledger.ErrCorrupt},
		{"an empty last segment", cut(third, 0), second, "promised the log through entry 8, and it ends at entry", ledger.ErrCorrupt},
		{"the last entry", cut(third, end-104), third, "promised the log through entry 8, and it ends at entry 7", ledger.ErrCorrupt},
		{"half of the last entry", cut(third, end-40), third, "promised the log through entry 8, and it ends at entry 7", ledger.ErrCorrupt},
		{"zeros in place of the last entry", func(f image) { clear(f[third][end-104:]) }, third, "promised the log through entry 8", ledger.ErrCorrupt},
		{"the state of another log", func(f image) { f[state] = other[state] }, "", "belongs to another cluster", ledger.ErrForeign},
		{"the log of another state", func(f image) { f[first] = other[first] }, state, "belongs to another ledger", ledger.ErrCorrupt},
		{"the state of another copy", func(f image) { f[state] = diverged[state] }, third, "entries 3 and 8 are not those", ledger.ErrCorrupt},
		{"an older state", func(f image) { f[state] = older[state] }, first, "it has lost what this server promised", ledger.ErrCorrupt},
		{"a single server's log", func(f image) { clear(f); f[first] = single[first] }, "", "a single server keeps it", ledger.ErrNotShared},
		{"a single server's segment", func(f image) { f[first] = single[first] }, "", "a single server keeps it", ledger.ErrNotShared},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := pristine.clone()
			c.damage(files)
			want := m
			if c.want == ledger.ErrNotShared {
				want = nil
			}
			_, _, err := reopenEntries(t, files, want)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.reason) {
				t.Fatalf("got %v, want %v because %q", err, c.want, c.reason)
			}
			var corrupt *ledger.CorruptError
			if errors.As(err, &corrupt) && !strings.HasSuffix(corrupt.File, c.file) {
				t.Errorf("the damage is in %s, want %s", corrupt.File, c.file)
			}
			if strings.Contains(c.reason, "promised") && !strings.Contains(err.Error(), "under a new id and with an empty directory") {
				t.Errorf("%v doesn't say how to rejoin", err)
			}
		})
	}
	if _, last, err := reopenEntries(t, pristine, m); err != nil || last != m.last() {
		t.Errorf("undamaged, it has %d entries, %v", last, err)
	}
	if _, err := ledger.Open(testDir, ledger.Options{FS: pristine.fs()}, nil); !errors.Is(err, ledger.ErrShared) {
		t.Errorf("opened as a single server's: %v", err)
	}
	noState := pristine.clone()
	delete(noState, state)
	if _, err := ledger.Open(testDir, ledger.Options{FS: noState.fs()}, nil); !errors.Is(err, ledger.ErrShared) {
		t.Errorf("opened as a single server's, without its state: %v", err)
	}
}

// Whichever slot of the state is lost, the term, the vote and the log are what they were: at rest,
// and when a Save or an opening was just writing the other one.
func TestEitherSlotOfTheState(t *testing.T) {
	t.Parallel()
	pristine, m := damagedLog(t)
	for bit := range 2 * 84 * 8 {
		files := pristine.clone()
		slot, at := bit/(84*8), bit%(84*8)
		files[ledger.StateName][slot*ledger.BlockBytes+at/8] ^= 1 << (at % 8)
		state, last, err := reopenEntries(t, files, m)
		if err != nil || state.Term != m.state.Term || state.Vote != m.state.Vote || last != m.last() {
			t.Fatalf("bit %d of slot %d: %+v, %d entries, %v", at, slot, state, last, err)
		}
	}
	for n := range len(pristine[ledger.StateName]) {
		if n > 100 && n < ledger.BlockBytes-10 || n > ledger.BlockBytes+100 {
			continue // it ends in zeros
		}
		files := pristine.clone()
		files[ledger.StateName] = files[ledger.StateName][:n]
		state, last, err := reopenEntries(t, files, m)
		if n < 84 && !errors.Is(err, ledger.ErrCorrupt) || n >= 84 && (err != nil || state.Vote != m.state.Vote || last != m.last()) {
			t.Fatalf("cut to %d bytes: %+v, %d entries, %v", n, state, last, err)
		}
	}
	// A crash that tears the slot it was writing, which is more than a disk is assumed to do.
	for n := 1; ; n++ {
		fsys := ledgertest.NewFS(uint64(n))
		e := mustOpenEntries(t, entryOptions(fsys))
		old := ledger.State{Term: 1, Vote: 1}
		if err := e.Save(old, smallEntries(1, 1, 10)); err != nil {
			t.Fatal(err)
		}
		fsys.Break(ledgertest.Fault{N: n, Dead: true})
		next := ledger.State{Term: 2, Vote: 3}
		done := e.Save(next, nil) == nil
		fsys.Crash()
		files := imageOf(fsys)
		for slot := range 2 {
			torn := files.clone()
			clear(torn[ledger.StateName][slot*ledger.BlockBytes:][:50])
			fsys := torn.fs()
			e, err := ledger.OpenEntryLog(testDir, entryOptions(fsys), nil)
			switch {
			case err != nil:
				t.Fatalf("operation %d, slot %d: %v", n, slot, err)
			case done && e.State() != next, e.State() != old && e.State() != next:
				t.Fatalf("operation %d, slot %d: %+v", n, slot, e.State())
			}
		}
		if done {
			if n < 5 {
				t.Errorf("a new state took %d operations", n-1)
			}
			break
		}
	}
}

// A log that is cut anywhere, with or without zeros behind, is whole, or refused: its state knows
// how far it went.
func TestEntryLogCutAnywhere(t *testing.T) {
	t.Parallel()
	pristine, m := damagedLog(t)
	name := pristine.names()[2]
	end := pristine.end(name)
	for size := range end + 1 {
		for _, zeros := range []int{0, len(pristine[name]) - size} {
			files := pristine.clone()
			files[name] = append(files[name][:size:size], make([]byte, zeros)...)
			_, last, err := reopenEntries(t, files, m)
			same := len(files[name]) >= end && slices.Equal(files[name][:end], pristine[name][:end])
			if same != (err == nil) || err == nil && last != m.last() || err != nil && !errors.Is(err, ledger.ErrCorrupt) {
				t.Fatalf("cut to %d bytes, %d zeros: %d entries, %v", size, zeros, last, err)
			}
		}
	}
}

// A sector that turns to zeros is what a crash leaves of a write that was interrupted. In entries
// that were durable before the last Save began, it is refused all the same, whichever of them share
// a sync, and whatever a crash has left of the state.
func TestLostSectorBeforeTheLastSave(t *testing.T) {
	many := func(first, n int) (entries []ledger.Entry) {
		for i := range n {
			entries = append(entries, smallEntries(uint64(first+i), 1, 1100+10*i)...)
		}
		return entries
	}
	for name, saves := range map[string][][]ledger.Entry{
		"one behind one":        {many(1, 1), many(2, 1)},
		"many behind one":       {many(1, 1), many(2, 5)},
		"one behind many":       {many(1, 5), many(6, 1)},
		"many behind many":      {many(1, 5), many(6, 4)},
		"two behind many":       {many(1, 5), many(6, 2)},
		"one behind the others": {many(1, 5), many(6, 1), many(7, 1)},
		"many behind all":       {many(1, 1), many(2, 4), many(6, 4), many(10, 1), many(11, 6)},
	} {
		for seed := range uint64(4) {
			fsys := ledgertest.NewFS(seed)
			o := entryOptions(fsys)
			o.SegmentBytes = 128 << 10
			e, m := mustOpenEntries(t, o), &entryModel{}
			var end int // of what was durable before the last Save
			for _, entries := range saves {
				end = imageOf(fsys).end(ledger.SegmentName(1))
				s := entrySave{ledger.State{Term: 1}, entries}
				if err := e.Save(s.state, s.entries); err != nil {
					t.Fatal(err)
				}
				m = m.after(s)
			}
			fsys.Crash()
			pristine := imageOf(fsys)
			const sector = 512
			for at := sector; at+sector <= end; at += sector { // the first one has the segment's header
				files := pristine.clone()
				clear(files[ledger.SegmentName(1)][at:][:sector])
				if _, last, err := reopenEntries(t, files, m); !errors.Is(err, ledger.ErrCorrupt) {
					t.Fatalf("%s, seed %d, sector %d: %d entries, %v", name, seed, at/sector, last, err)
				}
			}
			if _, last, err := reopenEntries(t, pristine, m); err != nil || last != m.last() {
				t.Fatalf("%s, seed %d: undamaged, it has %d of %d entries, %v", name, seed, last, m.last(), err)
			}
		}
	}
}

// What shares a sync that never was is cut off at the first entry that lacks a sector, though whole
// ones stand behind it. Nothing that was promised goes with it.
func TestTornSharedSync(t *testing.T) {
	behind := 0
	for seed := range uint64(60) {
		fsys := ledgertest.NewFS(seed)
		o := entryOptions(fsys)
		o.SegmentBytes = 64 << 10
		e := mustOpenEntries(t, o)
		m := (&entryModel{}).after(entrySave{ledger.State{Term: 1}, smallEntries(1, 1, 700, 600, 500, 400, 300)})
		if err := e.Save(m.state, m.entries); err != nil {
			t.Fatal(err)
		}
		more := entrySave{m.state, smallEntries(6, 1, 900, 800, 700, 600, 500, 400)}
		fsys.Break(ledgertest.Fault{Op: ledgertest.SyncData, N: 2, Dead: true}) // the first is the state's
		if err := e.Save(more.state, more.entries); err == nil {
			t.Fatal("the sync failed, Save didn't")
		}
		fsys.Crash()
		files := imageOf(fsys)
		_, last, err := reopenEntries(t, files, m.after(more))
		if err != nil || last < m.last() {
			t.Fatalf("seed %d: %d entries, %d were promised, %v", seed, last, m.last(), err)
		}
		fsys = files.fs()
		opened := mustOpenEntries(t, entryOptions(fsys))
		cut := opened.Recovered()
		if data := files[ledger.SegmentName(1)]; cut.Torn && len(bytes.Trim(data[cut.Offset:], "\x00")) > 1000 {
			behind++
		}
		if err := opened.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if behind < 10 {
		t.Errorf("only %d of the crashes have left much behind what they tore", behind)
	}
}

// Every bit of the log is proved: the one that flips is noticed, unless an opening has no use for
// it.
func TestEntryLogFlippedBits(t *testing.T) {
	t.Parallel()
	pristine, m := damagedLog(t)
	for _, name := range pristine.names()[:3] {
		end := pristine.end(name)
		for at := 0; at < end; at += 3 {
			files := pristine.clone()
			files[name][at] ^= 1 << (at % 8)
			if _, last, err := reopenEntries(t, files, m); !errors.Is(err, ledger.ErrCorrupt) {
				t.Fatalf("%s, byte %d of %d: %d entries, %v", name, at, end, last, err)
			}
		}
	}
}

// Entries notices what was damaged while the log is open.
func TestEntriesOfDamagedLog(t *testing.T) {
	for _, at := range []int{140, 180, 210, 240, 300} {
		fsys := ledgertest.NewFS(1)
		e := mustOpenEntries(t, entryOptions(fsys))
		if err := e.Save(ledger.State{Term: 1}, smallEntries(1, 1, 50, 60)); err != nil {
			t.Fatal(err)
		}
		path := testDir + "/" + ledger.SegmentName(1)
		data := fsys.Files()[path]
		data[at] ^= 4
		fsys.Install(path, data)
		if got, err := e.Entries(1, 2, 1<<20); !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("byte %d: %d entries, %v", at, len(got), err)
		}
	}
}

// A disk that can't be read isn't taken for a damaged or an empty log, and nothing is changed.
func TestEntryLogReadError(t *testing.T) {
	files, m := damagedLog(t)
	for n := 1; ; n++ {
		fsys := files.fs()
		fsys.Break(ledgertest.Fault{Op: ledgertest.Read | ledgertest.OpenOld | ledgertest.List, N: n})
		e, err := ledger.OpenEntryLog(testDir, entryOptions(fsys), nil)
		if err == nil {
			if fsys.Broken() != 0 || n < 8 {
				t.Fatalf("read %d failed (%v), OpenEntryLog didn't", n, fsys.Broken())
			}
			fsys.Break(ledgertest.Fault{})
			for n := 1; ; n++ {
				fsys.Break(ledgertest.Fault{Op: ledgertest.Read | ledgertest.OpenOld | ledgertest.List, N: n})
				_, err := e.Entries(1, m.last(), 1<<20)
				if fsys.Broken() == 0 {
					break
				}
				if !errors.Is(err, syscall.EIO) || errors.Is(err, ledger.ErrCorrupt) || fsys.OpenFiles() != 2 {
					t.Fatalf("read %d of Entries failed: %v, %d files are open", n, err, fsys.OpenFiles())
				}
			}
			fsys.Break(ledgertest.Fault{})
			m.check(t, "at the end", e)
			return
		}
		if !errors.Is(err, syscall.EIO) || errors.Is(err, ledger.ErrCorrupt) || fsys.OpenFiles() != 0 {
			t.Fatalf("read %d failed: %v, %d files are open", n, err, fsys.OpenFiles())
		}
	}
}

// A full disk ends a Save, says so, and what was saved is there when there is room.
func TestEntryLogDiskFull(t *testing.T) {
	for seed := range uint64(20) {
		fsys := ledgertest.NewFS(seed)
		fsys.LimitSpace(2*ledger.BlockBytes + ledger.SegmentBytesMin - 1)
		if _, err := ledger.OpenEntryLog(testDir, entryOptions(fsys), nil); !ledger.IsNoSpace(err) {
			t.Fatalf("without room for a segment: %v", err)
		}
		fsys.LimitSpace(2*ledger.BlockBytes + 3*ledger.SegmentBytesMin)
		l := newEntryLives(t, seed, fmt.Sprintf("seed %d", seed))
		l.fsys, l.o.FS = fsys, fsys
		e := l.open()
		for i := uint64(1); ; i++ {
			s := entrySave{ledger.State{Term: 1, Commit: i / 2}, smallEntries(i, 1, 900)}
			if err := e.Save(s.state, s.entries); err != nil {
				if full := (*ledger.NoSpaceError)(nil); !errors.As(err, &full) || !errors.Is(err, ledger.ErrFailed) || i < 8 {
					t.Fatalf("entry %d: %v", i, err)
				}
				l.pending = &s
				break
			}
			l.durable = min(l.m.last(), l.durable)
			l.m = l.m.after(s)
		}
		l.commit = 0
		l.end(seed%2 == 0)
		fsys.LimitSpace(-1)
		l.finish(l.open())
	}
}

// FuzzState opens a log with arbitrary bytes as its state: the two slots, one behind the other,
// with and without checksums made to fit. There is no panic; what opens has a state that the bytes
// hold, and entries that were saved.
func FuzzState(f *testing.F) {
	pristine, m := damagedLog(f)
	const slotBytes = 84
	state := pristine[ledger.StateName]
	whole := slices.Concat(state[:slotBytes], state[ledger.BlockBytes:][:slotBytes])
	f.Add(whole, false)
	f.Add(whole, true)
	f.Add(whole[:slotBytes], true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, slots []byte, repair bool) {
		slots = append(slices.Clone(slots), make([]byte, max(0, 2*slotBytes-len(slots)))...)
		data := make([]byte, 2*ledger.BlockBytes)
		for i := range 2 {
			slot := slots[i*slotBytes:][:slotBytes]
			if repair { // fuzzing rarely finds a checksum
				copy(slot, whole[:12])
				binary.LittleEndian.PutUint32(slot[80:], ledger.Checksum32(slot[:80]))
			}
			copy(data[i*ledger.BlockBytes:], slot)
		}
		files := pristine.clone()
		files[ledger.StateName] = data
		state, last, err := reopenEntries(t, files, m)
		switch {
		case err != nil:
			if !errors.Is(err, ledger.ErrCorrupt) && !errors.Is(err, ledger.ErrVersion) && !errors.Is(err, ledger.ErrForeign) {
				t.Fatal(err)
			}
			return
		case state.Commit > last || state.Term < m.term(last):
			t.Fatalf("%+v with %d entries", state, last)
		}
		for i := range 2 {
			slot := data[i*ledger.BlockBytes:]
			if binary.LittleEndian.Uint64(slot[36:]) == state.Term && binary.LittleEndian.Uint64(slot[44:]) == state.Vote {
				return
			}
		}
		t.Fatalf("%+v is in neither slot", state)
	})
}

// FuzzEntryDamage damages a log as the input says, as FuzzDamage does. Whatever is done, a log that
// opens holds a beginning of the entries that were saved; all that were promised if the first slot
// of its state, the newer one, is what it was.
func FuzzEntryDamage(f *testing.F) {
	pristine, m := damagedLog(f)
	names := pristine.names()
	f.Add(false, []byte{})
	f.Add(false, []byte{2, 100, 0, 1, 0})
	f.Add(true, []byte{2 | 1<<2, 0, 2, 0, 2})
	f.Add(false, []byte{3, 40, 0, 1, 0, 3, 40, 16, 1, 0})
	f.Add(false, []byte{4 << 2, 0, 0, 0, 0})
	f.Add(false, []byte{2 | 1<<2, 0, 0, 255, 255})
	f.Add(false, []byte{3 | 3<<2, 0, 0, 84, 0})
	shared := func() []byte { // the state while all but three entries were written together
		fsys := ledgertest.NewFS(1)
		e := mustOpenEntries(f, entryOptions(fsys))
		if err := e.Save(ledger.State{Term: 2, Vote: 3, Commit: 3}, m.entries[:3]); err != nil {
			f.Fatal(err)
		}
		fsys.Break(ledgertest.Fault{Op: ledgertest.Write, N: 2, Dead: true}) // the first is the state's
		if err := e.Save(ledger.State{}, m.entries[3:]); err == nil {
			f.Fatal("the write failed, Save didn't")
		}
		fsys.Kill()
		return imageOf(fsys)[ledger.StateName]
	}()
	if _, last, err := reopenEntries(f, pristine.with(ledger.StateName, shared), m); err != nil || last != m.last() {
		f.Fatalf("%d entries, %v", last, err)
	}
	f.Fuzz(func(t *testing.T, together bool, edits []byte) {
		files, promised := pristine.clone(), m.last()
		if together {
			files, promised = pristine.with(ledger.StateName, shared), 3
		}
		newer := slices.Clone(files[ledger.StateName][:84])
		for ; len(edits) >= 5; edits = edits[5:] {
			name := names[edits[0]&3]
			data, there := files[name]
			if !there {
				continue
			}
			argument := int(binary.LittleEndian.Uint16(edits[3:]))
			offset := min(int(binary.LittleEndian.Uint16(edits[1:])), len(data))
			end := min(offset+argument, len(data))
			switch edits[0] >> 2 & 7 {
			case 0: // change two bytes
				for i, b := range data[offset:min(offset+2, len(data))] {
					data[offset+i] = b ^ edits[3+i]
				}
			case 1: // a stretch of zeros
				clear(data[offset:end])
			case 2: // cut
				files[name] = data[:offset]
			case 3: // a stretch of another file
				other := files[names[(edits[0]+1)&3]]
				copy(data[offset:end], other[min(offset, len(other)):])
			case 4:
				delete(files, name)
			}
		}
		_, last, err := reopenEntries(t, files, m)
		if err != nil {
			if !errors.Is(err, ledger.ErrCorrupt) && !errors.Is(err, ledger.ErrVersion) && !errors.Is(err, ledger.ErrNone) {
				t.Fatal(err)
			}
			return
		}
		state := files[ledger.StateName]
		if len(state) >= 84 && slices.Equal(state[:84], newer) && last < promised {
			t.Fatalf("%d entries, %d were promised", last, promised)
		}
	})
}
