package front

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"loteria/codec"
	"loteria/engine/channel"
)

const (
	// enrollingMax is how many accepted connections may be on their way to their loops. A loop
	// takes them between two rounds of reading, and a round can take milliseconds. One at a time, a
	// thousand agencies that connect together would wait for seconds.
	enrollingMax = 16
	// refusedMax is how many connections over a limit are told why at the same time. Any more are
	// closed without a word.
	refusedMax = 64
	// acceptRetryDelay is how long to wait when descriptors or memory are too short to accept.
	acceptRetryDelay = 50 * time.Millisecond

	// keepAlive finds a dead peer that is owed nothing. The kernel doesn't probe while something is
	// unacknowledged: then peerTimeout ends the connection.
	keepAlive         = 30 * time.Second
	keepAliveInterval = 6 * time.Second
	keepAliveProbes   = 5
)

// acceptor takes connections, over TLS if it has credentials, and gives each to the loop that has fewest. gnet's own acceptor checks
// no limit, and ends the event loops when descriptors run out. This one counts a connection before
// it hands it over, and waits when descriptors run out.
type acceptor struct {
	front       *Front
	listener    net.Listener
	credentials *channel.Credentials // nil: no TLS
	handshakes  *channel.Handshakes
	securing    sync.WaitGroup // connections whose TLS handshake is under way
	enrolling   errgroup.Group // connections on their way to their loops
	refusing    errgroup.Group // connections that are being told why they are refused

	stopping context.Context // done when no more are taken
	stop     context.CancelFunc
}

// Listen opens a TCP listener on addr. Keepalive probes find the dead peers of its connections.
func Listen(addr string) (net.Listener, error) {
	config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepAlive, Interval: keepAliveInterval, Count: keepAliveProbes,
	}}
	return config.Listen(context.Background(), "tcp", addr)
}

// relayed is a connection that comes by another server: its remote address is the agency's, but its
// socket leads to this process, which passes on what the other server says.
type relayed interface {
	Socket() net.Conn
	// Agency is the one that has proved who it is to the other server, or 0.
	Agency() codec.Agency
	// Acknowledged is how many bytes of our answers the agency's system has acknowledged. After an
	// error it won't be more.
	Acknowledged() (bytes int64, err error)
	// Ended reports, behind the socket's end, whether the agency has said so. Otherwise it was cut off.
	Ended() bool
}

func newAcceptor(f *Front, l net.Listener, credentials *channel.Credentials) *acceptor {
	a := &acceptor{front: f, listener: l, credentials: credentials, handshakes: channel.NewHandshakes(f.cfg.TLSHandshakes)}
	a.enrolling.SetLimit(enrollingMax)
	a.refusing.SetLimit(refusedMax)
	a.stopping, a.stop = context.WithCancel(context.Background())
	return a
}

// run accepts until stop is called. It returns when every connection that was taken belongs to a loop.
func (a *acceptor) run() {
	// It is closed when this returns, and not later: by then it may be open again for another user.
	closed := make(chan struct{})
	defer func() { <-closed }()
	context.AfterFunc(a.stopping, func() {
		defer close(closed)
		// Nothing is lost by an error: the process is about to close it anyway.
		_ = a.listener.Close()
	})
	defer func() {
		a.securing.Wait()
		_, _ = a.enrolling.Wait(), a.refusing.Wait() // there are no errors
	}()
	for {
		c, err := a.listener.Accept()
		switch {
		case a.stopping.Err() != nil:
			if err == nil {
				_ = c.Close() // it came too late
			}
			return
		case err != nil:
			a.front.noise.write(noisyAccept, Source{}, zap.String("error", err.Error()),
				zap.String("aviso", "is the limit of descriptors reached? raise it or lower SERVER_CONNECTIONS_MAX; trying again"))
			select {
			case <-time.After(acceptRetryDelay):
			case <-a.stopping.Done():
			}
			continue
		}
		from := sourceOf(c.RemoteAddr())
		sess, broken, ok := a.front.Admit(from)
		if !ok {
			a.refuse(c, from, broken)
			continue
		}
		if a.credentials != nil {
			a.secure(c, sess)
			continue
		}
		if r, ok := c.(relayed); ok {
			c, sess.proved = r.Socket(), r.Agency() // gnet knows sockets only
			sess.conn = &relayedSocket{agency: r}
		}
		a.startEnrolling(c, sess)
	}
}

// startEnrolling enrolls a connection soon. It waits while too many are on their way.
func (a *acceptor) startEnrolling(c net.Conn, sess *Session) {
	a.enrolling.Go(func() error {
		a.enroll(c, sess)
		return nil
	})
}

// secure enrolls a connection after its TLS handshake. It waits until that can begin.
func (a *acceptor) secure(c net.Conn, sess *Session) {
	h := a.handshakes.Begin(a.stopping, c)
	if h == nil {
		_ = c.Close() // it came too late
		a.front.Abandon(sess)
		return
	}
	a.securing.Go(func() {
		forget := context.AfterFunc(a.stopping, func() { _ = c.Close() })
		sealed, err := a.handshake(h)
		h.End()
		if !forget() { // it may have been closed
			err = errors.Join(err, net.ErrClosed)
		}
		if err == nil {
			sess.secure, sess.proved = &secureSocket{channel: sealed}, sealed.Agency()
			a.startEnrolling(c, sess)
			return
		}
		a.front.Abandon(sess)
		a.sayUnsecured(sess.source, err, h)
		a.part(c, func() error {
			if plain, ok := errors.AsType[tls.RecordHeaderError](err); ok && plain.Conn != nil {
				_, err := c.Write(codec.AppendError(nil, codec.CodeInvalidFrame, ""))
				return err
			}
			return nil // TLS has said it
		})
	})
}

// handshake does a TLS handshake within the read timeout.
func (a *acceptor) handshake(h *channel.Handshaking) (sealed *channel.Channel, err error) {
	if err := h.SetDeadline(time.Now().Add(a.front.cfg.ReadTimeout)); err != nil {
		return nil, err
	}
	h.Run(func() { sealed, err = a.credentials.Handshake(h) })
	if err != nil {
		return nil, err
	}
	return sealed, h.SetDeadline(time.Time{})
}

// sayUnsecured logs why a handshake has failed.
func (a *acceptor) sayUnsecured(from Source, err error, h *channel.Handshaking) {
	switch {
	case a.stopping.Err() != nil:
		return // nothing is wrong with it
	case h.IsCrowded():
		a.front.counters.count(LimitHandshakes)
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.front.counters.count(LimitReadTime)
	}
	a.front.noise.write(noisyTLS, from, zap.String("error", h.Explain(err)))
}

// enroll makes the connection one of a loop's. It returns when the loop has it.
func (a *acceptor) enroll(c net.Conn, sess *Session) {
	enrolled, err := sess.loop.mail.el.Enroll(gnet.NewContext(context.Background(), sess), c)
	if err == nil {
		select {
		case result := <-enrolled:
			err = result.Err
		case <-a.front.ended:
			return // the server ends
		}
	} else {
		err = errors.Join(err, c.Close())
	}
	// A loop that can't poll the socket closes it and reports no error.
	if err != nil || !sess.opened {
		a.front.noise.write(noisyAccept, sess.source, zap.NamedError("error", err))
		a.front.Abandon(sess)
	}
}

// refuse tells the peer why.
func (a *acceptor) refuse(c net.Conn, from Source, broken Limit) {
	times := a.front.Broken(broken)
	a.front.noise.write(noisyRefused, from, zap.String("error", codec.CodeTooManyConnections.String()),
		zap.String("limite", limitKeys[broken]), zap.Int64("veces", times))
	a.part(c, func() error {
		to := c
		if a.credentials != nil {
			var secured *channel.Stream
			var err error
			h := a.handshakes.Beside(c)
			h.Run(func() { secured, err = a.credentials.Serve(h) })
			h.End()
			if err != nil {
				return nil // TLS has told the peer why
			}
			defer func() { _ = secured.CloseWrite() }()
			to = secured
		}
		_, err := to.Write(codec.AppendError(nil, codec.CodeTooManyConnections, ""))
		return err
	})
}

// part says something to a peer, and gives it a moment to read that and close. Closing at once could
// destroy it: unread bytes of the peer make the kernel reset the connection. If too many peers are
// being told something, it closes at once.
func (a *acceptor) part(c net.Conn, say func() error) {
	told := a.refusing.TryGo(func() error {
		defer func() { _ = c.Close() }()
		defer context.AfterFunc(a.stopping, func() { _ = c.Close() })()
		// If anything fails here, the peer is gone, which was the aim.
		_ = c.SetDeadline(time.Now().Add(lingerMax))
		if say() != nil {
			return nil
		}
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, c)
		return nil
	})
	if !told {
		_ = c.Close() // nothing was said, so nothing is lost
	}
}
