package load

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// piecesMax is how many slices one system call takes (IOV_MAX).
const piecesMax = 1024

func reserve(f *os.File, offset, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, offset, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return f.Truncate(offset + size)
	}
	return os.NewSyscallError("fallocate", err)
}

func writeAll(f *os.File, pieces [][]byte, offset int64) error {
	for len(pieces) > 0 {
		some := pieces[:min(len(pieces), piecesMax)]
		var size int64
		for _, p := range some {
			size += int64(len(p))
		}
		n, err := unix.Pwritev(int(f.Fd()), some, offset)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return os.NewSyscallError("pwritev", err)
		case err == nil && int64(n) < size:
			return os.NewSyscallError("pwritev", io.ErrShortWrite)
		case err == nil:
			pieces, offset = pieces[len(some):], offset+size
		}
	}
	return nil
}

func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
