package mesh

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// FuzzHello reads what anybody may send first. What is taken is what would be sent.
func FuzzHello(f *testing.F) {
	f.Add(hello{mesh: [16]byte{1, 2}, lane: bulk, from: 3, to: 1}.encode())
	f.Add([]byte(helloMagic))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(iotest.OneByteReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		if want := h.encode(); len(b) < len(want) || !bytes.Equal(b[:len(want)], want) {
			t.Errorf("%x is taken as %+v", b, h)
		}
	})
}

// FuzzMessages reads any stream as messages. Together with their lengths they are what was read.
func FuzzMessages(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03abc\x00\x00\x00\x00\x00\x00\x00\x01d"), uint8(2))
	f.Add([]byte("\x00\x00\x10\x00short"), uint8(1))
	f.Add([]byte("\xff\xff\xff\xff"), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		in := io.Reader(bytes.NewReader(b))
		if piece%2 == 1 {
			in = iotest.HalfReader(in)
		}
		read := 0
		largest := 0
		for {
			message, err := readMessage(in, largest)
			if cap(message) > 4<<20+2*len(b) {
				t.Errorf("%d bytes are held for a stream of %d", cap(message), len(b))
			}
			if err != nil {
				if errors.Is(err, errMessageTooLarge) {
					return
				}
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				return
			}
			largest = max(largest, len(message))
			end := read + frameHeaderBytes + len(message)
			if end > len(b) || !bytes.Equal(b[read+frameHeaderBytes:end], message) {
				t.Fatalf("read %x at %d of %x", message, read, b)
			}
			read = end
		}
	})
}
