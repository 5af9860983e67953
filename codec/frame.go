package codec

import (
	"errors"
	"fmt"
	"strconv"
)

// FrameBytesMaxDefault is the default limit of an agency-to-server payload, in
// bytes (SERVER_FRAME_BYTES_MAX).
const FrameBytesMaxDefault = 64 << 10

// FrameBytesMaxLimit is the largest value of SERVER_FRAME_BYTES_MAX, in bytes. A batch must fit
// into one ledger record.
const FrameBytesMaxLimit = 16 << 20

// ReplyBytesMaxDefault is the default limit of a server-to-agency payload, in
// bytes (AGENCY_REPLY_BYTES_MAX). It is generous because an agency's winners are
// one frame.
const ReplyBytesMaxDefault = 64 << 20

var (
	// ErrFrameHeader says that a frame's header is not a length. Nobody can tell where the next
	// frame begins, so the connection has to be closed.
	ErrFrameHeader = errors.New("frame header is not a length")
	// ErrFrameTooLarge says that a frame's length is over the limit. The header alone tells it,
	// before the payload is read.
	ErrFrameTooLarge = errors.New("frame is too large")
)

// FrameLen reads the header of the frame that b begins with.
//
// It returns the length of the header with its '\n', and the length of the whole frame with its
// header, in bytes. While b doesn't hold the whole header yet, header is 0 and total is len(b)+1:
// the frame needs at least one more byte.
//
// payloadBytesMax is at most math.MaxInt/16.
//
// FrameLen checks the header digit by digit. So the error (ErrFrameHeader or ErrFrameTooLarge) is
// the same however the network cut the bytes.
func FrameLen(b []byte, payloadBytesMax int) (header, total int, err error) {
	n := 0
	for i, c := range b {
		switch {
		case '0' <= c && c <= '9':
			if i == 1 && b[0] == '0' {
				return 0, 0, fmt.Errorf("%w: leading zero", ErrFrameHeader)
			}
			n = n*10 + int(c-'0')
			if n > payloadBytesMax {
				return 0, 0, fmt.Errorf("%w: over %d bytes", ErrFrameTooLarge, payloadBytesMax)
			}
		case c == '\n' && i > 0:
			return i + 1, i + 1 + n, nil
		default:
			return 0, 0, fmt.Errorf("%w: byte %d is %q", ErrFrameHeader, i, c)
		}
	}
	return 0, len(b) + 1, nil
}

// SplitFrame takes the first frame off b, and returns its payload and the rest of b. While the
// frame is not complete, ok is false and rest is b; that is not an error. Errors and limits are
// those of [FrameLen]. payload and rest alias b; payload has no spare capacity, so appending to it
// copies it.
func SplitFrame(b []byte, payloadBytesMax int) (payload, rest []byte, ok bool, err error) {
	header, total, err := FrameLen(b, payloadBytesMax)
	if err != nil || header == 0 || total > len(b) {
		return nil, b, false, err
	}
	return b[header:total:total], b[total:], true, nil
}

// AppendFrame appends payload as a frame to dst.
func AppendFrame(dst, payload []byte) []byte {
	return append(AppendFrameHeader(dst, len(payload)), payload...)
}

// AppendFrameHeader appends to dst the header of a frame whose payload has payloadBytes bytes. The
// caller appends the payload.
func AppendFrameHeader(dst []byte, payloadBytes int) []byte {
	return append(strconv.AppendInt(dst, int64(payloadBytes), 10), '\n')
}
