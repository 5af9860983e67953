package engine

import (
	"errors"

	"golang.org/x/sys/unix"
)

// halfConn is what is left of a connection whose peer has said that it will
// send nothing more (shutdown(SHUT_WR), `nc -N`) while it is still owed
// answers. gnet closes such a connection; this is a duplicate of its socket,
// written to on the event loop and never read.
//
// A peer that was killed looks the same until something is written to it. So
// what was written counts as delivered only when the peer's kernel has
// acknowledged it, and for the exit rule the socket is closed.
type halfConn struct {
	fd      int // -1 when closed
	pending []byte
}

var errHalfConnGone = errors.New("engine: half-closed connection is gone")

// Write sends p as far as the socket takes it and keeps the rest. Its size is
// bounded by the answers of one window.
func (c *halfConn) Write(p []byte) (int, error) {
	c.pending = append(c.pending, p...)
	c.flush()
	if c.gone() {
		return 0, errHalfConnGone
	}
	return len(p), nil
}

func (c *halfConn) flush() {
	for len(c.pending) > 0 && !c.gone() {
		n, err := unix.Write(c.fd, c.pending)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			c.close()
		default:
			c.pending = c.pending[n:]
		}
	}
}

// OutboundBuffered is how many bytes the peer's kernel has not acknowledged.
func (c *halfConn) OutboundBuffered() int {
	c.flush()
	if c.gone() {
		return len(c.pending)
	}
	waiting, err := unacknowledged(c.fd)
	// The reset of a dead peer must not pass for an acknowledgement, so the
	// error is asked for last.
	if code, errSocket := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errSocket != nil || code != 0 {
		c.close()
	}
	return len(c.pending) + waiting
}

func (c *halfConn) gone() bool { return c.fd < 0 }

func (c *halfConn) close() {
	if !c.gone() {
		_ = unix.Close(c.fd) // nothing is lost by an error here
		c.fd = -1
	}
}

// half reports whether only our side of the connection is open.
func (s *session) half() bool {
	_, ok := s.conn.(*halfConn)
	return ok
}
