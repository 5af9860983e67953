package ledger

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// Durability says what [Ledger.Commit] waits for.
type Durability int

const (
	// Fsync means that a committed group survives a crash of the machine. It is the default.
	Fsync Durability = iota
	// OS means that a committed group survives a crash of the process only. The operating system
	// writes it to the disk when it likes. A crash of the machine may lose the end of the log: less
	// than Options.ReserveBytes, unless a single record is larger than that.
	OS
)

func (d Durability) String() string {
	switch d {
	case Fsync:
		return "fsync"
	case OS:
		return "os"
	}
	return fmt.Sprintf("durability %d", int(d))
}

// Options are the settings of [Open]. The zero value is what a server wants.
type Options struct {
	// FS is the file system that holds the ledger; nil stands for Disk.
	FS FS

	// SegmentBytes is the size at which a new segment begins, from SegmentBytesMin to
	// SegmentBytesMax; 0 stands for SegmentBytesDefault. It is rounded down to whole blocks. A
	// record that is larger gets a larger segment. The size may differ from one Open to the next.
	SegmentBytes int64

	// ReserveBytes is how much disk space the live segment reserves at a time, at least BlockBytes;
	// 0 stands for ReserveBytesDefault. It is rounded down to whole blocks.
	ReserveBytes int64

	// Durability says what Commit waits for.
	Durability Durability
}

func (o Options) fileSystem() FS {
	if o.FS == nil {
		return Disk{}
	}
	return o.FS
}

func (o Options) segmentBytes() (int64, error) {
	size := o.SegmentBytes
	if size == 0 {
		size = SegmentBytesDefault
	}
	if size < SegmentBytesMin || size > SegmentBytesMax {
		return 0, fmt.Errorf("ledger: segments of %d bytes: use %d to %d",
			size, SegmentBytesMin, SegmentBytesMax)
	}
	return size / BlockBytes * BlockBytes, nil
}

func (o Options) reserveBytes() (int64, error) {
	size := o.ReserveBytes
	if size == 0 {
		size = ReserveBytesDefault
	}
	if size < BlockBytes {
		return 0, fmt.Errorf("ledger: %d bytes to reserve at a time: use %d or more", size, BlockBytes)
	}
	return size / BlockBytes * BlockBytes, nil
}

// Ledger is an open log. One goroutine calls Commit, Seal, Read and Close; any may call the other
// methods.
type Ledger struct {
	fsys         FS
	dir          string
	lock         io.Closer
	segmentBytes int64
	reserveBytes int64
	durability   Durability
	version      uint32 // of the format that is written
	id           ledgerID
	recovered    Tail

	live        File      // the last segment, open for writing; nil while there is none
	path        string    // of the newest segment that was begun without an error
	out         *Appender // writes to live
	segments    int       // how many there are, including live
	sealedBytes int64     // bytes of all segments except live

	next       uint64 // sequence number of the next record
	chain      uint32 // chain value before it
	groupFirst uint64 // first record in live that isn't synced, or of the newest entry
	sealedSeq  uint64 // the last record that a durable seal covers; 0 if there is none
	begun      func() // called when a segment was begun; nil in a single server's ledger

	err error // the first failure, or errClosed; once it is set, Commit and Seal only return it

	mu       sync.Mutex
	stats    Stats  // guarded by mu; counts only what is committed
	endChain uint32 // guarded by mu; the chain value after the last record that stats counts
	closed   bool   // guarded by mu
}

// Open locks the directory, replays the log through visit, repairs what an interrupted write left,
// and makes the ledger ready to append. It creates the directory and an empty log where there is
// none. When it returns nil, every record that was visited is durable, whatever o.Durability says.
// If there is an intact seal, it covers them all.
//
// visit is called for every record in order, and may be nil. The record's payload is valid only
// during the call. visit's error ends Open before anything in the log is changed, and is returned
// as it is.
//
// Errors: those of visit and of the file system, options out of bounds, those that match
// [ErrLocked], [ErrCorrupt], [ErrVersion] or [ErrShared], and [*NoSpaceError]. After an error, the
// directory holds every acknowledged record that it held before.
func Open(dir string, o Options, visit func(Record) error) (_ *Ledger, err error) {
	segmentBytes, err := o.segmentBytes()
	if err != nil {
		return nil, err
	}
	reserveBytes, err := o.reserveBytes()
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		fsys: o.fileSystem(), dir: filepath.Clean(dir),
		segmentBytes: segmentBytes, reserveBytes: reserveBytes, durability: o.Durability,
		version: formatVersion,
		out:     NewAppender(o.Durability == Fsync),
	}
	if err := l.fsys.MkdirAll(l.dir); err != nil {
		return nil, fmt.Errorf("ledger: %w", l.noSpace(nil, l.reservation(segmentHeaderBytes), err))
	}
	if l.lock, err = l.fsys.Lock(filepath.Join(l.dir, lockName)); err != nil {
		return nil, fmt.Errorf("open %s: %w", l.dir, err)
	}
	defer func() {
		if err != nil {
			joinInto(&err, l.release())
		}
	}()
	p := newReplayer(l.fsys, l.dir, visit)
	if err := p.replay(); err != nil {
		return nil, err
	}
	l.recovered = p.tail
	if err := l.recover(p); err != nil {
		return nil, fmt.Errorf("ledger: recovering %s: %w", l.dir, err)
	}
	l.publish()
	return l, nil
}

// recover makes the replayed records durable and removes the rest. Its order is safe against a
// crash at any point.
func (l *Ledger) recover(p *replayer) error {
	if p.unborn != "" {
		// Its predecessor counts as finished for as long as this name exists. So the name must be
		// gone, durably, before the predecessor is written to again.
		if err := l.fsys.Remove(p.unborn); err != nil {
			return err
		}
	}
	// The process before this one may have ended between creating a segment and syncing its name.
	if err := l.fsys.SyncDir(l.dir); err != nil {
		return err
	}
	l.next, l.chain = p.next, p.chain
	if p.tail.File == "" {
		return l.create()
	}
	l.id = p.id
	if err := l.reopen(p); err != nil || p.tail.SealedSeq == 0 {
		return err // a seal that isn't intact stays as it is: the caller judges it
	}
	// Write the seal again even if it is up to date, for the same reason as the newest group: see
	// rewrite.
	return l.writeSeal()
}

// create begins a new log.
func (l *Ledger) create() error {
	// The process before this one may have ended between creating the directory and syncing its
	// name.
	parent := filepath.Dir(l.dir)
	if err := l.fsys.SyncDir(parent); err != nil {
		return err
	}
	// The same goes for the directory above. A ledger creates no directory that it may not read, so
	// such a one needs no sync.
	if err := l.fsys.SyncDir(filepath.Dir(parent)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if _, err := rand.Read(l.id[:]); err != nil {
		return err
	}
	l.next, l.chain = 1, l.id.chainStart()
	return l.begin(segmentHeaderBytes)
}

// reopen makes the segment in which the replay ended ready for more records.
func (l *Ledger) reopen(p *replayer) error {
	live, err := l.fsys.OpenFile(p.tail.File, os.O_RDWR)
	if err != nil {
		return err
	}
	offset := p.tail.Offset
	l.live, l.path, l.groupFirst = live, p.tail.File, l.next
	l.segments, l.sealedBytes = p.tail.Segments, p.tail.Bytes-offset
	if p.tail.Torn {
		// Cut the remains off before anything overwrites them: a later replay could take what is
		// left of them for records.
		if err := live.Truncate(offset); err != nil {
			return err
		}
	}
	newest := p.groupOffset
	if newest == segmentHeaderBytes {
		newest = 0 // the header may be unsynced, too, and must be durable before new records follow it
	}
	if err := l.rewrite(&p.r, newest, offset); err != nil {
		return err
	}
	size, err := live.Size()
	if err != nil {
		return err
	}
	want := max(roundUp(size), l.reservation(offset))
	if want > size {
		if err := live.Allocate(want); err != nil {
			return l.noSpace(live, want, err)
		}
	}
	if err := live.Sync(); err != nil {
		return err
	}
	p.r.seek(offset &^ (BlockBytes - 1))
	begun, err := p.r.peek(int(offset % BlockBytes))
	if err != nil {
		return err
	}
	return l.appendTo(live, want, offset, begun)
}

// appendTo directs further records to live, from offset on. size is the reserved size, in whole
// blocks. begun is the content of the block that offset lies in, up to offset.
func (l *Ledger) appendTo(live File, size, offset int64, begun []byte) error {
	l.live = live
	l.out.Start(live, size, offset, begun)
	if l.durability == OS {
		return nil
	}
	return live.Direct()
}

// rewrite writes the newest group, which lies between from and end, again with the same bytes. If
// the process before this one ended because a sync failed, the operating system may hold that group
// in memory and believe that it is on disk. Only a new write makes it try again. If the group is on
// disk, nothing changes.
func (l *Ledger) rewrite(r *reader, from, end int64) error {
	if err := r.reset(l.live); err != nil {
		return err
	}
	for r.seek(from); r.offset < end; {
		b, err := r.peek(int(min(readBytes, end-r.offset)))
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return fmt.Errorf("the last segment ends at %d, before %d: %w",
				r.offset, end, io.ErrUnexpectedEOF)
		}
		if _, err := l.live.WriteAt(b, r.offset); err != nil {
			return err
		}
		r.skip(len(b))
	}
	return nil
}

// Recovered returns where Open found the end of the log, and whether it cut something off there.
// Any goroutine may call it.
func (l *Ledger) Recovered() Tail { return l.recovered }

// Stats returns what the ledger holds: what Open replayed, and every group that was committed
// since. Any goroutine may call it.
func (l *Ledger) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Read proves that this holder leads, as it always does: a ledger stays with one server. It returns
// the error of a Commit or Seal that failed before.
func (l *Ledger) Read() error { return l.err }

// Term is the number of the leadership under which this holder writes. If a log passes from server
// to server, each leadership has a higher term than those before it; 0 stands for none. A ledger
// stays with one server, which leads from its first start on, so its term is always 1.
func (l *Ledger) Term() uint64 { return 1 }

// Scan visits the committed records: those that Open replayed, and every group whose Commit
// returned nil before the call. A group that is committed while Scan begins is visited as a whole
// or not at all. Scan leaves out what is committed later, and what a failed Commit left. (The
// function [Scan] needs no open ledger, but may see a part of the group that is being written.)
//
// Any goroutine may call Scan at any time: beside Commits, Seals and other Scans, and after one of
// them has failed. Scan and Commit don't wait for each other. So visit may even commit, if it runs
// in Commit's goroutine.
//
// visit is called for every record in order, and may be nil. The record's payload belongs to the
// scan and is valid only during the call. visit's error ends the scan and is returned as it is. The
// Tail says where the last visited record ends, and is not torn. Its seal is that of the scan's
// beginning.
//
// Errors: those of visit and of the file system; those that match [ErrCorrupt] or [ErrVersion],
// when a committed record is damaged or missing, or the directory holds another log by now; and
// after Close one that matches [ErrFailed]. A scan that began before Close goes on.
func (l *Ledger) Scan(visit func(Record) error) (Tail, error) {
	p := newReplayer(l.fsys, l.dir, visit)
	p.holder = l
	err := p.replay()
	return p.tail, err
}

// committed returns the last committed record, and the chain value after it.
func (l *Ledger) committed() (seq uint64, chain uint32, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, 0, errClosed
	}
	return l.stats.Seq, l.endChain, nil
}

// Commit appends the records of all runs, in order, as one group, and returns when they are
// durable. A run holds whole records, back to back, as [AppendRecord] packs them; it may be empty.
// Commit completes the headers in place. Afterwards the runs are the caller's again, who may even
// commit them again, as new records. Runs of about 512 kB in all make the best use of a disk.
//
// Any error is final. It matches [ErrFailed] and wraps the cause, which may be a [*NoSpaceError].
// Whether the group is in the log is then unknown until the directory is opened again, and every
// later Commit and Seal returns the same error. A Commit that begins a new segment also checks
// whether the directory is gone ([ErrGone]); other Commits don't.
//
// Commit panics on a run that doesn't consist of packed records. It belongs to one goroutine. It
// doesn't allocate, except when it begins a new segment or its buffer grows, which happens at most
// twice.
func (l *Ledger) Commit(runs [][]byte) error {
	if l.err != nil {
		return l.err
	}
	if err := l.commit(runs); err != nil {
		l.err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return l.err
}

func (l *Ledger) commit(runs [][]byte) error {
	before := l.next
	for _, run := range runs {
		if err := l.write(run); err != nil {
			return err
		}
	}
	if l.next == before {
		return nil
	}
	if err := l.out.Flush(); err != nil {
		return err
	}
	if l.durability == Fsync {
		if err := l.sync(); err != nil {
			return err
		}
	}
	l.publish()
	return nil
}

// write completes and appends the records of one run. It appends a stretch at a time: the records
// that fit into the reserved space.
func (l *Ledger) write(run []byte) error {
	start := 0 // where the stretch starts: records that are completed, but not yet appended
	for pos := 0; pos < len(run); {
		h := packedHeader(run[pos:])
		size := h.recordBytes()
		if l.out.Offset()+int64(pos-start+size) > l.out.size {
			if err := l.out.Append(run[start:pos]); err != nil {
				return err
			}
			start = pos
			if err := l.makeRoom(int64(size)); err != nil {
				return err
			}
		}
		l.chain = complete(run[pos:], uint32(l.next-l.groupFirst), l.next, l.chain)
		l.next++
		pos += size
	}
	return l.out.Append(run[start:])
}

func (l *Ledger) sync() error {
	if err := l.live.SyncData(); err != nil {
		return err
	}
	l.groupFirst = l.next
	return nil
}

// makeRoom makes a record of recordBytes fit into the live segment: it reserves more space, or
// begins a new segment.
func (l *Ledger) makeRoom(recordBytes int64) error {
	end := l.out.Offset() + recordBytes
	if end > l.segmentBytes && l.out.Offset() > segmentHeaderBytes {
		return l.rotate(recordBytes)
	}
	if l.durability == OS && l.groupFirst != l.next {
		// This bounds what a crash can lose, and what the next start has to write again.
		if err := l.out.Flush(); err != nil {
			return err
		}
		if err := l.sync(); err != nil {
			return err
		}
	}
	// An empty segment is never rotated, because its successor would have the same name. It gets
	// larger than others instead.
	size := l.reservation(end)
	if err := l.out.Reserve(size); err != nil {
		return l.noSpace(l.live, size, err)
	}
	return nil
}

// noSpace turns the file system's err into a NoSpaceError if file could not get size bytes for want
// of room. Other errors it returns as they are. file is nil if it doesn't exist yet.
func (l *Ledger) noSpace(file File, size int64, err error) error {
	if !IsNoSpace(err) {
		return err
	}
	// Errors from here on are dropped: they would only hide err.
	full := &NoSpaceError{Dir: l.dir, Needs: size, Free: -1, Err: err}
	if file != nil {
		if has, errSize := file.Size(); errSize == nil { // a part may have been reserved
			full.Needs -= has
		}
	}
	if disk, ok := l.fsys.(freeFS); ok && errors.Is(err, syscall.ENOSPC) {
		if free, errFree := disk.Free(l.dir); errFree == nil {
			full.Free = free
		}
	}
	return full
}

// reservation returns how large the live segment's file has to be if end bytes of it are used. The
// result is in bytes, a multiple of BlockBytes.
func (l *Ledger) reservation(end int64) int64 {
	step := min(l.reserveBytes, l.segmentBytes)
	return roundUp(max(end, min((end+step-1)/step*step, l.segmentBytes)))
}

// rotate finishes the live segment and begins the next one. The old segment is whole on disk before
// the new name exists, so a replay takes any damage in a segment that has a successor for
// corruption. For this reason rotate syncs with Durability OS, too.
func (l *Ledger) rotate(recordBytes int64) error {
	if err := l.standing(); err != nil {
		return err // don't begin a segment in a directory that may be somebody else's by now
	}
	if err := l.out.Flush(); err != nil {
		return err
	}
	if err := l.live.Truncate(l.out.Offset()); err != nil {
		return err
	}
	if err := l.live.Sync(); err != nil {
		return err
	}
	sealed := l.live
	l.live = nil
	if err := sealed.Close(); err != nil {
		return err
	}
	l.sealedBytes += l.out.Offset()
	return l.begin(segmentHeaderBytes + recordBytes)
}

// begin creates the segment that starts with record l.next, with room for at least sizeMin bytes.
// Its header and its name are durable before begin returns. So a crash can't remove a segment that
// has records.
func (l *Ledger) begin(sizeMin int64) error {
	path := filepath.Join(l.dir, segmentName(l.next))
	size := l.reservation(sizeMin)
	file, err := l.fsys.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return l.noSpace(nil, size, err)
	}
	l.live = file
	if err := file.Allocate(size); err != nil {
		return l.noSpace(file, size, err)
	}
	h := segmentHeader{version: l.version, id: l.id, first: l.next, chain: l.chain}
	if l.version == entryVersion {
		h.segmentBytes = uint64(l.segmentBytes)
	}
	if err := l.appendTo(file, size, 0, nil); err != nil {
		return err
	}
	if err := l.out.Append(h.encode()); err != nil {
		return err
	}
	if err := l.out.Flush(); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := l.fsys.SyncDir(l.dir); err != nil {
		return err
	}
	l.path, l.groupFirst = path, l.next
	l.segments++
	if l.begun != nil {
		l.begun()
	}
	return nil
}

func (l *Ledger) publish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats = Stats{Seq: l.next - 1, Bytes: l.sealedBytes + l.out.Offset(), Segments: l.segments}
	l.endChain = l.chain
}

// Close makes everything that was committed durable, also with Durability OS, seals it if there is
// an intact seal, and releases the directory. After a failed Commit or Seal it makes nothing
// durable: it only checks whether the directory is gone, and releases it. Later Commits, Seals and
// Scans return an error that matches [ErrFailed]. Closing again does nothing.
//
// An error that matches [ErrGone] says that the directory was removed, moved or replaced: then
// nothing that was committed may be called stored. Close belongs to the goroutine of Commit.
func (l *Ledger) Close() error {
	if l.lock == nil {
		return nil
	}
	var err error
	if l.err == nil {
		err = l.settle(l.sealedSeq > 0)
	} else {
		err = l.standing()
	}
	l.err = errClosed
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	if err = errors.Join(err, l.release()); err != nil {
		return fmt.Errorf("ledger: closing %s: %w", l.dir, err)
	}
	return nil
}

// release closes what is open, the lock last.
func (l *Ledger) release() error {
	var err error
	if l.live != nil {
		err = l.live.Close()
	}
	err = errors.Join(err, l.lock.Close())
	l.live, l.lock = nil, nil
	return err
}
