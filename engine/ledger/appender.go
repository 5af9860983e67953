package ledger

// BlockBytes is the unit in which an [Appender] writes. It is the largest unit that disks require
// of writes that bypass the operating system's cache.
const BlockBytes = 4 << 10

// An Appender writes at most appendBytesMax at once: as much as two event loops hand over when they
// are busy, so that their group is one write. A large run is copied in one piece, because Go's
// copy bypasses the processor's cache from 1 MiB on. With small groups the buffer stays at
// appendBytesMin.
const (
	appendBytesMax = 4 << 20
	appendBytesMin = 512 << 10
)

// The first write to reserved space makes its sync slower, because the file system has to note that
// the space is written now. So a write of at most smallBytes also writes zeros to the next
// zeroAheadBytes, and the small writes after it find written space: a group of 8 kB and its sync
// take 190 us instead of 340, and half the processor time. Large writes are faster without.
const (
	smallBytes     = 128 << 10
	zeroAheadBytes = 256 << 10
)

// Appender appends bytes to a file in whole blocks. Zeros fill the last block, and it is written
// again when more bytes follow. A crash may then leave any of its sectors as they were before; in
// the full ones nothing has changed.
//
// A ledger writes with an Appender, and a benchmark measures the disk with one. It belongs to one
// goroutine.
type Appender struct {
	file    File
	buf     []byte // whole blocks, aligned to blocks; grows to appendBytesMax
	base    int64  // where buf goes in the file, a multiple of BlockBytes
	used    int    // how many bytes of buf are used; between calls, less than len(buf)
	written int    // how many of these are in the file already; less than a block

	ahead  bool  // whether zeros are written ahead
	size   int64 // reserved size of the file, in whole blocks
	zeroed int64 // where the zeros end that were written ahead
}

// NewAppender makes an Appender. ahead says whether small writes also write zeros to the space
// after them, which makes the next small writes faster. Call Start before the other methods.
func NewAppender(ahead bool) *Appender {
	return &Appender{buf: Buffer(BlockBytes), ahead: ahead}
}

// Start directs what is appended to file, from offset on. size is the file's reserved size, in
// whole blocks. begun is the content of the block that offset lies in, up to offset; it is in the
// file already. Start copies it.
func (a *Appender) Start(file File, size, offset int64, begun []byte) {
	a.file, a.base, a.size, a.zeroed = file, offset-int64(len(begun)), size, 0
	a.used = copy(a.buf, begun)
	a.written = a.used
}

// grow enlarges the buffer for n more bytes, up to appendBytesMax.
func (a *Appender) grow(n int) {
	if len(a.buf) == appendBytesMax || len(a.buf) >= appendBytesMin && a.used+n < len(a.buf) {
		return
	}
	size := appendBytesMin
	if a.used+n >= appendBytesMin {
		size = appendBytesMax
	}
	grown := Buffer(size)
	copy(grown, a.buf[:a.used])
	a.buf = grown
}

// Reserve makes the file at least size bytes long, rounded up to whole blocks.
func (a *Appender) Reserve(size int64) error {
	size = roundUp(size)
	if err := a.file.Allocate(size); err != nil {
		return err
	}
	a.size = size
	return nil
}

// Offset returns where in the file the next byte goes.
func (a *Appender) Offset() int64 { return a.base + int64(a.used) }

// Append copies p into the buffer, and writes the buffer whenever it is full.
func (a *Appender) Append(p []byte) error {
	a.grow(len(p))
	for len(p) > 0 {
		n := copy(a.buf[a.used:], p)
		p = p[n:]
		if a.used += n; a.used == len(a.buf) {
			if err := a.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Flush writes what was appended and isn't written yet. It doesn't sync.
func (a *Appender) Flush() error {
	if a.used == a.written {
		return nil
	}
	end := int(roundUp(int64(a.used)))
	if a.ahead && end <= smallBytes && a.base+int64(end) > a.zeroed {
		end = int(min(int64(end+zeroAheadBytes), int64(len(a.buf)), a.size-a.base))
		a.zeroed = a.base + int64(end)
	}
	clear(a.buf[a.used:end])
	if _, err := a.file.WriteAt(a.buf[:end], a.base); err != nil {
		return err
	}
	full := a.used &^ (BlockBytes - 1)
	a.base += int64(full)
	a.used = copy(a.buf, a.buf[full:a.used])
	a.written = a.used
	return nil
}

func roundUp(n int64) int64 { return (n + BlockBytes - 1) &^ (BlockBytes - 1) }
