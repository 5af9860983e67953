package load

import (
	"bytes"

	"loteria/codec"
)

var (
	ackFrame = codec.AppendAck(nil)
	// manyACKs is what a server says to well-behaved agencies. Comparing with it
	// counts the ACKs of a read at the price of one comparison of memory.
	manyACKs = bytes.Repeat(ackFrame, readBytes/len(ackFrame)+2)
)

// readBytes is the most that a lane reads at once.
const readBytes = 4 << 10

// ackCounter counts ACKs in a stream of bytes that is cut anywhere.
type ackCounter struct {
	begun int // bytes of an ACK that have come
}

// take counts the ACKs that in, of at most readBytes, completes. other is nil,
// or what stands there instead of an ACK, from where its frame begins.
func (a *ackCounter) take(in []byte) (acks int, other []byte) {
	expected := manyACKs[a.begun:]
	same := len(in)
	if !bytes.Equal(in, expected[:len(in)]) {
		for same = 0; in[same] == expected[same]; same++ {
		}
	}
	total := a.begun + same
	acks, a.begun = total/len(ackFrame), total%len(ackFrame)
	if same < len(in) {
		other = append(append(other, ackFrame[:a.begun]...), in[same:]...)
	}
	return acks, other
}
