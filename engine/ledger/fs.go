package ledger

import "io"

// FS is all that a ledger asks of a file system. [Disk] is the real one; tests have
// others, which crash, fill up and fail. Names are paths as filepath.Join makes them.
//
// "Durable" means: survives a crash of the machine. Unless a method says so, what it does is NOT durable
// when it returns. Errors for files that don't exist match fs.ErrNotExist.
type FS interface {
	// MkdirAll creates a directory and the parents that are missing. The names of those it
	// creates are durable when it returns. A directory that exists is no error.
	MkdirAll(dir string) error

	// ReadDir returns the names in a directory, without the path, in any order.
	ReadDir(dir string) ([]string, error)

	// OpenFile opens a file with one of three flags: os.O_RDONLY, os.O_RDWR,
	// or os.O_RDWR|os.O_CREATE|os.O_EXCL, which makes a new and empty one. A new name
	// is durable after SyncDir.
	OpenFile(name string, flag int) (File, error)

	// Remove removes a file. That it is gone is durable after SyncDir.
	Remove(name string) error

	// SyncDir makes the names in a directory durable, as they are: what was created is there, what was removed is not.
	SyncDir(dir string) error

	// Lock takes the exclusive lock that the file stands for, creating the file if need be, or fails at
	// once with ErrLocked. The lock ends when it is closed or when the process ends, however it ends.
	Lock(name string) (io.Closer, error)
}

// freeFS is an FS that can say how much room it has. Only messages depend on that.
type freeFS interface {
	// Free is how many bytes may still be taken of the file system that holds dir, or is to hold it.
	Free(dir string) (int64, error)
}

// File is an open segment. One goroutine uses it; other Files may be open on the same segment for reading.
type File interface {
	// ReadAt is as io.ReaderAt has it.
	io.ReaderAt

	// WriteAt is as io.WriterAt has it: p is written whole, or there is an error. The bytes are durable after
	// Sync or SyncData. Until then a crash may leave any of their sectors (512 bytes, aligned) as it was
	// before; so may an error, or the end of the process during the call. p is not kept.
	io.WriterAt

	// Direct asks that from now on WriteAt goes past the operating system's cache, where the file system can do
	// that. Every WriteAt is then of whole blocks of BlockBytes, to a multiple of BlockBytes, from memory that begins at one.
	Direct() error

	// Truncate cuts the file to size. It is durable after Sync.
	Truncate(size int64) error

	// Allocate makes the file at least size bytes long, the new ones zero, and reserves their
	// space where the file system can, so that later writes don't run out of it. It is durable after Sync.
	Allocate(size int64) error

	// SyncData makes durable what was written, and as much else as reading it back takes.
	SyncData() error

	// Sync makes everything durable: what was written, allocated and truncated.
	Sync() error

	// Size is the file's length in bytes.
	Size() (int64, error)

	// Close releases the file. It makes nothing durable.
	Close() error
}
