package ledger

// BlockBytes is the unit of all writes to a segment: the largest that disks ask
// of writes that go past the operating system's cache.
const BlockBytes = 4 << 10

// appendBytesMax is how much an Appender writes at once: as much as two event loops hand over when they are busy, so that
// a group is one write. Large runs are copied in one piece for the same reason that they are not written by
// way of the cache: from 1 MiB on, Go copies past the processor's cache.
// A ledger with small groups never needs so much: its buffer has appendBytesMin.
const (
	appendBytesMax = 4 << 20
	appendBytesMin = 512 << 10
)

// A sync after a write to space that is reserved but was never written waits for the file system, too, which has to note that
// it is written now. So a write of at most smallBytes takes zeros along for the next zeroAheadBytes,
// and the small ones that follow find written space: a group of 8 kB and its sync take 190 us instead of 340, and half
// the processor time. Large ones are better off without.
const (
	smallBytes     = 128 << 10
	zeroAheadBytes = 256 << 10
)

// Appender writes bytes one behind the other into a file, in whole blocks: what the last block lacks is zeros,
// and it is written again when there is more for it. A crash may leave any of its sectors as it was
// before; those that were full have not changed.
//
// It is how a ledger writes, and how a benchmark measures the disk without a ledger. It belongs to one goroutine.
type Appender struct {
	file    File
	buf     []byte // whole blocks of memory, aligned to blocks; grows to appendBytesMax
	base    int64  // where buf goes in the file, a multiple of BlockBytes
	used    int    // bytes of buf; always less than len(buf)
	written int    // of used: what is in the file already; less than a block

	ahead  bool  // whether zeros are written ahead
	size   int64 // of the file, reserved, whole blocks
	zeroed int64 // where the zeros end that were written ahead
}

// NewAppender makes one that writes zeros ahead or not; see smallBytes. Start comes first.
func NewAppender(ahead bool) *Appender {
	return &Appender{buf: Buffer(BlockBytes), ahead: ahead}
}

// Start makes file, of that size, the one that is written, from offset on. begun is what the block with that offset begins with, and
// is in the file.
func (a *Appender) Start(file File, size, offset int64, begun []byte) {
	a.file, a.base, a.size, a.zeroed = file, offset-int64(len(begun)), size, 0
	a.used = copy(a.buf, begun)
	a.written = a.used
}

// grow makes room for n bytes more, as far as there may be.
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

// Reserve makes the file larger, to size rounded up to whole blocks.
func (a *Appender) Reserve(size int64) error {
	size = roundUp(size)
	if err := a.file.Allocate(size); err != nil {
		return err
	}
	a.size = size
	return nil
}

// Offset is where the next byte goes.
func (a *Appender) Offset() int64 { return a.base + int64(a.used) }

// Append takes p, which is the caller's again afterwards. It writes only what fills the buffer.
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

// Flush writes what was appended.
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
