package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// sealName is the file that says how far the log goes: the header that a segment behind its last record would have.
const sealName = "SEAL"

// Seal makes everything that was committed durable, also with Durability OS, and writes down how far the
// log goes. From then on Open and Scan refuse a log that ends earlier; without a seal they take it for
// one whose last write was interrupted. A sealed ledger takes more commits. What they add is sealed by
// the next Seal, by Close or by the next Open. If everything is sealed already, or there are no records
// yet, Seal only checks that the ledger is still in its directory.
//
// Any error is final, as one of Commit is, and matches [ErrFailed]. One that also matches [ErrGone] says
// that the directory was removed, moved or replaced: then nothing that was committed may be called
// stored. After any other error, what was durable is durable, and how far the seal goes is unknown until
// the directory is opened anew.
//
// Seal belongs to the goroutine of Commit.
func (l *Ledger) Seal() error {
	if l.err != nil {
		return l.err
	}
	if err := l.settle(true); err != nil {
		l.err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return l.err
}

// settle makes durable what isn't yet, and checks that it can be found again. Only then may it be
// sealed: if a seal ran ahead of the log, a crash would make a whole log look like one that was cut short.
func (l *Ledger) settle(seal bool) error {
	if l.groupFirst != l.next {
		if err := l.sync(); err != nil {
			return err
		}
	}
	if err := l.standing(); err != nil || !seal {
		return err
	}
	return l.writeSeal()
}

// writeSeal seals all that there is, which must be durable. An older seal is written over in place: it is
// smaller than a sector, so a crash leaves the old one or the new one.
func (l *Ledger) writeSeal() (err error) {
	if l.sealedSeq == l.next-1 {
		return nil
	}
	path := filepath.Join(l.dir, sealName)
	file, err := l.fsys.OpenFile(path, os.O_RDWR)
	created := errors.Is(err, fs.ErrNotExist)
	if created {
		file, err = l.fsys.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	}
	if err != nil {
		return err
	}
	defer func() { joinInto(&err, file.Close()) }()
	h := segmentHeader{version: formatVersion, id: l.id, first: l.next, chain: l.chain}
	if _, err := file.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if created {
		if err := l.fsys.SyncDir(l.dir); err != nil {
			return err
		}
	}
	l.sealedSeq = l.next - 1
	return nil
}

// standing checks that the newest segment is still where the next Open will look for it. Writes to an open
// file succeed long after it was removed. The header tells the ledger from another one that was put, or
// begun by another server, in its place.
func (l *Ledger) standing() error {
	h, intact, err := readHeader(l.fsys, l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrGone, err)
	case err != nil:
		return err
	case !intact || h.id != l.id:
		return fmt.Errorf("%w: %s is no longer this ledger's", ErrGone, l.path)
	}
	return nil
}

// readHeader reads what a file begins with as a segment's header, and reports whether it is an intact one
// of any version.
func readHeader(fsys FS, path string) (h segmentHeader, intact bool, err error) {
	file, err := fsys.OpenFile(path, os.O_RDONLY)
	if err != nil {
		return h, false, err
	}
	defer func() { joinInto(&err, file.Close()) }()
	b := make([]byte, segmentHeaderBytes)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return h, false, fmt.Errorf("%s: %w", path, err)
	}
	h, intact = decodeSegmentHeader(b[:n])
	return h, intact, nil
}

// readSeal looks for a seal. It comes before all else: even beside a running server, a seal is never ahead
// of segments that are read after it. If it isn't intact, p.seal stays zero.
func (p *replayer) readSeal() error {
	path := filepath.Join(p.dir, sealName)
	h, intact, err := readHeader(p.fsys, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("ledger: %w", err)
	case intact && h.version != formatVersion:
		return versionError(path, h.version)
	}
	p.tail.Sealed = true
	if intact && h.first > 1 { // an empty log is never sealed
		p.seal, p.tail.SealedSeq = h, h.first-1
	}
	return nil
}

// reachSeal checks that the log, whose end was found, goes as far as the seal. What is missing was durable
// before the seal was written, so no crash can have taken it.
func (p *replayer) reachSeal() error {
	if p.next >= p.seal.first {
		return nil
	}
	return p.short(fmt.Sprintf("the ledger was sealed through record %d and ends at record %d: "+
		"a segment was removed or cut short", p.tail.SealedSeq, p.tail.Seq))
}

// short says that the log, whose end was found, lacks what it must have.
func (p *replayer) short(reason string) *CorruptError {
	if p.tail.Torn {
		reason += " (" + p.tail.Reason + ")"
	}
	path := p.tail.File
	if path == "" {
		path = filepath.Join(p.dir, segmentName(1))
	}
	corrupt := &CorruptError{File: path, Offset: p.tail.Offset, Seq: p.next, Reason: reason}
	p.tail.Torn, p.tail.Reason = false, "" // nothing will be cut off
	return corrupt
}
