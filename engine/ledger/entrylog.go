package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
)

var (
	// ErrShared says that the directory holds a ledger that several servers keep, which only
	// [OpenEntryLog] opens.
	ErrShared = errors.New("ledger: several servers keep it: " +
		"start this one as a member of its cluster")

	// ErrNotShared says that the directory holds a single server's ledger, which [OpenEntryLog]
	// doesn't open.
	ErrNotShared = errors.New("ledger: a single server keeps it: " +
		"use another directory for a member of a cluster")

	// ErrForeign says that the directory holds the ledger of another cluster.
	ErrForeign = errors.New("ledger: it belongs to another cluster: " +
		"use that one's settings, or another directory")

	// ErrNone says that the directory holds no ledger, and [EntryOptions] don't say to make one.
	ErrNone = errors.New("ledger: there is none in the directory: restore it, " +
		"or add this server to the cluster anew, under a new id")

	// ErrCommitted says that entries were to replace one that is committed.
	ErrCommitted = errors.New("ledger: a committed entry can't be replaced")

	// ErrGap says that entries don't follow each other, or the last one.
	ErrGap = errors.New("ledger: entries would be missing")

	// ErrBackwards says that a state, or a term, would go back behind what was promised.
	ErrBackwards = errors.New("ledger: a promise would be taken back")

	// ErrRecords says that an entry's records aren't packed records.
	ErrRecords = errors.New("ledger: an entry must hold whole packed records, no marks, " +
		"and a membership only alone")

	// ErrNoEntry says that there is no entry with that index.
	ErrNoEntry = errors.New("ledger: no such entry")
)

// Entry is one group of a log that several servers keep.
type Entry struct {
	Index uint64 // from 1, without gaps
	Term  uint64 // of the leader that made the entry; from 1, and never less than the entry's before
	// Records are packed records, back to back, as [AppendRecord] packs them. There may be none.
	Records []byte
}

// togetherMin is how many entries a Save must have for them to share a sync. To say so in the state
// takes one, too, and to say later that it is over takes another.
const togetherMin = 4

// EntryOptions are the settings of [OpenEntryLog].
type EntryOptions struct {
	// FS holds the ledger; nil stands for Disk.
	FS FS

	// SegmentBytes and ReserveBytes are as in [Options]. All servers of a cluster need the same
	// SegmentBytes, or else their ledgers differ. It counts only for a new ledger, which keeps it.
	SegmentBytes int64
	ReserveBytes int64

	// ID is the ledger's id, the same for all servers of a cluster, and for no other.
	ID [16]byte

	// Create says to make a ledger where there is none, and to go on where making one was
	// interrupted. A server that has been a member before must not: it has promised something.
	Create bool

	// First is the packed first record of a ledger that is made. It belongs to no entry and counts
	// as committed. All servers of a cluster need the same. Who replays a ledger compares it.
	First []byte
}

// EntryLog is a ledger that several servers keep, as one of them has it: an open log of entries,
// and the server's state. "A ledger that several servers keep" in the package comment is about it.
//
// Save, Seal and Close belong to one goroutine. Any goroutine may call the other methods, also
// beside those. Beside a Save they see the log as it was before, or after it, or in between.
type EntryLog struct {
	l     *Ledger
	state *stateFile
	found Tail

	err error // once set, Save and Seal do nothing but return it

	// What the entries that are being written have so far; only Save's goroutine uses it.
	segments []segmentRun   // that were begun
	written  []writtenEntry // whole, and not synced
	newest   uint64         // index of the entry whose mark is written next
	mark     []byte
	header   []byte

	cuts    sync.RWMutex // held for writing while entries are cut off, for reading by who reads them
	buffers sync.Pool    // of *[]byte, which Entries reads with

	mu     sync.Mutex
	index  entryIndex // guarded by mu; only durable entries
	saved  State      // guarded by mu
	closed bool       // guarded by mu
}

// OpenEntryLog locks the directory, reads the state, replays the log, cuts off what an interrupted
// Save left behind, and makes all that it found durable: a promise from then on.
//
// visit is called for every record of the committed entries in order, marks included, as far as the
// state knows them to be committed; it may be nil. Its error ends OpenEntryLog, before anything was
// changed, and is returned as it is. The payload is valid only during the call.
//
// Errors: those of visit and of the file system, those that match [ErrLocked], [ErrCorrupt],
// [ErrVersion], [ErrNotShared], [ErrForeign] or [ErrNone], and [*NoSpaceError]. A log that lacks
// what the state says was durable is corrupt, and so are a state without a log and a log without a
// state.
func OpenEntryLog(dir string, o EntryOptions, visit func(Record) error) (_ *EntryLog, err error) {
	own := Options{FS: o.FS, SegmentBytes: o.SegmentBytes, ReserveBytes: o.ReserveBytes}
	segmentBytes, err := own.segmentBytes()
	if err != nil {
		return nil, err
	}
	reserveBytes, err := own.reserveBytes()
	if err != nil {
		return nil, err
	}
	if n, whole := countRecords(o.First); o.Create && (n != 1 || !whole) {
		return nil, fmt.Errorf("%w: a new ledger needs one first record", ErrRecords)
	}
	e := &EntryLog{l: &Ledger{
		fsys: own.fileSystem(), dir: filepath.Clean(dir),
		segmentBytes: segmentBytes, reserveBytes: reserveBytes,
		version: entryVersion, id: o.ID,
		out: NewAppender(true),
	}}
	e.l.begun = e.segmentBegun
	if o.Create {
		if err := e.l.fsys.MkdirAll(e.l.dir); err != nil {
			return nil, fmt.Errorf("ledger: %w", e.l.noSpace(nil, e.l.reservation(segmentHeaderBytes), err))
		}
	}
	if e.l.lock, err = e.l.fsys.Lock(filepath.Join(e.l.dir, lockName)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", ErrNone, err)
		}
		return nil, fmt.Errorf("open %s: %w", e.l.dir, err)
	}
	defer func() {
		if err != nil {
			joinInto(&err, e.release())
		}
	}()
	if err := e.open(o, visit); err != nil {
		return nil, err
	}
	return e, nil
}

// open does what is left to do in a locked directory.
func (e *EntryLog) open(o EntryOptions, visit func(Record) error) error {
	state, err := readState(e.l.fsys, e.l.dir)
	if err != nil {
		return err
	}
	p := newReplayer(e.l.fsys, e.l.dir, visit)
	p.version = entryVersion
	w := p.follow(&state.slot)
	w.all = true
	segments, err := p.segments()
	if err != nil {
		return err
	}
	switch {
	case !state.exists && len(segments) == 0, state.exists && state.blank && len(segments) == 0:
		if !o.Create {
			return fmt.Errorf("%w: %s", ErrNone, e.l.dir)
		}
		state.slot.id = o.ID // of a state that promises nothing
	case !state.intact:
		first := filepath.Join(e.l.dir, segmentName(1))
		h, intact, err := readHeader(e.l.fsys, first)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("ledger: %w", err)
		}
		if !state.exists && intact && h.version == formatVersion {
			return fmt.Errorf("%w: %s", ErrNotShared, first)
		}
		return p.noState(state)
	case state.slot.id != o.ID:
		return fmt.Errorf("%w: the id of %s is %x, the cluster's is %x", ErrForeign, e.l.dir, state.slot.id, o.ID)
	}
	if err := p.replay(); err != nil {
		return err
	}
	if err := w.finish(); err != nil {
		return err
	}
	e.found = p.tail
	if err := e.recover(p, &state, segments, o); err != nil {
		return fmt.Errorf("ledger: recovering %s: %w", e.l.dir, err)
	}
	return nil
}

// recover makes durable what the replay found, and the rest vanish, in an order that a crash may
// interrupt anywhere. It makes a ledger where there is none, or goes on making one.
func (e *EntryLog) recover(p *replayer, state *foundState, segments []uint64, o EntryOptions) (err error) {
	l, w := e.l, p.walk
	made := w.index.segments != nil && w.index.end.next > 1 // then the first record is there
	if !made && !o.Create {
		return ErrNone // nothing was promised yet
	}
	if e.state, err = openState(l.fsys, l.dir, state.exists); err != nil {
		return l.noSpace(nil, stateBytes, err)
	}
	e.state.slot = state.slot
	if !made {
		if err := e.state.file.Allocate(stateBytes); err != nil {
			return l.noSpace(e.state.file, stateBytes, err)
		}
	}
	// The state comes first: a new log without one would have lost it, and what is cut off on its
	// word may be missed if only the operating system's memory has that word.
	if err := e.state.promise(state.slot); err != nil {
		return err
	}
	if !made {
		if err := e.state.file.Sync(); err != nil {
			return err
		}
	}
	gone := segments
	for made && len(gone) > 0 && gone[0] < w.index.end.next {
		gone = gone[1:]
	}
	if err := e.remove(gone); err != nil {
		return err
	}
	// The process before us may have ended between creating a file and syncing its name.
	if err := l.fsys.SyncDir(l.dir); err != nil {
		return err
	}
	if !made {
		return e.create(o.First)
	}
	e.index = w.index
	l.segmentBytes = w.segmentBytes
	last := e.index.last()
	newest := last // entries from this one on may not be durable
	if state.slot.together {
		newest = min(last, state.slot.last+1)
	}
	if err := e.reopen(p, !w.whole || state.slot.cutting, newest); err != nil {
		return err
	}
	e.saved = state.slot.State
	return e.state.promise(e.promised(e.saved))
}

// create begins a new log.
func (e *EntryLog) create(first []byte) error {
	l := e.l
	// As in Ledger.create.
	parent := filepath.Dir(l.dir)
	if err := l.fsys.SyncDir(parent); err != nil {
		return err
	}
	if err := l.fsys.SyncDir(filepath.Dir(parent)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	l.next, l.chain = 1, l.id.chainStart()
	e.newest = 1
	if err := l.begin(segmentHeaderBytes); err != nil {
		return err
	}
	if err := e.write(first); err != nil {
		return err
	}
	if err := e.sync(); err != nil {
		return err
	}
	e.index = entryIndex{segments: slices.Clone(e.segments), end: e.end()}
	return nil
}

// reopen makes the segment in which the last entry ends ready for more. cut says that something may
// stand behind that entry. What the segment has of the entries from newest on is written once more.
// p has a buffer to read with.
func (e *EntryLog) reopen(p *replayer, cut bool, newest uint64) error {
	l, end := e.l, e.index.end
	segment := e.index.segments[end.segment]
	p.tail.File = filepath.Join(l.dir, segmentName(segment.first))
	p.tail.Offset, p.tail.Torn = end.offset, cut
	p.tail.Segments = end.segment + 1
	p.tail.Bytes = segment.start + int64(end.segment)*segmentHeaderBytes + end.offset
	p.groupOffset = segmentHeaderBytes
	if newest > 0 {
		if at := e.index.at(newest); at.segment == end.segment {
			p.groupOffset = at.offset
		}
	}
	l.next, l.chain = end.next, end.chain
	return l.reopen(p)
}

// Recovered tells where OpenEntryLog found the end of the log, and whether it had to cut something
// off there. Its Entries have the state that was found.
func (e *EntryLog) Recovered() Tail { return e.found }

// State returns the state that was saved last. After an opening, its Commit may be behind what was
// saved beside entries: that needn't survive a crash of the machine.
func (e *EntryLog) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.saved
}

// LastIndex is the index of the last durable entry; 0 if there is none.
func (e *EntryLog) LastIndex() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.index.last()
}

// TermOf is the term of an entry, and 0 for the index 0. It reads nothing. An error matches
// [ErrNoEntry].
func (e *EntryLog) TermOf(index uint64) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if index > e.index.last() {
		return 0, noEntry(index, e.index.last())
	}
	return e.index.term(index), nil
}

// LastMembers is the index of the last entry through last that holds a record of the kind
// [Members]; 0 if none does. It reads nothing.
func (e *EntryLog) LastMembers(last uint64) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.index.lastMembers(last)
}

// ChainAt is the chain value behind an entry, and for the index 0 that behind the first record. Two
// servers with the same value there have, but for a chance of 1 in 4 billion, the same log up to
// there, byte for byte. It reads nothing. An error matches [ErrNoEntry].
func (e *EntryLog) ChainAt(index uint64) (uint32, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if index > e.index.last() {
		return 0, noEntry(index, e.index.last())
	}
	return e.index.chain(index), nil
}

func noEntry(index, last uint64) error {
	return fmt.Errorf("%w: %d, the last one is %d", ErrNoEntry, index, last)
}

// Save makes the state and the entries durable, and returns when they are. From four entries on,
// they share one sync. The entries' indices have no gaps. They replace all entries from the first
// one's index on; without entries the log stays as it is. The zero State stands for the one that
// was saved last. Beside entries, its Commit is written, but not synced: it is a hint, which a crash of
// the machine may set back, but not behind the last change of the term or the vote, nor behind the
// last Save without entries. The entries themselves are as durable as any.
//
// The entries and their records stay the caller's, who may read them meanwhile: nothing is changed
// in them, nor kept. Records that are complete, because they come from another ledger, will do as
// well. Their payloads aren't checked against their checksums.
//
// A Save that is refused has changed nothing: [ErrCommitted], if the entries would replace one that
// the last saved Commit covers; [ErrGap], if they aren't consecutive, begin more than one behind
// the last, or end before the new Commit; [ErrBackwards], if the term or Commit would fall, the
// vote change within a term, a term fall from one entry to the next or be higher than the state's;
// [ErrRecords]. Any other error is final and matches [ErrFailed], as one of [Ledger.Commit]. What
// of the Save is in the log is then unknown until the directory is opened anew.
//
// A crash during Save leaves nothing of it; or the new state, Commit perhaps excepted, and of the
// log either the old one, or what comes before the new entries and any number of these, from the
// first one on, each whole.
func (e *EntryLog) Save(state State, entries []Entry) error {
	if e.err != nil {
		return e.err
	}
	old, last := e.State(), e.LastIndex()
	if state == (State{}) {
		state = old
	}
	keep, err := e.check(old, state, last, entries)
	if err != nil {
		return err
	}
	if err := e.save(old, state, keep < last, keep, entries); err != nil {
		e.err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return e.err
}

// check refuses what may not be saved. keep is the last entry that isn't replaced.
func (e *EntryLog) check(old, state State, last uint64, entries []Entry) (keep uint64, err error) {
	switch {
	case state.Term < old.Term || state.Commit < old.Commit:
		return 0, fmt.Errorf("%w: from %+v to %+v", ErrBackwards, old, state)
	case state.Term == old.Term && state.Vote != old.Vote && old.Vote != 0:
		return 0, fmt.Errorf("%w: a second vote in term %d, for %d after %d",
			ErrBackwards, state.Term, state.Vote, old.Vote)
	case len(entries) > 0 && (entries[0].Index == 0 || entries[0].Index > last+1):
		return 0, fmt.Errorf("%w: entry %d behind the last one, %d", ErrGap, entries[0].Index, last)
	case len(entries) > 0 && entries[0].Index <= old.Commit:
		return 0, fmt.Errorf("%w: entry %d, %d are committed", ErrCommitted, entries[0].Index, old.Commit)
	}
	keep, end := last, last
	if len(entries) > 0 {
		keep = entries[0].Index - 1
		end = keep + uint64(len(entries))
	}
	if state.Commit > end {
		return 0, fmt.Errorf("%w: %d are committed, the last is %d", ErrGap, state.Commit, end)
	}
	if len(entries) == 0 {
		return keep, nil
	}
	term, err := e.TermOf(keep)
	if err != nil {
		return 0, err
	}
	for i, entry := range entries {
		switch _, whole := countRecords(entry.Records); {
		case entry.Index != keep+1+uint64(i):
			return 0, fmt.Errorf("%w: entry %d in place of %d", ErrGap, entry.Index, keep+1+uint64(i))
		case entry.Term < max(term, 1) || entry.Term > state.Term:
			return 0, fmt.Errorf("%w: entry %d of term %d, after one of term %d and in term %d",
				ErrBackwards, entry.Index, entry.Term, term, state.Term)
		case !whole:
			return 0, fmt.Errorf("%w: entry %d", ErrRecords, entry.Index)
		}
		term = entry.Term
	}
	return keep, nil
}

// save writes what was checked: the state before the entries, so that no entry is ever of a later
// term than the state.
func (e *EntryLog) save(old, state State, cut bool, keep uint64, entries []Entry) error {
	if cut || state.Term != old.Term || state.Vote != old.Vote {
		early := e.promisedThrough(state, keep)
		early.cutting = cut
		if err := e.state.promise(early); err != nil {
			return err
		}
		if cut {
			if err := e.cut(keep); err != nil {
				return err
			}
			// Not earlier, lest what is left of a cut is taken for the log; nor later, lest what is
			// written now is cut off.
			early.cutting = false
			if err := e.state.promise(early); err != nil {
				return err
			}
		}
	}
	if len(entries) == 0 {
		e.setSaved(state)
		return e.sealed()
	}
	share := 1 // how many entries share a sync
	if len(entries) >= togetherMin {
		share = len(entries)
	}
	if together := share > 1; together || e.state.together {
		early := e.promisedThrough(state, keep)
		early.together = together
		if err := e.state.announce(early); err != nil {
			return err
		}
	}
	for ; len(entries) > 0; entries = entries[share:] {
		if err := e.append(entries[:share]); err != nil {
			return err
		}
	}
	e.setSaved(state)
	return e.state.hint(e.promised(state))
}

func (e *EntryLog) setSaved(state State) {
	e.mu.Lock()
	e.saved = state
	e.mu.Unlock()
}

// promised is the state as it is written when all entries are durable.
func (e *EntryLog) promised(state State) stateSlot {
	return e.promisedThrough(state, e.LastIndex())
}

// promisedThrough is the state as it is written when the entries through last are all that counts.
// It must not be ahead of the log.
func (e *EntryLog) promisedThrough(state State, last uint64) stateSlot {
	e.mu.Lock()
	defer e.mu.Unlock()
	state.Commit = min(state.Commit, last)
	return stateSlot{
		id: e.l.id, State: state, last: last,
		commitChain: e.index.chain(state.Commit), lastChain: e.index.chain(last),
	}
}

// cut cuts off all entries but those through keep. The state says so already, durably: from then on
// nobody looks at what stands behind them, however much of it a crash leaves.
func (e *EntryLog) cut(keep uint64) error {
	if err := e.l.standing(); err != nil {
		return err // rather than remove what is somebody else's by now
	}
	e.cuts.Lock()
	defer e.cuts.Unlock()
	e.mu.Lock()
	var gone []uint64
	for _, segment := range e.index.segments[e.index.behind(keep).segment+1:] {
		gone = append(gone, segment.first)
	}
	e.index.cut(keep)
	e.mu.Unlock()

	l := e.l
	live := l.live
	l.live = nil
	if err := live.Close(); err != nil {
		return err
	}
	if err := e.remove(gone); err != nil {
		return err
	}
	return e.reopen(newReplayer(l.fsys, l.dir, nil), true, keep)
}

// remove removes the newest segments, whose first sequence numbers are given in order. The newest
// goes first, and each durably before the next: a gap would be corruption. All are gone for good
// before anything is written that is to stand in their place.
func (e *EntryLog) remove(segments []uint64) error {
	l := e.l
	for _, first := range slices.Backward(segments) {
		if err := l.fsys.Remove(filepath.Join(l.dir, segmentName(first))); err != nil {
			return err
		}
		if err := l.fsys.SyncDir(l.dir); err != nil {
			return err
		}
	}
	return nil
}

// writtenEntry is what the index will have of an entry, once it is durable.
type writtenEntry struct {
	term    uint64
	mark    entryMark
	members bool
	end     entryPlace
}

// append writes entries, and syncs once.
func (e *EntryLog) append(entries []Entry) error {
	e.segments, e.written = e.segments[:0], e.written[:0]
	for _, entry := range entries {
		if err := e.writeEntry(entry); err != nil {
			return err
		}
	}
	if err := e.sync(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.index.segments = append(e.index.segments, e.segments...)
	for _, w := range e.written {
		e.index.add(w.term, w.mark, w.members, w.end)
	}
	return nil
}

func (e *EntryLog) writeEntry(entry Entry) error {
	l := e.l
	e.newest = entry.Index
	l.groupFirst = l.next // whether or not the one before is synced: no trace of that in the log
	n, _ := countRecords(entry.Records)
	var text [markBytesMax]byte
	e.mark = AppendRecord(e.mark[:0], Mark, 0, uint32(n+1), appendMark(text[:0], entry.Index, entry.Term))
	chain := l.chain
	if err := e.write(e.mark); err != nil {
		return err
	}
	mark := entryMark{
		offset: uint32(l.out.Offset() - int64(len(e.mark))),
		record: uint32(l.next - 1 - e.segment().first),
		chain:  chain,
	}
	e.newest = entry.Index + 1
	if err := e.write(entry.Records); err != nil {
		return err
	}
	e.written = append(e.written, writtenEntry{
		term: entry.Term, mark: mark, members: FirstKind(entry.Records) == Members, end: e.end(),
	})
	return nil
}

// segmentBegun notes a new segment of the entries that are being written.
func (e *EntryLog) segmentBegun() {
	l := e.l
	e.segments = append(e.segments, segmentRun{
		first: l.next, entry: e.newest,
		start: l.sealedBytes - int64(l.segments-1)*segmentHeaderBytes,
	})
}

// segment is the live one.
func (e *EntryLog) segment() segmentRun {
	if n := len(e.segments); n > 0 {
		return e.segments[n-1]
	}
	return e.index.segments[len(e.index.segments)-1]
}

// end is where the log ends.
func (e *EntryLog) end() entryPlace {
	l := e.l
	return entryPlace{segment: l.segments - 1, offset: l.out.Offset(), next: l.next, chain: l.chain}
}

// write completes and appends records as [Ledger.Commit] does, but in a copy of their headers: the
// leader sends the same bytes to the others meanwhile.
func (e *EntryLog) write(run []byte) error {
	l := e.l
	for len(run) > 0 {
		h := packedHeader(run)
		size := h.recordBytes()
		if l.out.Offset()+int64(size) > l.out.size {
			if err := l.makeRoom(int64(size)); err != nil {
				return err
			}
		}
		e.header = append(e.header[:0], run[:recordHeaderBytes]...)
		l.chain = complete(e.header, uint32(l.next-l.groupFirst), l.next, l.chain)
		l.next++
		if err := l.out.Append(e.header); err != nil {
			return err
		}
		if err := l.out.Append(run[recordHeaderBytes:size]); err != nil {
			return err
		}
		run = run[size:]
	}
	return nil
}

// sync makes durable what was written. The next record begins a group.
func (e *EntryLog) sync() error {
	if err := e.l.out.Flush(); err != nil {
		return err
	}
	return e.l.sync()
}

// countRecords counts the packed records of a run, and reports false if they aren't those of an
// entry: whole packed records, none of which is a mark, and a membership only if it is alone.
func countRecords(run []byte) (n int, whole bool) {
	for ; len(run) > 0; n++ {
		if len(run) < recordHeaderBytes {
			return n, false
		}
		h := decodeRecordHeader(run)
		if !h.lawful() || h.kind == Mark || h.recordBytes() > len(run) ||
			h.kind == Members && (n > 0 || h.recordBytes() < len(run)) {
			return n, false
		}
		run = run[h.recordBytes():]
	}
	return n, true
}

// Seal makes the state durable as it is, with Commit and with how far the log goes, and checks that
// the ledger is still in its directory. From then on a log that lacks any of its entries is
// refused.
//
// Any error is final and matches [ErrFailed]. One that also matches [ErrGone] says that the
// directory was removed, moved or replaced: then nothing may be called stored.
func (e *EntryLog) Seal() error {
	if e.err != nil {
		return e.err
	}
	if err := e.seal(); err != nil {
		e.err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return e.err
}

func (e *EntryLog) seal() error {
	if err := e.l.standing(); err != nil {
		return err
	}
	return e.sealed()
}

// sealed makes the state durable as it is.
func (e *EntryLog) sealed() error {
	next := e.promised(e.State())
	next.counter = e.state.base.counter
	if next == e.state.base {
		return nil
	}
	return e.state.promise(next)
}

// Close seals the ledger, as Seal does, unless it has failed, and releases the directory. Later
// Saves and Seals return ErrFailed; Entries and Scan, too. Closing again does nothing.
//
// An error that matches [ErrGone] says that the directory was removed, moved or replaced. It comes
// even after another failure.
func (e *EntryLog) Close() error {
	if e.l.lock == nil {
		return nil
	}
	var err error
	if e.err == nil {
		err = e.seal()
	} else {
		err = e.l.standing()
	}
	e.err = errClosed
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	if err = errors.Join(err, e.release()); err != nil {
		return fmt.Errorf("ledger: closing %s: %w", e.l.dir, err)
	}
	return nil
}

// release closes what is open; the lock last.
func (e *EntryLog) release() error {
	var err error
	if e.state != nil {
		err = e.state.file.Close()
		e.state = nil
	}
	return errors.Join(err, e.l.release())
}
