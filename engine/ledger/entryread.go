package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// EntryTail is what is known of the entries of a ledger that several servers keep.
type EntryTail struct {
	Shared    bool   // whether it is such a ledger
	State            // as it was saved; Commit may be behind what is committed, never ahead
	LastIndex uint64 // of the last entry; without opening the ledger, of one that was durable
}

// entryWalk follows the entries of a replay, with the replayer's own visit in place of the
// caller's.
type entryWalk struct {
	p     *replayer
	state *stateSlot
	visit func(Record) error // of the caller: for committed records
	all   bool               // whether to go on behind the committed entries, and index them all

	index        entryIndex // of whole entries; without all, only its end is kept
	segmentBytes int64      // as the first segment has it
	file         string     // of the segment that the last record stands in
	whole        bool       // whether nothing stands behind the index's end

	newest uint64    // index of the newest entry that has begun
	term   uint64    // its
	mark   entryMark // where it stands
	count  uint64    // how many records it has, its mark included
	kind   Kind      // of the newest record
	left   uint64    // how many of these are still to come
}

// follow makes the replayer one of a ledger that several servers keep.
func (p *replayer) follow(state *stateSlot) *entryWalk {
	p.version = entryVersion
	p.walk = &entryWalk{p: p, state: state, visit: p.visit}
	p.visit = p.walk.record
	return p.walk
}

// shared is what a replay does that meets the state of a ledger that several servers keep. The
// state is read before the segments are listed, so that it is never ahead of them.
func (p *replayer) shared() (segments []uint64, err error) {
	if !p.anyKeeper {
		return nil, fmt.Errorf("%w: %s", ErrShared, p.dir)
	}
	found, err := readState(p.fsys, p.dir)
	if err != nil {
		return nil, err
	}
	if segments, err = p.segments(); err != nil {
		return nil, err
	}
	if !found.intact && (!found.blank || len(segments) > 0) {
		return nil, p.noState(found)
	}
	p.follow(&found.slot)
	return segments, nil
}

// noState refuses a log without a state.
func (p *replayer) noState(found foundState) error {
	reason := "the state is damaged, and with it what this server has promised"
	if !found.exists {
		reason = "the state is missing, and with it what this server has promised"
	}
	return &CorruptError{File: filepath.Join(p.dir, stateName), Seq: 1, Reason: reason + rejoin}
}

// rejoin is what a server has to do that has lost what it promised.
const rejoin = ": it must not go on under its id; add it to the cluster anew, " +
	"under a new id and with an empty directory"

// otherVersion refuses a segment that isn't of the version expected.
func (p *replayer) otherVersion(path string, version uint32) error {
	switch {
	case version == entryVersion && p.anyKeeper:
		return p.noState(foundState{})
	case version == entryVersion:
		return fmt.Errorf("%w: %s", ErrShared, path)
	case version == formatVersion:
		return fmt.Errorf("%w: %s", ErrNotShared, path)
	}
	return versionError(path, version)
}

// enter checks what only the header of a segment that several servers keep has.
func (w *entryWalk) enter(path string, h *segmentHeader) error {
	p := w.p
	size := int64(h.segmentBytes)
	if p.next == 1 {
		w.segmentBytes = size
	}
	switch {
	case h.id != w.state.id:
		return p.corrupt(filepath.Join(p.dir, stateName), fmt.Sprintf(
			"the state belongs to another ledger: its id is %x, the segments' is %x", w.state.id, h.id))
	case size < SegmentBytesMin || size > SegmentBytesMax || size%BlockBytes != 0 || size != w.segmentBytes:
		return p.corrupt(path, fmt.Sprintf("segments of %d bytes, after some of %d: no server writes such",
			h.segmentBytes, w.segmentBytes))
	}
	return nil
}

// record takes the next record, which is intact: it stands at the reader's offset, and the
// replayer's chain value is that before it.
func (w *entryWalk) record(r Record) error {
	p := w.p
	if w.file != p.tail.File {
		w.segment(r.Seq)
	}
	switch {
	case r.Seq == 1:
		if r.Kind == Mark {
			return w.corrupt("an entry stands where the first record belongs")
		}
	case w.left == 0:
		if err := w.begin(r); err != nil {
			return err
		}
	case r.Kind == Mark:
		return w.corrupt(fmt.Sprintf("entry %d lacks %d of its %d records", w.newest, w.left, w.count))
	default:
		w.left--
	}
	w.kind = r.Kind
	if w.newest <= w.state.Commit {
		if err := w.visit(r); err != nil {
			return err
		}
	}
	if w.left == 0 {
		w.complete(r)
	}
	return nil
}

// segment notes that the record with that number is the first of its segment.
func (w *entryWalk) segment(first uint64) {
	p := w.p
	w.file = p.tail.File
	entry := w.newest + 1
	w.index.segments = append(w.index.segments, segmentRun{
		first: first, entry: entry,
		start: p.tail.Bytes - int64(p.tail.Segments-1)*segmentHeaderBytes,
	})
}

// begin takes an entry's mark.
func (w *entryWalk) begin(r Record) error {
	p := w.p
	index, term, ok := parseMark(r)
	switch {
	case !ok:
		return w.corrupt("an entry's mark belongs here")
	case index != w.newest+1:
		return w.corrupt(fmt.Sprintf("entry %d stands where entry %d belongs", index, w.newest+1))
	case term < w.term:
		return w.corrupt(fmt.Sprintf("entry %d is of term %d, the one before of term %d", index, term, w.term))
	case term > w.state.Term:
		return w.corrupt(fmt.Sprintf("entry %d is of term %d, but the state is of term %d, "+
			"so it has lost what this server promised", index, term, w.state.Term) + rejoin)
	}
	w.index.end.chain = p.chain // now that it is known
	segment := w.index.segments[len(w.index.segments)-1]
	w.mark = entryMark{uint32(p.r.offset), uint32(r.Seq - segment.first), p.chain}
	w.newest, w.term = index, term
	w.count = uint64(r.Count)
	w.left = w.count - 1
	last := r.Seq + w.left
	if w.state.cutting && index == w.state.last || !w.all && index == w.state.Commit {
		p.through = last
	}
	return nil
}

// together reports whether the next record, which is not intact, shares its sync with all that
// follows. Then none of that proves that the record was durable.
func (w *entryWalk) together() bool {
	entry := w.newest
	if w.left == 0 {
		entry++
	}
	return w.state.together && entry > w.state.last
}

// complete notes that an entry, or the first record, ends with r.
func (w *entryWalk) complete(r Record) {
	p := w.p
	end := entryPlace{
		segment: len(w.index.segments) - 1,
		offset:  p.r.offset + int64(RecordBytes(len(r.Payload))),
		next:    r.Seq + 1,
	}
	switch {
	case r.Seq == 1:
		w.index.end = end
		if w.state.cutting && w.state.last == 0 || !w.all && w.state.Commit == 0 {
			p.through = 1
		}
	case w.all:
		w.index.add(w.term, w.mark, w.count == 2 && w.kind == Members, end)
	default:
		w.index.end = end
	}
}

// finish checks, at the end of a replay, that the log goes as far as the state says, with the chain
// values that it says, and tells what was found in the replayer's tail.
func (w *entryWalk) finish() error {
	p := w.p
	end := &w.index.end
	if p.tail.Seq+1 == end.next {
		end.chain = p.chain
	}
	made := end.next > 1
	p.tail.Entries = EntryTail{Shared: true, State: w.state.State, LastIndex: w.state.last}
	last, promised := w.newest, w.state.last
	if w.left > 0 {
		last--
	}
	if !w.all {
		promised = w.state.Commit
	}
	if !made && !w.state.promisesNothing() {
		return p.short("this server has promised something, and the log has not even its first record" + rejoin)
	}
	if last < promised {
		return p.short(fmt.Sprintf("this server has promised the log through entry %d, and it ends at entry %d: "+
			"a segment was removed or cut short", promised, last) + rejoin)
	}
	if w.all {
		p.tail.Entries.LastIndex = last
		s := w.state
		if s.Commit > 0 && w.index.chain(s.Commit) != s.commitChain ||
			s.last > 0 && w.index.chain(s.last) != s.lastChain {
			return p.short(fmt.Sprintf("entries %d and %d are not those that this server has promised: "+
				"the log or the state is from another copy", s.Commit, s.last) + rejoin)
		}
	} else if promised > 0 && end.chain != w.state.commitChain {
		return p.short(fmt.Sprintf("entry %d is not the one that was committed: "+
			"the log or the state is from another copy", promised))
	}
	if !made {
		return nil
	}
	if w.left > 0 && !p.tail.Torn {
		p.tail.Torn = true
		p.tail.Reason = fmt.Sprintf("entry %d lacks %d of its %d records", w.newest, w.left, w.count)
	}
	w.index.segments = w.index.segments[:end.segment+1]
	segment := w.index.segments[end.segment]
	file := filepath.Join(p.dir, segmentName(segment.first))
	w.whole = !p.tail.Torn && p.tail.File == file && p.tail.Offset == end.offset
	p.tail.File, p.tail.Offset = file, end.offset
	p.tail.Seq, p.tail.Segments = end.next-1, end.segment+1
	p.tail.Bytes = segment.start + int64(end.segment)*segmentHeaderBytes + end.offset
	return nil
}

func (w *entryWalk) corrupt(reason string) error { return w.p.corrupt(w.p.tail.File, reason) }

// parseMark reads an entry's mark.
func parseMark(r Record) (index, term uint64, ok bool) {
	if r.Kind != Mark || r.Agency != 0 || r.Count == 0 {
		return 0, 0, false
	}
	before, after, _ := bytes.Cut(r.Payload, []byte{' '})
	index, errIndex := strconv.ParseUint(string(before), 10, 64)
	term, errTerm := strconv.ParseUint(string(after), 10, 64)
	var text [markBytesMax]byte
	ok = errIndex == nil && errTerm == nil && index > 0 && term > 0 &&
		bytes.Equal(r.Payload, appendMark(text[:0], index, term)) // there is one way to write it
	return index, term, ok
}

// committed implements holder: it is what Scan reads.
func (e *EntryLog) committed() (seq uint64, chain uint32, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0, 0, errClosed
	}
	return e.index.behind(e.saved.Commit).next - 1, e.index.chain(e.saved.Commit), nil
}

// Scan visits the records of the entries that are committed, as far as the state that was saved
// last says, from the first record on. Entries' marks are visited, too, as records of the kind
// [Mark]. It is otherwise as [Ledger.Scan].
func (e *EntryLog) Scan(visit func(Record) error) (Tail, error) {
	p := newReplayer(e.l.fsys, e.l.dir, visit)
	p.version = entryVersion
	p.holder = e
	state, last := e.State(), e.LastIndex() // before the replay, lest the tail says less than was visited
	err := p.replay()
	p.tail.Entries = EntryTail{Shared: true, State: state, LastIndex: last}
	return p.tail, err
}

// Entries reads entries back from the disk: from index first on, in order, up to last, both
// included, 1 <= first <= last <= LastIndex. It returns as many as have no more than bytesMax bytes
// of records in all, but at least one. They are the caller's, and as they were saved: packed,
// without a place in the log.
//
// Everything read is checked against the checksums and the chain. A Save that cuts entries off
// waits for it, no other does.
//
// Errors: those of the file system, and those that match [ErrNoEntry], or [ErrCorrupt]: what was
// saved is damaged. After Close it is one that matches [ErrFailed].
func (e *EntryLog) Entries(first, last uint64, bytesMax int) ([]Entry, error) {
	e.cuts.RLock()
	defer e.cuts.RUnlock()
	r, err := e.entryReader(first, last, bytesMax)
	if err != nil {
		return nil, err
	}
	if buf, ok := e.buffers.Get().(*[]byte); ok {
		r.r.buf = *buf
	}
	defer func() { e.buffers.Put(&r.r.buf) }()
	for i := range r.entries {
		if err := r.read(&r.entries[i]); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	if err := r.close(); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return r.entries, nil
}

// entryReader reads entries that follow each other.
type entryReader struct {
	*replayer
	entries  []Entry // with a buffer as large as their records
	segments []segmentRun
	ends     []int64 // of the segments, in their files
	offset   int64   // of the first entry in the first segment
	file     File    // nil while none is open
}

// entryReader prepares to read as many entries as bytesMax allows.
func (e *EntryLog) entryReader(first, last uint64, bytesMax int) (*entryReader, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := &e.index
	switch {
	case e.closed:
		return nil, errClosed
	case first == 0 || first > last || last > x.last():
		return nil, fmt.Errorf("%w: %d to %d, there are 1 to %d", ErrNoEntry, first, last, x.last())
	}
	at := x.at(first)
	r := &entryReader{replayer: newReplayer(e.l.fsys, e.l.dir, nil), offset: at.offset}
	r.next, r.chain = at.next, at.chain
	sum := 0
	var end entryPlace
	for index := first; index <= last; index++ {
		term := x.term(index)
		here := x.at(index)
		behind := x.behind(index)
		n := int(x.position(behind)-x.position(here)) - RecordBytes(len(appendMark(nil, index, term)))
		if sum += n; index > first && sum > bytesMax {
			break
		}
		r.entries = append(r.entries, Entry{Index: index, Term: term, Records: make([]byte, 0, n)})
		end = behind
	}
	for n := at.segment; n <= end.segment; n++ {
		r.segments = append(r.segments, x.segments[n])
		if n < end.segment {
			r.ends = append(r.ends, x.segmentEnd(n))
		}
	}
	r.ends = append(r.ends, end.offset)
	return r, nil
}

// markBytesMax is the longest payload of a mark.
const markBytesMax = 2*segmentDigits + 1

// appendMark appends the payload of an entry's mark.
func appendMark(dst []byte, index, term uint64) []byte {
	dst = strconv.AppendUint(dst, index, 10)
	return strconv.AppendUint(append(dst, ' '), term, 10)
}

// read fills in an entry's records.
func (r *entryReader) read(entry *Entry) error {
	mark, _, err := r.record()
	if err != nil {
		return err
	}
	if index, term, ok := parseMark(mark); !ok || index != entry.Index || term != entry.Term {
		return r.corrupt(r.tail.File, fmt.Sprintf("the mark of entry %d belongs here", entry.Index))
	}
	for range mark.Count - 1 {
		_, packed, err := r.record()
		if err != nil {
			return err
		}
		n := len(entry.Records)
		entry.Records = append(entry.Records, packed...)
		unplace(entry.Records[n:])
	}
	return nil
}

// record reads the next record; packed are all its bytes. Both are valid until the next one is
// read.
func (r *entryReader) record() (_ Record, packed []byte, err error) {
	if r.file == nil || r.r.offset == r.ends[0] {
		if err := r.open(); err != nil {
			return Record{}, nil, err
		}
	}
	h, payload, damage, err := r.look()
	if err != nil {
		return Record{}, nil, fmt.Errorf("ledger: %s: %w", r.tail.File, err)
	}
	if damage != nil {
		return Record{}, nil, r.corrupt(r.tail.File, damage.reason)
	}
	packed, err = r.r.peek(h.recordBytes()) // which is in the buffer
	if err != nil {
		return Record{}, nil, fmt.Errorf("ledger: %s: %w", r.tail.File, err)
	}
	r.r.skip(len(packed))
	r.next, r.chain = h.seq+1, h.chain
	return Record{Kind: h.kind, Agency: h.agency, Count: h.count, Seq: h.seq, Payload: payload}, packed, nil
}

// open goes to the next segment, or the first.
func (r *entryReader) open() error {
	offset := r.offset
	if r.file != nil {
		if len(r.segments) == 1 {
			return r.corrupt(r.tail.File, "the entry has more records than were saved")
		}
		if err := r.close(); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		r.segments, r.ends = r.segments[1:], r.ends[1:]
		offset = segmentHeaderBytes
	}
	r.tail.File = filepath.Join(r.dir, segmentName(r.segments[0].first))
	file, err := r.fsys.OpenFile(r.tail.File, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	r.file = file
	if err := r.r.reset(file); err != nil {
		return fmt.Errorf("ledger: %s: %w", r.tail.File, err)
	}
	r.r.seek(offset)
	return nil
}

func (r *entryReader) close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}
