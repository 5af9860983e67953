package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// readBytes is how much is read at once. It is small enough to stay in the processor's cache until
// its checksum is computed, and large enough that the calls cost little.
const readBytes = 256 << 10

// reader reads a file forwards through one buffer, which grows only for a larger record.
type reader struct {
	file   File
	size   int64 // of the file, when reset or grow last looked; less if a read met an earlier end
	offset int64 // of the next unread byte
	buf    []byte
	pos    int // buf[pos:end] holds the bytes from offset on
	end    int
}

// reset starts on another file. It keeps the buffer.
func (r *reader) reset(file File) error {
	size, err := file.Size()
	if err != nil {
		return err
	}
	r.file, r.size = file, size
	if want := min(readBytes, size); int64(len(r.buf)) < want {
		r.buf = make([]byte, want)
	}
	r.seek(0)
	return nil
}

// grow reports whether the file has grown. If so, what follows is read again.
func (r *reader) grow() (bool, error) {
	size, err := r.file.Size()
	if err != nil || size <= r.size {
		return false, err
	}
	r.size = size
	r.seek(r.offset)
	return true, nil
}

// seek goes to an offset and empties the buffer: what follows is read again.
func (r *reader) seek(offset int64) { r.offset, r.pos, r.end = offset, 0, 0 }

// peek returns the next n bytes without consuming them, or fewer at the end of the file. The slice
// is valid until the next call of peek or reset.
func (r *reader) peek(n int) ([]byte, error) {
	if r.end-r.pos >= n {
		return r.buf[r.pos : r.pos+n], nil
	}
	return r.fill(n)
}

func (r *reader) fill(n int) ([]byte, error) {
	n = min(n, int(max(r.size-r.offset, 0))) // so that a short file needs no large buffer
	if n > len(r.buf) {
		grown := make([]byte, (n+readBytes-1)/readBytes*readBytes)
		r.end = copy(grown, r.buf[r.pos:r.end])
		r.buf = grown
	} else {
		r.end = copy(r.buf, r.buf[r.pos:r.end])
	}
	r.pos = 0
	at := r.offset + int64(r.end)
	if want := min(int64(len(r.buf)-r.end), r.size-at); want > 0 {
		got, err := r.file.ReadAt(r.buf[r.end:r.end+int(want)], at)
		r.end += got
		switch {
		case int64(got) == want:
		case errors.Is(err, io.EOF):
			r.size = at + int64(got) // the file was cut in the meantime
		default:
			return nil, fmt.Errorf("read at offset %d: %w", at, err)
		}
	}
	return r.buf[:min(n, r.end)], nil
}

// skip consumes n bytes that were peeked.
func (r *reader) skip(n int) {
	r.offset += int64(n)
	r.pos += n
}

// zeroToEnd reports whether only zeros follow, or nothing. It moves the reader.
func (r *reader) zeroToEnd() (bool, error) {
	for {
		b, err := r.peek(readBytes)
		if err != nil || len(b) == 0 {
			return err == nil, err
		}
		if !allZero(b) {
			return false, nil
		}
		r.skip(len(b))
	}
}

var zeros [4 << 10]byte

func allZero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
