package load

import (
	"bytes"

	"loteria/codec"
)

var (
	ackFrame = codec.AppendAck(nil)
	// manyACKs is what a server sends if it rejects nothing. Comparing a read with it counts the
	// ACKs at the cost of one memory comparison.
	manyACKs = bytes.Repeat(ackFrame, readBytes/len(ackFrame)+2)
)

// readBytes is the most that a lane reads at once, in bytes.
const readBytes = 4 << 10

// ackCounter counts ACKs in a stream of bytes that may be cut anywhere.
type ackCounter struct {
	begun int // bytes of an incomplete ACK that have come
}

// take counts the ACKs that in completes. in has at most readBytes. other is nil, or what came
// instead of an ACK, from the start of its frame.
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
