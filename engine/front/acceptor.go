package front

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"

	"loteria/codec"
)

const (
	// enrollingMax is how many accepted connections may be on their way to their
	// loops. A loop takes them between two rounds of reading, which can take
	// milliseconds; one at a time, a thousand agencies that connect together
	// would wait for seconds.
	enrollingMax = 16
	// refusedMax is how many connections over a limit are told why at the same
	// time. More than that are closed without a word.
	refusedMax = 64
	// acceptRetryDelay is how long to wait when nothing can be accepted, for
	// want of descriptors or memory.
	acceptRetryDelay = 50 * time.Millisecond

	// keepAlive finds a dead peer that is owed nothing. It does not run while
	// something is unacknowledged: then peerTimeout ends the connection.
	keepAlive         = 30 * time.Second
	keepAliveInterval = 6 * time.Second
	keepAliveProbes   = 5
)

// acceptor takes connections and gives each to the loop that has fewest. gnet's
// own acceptor hands over without looking at any limit, and ends the event
// loops when there are no more descriptors; this one counts before it hands
// over, and waits.
type acceptor struct {
	front    *Front
	listener net.Listener
	refusing chan struct{} // a slot for each that is told why it is refused

	stopping context.Context // done when no more are taken
	stop     context.CancelFunc
	done     chan struct{} // closed when all that were taken belong to a loop
}

// Listen makes the socket that connections come to.
func Listen(addr string) (net.Listener, error) {
	config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepAlive, Interval: keepAliveInterval, Count: keepAliveProbes,
	}}
	return config.Listen(context.Background(), "tcp", addr)
}

func newAcceptor(f *Front, l net.Listener) *acceptor {
	a := &acceptor{front: f, listener: l, refusing: make(chan struct{}, refusedMax), done: make(chan struct{})}
	a.stopping, a.stop = context.WithCancel(context.Background())
	return a
}

// run accepts until stop was called.
func (a *acceptor) run() {
	defer close(a.done)
	defer context.AfterFunc(a.stopping, func() {
		// Nothing is lost by an error: the process is about to close it anyway.
		_ = a.listener.Close()
	})()
	var busy sync.WaitGroup
	defer busy.Wait()
	enrolling := make(chan struct{}, enrollingMax)
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
			a.refuse(c, from, broken, &busy)
			continue
		}
		enrolling <- struct{}{}
		busy.Go(func() {
			a.enroll(c, sess)
			<-enrolling
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
			return // and with it the server
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

// refuse says why, and gives the peer a moment to read it and close. Closing at
// once could destroy the answer: what the peer has sent and nobody read makes
// the kernel reset the connection.
func (a *acceptor) refuse(c net.Conn, from Source, broken Limit, busy *sync.WaitGroup) {
	times := a.front.Broken(broken)
	a.front.noise.write(noisyRefused, from, zap.String("error", codec.CodeTooManyConnections.String()),
		zap.String("limite", limitKeys[broken]), zap.Int64("veces", times))
	select {
	case a.refusing <- struct{}{}:
	default:
		_ = c.Close() // nothing was said, so nothing is lost
		return
	}
	busy.Go(func() {
		defer func() { <-a.refusing }()
		defer context.AfterFunc(a.stopping, func() { _ = c.Close() })()
		// Whatever fails here, the peer is gone, and that was the aim.
		_ = c.SetDeadline(time.Now().Add(lingerMax))
		_, _ = c.Write(codec.AppendError(nil, codec.CodeTooManyConnections, ""))
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	})
}
