package front

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"loteria/codec"
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

// acceptor takes connections and gives each to the loop that has fewest. gnet's own acceptor checks
// no limit, and ends the event loops when descriptors run out. This one counts a connection before
// it hands it over, and waits when descriptors run out.
type acceptor struct {
	front     *Front
	listener  net.Listener
	enrolling errgroup.Group // connections on their way to their loops
	refusing  errgroup.Group // connections that are being told why they are refused

	stopping context.Context // done when no more are taken
	stop     context.CancelFunc
	done     chan struct{} // closed when every connection that was taken belongs to a loop
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
type relayed interface{ Socket() net.Conn }

func newAcceptor(f *Front, l net.Listener) *acceptor {
	a := &acceptor{front: f, listener: l, done: make(chan struct{})}
	a.enrolling.SetLimit(enrollingMax)
	a.refusing.SetLimit(refusedMax)
	a.stopping, a.stop = context.WithCancel(context.Background())
	return a
}

// run accepts until stop is called.
func (a *acceptor) run() {
	defer close(a.done)
	// It is closed when this returns, and not later: by then it may be open again for another user.
	closed := make(chan struct{})
	defer func() { <-closed }()
	context.AfterFunc(a.stopping, func() {
		defer close(closed)
		// Nothing is lost by an error: the process is about to close it anyway.
		_ = a.listener.Close()
	})
	defer func() { _, _ = a.enrolling.Wait(), a.refusing.Wait() }() // there are no errors
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
		if r, ok := c.(relayed); ok {
			c = r.Socket() // gnet knows sockets only
		}
		a.enrolling.Go(func() error {
			a.enroll(c, sess)
			return nil
		})
	}
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

// refuse tells the peer why, and gives it a moment to read that and close. Closing at once could
// destroy the answer: unread bytes of the peer make the kernel reset the connection.
func (a *acceptor) refuse(c net.Conn, from Source, broken Limit) {
	times := a.front.Broken(broken)
	a.front.noise.write(noisyRefused, from, zap.String("error", codec.CodeTooManyConnections.String()),
		zap.String("limite", limitKeys[broken]), zap.Int64("veces", times))
	told := a.refusing.TryGo(func() error {
		defer context.AfterFunc(a.stopping, func() { _ = c.Close() })()
		// If anything fails here, the peer is gone, which was the aim.
		_ = c.SetDeadline(time.Now().Add(lingerMax))
		_, _ = c.Write(codec.AppendError(nil, codec.CodeTooManyConnections, ""))
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
		return nil
	})
	if !told {
		_ = c.Close() // nothing was said, so nothing is lost
	}
}
