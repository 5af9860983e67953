package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// readable is the mode of files that everybody may read, whatever the process's umask is.
const readable = 0o644

// newTemporary makes a file beside name, which may get that name when it is finished. Until then
// only the user can read it.
func newTemporary(name string) (*os.File, error) {
	return os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
}

// finishTemporary writes the content of a temporary file, syncs it and closes it. The file is closed
// after an error, too.
func finishTemporary(temp *os.File, content []byte, mode fs.FileMode) error {
	_, err := temp.Write(content)
	return errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
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
