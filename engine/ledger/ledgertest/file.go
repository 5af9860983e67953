package ledgertest

import (
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"syscall"

	"loteria/engine/ledger"
)

// file implements ledger.File. Once its process has ended, its operations fail, except Size and
// Close.
type file struct {
	fs       *FS
	node     *inode
	name     string
	life     int
	writable bool
	closed   bool
	direct   bool
}

// op counts an operation, unless the file is closed or the operation needs a writable one.
func (f *file) op(op Op) (effective bool, err error) {
	switch {
	case f.closed || f.life != f.fs.life:
		return false, &fs.PathError{Op: op.String(), Path: f.name, Err: fs.ErrClosed}
	case op&(Changes&^AnySync) != 0 && !f.writable:
		return false, &fs.PathError{Op: op.String(), Path: f.name, Err: fs.ErrPermission}
	}
	return f.fs.op(op, f.name)
}

func (f *file) ReadAt(p []byte, offset int64) (int, error) {
	effective, err := f.op(Read)
	if err != nil {
		if effective { // a part was read before the error
			return copy(p, f.node.data[min(offset, int64(len(f.node.data))):]) / 2, err
		}
		return 0, err
	}
	if offset >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	if f.direct && (len(p)%ledger.BlockBytes != 0 || offset%ledger.BlockBytes != 0 ||
		reflect.ValueOf(p).Pointer()%ledger.BlockBytes != 0) {
		return 0, &fs.PathError{Op: Write.String(), Path: f.name, Err: syscall.EINVAL}
	}
	effective, err := f.op(Write)
	if err != nil && !effective {
		return 0, err
	}
	if err == nil {
		if err = f.fs.room(Write, f.name, offset+int64(len(p))-int64(len(f.node.data))); err != nil {
			p = p[:max(0, min(int64(len(p)), int64(len(f.node.data))-offset))]
		}
	} else { // write only some of the first sectors
		end := (int(offset) + f.fs.rng.IntN(len(p)+1)) / SectorBytes * SectorBytes
		p = p[:max(0, end-int(offset))]
	}
	if len(p) > 0 {
		f.node.write(p, int(offset))
	}
	return len(p), err
}

// Direct makes WriteAt refuse writes that aren't aligned whole blocks.
func (f *file) Direct() error {
	_, err := f.op(Direct)
	if err == nil {
		f.direct = true
	}
	return err
}

func (f *file) Truncate(size int64) error {
	effective, err := f.op(Truncate)
	if effective {
		f.node.resize(int(size))
	}
	return err
}

func (f *file) Allocate(size int64) error {
	effective, err := f.op(Allocate)
	more := size - int64(len(f.node.data))
	if err == nil {
		err = f.fs.room(Allocate, f.name, more)
		effective = err == nil
	}
	if effective && more > 0 {
		f.node.resize(int(size))
	}
	return err
}

func (f *file) SyncData() error { return f.sync(SyncData, f.node.syncData) }

func (f *file) Sync() error { return f.sync(Sync, f.node.sync) }

func (f *file) sync(op Op, do func()) error {
	before := f.fs.broken
	_, err := f.op(op)
	switch {
	case err == nil:
		do()
	case f.fs.broken != before: // this sync is the arranged failure, and the process was alive
		f.node.syncFailed(f.fs.share())
	}
	return err
}

func (f *file) Size() (int64, error) { return int64(len(f.node.data)), nil }

func (f *file) Close() error {
	if f.closed {
		return fmt.Errorf("%s is closed twice: %w", f.name, fs.ErrClosed)
	}
	f.closed = true
	if f.life == f.fs.life {
		f.fs.open--
	}
	return nil
}
