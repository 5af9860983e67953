package engine

import (
	"sync/atomic"

	"go.uber.org/zap"

	"loteria/codec"
)

// limit is one of the bounds that a peer can run into. Each is a setting, has
// an error that the peer is told, and is counted.
//
//	limit                 setting                         the peer is told
//	connections           SERVER_CONNECTIONS_MAX          ERROR_TOO_MANY_CONNECTIONS
//	of one source         SERVER_CONNECTIONS_PER_SOURCE   ERROR_TOO_MANY_CONNECTIONS
//	bytes of a frame      SERVER_FRAME_BYTES_MAX          ERROR_FRAME_TOO_LARGE
//	unanswered frames     SERVER_WINDOW                   ERROR_WINDOW_EXCEEDED
//	time to say a frame   SERVER_READ_TIMEOUT             ERROR_TIMEOUT
//	bytes unread          SERVER_UNREAD_BYTES_MAX         nothing: it does not read; it is closed
//	time to read          SERVER_READ_TIMEOUT             nothing, as above
//	bytes queued          SERVER_QUEUE_BYTES_MAX          nothing: its loop stops reading until there is room
//
// # The bound on memory
//
// What peers can make the server hold is at most, in bytes,
//
//	connections x (session + SERVER_FRAME_BYTES_MAX + SERVER_UNREAD_BYTES_MAX)
//	+ 4 x max(SERVER_QUEUE_BYTES_MAX, 2 x SERVER_EVENT_LOOPS x SERVER_FRAME_BYTES_MAX)
//
// where connections is SERVER_CONNECTIONS_MAX and session is SessionBytesMax.
// Who has to authenticate and has not yet, has codec.AuthenticationBytesMax in
// place of SERVER_FRAME_BYTES_MAX. A frame that has not come whole is kept in a
// buffer of its length; a peer that has said something can at the same time leave
// answers unread: up to the limit and one write more, of at most 32 kB. Winners of
// more than 16 kB are not copied for those who are slow to read them, and who has
// asked many times is one entry of 80 bytes until the answers are written. Each of
// a loop's two batches holds its share of the queue, or one record in any case,
// and, if every bet wins, the lines a second time; requests and answers, of 300
// bytes for each batch and held until they are sent, take as much again at worst.
// The garbage collector may let the heap grow by GOGC percent beyond all that. The
// tests of cmd/loteria measure it with 5,000 peers at their worst: 2 kB each for
// those who say nothing, 6 kB for those who announce a frame, 77 kB for those who
// keep back the last byte of one of 64 kB; winners that nobody reads cost nothing.
type limit uint8

const (
	limitConnections limit = iota
	limitSource
	limitFrameBytes
	limitWindow
	limitReadTime
	limitUnreadBytes
	limitUnreadTime
	limitQueueBytes
	limits
)

// limitKeys are the limits' names in the log.
var limitKeys = [limits]string{
	limitConnections: "conexiones",
	limitSource:      "conexiones_por_origen",
	limitFrameBytes:  "trama_bytes",
	limitWindow:      "ventana",
	limitReadTime:    "espera",
	limitUnreadBytes: "sin_leer_bytes",
	limitUnreadTime:  "sin_leer_espera",
	limitQueueBytes:  "cola_bytes",
}

// SessionBytesMax bounds what a connection takes beside its frame and its unread
// answers: gnet's part, ours, and the answers on their way to it.
const SessionBytesMax = 4 << 10

// limitOfCode tells which limit an error is about.
func limitOfCode(code codec.Code) (l limit, ok bool) {
	switch code {
	case codec.CodeFrameTooLarge:
		return limitFrameBytes, true
	case codec.CodeWindowExceeded:
		return limitWindow, true
	case codec.CodeTimeout:
		return limitReadTime, true
	}
	return 0, false
}

// counters say how often each limit was run into. They may be used from any
// goroutine.
type counters [limits]atomic.Int64

func (c *counters) count(l limit) int64 { return c[l].Add(1) }

// fields are the counters for the log.
func (c *counters) fields() []zap.Field {
	fields := []zap.Field{zap.String("result", "success")}
	for l := range c {
		fields = append(fields, zap.Int64(limitKeys[l], c[l].Load()))
	}
	return fields
}
