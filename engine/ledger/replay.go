package ledger

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// Stats says how much a ledger holds.
type Stats struct {
	Seq      uint64 // sequence number of the last record, which is also the number of records
	Bytes    int64  // of all segments, including headers, without unused reserved space
	Segments int
}

// Tail says where a log ends.
type Tail struct {
	Stats

	File   string // path of the segment that holds the end; empty if there is none yet
	Offset int64  // where in File the next record belongs, in bytes
	Torn   bool   // an unfinished write follows: Open cuts it off, or a running server is writing it
	Reason string // why the log ends at Offset, if Torn

	// Sealed says that there is a seal, intact or not. Seal creates it only after the records that
	// it is to cover are durable. So a log that lacks any of them was damaged, even if the seal
	// doesn't tell how far it goes.
	Sealed bool
	// SealedSeq is the last record that the seal covers. It is 0 without a seal, and if the seal is
	// unfinished or damaged, or a running server is just writing it.
	SealedSeq uint64

	// Entries is what is known of the entries of a ledger that several servers keep; see [EntryLog].
	// It is zero for a single server's.
	Entries EntryTail
}

// Scan replays a ledger as [Open] does, but only reads: it takes no lock, repairs nothing and
// creates nothing. It may run beside a server that is writing. Then it sees the log as it was at
// some moment since the call, and perhaps a part of the group that was being written. Any goroutine
// may call it.
//
// visit is called for every record in order, and may be nil. The record's payload is valid only
// during the call. visit's error ends the scan and is returned as it is. Only the option FS counts.
// A directory without segments is an empty log.
//
// Errors: those of visit and of the file system, and those that match [ErrCorrupt] or [ErrVersion].
func Scan(dir string, o Options, visit func(Record) error) (Tail, error) {
	p := newReplayer(o.fileSystem(), dir, visit)
	p.anyKeeper = true
	err := p.replay()
	return p.tail, err
}

// replayer walks a ledger's segments in order.
type replayer struct {
	fsys  FS
	dir   string
	visit func(Record) error

	r     reader
	id    ledgerID // that of the first segment's header, once it was read
	next  uint64   // sequence number of the record expected at the reader's offset
	chain uint32   // chain value before that record

	groupOffset int64         // where in the current segment the newest group begins
	unborn      string        // path of a last segment without a header, or empty; see header
	seal        segmentHeader // how far the log must go; zero without an intact seal
	tail        Tail

	holder   holder // the log whose committed records are read; nil to read all there are
	through  uint64 // the last record to read
	endChain uint32 // the chain value after it, if there is a holder

	version   uint32     // of the format that is expected
	anyKeeper bool       // whether a ledger that several servers keep will do, too
	hasState  bool       // whether the directory holds a file that only such a ledger has
	walk      *entryWalk // what follows such a ledger's entries; nil for a single server's
}

// holder is an open log that is scanned.
type holder interface {
	// committed is the last record that was promised, and the chain value behind it.
	committed() (seq uint64, chain uint32, err error)
}

func newReplayer(fsys FS, dir string, visit func(Record) error) *replayer {
	if visit == nil {
		visit = func(Record) error { return nil }
	}
	return &replayer{fsys: fsys, dir: dir, visit: visit, next: 1, through: math.MaxUint64, version: formatVersion}
}

// replay visits every record and leaves the end of the log in p.tail.
func (p *replayer) replay() error {
	if err := p.readSeal(); err != nil {
		return err
	}
	if p.holder != nil { // after readSeal, so that the seal isn't ahead of what is committed
		var err error
		if p.through, p.endChain, err = p.holder.committed(); err != nil {
			return err
		}
	}
	segments, err := p.segments()
	if err != nil {
		return err
	}
	if p.hasState && p.version == formatVersion {
		if segments, err = p.shared(); err != nil {
			return err
		}
	}
	for i, first := range segments {
		if first > max(p.through, 1) {
			break // its records are not committed, and its header may not be written yet
		}
		last := i == len(segments)-1
		path := filepath.Join(p.dir, segmentName(first))
		if err := p.segment(path, first, last); err != nil {
			return err
		}
	}
	if err := p.reachSeal(); err != nil {
		return err
	}
	if p.walk != nil && !p.walk.all {
		return p.walk.finish()
	}
	if p.holder != nil && (p.tail.Seq != p.through || p.chain != p.endChain) {
		return p.short(fmt.Sprintf("records 1 to %d were committed and are not what stands here, up to record %d: "+
			"the directory was replaced, or a segment removed or cut short", p.through, p.tail.Seq))
	}
	return nil
}

// segments returns the sequence numbers in the segments' names, sorted. It ignores other files:
// exports, for example, may be in the directory, too.
func (p *replayer) segments() ([]uint64, error) {
	names, err := p.fsys.ReadDir(p.dir)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	var segments []uint64
	for _, name := range names {
		if first, ok := segmentFirst(name); ok {
			segments = append(segments, first)
		}
		p.hasState = p.hasState || name == stateName
	}
	slices.Sort(segments)
	return segments, nil
}

// segment replays one segment. nameFirst is the sequence number in its name.
func (p *replayer) segment(path string, nameFirst uint64, last bool) (err error) {
	file, err := p.fsys.OpenFile(path, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer func() { joinInto(&err, file.Close()) }()
	if err := p.r.reset(file); err != nil {
		return fmt.Errorf("ledger: %s: %w", path, err)
	}
	if nameFirst != p.next {
		return p.corrupt(path, p.missing(nameFirst))
	}
	born, err := p.header(path, last)
	if err != nil {
		return err
	}
	if !born {
		p.unborn = path
		return nil
	}
	p.tail.Segments++
	p.tail.File = path
	p.groupOffset = segmentHeaderBytes
	before := p.tail.Bytes
	err = p.records(path, last)
	p.tail.Offset = p.r.offset
	p.tail.Bytes = before + p.r.offset
	return err
}

// missing explains a segment whose name isn't the expected one.
func (p *replayer) missing(nameFirst uint64) string {
	switch {
	case nameFirst < p.next:
		return fmt.Sprintf("the segment's name says that it begins with record %d, which an earlier one holds: "+
			"was it renamed?", nameFirst)
	case p.next == 1:
		return fmt.Sprintf("the first segment, %s, is missing", segmentName(1))
	}
	return fmt.Sprintf("records %d to %d are missing between this segment and the one before: "+
		"a segment was removed or cut short", p.next, nameFirst-1)
}

// header checks the segment's header and skips it. It reports false for a last segment without an
// intact header and with only zeros after it: its creation was interrupted. Records are written
// only after the header was synced, so such a segment has none.
func (p *replayer) header(path string, last bool) (born bool, err error) {
	b, err := p.r.peek(segmentHeaderBytes)
	if err != nil {
		return false, fmt.Errorf("ledger: %s: %w", path, err)
	}
	h, intact := decodeSegmentHeader(b)
	switch {
	case intact && h.version != p.version:
		return false, p.otherVersion(path, h.version)
	case intact:
		return true, p.enter(path, &h)
	}
	if last {
		p.r.skip(len(b))
		empty, err := p.r.zeroToEnd()
		if err != nil {
			return false, fmt.Errorf("ledger: %s: %w", path, err)
		}
		if empty {
			return false, nil
		}
		p.r.seek(0)
	}
	return false, p.corrupt(path, "the segment's header is damaged")
}

// enter checks that an intact header continues the log, and skips it.
func (p *replayer) enter(path string, h *segmentHeader) error {
	if p.next == 1 {
		p.id, p.chain = h.id, h.id.chainStart()
	}
	switch {
	case h.id != p.id:
		return p.corrupt(path, fmt.Sprintf(
			"the segment belongs to another ledger: its id is %x, the others' is %x", h.id, p.id))
	case p.seal.first != 0 && h.id != p.seal.id:
		return p.corrupt(filepath.Join(p.dir, sealName), fmt.Sprintf(
			"the seal belongs to another ledger: its id is %x, the segments' is %x", p.seal.id, h.id))
	case h.first != p.next:
		return p.corrupt(path, fmt.Sprintf(
			"the segment begins with record %d, unlike its name: was it renamed?", h.first))
	case h.chain != p.chain:
		return p.corrupt(path,
			"the segment does not continue the one before: one of them is from another copy of the ledger")
	}
	if p.walk != nil {
		if err := p.walk.enter(path, h); err != nil {
			return err
		}
	}
	p.r.skip(segmentHeaderBytes)
	return nil
}

// records replays from the reader's offset to the end of the segment.
func (p *replayer) records(path string, last bool) error {
	var suspect *CorruptError // the corruption that the first look at this offset found
	for p.r.offset < p.r.size && p.tail.Seq < p.through {
		h, payload, damage, err := p.look()
		if err != nil {
			return fmt.Errorf("ledger: %s: %w", path, err)
		}
		if damage == nil {
			suspect = nil
			if err := p.accept(&h, payload); err != nil {
				return err
			}
			continue
		}
		corrupt := p.corrupt(path, damage.reason)
		if !last {
			return corrupt
		}
		// Beside a running server, the file may have grown since, and hold the rest of the record.
		if grown, err := p.r.grow(); err != nil {
			return fmt.Errorf("ledger: %s: %w", path, err)
		} else if grown {
			continue
		}
		if suspect != nil {
			return suspect
		}
		offset := p.r.offset
		end, err := p.judge(*damage)
		if err != nil {
			return fmt.Errorf("ledger: %s: %w", path, err)
		}
		p.r.seek(offset)
		if end.verdict != refused {
			p.tail.Torn, p.tail.Reason = end.verdict == torn, end.reason
			return nil
		}
		// Read the file once more. Beside a running server, the damaged bytes in the buffer may be
		// older than what judge has read since, and the record may be whole by now.
		suspect = corrupt
		suspect.Reason = end.reason
	}
	return nil
}

// accept visits an intact record at the reader's offset, and skips it.
func (p *replayer) accept(h *recordHeader, payload []byte) error {
	if h.seq == p.tail.SealedSeq && h.chain != p.seal.chain {
		return p.corrupt(p.tail.File,
			"the ledger was sealed with another record here: the seal or a segment is from another copy of it")
	}
	err := p.visit(Record{
		Kind: h.kind, Agency: h.agency, Count: h.count, Seq: h.seq,
		Payload: payload, Checksum: Checksum(h.payloadCRC),
	})
	if err != nil {
		return err
	}
	if h.groupIndex == 0 {
		p.groupOffset = p.r.offset
	}
	p.r.skip(h.recordBytes())
	p.tail.Seq = h.seq
	p.next, p.chain = h.seq+1, h.chain
	return nil
}

func versionError(path string, version uint32) error {
	return fmt.Errorf("%w: %s has version %d, this one reads %d and %d",
		ErrVersion, path, version, formatVersion, entryVersion)
}

func (p *replayer) corrupt(path, reason string) *CorruptError {
	return &CorruptError{File: path, Offset: p.r.offset, Seq: p.next, Reason: reason}
}
