package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/channel"
)

const (
	// headBytesMax is how much of a first message tells whether the agency knows of leaders: a whole
	// HELLO, or AUTH, with its header. A longer one is a batch.
	headBytesMax = codec.AuthenticationBytesMax + len("70\n")
	// lingerMax is how long a peer may take to close behind its last answer. Closing at once could
	// destroy the answer.
	lingerMax = 2 * time.Second
	// copyBytes is the buffer of a relayed connection, for each direction.
	copyBytes = 32 << 10
	// warnPeriod is the least time between two warnings that peers have caused.
	warnPeriod = time.Second
	// acceptRetryDelay is how long to wait when nothing can be accepted.
	acceptRetryDelay = 50 * time.Millisecond
)

// Guide knows the way to the leader. Any goroutine may call its methods.
type Guide interface {
	// Leader is who leads, and its address for agencies. It may be this server. ok is false while
	// nobody is known to, and ready for agencies.
	Leader() (server uint64, addr string, ok bool)
	// SecureAddrOf is a server's address for agencies over TLS.
	SecureAddrOf(server uint64) string
	// Changed returns a channel that is closed when Leader's answer changes from what it is now.
	Changed() <-chan struct{}
	// Open opens a stream to a server that leads, or to this one. The stream is the caller's to close.
	Open(server uint64) (net.Conn, error)
}

// Settings are what a relay is made with. They mean what the server's settings of the same name mean.
type Settings struct {
	ReadTimeout    time.Duration
	ConnectionsMax int
	TLSHandshakes  int
}

// Relay answers agencies. Its methods may be called from any goroutine.
type Relay struct {
	settings Settings
	guide    Guide
	log      *zap.Logger
	slots    chan struct{}   // one for each connection
	life     context.Context // done when the relay is closed
	end      context.CancelFunc
	busy     sync.WaitGroup
	relayed  atomic.Int64
	directed atomic.Int64
	// A server whose agencies all come at once, because the leader is lost, has to hear of the other
	// servers in time, too.
	handshakes *channel.Handshakes
	warned     atomic.Int64 // when the last warning was logged, in Unix nanoseconds
	unsaid     atomic.Int64 // warnings since then
}

// New makes a relay.
func New(settings Settings, guide Guide, log *zap.Logger) *Relay {
	r := &Relay{settings: settings, guide: guide, log: log, slots: make(chan struct{}, settings.ConnectionsMax),
		handshakes: channel.NewHandshakes(settings.TLSHandshakes)}
	r.life, r.end = context.WithCancel(context.Background())
	return r
}

// Relayed is how many connections were passed on since the start.
func (r *Relay) Relayed() int64 { return r.relayed.Load() }

// Directed is how many agencies were told where the leader is, or that nobody leads.
func (r *Relay) Directed() int64 { return r.directed.Load() }

// Connections is how many are open.
func (r *Relay) Connections() int { return len(r.slots) }

// Close closes all connections, and returns when no goroutine of the relay is left. No Serve may run.
func (r *Relay) Close() {
	r.end()
	r.busy.Wait()
}

// Serve takes connections from l, over TLS if there are credentials, until ctx is done. Then it closes
// l and returns. It may be called for several listeners at the same time. The connections stay:
// an agency that waits for a leader must not lose its connection because this server has become it.
func (r *Relay) Serve(ctx context.Context, l net.Listener, credentials *channel.Credentials) {
	var closing sync.WaitGroup
	defer closing.Wait()
	closing.Go(func() { // and nothing of it is left: what closes late would close what is open again by then
		<-ctx.Done()
		_ = l.Close() // it may be closed already
	})
	for {
		// One that comes as ctx ends is served, too: an agency of the old kind doesn't come again.
		conn, err := l.Accept()
		switch {
		case err != nil && ctx.Err() != nil:
			return
		case err != nil:
			r.log.Error("accept_connections", zap.String("result", "fail"), zap.NamedError("error", err),
				zap.String("aviso", "is the limit of descriptors reached? trying again"))
			select {
			case <-time.After(acceptRetryDelay):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case r.slots <- struct{}{}:
		default:
			// A new socket takes so little at once. If the peer has said something already, its system
			// may drop the error: then it only sees that the connection is closed.
			if credentials == nil {
				_, _ = conn.Write(codec.AppendError(nil, codec.CodeTooManyConnections, ""))
			}
			_ = conn.Close()
			continue
		}
		var h *channel.Handshaking
		if credentials != nil {
			h = r.handshakes.Begin(ctx, conn) // until then, the next ones wait outside
		}
		r.busy.Go(func() {
			defer func() { <-r.slots }()
			defer func() { _ = conn.Close() }() // what had to be said is said
			defer context.AfterFunc(r.life, func() { _ = conn.Close() })()
			if credentials == nil {
				r.serve(r.life, conn, conn)
				return
			}
			if h == nil { // there was no room when ctx ended
				h = r.handshakes.Begin(r.life, conn)
			}
			if h != nil {
				r.serveTLS(r.life, h, credentials)
			}
		})
	}
}

// serveTLS serves one connection over TLS, which its caller closes.
func (r *Relay) serveTLS(ctx context.Context, h *channel.Handshaking, credentials *channel.Credentials) {
	var secured *channel.Stream
	err := h.SetDeadline(time.Now().Add(r.settings.ReadTimeout))
	if err == nil {
		h.Run(func() { secured, err = credentials.Serve(h) })
	}
	h.End()
	if err != nil {
		r.warn(h, "tls", h.Explain(err))
		if plain, ok := errors.AsType[tls.RecordHeaderError](err); ok && plain.Conn != nil {
			_, _ = h.Write(codec.AppendError(nil, codec.CodeInvalidFrame, "")) // TLS has told any other why
		}
		linger(h.Conn)
		return
	}
	r.serve(ctx, secured, h.Conn)
}

// serve serves one connection, which its caller closes. socket is what is below TLS.
func (r *Relay) serve(ctx context.Context, conn, socket net.Conn) {
	if err := conn.SetDeadline(time.Now().Add(r.settings.ReadTimeout)); err != nil {
		return
	}
	for {
		head, knows, err := readHead(conn)
		switch {
		case errors.Is(err, errEmpty):
			if _, err := conn.Write(codec.AppendError(nil, codec.CodeEmptyBatch, "")); err != nil {
				return
			}
			continue
		case err != nil:
			return // it says nothing whole, in time
		case knows:
			r.direct(conn)
		default: // also what is no frame: the leader judges it
			r.pass(ctx, conn, socket, head)
		}
		return
	}
}

// errEmpty says that a message has no payload, as that of a health check.
var errEmpty = errors.New("empty message")

// readHead reads as much of a message as tells whether the agency knows of leaders.
func readHead(r io.Reader) (head []byte, knows bool, err error) {
	for len(head) < headBytesMax {
		var b [1]byte // nothing may be read that belongs to the next message of a health check
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, false, err
		}
		head = append(head, b[0])
		payload, _, whole, err := codec.SplitFrame(head, codec.AuthenticationBytesMax)
		switch {
		case err != nil:
			return head, false, nil // a batch, or nothing that is a frame
		case whole && len(payload) == 0:
			return nil, false, errEmpty
		case whole:
			return head, saysHello(payload), nil
		}
	}
	return head, false, nil
}

// saysHello reports whether a message is one that only agencies say that know of leaders.
func saysHello(payload []byte) bool {
	if _, ok := codec.ParseAuth(payload); ok {
		return true
	}
	request, _, err := codec.ParseRequest(payload, codec.Rules{}, nil)
	return err == nil && request.Kind == codec.RequestHello
}

// direct tells an agency where the leader is, and gives it a moment to read that and to close.
func (r *Relay) direct(conn net.Conn) {
	server, addr, _ := r.guide.Leader()
	if _, secured := conn.(*channel.Stream); secured && addr != "" {
		addr = r.guide.SecureAddrOf(server)
	}
	r.directed.Add(1)
	// Whatever fails here, the agency comes again.
	_ = conn.SetDeadline(time.Now().Add(lingerMax))
	_, _ = conn.Write(codec.AppendError(nil, codec.CodeNotLeader, addr))
	linger(conn)
}

// linger gives a peer a moment to read what it was told, and to close.
func linger(conn net.Conn) {
	// Whatever fails here, the peer is gone.
	_ = conn.SetDeadline(time.Now().Add(lingerMax))
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, conn)
}

// warn logs what a peer has caused, at most once every warnPeriod.
func (r *Relay) warn(conn net.Conn, action, why string) {
	now := time.Now().UnixNano()
	last := r.warned.Load()
	if now-last < int64(warnPeriod) || !r.warned.CompareAndSwap(last, now) {
		r.unsaid.Add(1)
		return
	}
	r.log.Warn(action, zap.String("result", "fail"), zap.Stringer("ip", conn.RemoteAddr()),
		zap.String("error", why), zap.Int64("suprimidas", r.unsaid.Swap(0)))
}

// pass passes a connection on to the leader, beginning with what was read of it.
func (r *Relay) pass(ctx context.Context, conn, socket net.Conn, head []byte) {
	server, err := r.awaitLeader(ctx)
	var stream net.Conn
	if err == nil {
		stream, err = r.guide.Open(server)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{}) // an agency may wait for the draw
	}
	if err != nil {
		r.warn(conn, "conexion", fmt.Sprintf("not passed on: %v", err))
		if stream != nil {
			_ = stream.Close()
		}
		return
	}
	r.relayed.Add(1)
	leads, over := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		r.awaitOther(leads, server)
		_ = stream.Close() // then the agency's connection is closed, too
	})
	defer watching.Wait()
	defer over()
	begin := streamHead{source: sourceOf(conn.RemoteAddr())}
	if secured, ok := conn.(*channel.Stream); ok {
		begin.agency = secured.Agency()
	}
	if _, err := stream.Write(begin.encode()); err != nil {
		return
	}
	report := newReporter(stream, conn, socket)
	if err := report.said(append(make([]byte, saidHeadBytes), head...)); err == nil {
		r.join(report, conn)
	}
}

// awaitOther waits until another server than this one leads, or ctx is done. A server that was deposed
// while it stood still, or out of reach, would keep its agencies waiting for as long as it does.
func (r *Relay) awaitOther(ctx context.Context, server uint64) {
	for {
		changed := r.guide.Changed() // before the question, or a change in between is missed
		if now, _, ok := r.guide.Leader(); ok && now != server {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// join carries both ways between an agency's connection and a stream, until both directions have ended.
// If one breaks, both connections are closed: the other direction would wait for ever. Once the leader
// has ended, the agency may take no longer than a peer may be silent.
func (r *Relay) join(report *reporter, conn net.Conn) {
	over := make(chan struct{})
	var beside sync.WaitGroup
	defer beside.Wait()
	defer close(over)
	broken := func() {
		_ = report.stream.Close()
		_ = conn.Close()
	}
	beside.Go(func() {
		if report.watch(over) != nil {
			broken()
		}
	})
	var back sync.WaitGroup
	back.Go(func() {
		err := copyTo(func(answers []byte) error { return report.pass(conn, answers) }, report.stream, 0)
		if err == nil {
			report.shut.Store(true)
			err = closeWrite(conn)
		}
		if err != nil {
			broken()
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(r.settings.ReadTimeout)) // an error says that it is closed
	})
	err := copyTo(report.said, conn, saidHeadBytes)
	if err != nil || report.ended() != nil {
		broken()
	}
	back.Wait()
	report.finish(r.settings.ReadTimeout)
}

// copyTo gives write what from says, behind some room, until that ends.
func copyTo(write func(b []byte) error, from io.Reader, room int) error {
	buf := make([]byte, room+copyBytes)
	for {
		n, err := from.Read(buf[room:])
		if n > 0 {
			if err := write(buf[:room+n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// closeWrite says on a connection that nothing more will come.
func closeWrite(c net.Conn) error { return c.(interface{ CloseWrite() error }).CloseWrite() }

var errNoLeader = errors.New("nobody is known to lead")

// awaitLeader waits for a leader, for as long as a peer may be silent.
func (r *Relay) awaitLeader(ctx context.Context) (server uint64, err error) {
	timeout := time.NewTimer(r.settings.ReadTimeout)
	defer timeout.Stop()
	for {
		changed := r.guide.Changed() // before the question, or a change in between is missed
		if server, _, ok := r.guide.Leader(); ok {
			return server, nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return 0, errNoLeader
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
