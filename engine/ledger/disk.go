//go:build unix

package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Bets are personal data. The group may read them, for backups; others may not.
const (
	filePerm = 0o640
	dirPerm  = 0o750
)

// Disk is the operating system's file system.
type Disk struct{}

// MkdirAll implements [FS].
func (d Disk) MkdirAll(dir string) error {
	switch info, err := os.Stat(dir); {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: dir, Err: unix.ENOTDIR}
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	if err := d.MkdirAll(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.SyncDir(parent)
}

// ReadDir implements [FS].
func (Disk) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, nil
}

// OpenFile implements [FS].
func (Disk) OpenFile(name string, flag int) (File, error) {
	file, err := os.OpenFile(name, flag, filePerm)
	if err != nil {
		return nil, err
	}
	return diskFile{file}, nil
}

// Remove implements [FS].
func (Disk) Remove(name string) error { return os.Remove(name) }

// Rename implements [FS] with rename(2).
func (Disk) Rename(name, to string) error { return os.Rename(name, to) }

// SyncDir implements [FS].
func (Disk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Lock implements [FS] with flock(2), which conflicts within a process, too.
func (Disk) Lock(name string) (io.Closer, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, err
	}
	err = retryInterrupted(func() error {
		return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	})
	if err == nil {
		return file, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w (%s is locked)", ErrLocked, name)
	} else {
		err = &fs.PathError{Op: "flock", Path: name, Err: err}
	}
	return nil, errors.Join(err, file.Close())
}

// diskFile adds the methods of File that *os.File lacks. Allocate, SyncData and Direct depend on
// the operating system and are in other files.
type diskFile struct{ *os.File }

func (f diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// extend makes the file at least size bytes long without reserving space.
func (f diskFile) extend(size int64) error {
	if now, err := f.Size(); err != nil || now >= size {
		return err
	}
	return f.Truncate(size)
}

// retryInterrupted repeats a system call that a signal interrupted before it did anything.
func retryInterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
