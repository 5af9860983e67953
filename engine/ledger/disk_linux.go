package ledger

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// SyncData implements [File] with fdatasync(2). It stands in the hot path: no closure, no allocation.
func (f diskFile) SyncData() error {
	for {
		switch err := unix.Fdatasync(int(f.Fd())); err {
		case nil:
			return nil
		case unix.EINTR:
		default:
			return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

// Allocate implements [File] with fallocate(2). A file system that doesn't know
// it gets a sparse file instead, and may then run out of space at a write.
func (f diskFile) Allocate(size int64) error {
	err := retryInterrupted(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS):
		return f.extend(size)
	}
	return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
}
