package admin

import (
	"cmp"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"loteria/engine/admin/board"
)

// Descriptors is how many file descriptors a Server may use.
const Descriptors = connectionsMax + 2 // the listener, and a connection that is turned away

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
	// writeTimeoutDefault is how long a peer may take to read an answer, or an event of the board.
	writeTimeoutDefault = 5 * time.Second
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

	writeTimeout time.Duration // 0 stands for writeTimeoutDefault
}

// Server shows a Source over HTTP. Any goroutine may call its methods, and a nil Server's do
// nothing.
type Server struct {
	log        *zap.Logger // bounded, see quiet
	suppressed atomic.Int64
	door       *door
	http       http.Server
	stream     *stream
	metrics    *metrics
	scrapes    *scrapes
	source     atomic.Pointer[Source] // nil before Show
	served     chan struct{}          // closed when nothing is accepted any more
	closing    atomic.Bool
}

// Open listens, and serves at once, though nothing is ready before Show. Errors wrap ErrListen.
func Open(s Settings, log *zap.Logger) (*Server, error) {
	listener, err := net.Listen("tcp", s.Addr)
	if err != nil {
		return nil, fmt.Errorf("%w on SERVER_HTTP_ADDR=%s: %w", ErrListen, s.Addr, err)
	}
	return open(listener, s, log), nil
}

func open(listener net.Listener, s Settings, log *zap.Logger) *Server {
	a := &Server{served: make(chan struct{})}
	a.log = a.quiet(log)
	a.door = newDoor(listener, func() {
		a.log.Warn("http", zap.String("result", "fail"), zap.String("error", "too many connections"),
			zap.Int("limite", connectionsMax))
	})
	writeTimeout := cmp.Or(s.writeTimeout, writeTimeoutDefault)
	a.stream = newStream(a.state, writeTimeout)
	a.metrics = newMetrics(a.sample)
	a.scrapes = newScrapes(a.metrics.handler())
	a.http = http.Server{
		Handler:                      a.routes(s.Pprof),
		ReadHeaderTimeout:            headerTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               headerBytesMax,
		ConnState:                    a.door.turned,
		ErrorLog:                     stdlog.New(libraryLog{a.log}, "", 0),
		DisableGeneralOptionsHandler: true,
	}
	go a.serve()
	log.Info("http", zap.String("result", "in_progress"), zap.Stringer("addr", listener.Addr()))
	return a
}

func (a *Server) serve() {
	defer close(a.served)
	if err := a.http.Serve(a.door); !a.closing.Load() {
		a.log.Error("http", zap.String("result", "fail"), zap.NamedError("error", err),
			zap.String("aviso", "nothing is served over HTTP any more; the draw goes on"))
	}
}

// Addr is where the server listens. It is nil for a nil Server.
func (a *Server) Addr() net.Addr {
	if a == nil {
		return nil
	}
	return a.door.Addr()
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
// closes all connections. It waits for peers no longer than byeMax and hangUpMax together, 100 ms.
//
// If last is of a draw that took place, and Prometheus scrapes, Close goes on serving until a scrape
// has seen it: at most for three seconds, see awaitLast. Otherwise Prometheus would take a draw whose
// end falls between two scrapes for a server that went down. Browsers, and whoever else reads, are
// not waited for. It is called once.
func (a *Server) Close(last *board.State) error {
	if a == nil || a.closing.Swap(true) {
		return nil
	}
	stateErr := a.stream.end(last)
	if last != nil && last.Waiting+last.Uploading == 0 {
		a.scrapes.awaitLast()
	}
	a.http.SetKeepAlivesEnabled(false) // each connection is closed after its answer
	listenErr := a.door.Close()
	<-a.served
	empty := a.door.hangUp()
	if within(empty, byeMax) {
		return errors.Join(stateErr, listenErr)
	}
	// The listener is closed for the second time, which is an error that says nothing.
	_ = a.http.Close()
	within(empty, hangUpMax)
	return errors.Join(stateErr, listenErr)
}

// within reports whether done is closed by then.
func within(done <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
