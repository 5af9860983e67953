package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// lane is what a connection between two servers is for.
type lane uint8

const (
	urgent lane = iota // small messages that must not wait behind large ones
	bulk               // all others
	lanes              // how many there are

	stream // not a lane: bytes both ways, for one caller
)

// hello is what the dialling server says first.
type hello struct {
	mesh     [16]byte // which one
	lane     lane
	from, to uint64
}

const (
	helloMagic = "LOTERIA MESH 1\n" // the digit is the version
	helloBytes = len(helloMagic) + 1 + 16 + 8 + 8

	// welcome is what a server says that takes the connection.
	welcome = "TAKEN\n"
)

// errHello says that a connection doesn't begin as those of this mesh do.
var errHello = errors.New("not a server of this mesh")

func (h hello) encode() []byte {
	b := append(make([]byte, 0, helloBytes), helloMagic...)
	b = append(b, byte(h.lane))
	b = append(b, h.mesh[:]...)
	b = binary.BigEndian.AppendUint64(b, h.from)
	return binary.BigEndian.AppendUint64(b, h.to)
}

// readHello reads a hello, and nothing behind it. The first wrong byte of the magic ends it.
func readHello(r io.Reader) (h hello, err error) {
	var b [helloBytes]byte
	for n := range len(helloMagic) {
		if _, err := io.ReadFull(r, b[n:n+1]); err != nil {
			return h, err
		}
		if b[n] != helloMagic[n] {
			return h, fmt.Errorf("%w: it begins with %q", errHello, b[:n+1])
		}
	}
	rest := b[len(helloMagic):]
	if _, err := io.ReadFull(r, rest); err != nil {
		return h, err
	}
	h.lane = lane(rest[0])
	copy(h.mesh[:], rest[1:])
	h.from, h.to = binary.BigEndian.Uint64(rest[17:]), binary.BigEndian.Uint64(rest[25:])
	if h.lane >= lanes && h.lane != stream {
		return h, fmt.Errorf("%w: lane %d", errHello, h.lane)
	}
	return h, nil
}

// MessageBytesMax is the size of the largest message.
const MessageBytesMax = 64 << 20

const frameHeaderBytes = 4

// errMessageTooLarge says that a message is over MessageBytesMax.
var errMessageTooLarge = errors.New("message too large")

// readMessage reads the next message into memory of its own. A peer is trusted with as much memory as
// its largest message so far took; more comes with what has come, so that a length alone costs nothing.
func readMessage(r io.Reader, trusted int) ([]byte, error) {
	var header [frameHeaderBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(header[:]))
	if size > MessageBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are legal", errMessageTooLarge, size, MessageBytesMax)
	}
	const step = 1 << 20
	message := make([]byte, 0, min(size, max(trusted, step)))
	for len(message) < size {
		have, want := len(message), min(size, max(len(message)+step, cap(message)))
		if want > cap(message) {
			grown := make([]byte, want, min(size, max(2*cap(message), want)))
			copy(grown, message)
			message = grown
		}
		message = message[:want]
		if _, err := io.ReadFull(r, message[have:]); err != nil {
			return message[:0], unexpected(err)
		}
	}
	return message, nil
}

// unexpected is the error of a stream that ends within a message.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
