package ledger

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Free returns how many bytes are free, for users other than root, on the file system that holds
// dir, or would hold it.
func (d Disk) Free(dir string) (int64, error) {
	var stat unix.Statfs_t
	err := retryInterrupted(func() error { return unix.Statfs(dir, &stat) })
	if parent := filepath.Dir(dir); errors.Is(err, unix.ENOENT) && parent != dir {
		return d.Free(parent)
	}
	if err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(stat.Bavail) * int64(stat.Frsize), nil //nolint:unconvert // Frsize has 32 bits on some machines
}

// SyncData implements [File] with fdatasync(2). It is in the hot path, so it has a loop of its
// own: no closure, no allocation.
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

// Allocate implements [File] with fallocate(2). On a file system without it, the file is sparse,
// and a write may run out of space.
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

// Direct implements [File] with O_DIRECT. It does nothing on a file system that doesn't tell its
// needs (STATX_DIOALIGN, from Linux 6.1 on), or needs more than whole blocks.
func (f diskFile) Direct() error {
	fd := int(f.Fd())
	var stat unix.Statx_t
	err := retryInterrupted(func() error {
		return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &stat)
	})
	if err != nil || stat.Mask&unix.STATX_DIOALIGN == 0 ||
		!divides(stat.Dio_mem_align, BlockBytes) || !divides(stat.Dio_offset_align, BlockBytes) {
		return nil // without an answer, there is no O_DIRECT
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_DIRECT)
	}
	// These two errors mean that the file system can't, whatever it told before.
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return &fs.PathError{Op: "fcntl", Path: f.Name(), Err: err}
	}
	return nil
}

func divides(n, whole uint32) bool { return n != 0 && whole%n == 0 }
