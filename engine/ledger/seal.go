package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// sealName is the file that says how far the log goes. It holds the header of a segment that would
// start after the last sealed record.
const sealName = "SEAL"

// Seal makes everything that was committed durable, also with Durability OS, and writes down how
// far the log goes. From then on Open and Scan refuse a log that ends earlier. (Without a seal they
// assume that its last write was interrupted.) A sealed ledger takes more commits. The next Seal,
// Close or the next Open seals what they add. If everything is sealed already, or there are no
// records yet, Seal only checks that the ledger is still in its directory.
//
// Any error is final, as those of Commit are, and matches [ErrFailed]. One that also matches
// [ErrGone] says that the directory was removed, moved or replaced: then nothing that was committed
// may be called stored. After any other error, what was durable stays durable, and how far the seal
// goes is unknown until the directory is opened again.
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

// settle makes durable what isn't yet, checks that it can be found again, and then seals it if told
// to. The seal comes last: if it ran ahead of the log, a crash would make a whole log look cut
// short.
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

// writeSeal seals all records, which must be durable. It overwrites an older seal in place: a seal
// is smaller than a sector, so a crash leaves the old one or the new one.
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

// standing checks that the newest segment is still where the next Open will look for it. The check
// is needed because writes to an open file succeed long after it was removed. The header's id tells
// this ledger from another one that has taken its place.
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

// readHeader reads a segment header from the start of a file, and reports whether it is intact. Its
// version may be any.
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

// readSeal looks for a seal. The replay calls it before it reads any segment: then even beside a
// running server the seal isn't ahead of the segments. If the seal isn't intact, p.seal stays zero.
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

// reachSeal checks that the log goes as far as the seal, once its end was found. Missing records
// were durable before the seal was written, so a crash can't have lost them.
func (p *replayer) reachSeal() error {
	if p.next >= p.seal.first {
		return nil
	}
	return p.short(fmt.Sprintf("the ledger was sealed through record %d and ends at record %d: "+
		"a segment was removed or cut short", p.tail.SealedSeq, p.tail.Seq))
}

// short makes the error of a log that ends too early. A torn write at the end goes into its reason,
// and p.tail is no longer torn, because Open won't cut anything off.
func (p *replayer) short(reason string) *CorruptError {
	if p.tail.Torn {
		reason += " (" + p.tail.Reason + ")"
	}
	path := p.tail.File
	if path == "" {
		path = filepath.Join(p.dir, segmentName(1))
	}
	corrupt := &CorruptError{File: path, Offset: p.tail.Offset, Seq: p.next, Reason: reason}
	p.tail.Torn, p.tail.Reason = false, ""
	return corrupt
}
