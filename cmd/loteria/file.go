package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Modes of files. They don't depend on the process's umask.
const (
	readable = 0o644
	private  = 0o600
)

// newTemporary makes a file beside name, which may get that name when it is finished. Until then
// only the user can read it.
func newTemporary(name string) (*os.File, error) {
	return os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
}

// finishTemporary writes the content of a temporary file, syncs it and closes it, also after an
// error.
func finishTemporary(temp *os.File, content []byte, mode fs.FileMode) error {
	_, err := temp.Write(content)
	return errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
}

// writeNew writes a file that is not there yet; if it is, the error wraps [fs.ErrExist]. The file
// appears complete or not at all. Its name is durable after syncFolder.
//
// A link never replaces a file, and a rename does. So the file system has to have hard links. Those
// that have none, such as FAT, have no modes either, and are no place for a key.
func writeNew(name string, content []byte, mode fs.FileMode) error {
	return writeWhole(name, content, mode, os.Link)
}

// writeAnew is writeNew for a file that may be there. An old file is replaced as a whole.
func writeAnew(name string, content []byte, mode fs.FileMode) error {
	return writeWhole(name, content, mode, os.Rename)
}

func writeWhole(
	name string, content []byte, mode fs.FileMode, publish func(temporary, name string) error,
) (err error) {
	temp, err := newTemporary(name)
	if err != nil {
		return err
	}
	defer func() {
		// A rename has taken the temporary name away already.
		if errRemove := os.Remove(temp.Name()); !errors.Is(errRemove, fs.ErrNotExist) {
			err = errors.Join(err, errRemove)
		}
	}()
	if err := finishTemporary(temp, content, mode); err != nil {
		return err
	}
	return publish(temp.Name(), name)
}

// syncFolder makes the names in a folder durable.
func syncFolder(name string) error {
	folder, err := os.Open(name)
	if err == nil {
		err = errors.Join(folder.Sync(), folder.Close())
	}
	if errors.Is(err, fs.ErrPermission) ||
		errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil // the folder is not readable, or its file system can't sync folders
	}
	return err
}
