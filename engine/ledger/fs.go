package ledger

import "io"

// FS is the file system as a ledger needs it. [Disk] is the real one. Tests have others, which
// crash, fill up and fail. Names are paths as filepath.Join makes them.
//
// "Durable" means that it survives a crash of the machine. Unless a method says so, its effect is
// NOT durable when it returns. Errors for files that don't exist match fs.ErrNotExist. If Scans run
// in goroutines of their own, the methods are called concurrently.
type FS interface {
	// MkdirAll creates a directory and its missing parents. The names that it creates are durable
	// when it returns. It succeeds if the directory exists.
	MkdirAll(dir string) error

	// ReadDir returns the names in a directory, without its path, in any order.
	ReadDir(dir string) ([]string, error)

	// OpenFile opens a file. The flag is os.O_RDONLY, os.O_RDWR, or
	// os.O_RDWR|os.O_CREATE|os.O_EXCL, which makes a new and empty file. A new name is durable
	// after SyncDir.
	OpenFile(name string, flag int) (File, error)

	// Remove removes a file. The removal is durable after SyncDir.
	Remove(name string) error

	// Rename gives a file another name in its directory. A file that has that name already is
	// replaced: at no time is there none, also not behind a crash. It is durable after SyncDir.
	Rename(name, to string) error

	// SyncDir makes all names that were created, removed or given in a directory durable.
	SyncDir(dir string) error

	// Lock takes an exclusive lock on the file, and creates the file if needed. If another holds
	// the lock, it fails at once with ErrLocked. The lock ends when it is closed or the process
	// ends.
	Lock(name string) (io.Closer, error)
}

// freeFS is an FS that knows how much space is free. Only messages depend on it.
type freeFS interface {
	// Free returns how many bytes are free on the file system that holds dir, or would hold it.
	Free(dir string) (int64, error)
}

// File is an open segment or seal. One goroutine uses it. Others may have the same file open for
// reading.
type File interface {
	// ReadAt does what io.ReaderAt says.
	io.ReaderAt

	// WriteAt does what io.WriterAt says: it writes all of p, or returns an error. It doesn't keep
	// p. The bytes are durable after Sync or SyncData. Until then a crash may leave any of their
	// sectors (512 bytes, aligned) as they were before. So may an error, or the end of the process
	// during the call.
	io.WriterAt

	// Direct makes later calls of WriteAt bypass the operating system's cache, if the file system
	// can. They must then write whole blocks of BlockBytes, to an offset and from an address that
	// are multiples of BlockBytes.
	Direct() error

	// Truncate cuts the file to size. It is durable after Sync.
	Truncate(size int64) error

	// Allocate makes the file at least size bytes long; the new bytes are zero. It reserves their
	// space where the file system can, so that later writes can't run out of it. It is durable
	// after Sync.
	Allocate(size int64) error

	// SyncData makes durable what was written, and what reading it back needs, such as a larger
	// size.
	SyncData() error

	// Sync makes everything durable: what was written, allocated and truncated.
	Sync() error

	// Size returns the file's length in bytes.
	Size() (int64, error)

	// Close releases the file. It makes nothing durable.
	Close() error
}
