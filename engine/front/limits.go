package front

import "sync/atomic"

// Limit is a bound that a peer can run into. Each has a setting and a counter, and most have an
// error that the peer is told.
//
//	limit                 setting                         the peer is told
//	TLS handshakes        SERVER_TLS_HANDSHAKES           nothing: it does not go on; it is closed
//	connections           SERVER_CONNECTIONS_MAX          ERROR_TOO_MANY_CONNECTIONS
//	of one source         SERVER_CONNECTIONS_PER_SOURCE   ERROR_TOO_MANY_CONNECTIONS
//	bytes of a frame      SERVER_FRAME_BYTES_MAX          ERROR_FRAME_TOO_LARGE
//	unanswered frames     SERVER_WINDOW                   ERROR_WINDOW_EXCEEDED
//	time to say a frame   SERVER_READ_TIMEOUT             ERROR_TIMEOUT
//	bytes half sent       SERVER_PARTIAL_BYTES_MAX        ERROR_TIMEOUT, if its half frame is the oldest
//	bytes unread          SERVER_UNREAD_BYTES_MAX         nothing: it does not read; it is closed
//	time to read          SERVER_READ_TIMEOUT             nothing, as above
//	bytes queued          SERVER_QUEUE_BYTES_MAX          nothing: its loop stops reading until there is room
//
// # The bound on memory
//
// The peers can make the server hold at most, in bytes,
//
//	connections x (session + SERVER_UNREAD_BYTES_MAX)
//	+ 9/8 x SERVER_PARTIAL_BYTES_MAX + SERVER_EVENT_LOOPS x (frame + 64 x min(frame, 128 kB))
//	+ 4 x max(SERVER_QUEUE_BYTES_MAX, 2 x SERVER_EVENT_LOOPS x SERVER_FRAME_BYTES_MAX)
//
// where connections is SERVER_CONNECTIONS_MAX, session is SessionBytesMax, or SecureSessionBytesMax
// over TLS, and frame is the buffer
// of the largest frame: SERVER_FRAME_BYTES_MAX plus less than 9 kB for the header and the
// allocator's rounding.
//
// Half frames: each is kept in a buffer that grows up to the frame's length, and the buffers of all
// connections count together (half_frames.go). A loop checks the sum after each read, and a read leaves
// at most one buffer larger than it was. Over the limit the loop refuses the oldest half frame. If
// that is another loop's, it asks that loop, which may be busy or waiting for the disk. Over 9/8 of
// the limit it doesn't wait for the other loop, and refuses its own oldest. So on top of 9/8 comes
// at most one buffer for each loop: the one that it has just made larger. Each loop also keeps up
// to 64 buffers for its next half frames.
//
// Unread answers: a peer can at the same time leave unread as many bytes as its limit says, and one
// more write of at most 32 kB. Winners of more than 16 kB are not copied for slow readers. A peer
// that has asked many times is one entry of 80 bytes until the answers are written.
//
// Queue: each of a loop's two intakes holds its share of the queue, but one record in any case. If
// every bet wins, it holds the lines a second time. Requests and answers take 300 bytes for each
// batch and are held until the answers are sent: at worst as much again.
//
// The garbage collector may let the heap grow by GOGC percent beyond all that, which
// `loteria server` sets to 10.
//
// The tests of cmd/loteria measure it with 5,000 peers at their worst. Each peer takes 1.2 kB if it
// says nothing, and 5.4 kB if it announces a frame. Of peers that keep back the last byte of a
// frame of 64 kB, 1,820 are kept, and 150 MB in all. Winners that nobody reads cost nothing.
type Limit uint8

// The limits.
const (
	LimitConnections Limit = iota
	LimitSource
	LimitFrameBytes
	LimitWindow
	LimitReadTime
	LimitPartialBytes
	LimitUnreadBytes
	LimitUnreadTime
	LimitQueueBytes
	LimitHandshakes
	limits // how many there are
)

// limitKeys are the limits' names in the log.
var limitKeys = [limits]string{
	LimitConnections:  "conexiones",
	LimitSource:       "conexiones_por_origen",
	LimitFrameBytes:   "trama_bytes",
	LimitWindow:       "ventana",
	LimitReadTime:     "espera",
	LimitPartialBytes: "parciales_bytes",
	LimitUnreadBytes:  "sin_leer_bytes",
	LimitUnreadTime:   "sin_leer_espera",
	LimitQueueBytes:   "cola_bytes",
	LimitHandshakes:   "saludos_tls",
}

// SessionBytesMax bounds what a connection takes besides its half frame and its unread answers:
// gnet's part, ours, and the answers on their way to it.
const SessionBytesMax = 4 << 10

// SecureSessionBytesMax is SessionBytesMax for a connection over TLS. A waiting agency takes 13 kB with
// a certificate, and 9 kB without. One that has sent larger records takes up to 18 kB more, because
// crypto/tls keeps its buffer. The rest is for a peer that makes its handshake as long as it can, and
// reads nothing, so that a sealed record waits for it.
const SecureSessionBytesMax = 128 << 10

// counters say how often each limit was run into, except LimitQueueBytes, which the stages count.
// Any goroutine may use them.
type counters [limits]atomic.Int64

func (c *counters) count(l Limit) int64 { return c[l].Add(1) }
