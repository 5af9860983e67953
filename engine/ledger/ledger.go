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
	// Fsync means that a committed group survives a crash of the machine. The default.
	Fsync Durability = iota
	// OS means that a committed group survives a crash of the process only; the operating system writes
	// it to the disk when it likes. After a crash of the machine, the log may lack the end: less than
	// what [Options] say to reserve at a time.
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
	// FS holds the ledger; nil stands for Disk.
	FS FS

	// SegmentBytes is the size at which a new segment is begun, from
	// SegmentBytesMin to SegmentBytesMax; 0 stands for SegmentBytesDefault. A record that
	// is larger gets a larger segment for itself. The size may differ from one Open to the next.
	SegmentBytes int64

	// ReserveBytes is how much space on the disk the live segment takes at a time, at least BlockBytes; 0 stands for
	// ReserveBytesDefault.
	ReserveBytes int64

	// Durability is what Commit waits for.
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
		return 0, fmt.Errorf("ledger: segments of %d bytes: use %d to %d", size, SegmentBytesMin, SegmentBytesMax)
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

// Ledger is an open log. Commit, Seal and Close belong to one goroutine; the other methods may be
// called by any.
type Ledger struct {
	fsys         FS
	dir          string
	lock         io.Closer
	segmentBytes int64
	reserveBytes int64
	durability   Durability
	id           ledgerID
	recovered    Tail

	live        File      // the last segment, open for writing; nil while there is none
	path        string    // of the newest segment that was begun without an error
	out         *Appender // of live
	segments    int       // live included
	sealedBytes int64     // of all segments but live

	next       uint64 // sequence number of the next record
	chain      uint32 // chain value before it
	groupFirst uint64 // first record in live that is not yet synced; next if all are
	sealedSeq  uint64 // the last record that a durable seal covers; 0 if there is none

	err error // once set, Commit and Seal do nothing but return it; set by the first failure or by Close

	mu       sync.Mutex
	stats    Stats  // guarded by mu; counts only what was promised
	endChain uint32 // guarded by mu; the chain value behind what stats count
	closed   bool   // guarded by mu
}

// Open locks the directory, replays the log through visit, repairs what an interrupted write left behind, and
// makes the ledger ready to append. It creates the directory and an empty log where there is none.
// When it returns, every record that was visited is durable, whatever o.Durability says. If there is an intact
// seal, it covers them all.
//
// visit is called for every record in order, and may be nil. Its error ends Open, before anything was changed, and is
// returned as it is.
//
// Errors: those of visit and of the file system, those that match [ErrLocked], [ErrCorrupt] or [ErrVersion], and
// [*NoSpaceError]. After an error, the directory holds every acknowledged record that it held before.
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
		out: NewAppender(o.Durability == Fsync),
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

// recover makes what the replay accepted durable and the rest vanish, in an order that a crash may interrupt anywhere.
func (l *Ledger) recover(p *replayer) error {
	if p.unborn != "" {
		// Its predecessor counts as sealed for as long as this name exists, so it
		// must be gone for good before the predecessor is written to again.
		if err := l.fsys.Remove(p.unborn); err != nil {
			return err
		}
	}
	// The process before us may have ended between creating a segment and syncing its name.
	if err := l.fsys.SyncDir(l.dir); err != nil {
		return err
	}
	l.next, l.chain = p.next, p.chain
	if p.tail.File == "" {
		return l.create()
	}
	l.id = p.id
	if err := l.reopen(p); err != nil || p.tail.SealedSeq == 0 {
		return err // an unfinished seal is left as it is: the caller says what it means
	}
	// Written anew, even if it goes as far as it did, for the reason that the newest group is: see rewrite.
	return l.writeSeal()
}

// create begins a new log.
func (l *Ledger) create() error {
	// The process before us may have ended between creating the directory and syncing its name.
	parent := filepath.Dir(l.dir)
	if err := l.fsys.SyncDir(parent); err != nil {
		return err
	}
	// The same goes for the directory above. One that may not be read is nothing that we made.
	if err := l.fsys.SyncDir(filepath.Dir(parent)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if _, err := rand.Read(l.id[:]); err != nil {
		return err
	}
	l.next, l.chain = 1, l.id.chainStart()
	return l.begin(segmentHeaderBytes)
}

// reopen makes the segment that the replay ended in ready for more.
func (l *Ledger) reopen(p *replayer) error {
	live, err := l.fsys.OpenFile(p.tail.File, os.O_RDWR)
	if err != nil {
		return err
	}
	offset := p.tail.Offset
	l.live, l.path, l.groupFirst = live, p.tail.File, l.next
	l.segments, l.sealedBytes = p.tail.Segments, p.tail.Bytes-offset
	if p.tail.Torn {
		// The remains go before anything is written over them, lest a later replay take them for records.
		if err := live.Truncate(offset); err != nil {
			return err
		}
	}
	newest := p.groupOffset
	if newest == segmentHeaderBytes {
		newest = 0 // the header may be no older: it gets to disk before any record behind it
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

// appendTo makes live, whose next record goes to offset, ready to be appended to. size is what is reserved, in whole
// blocks; begun is what the block with that offset begins with.
func (l *Ledger) appendTo(live File, size, offset int64, begun []byte) error {
	l.live = live
	l.out.Start(live, size, offset, begun)
	if l.durability == OS {
		return nil
	}
	return live.Direct()
}

// rewrite writes the newest group, which stands between from and end, once more, with the bytes it has. If the process before us ended
// because a sync failed, the operating system may hold that group in memory and
// believe that it is on disk; only a new write makes it try again. For a group that is on disk, nothing changes.
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
			return fmt.Errorf("the last segment ends at %d, before %d: %w", r.offset, end, io.ErrUnexpectedEOF)
		}
		if _, err := l.live.WriteAt(b, r.offset); err != nil {
			return err
		}
		r.skip(len(b))
	}
	return nil
}

// Recovered tells where Open found the end of the log, and whether it had to cut something off there.
func (l *Ledger) Recovered() Tail { return l.recovered }

// Stats tells what the ledger holds: all that was durable at the last successful Commit.
func (l *Ledger) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Term numbers the leadership under which this holder writes. Where a log passes from one server to
// another, each leadership has a higher term than those before it; 0 is none. A ledger stays with
// its one server, which leads from its first start on, so this is always 1, also after a restart.
func (l *Ledger) Term() uint64 { return 1 }

// Scan visits what is committed: the records that Open replayed, and every group whose Commit
// returned nil before the call. A group that is committed while Scan begins is visited as a whole
// or not at all. What is committed later isn't, nor is what a failed Commit left. (The function
// [Scan] needs no open ledger, and may see a part of the group that is being written.)
//
// Any goroutine may call Scan, beside Commits, Seals and other Scans, and after one of them has
// failed. It neither waits for a Commit nor keeps one waiting; visit may commit, too, if it runs in
// Commit's goroutine.
//
// visit is called for every record in order, and may be nil. The record's payload belongs to the
// scan and is valid only during the call. visit's error ends the scan and is returned as it is. The
// Tail says where the last of these records ends, and isn't torn; what it says of the seal is as of
// the scan's beginning.
//
// Errors: those of visit and of the file system, and those that match [ErrCorrupt]: a committed
// record is damaged or missing, or the directory holds another log by now. After Close it is one
// that matches [ErrFailed]; a scan that has begun goes on.
func (l *Ledger) Scan(visit func(Record) error) (Tail, error) {
	p := newReplayer(l.fsys, l.dir, visit)
	p.holder = l
	err := p.replay()
	return p.tail, err
}

// committed is the last record that was promised, and the chain value behind it.
func (l *Ledger) committed() (seq uint64, chain uint32, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, 0, errClosed
	}
	return l.stats.Seq, l.endChain, nil
}

// Commit appends the records of all runs, in order, as one group, and returns when they are durable. A run holds whole
// records, back to back, as [AppendRecord] packs them; it may be empty. Commit completes the headers in place;
// otherwise the runs stay the caller's, who may use them again afterwards. They may even
// be committed again, as new records. Runs near 512 kB in all make the best use of a disk.
//
// Any error is final. It matches [ErrFailed] and wraps the cause, which may be a [*NoSpaceError]; whether the group is in
// the log is then unknown until the directory is opened anew, and every later Commit and Seal returns the same error. A
// Commit that begins a new segment also finds out whether the directory is gone ([ErrGone]); others don't look.
//
// Commit panics on a run that doesn't consist of packed records. It belongs to one goroutine and doesn't allocate, except when it
// begins a new segment.
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

// write completes and appends the records of one run, a stretch at a time: as much as goes into one segment.
func (l *Ledger) write(run []byte) error {
	start := 0 // of the stretch: records completed for the live segment, not yet appended
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

// makeRoom sees to it that a record of recordBytes fits into the live segment.
func (l *Ledger) makeRoom(recordBytes int64) error {
	end := l.out.Offset() + recordBytes
	if end > l.segmentBytes && l.out.Offset() > segmentHeaderBytes {
		return l.rotate(recordBytes)
	}
	if l.durability == OS && l.groupFirst != l.next {
		// So that no more than this can be lost, nor has to be written again by the next start.
		if err := l.out.Flush(); err != nil {
			return err
		}
		if err := l.sync(); err != nil {
			return err
		}
	}
	// An empty segment has no successor: that would begin with the same record. It gets larger than others instead.
	size := l.reservation(end)
	if err := l.out.Reserve(size); err != nil {
		return l.noSpace(l.live, size, err)
	}
	return nil
}

// noSpace is the file system's err, as a NoSpaceError if there was no room for file to have size bytes. file is nil if there
// is none yet.
func (l *Ledger) noSpace(file File, size int64, err error) error {
	if !IsNoSpace(err) {
		return err
	}
	// An error of what follows would only hide the one that counts.
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

// reservation is how large the live segment's file is to be, in whole blocks, if end bytes of it are used.
func (l *Ledger) reservation(end int64) int64 {
	step := min(l.reserveBytes, l.segmentBytes)
	return roundUp(max(end, min((end+step-1)/step*step, l.segmentBytes)))
}

// rotate seals the live segment and begins the next one. The old one is whole on disk before the new name exists: that is
// why a replay need not forgive any damage in a segment that has a successor. For the same reason
// it syncs with Durability OS, too.
func (l *Ledger) rotate(recordBytes int64) error {
	if err := l.standing(); err != nil {
		return err // rather than begin a segment in a directory that is somebody else's by now
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

// begin creates the segment for l.next, with room for at least sizeMin bytes. Its header and its
// name are durable before it returns, so that no record is ever written to a segment that a crash may unmake.
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
	h := segmentHeader{version: formatVersion, id: l.id, first: l.next, chain: l.chain}
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
	return nil
}

func (l *Ledger) publish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats = Stats{Seq: l.next - 1, Bytes: l.sealedBytes + l.out.Offset(), Segments: l.segments}
	l.endChain = l.chain
}

// Close makes everything that was committed durable, also with Durability OS, seals it if there is
// an intact seal, and releases the directory. Later Commits, Seals and Scans return ErrFailed;
// closing again does nothing.
//
// An error that matches [ErrGone] says that the directory was removed, moved or replaced: then nothing
// that was committed may be called stored. It comes even after another failure.
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

// release closes what is open; the lock last.
func (l *Ledger) release() error {
	var err error
	if l.live != nil {
		err = l.live.Close()
	}
	err = errors.Join(err, l.lock.Close())
	l.live, l.lock = nil, nil
	return err
}
