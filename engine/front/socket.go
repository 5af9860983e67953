package front

import (
	"errors"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// Conn is the part of a connection that a session needs. Its methods are
// called on the session's event loop only.
type Conn interface {
	// Send gives the socket as much of p as it takes now, and returns how much
	// that was. After an error the connection is of no use.
	Send(p []byte) (n int, err error)
	// Unacknowledged is how many bytes of what the socket took the peer's kernel
	// has not acknowledged.
	Unacknowledged() (int, error)
	// ShutWrite tells the peer that nothing more will come. What it says can still
	// be read.
	ShutWrite()
	// Drop closes the connection. For one that gnet reads from, OnClose is called
	// inside.
	Drop()
}

// socket is a connection whose incoming side is gnet's to read.
//
// gnet's Write is not used: what the socket doesn't take, it copies into a
// buffer without a limit, which nobody can take along when the peer half-closes.
type socket struct{ gnet gnet.Conn }

func (c *socket) Send(p []byte) (int, error)   { return sendTo(c.gnet.Fd(), p) }
func (c *socket) Unacknowledged() (int, error) { return unacknowledged(c.gnet.Fd()) }

func (c *socket) ShutWrite() {
	_ = unix.Shutdown(c.gnet.Fd(), unix.SHUT_WR) // fails only if the peer is gone already
}

func (c *socket) Drop() {
	// What fails is the bookkeeping of a connection that is gone either way.
	_ = c.gnet.EventLoop().Close(c.gnet)
}

// halfSocket is what is left of a connection whose peer has said that it will
// send nothing more (shutdown(SHUT_WR), `nc -N`) while it is still owed
// answers. gnet closes such a connection; this is a duplicate of its socket,
// which nobody reads.
//
// A peer that was killed looks the same until something is written to it, or its system has
// forgotten the connection (after a minute, on Linux) and says so to a keepalive probe. So what was
// written counts as taken only when the peer's kernel has acknowledged it.
type halfSocket struct{ fd int }

const (
	// halfKeepAlive is how soon, and how often, a half-closed peer that is owed something is probed.
	halfKeepAlive       = 5 * time.Second
	halfKeepAliveProbes = 3
)

func newHalfSocket(fd int) *halfSocket {
	probeSoon(fd)
	return &halfSocket{fd: fd}
}

func (c *halfSocket) Send(p []byte) (int, error) { return sendTo(c.fd, p) }

func (c *halfSocket) Unacknowledged() (int, error) {
	n, err := unacknowledged(c.fd)
	// The reset of a dead peer must not pass for an acknowledgement, so the
	// error is asked for last.
	code, errSocket := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if code != 0 {
		err = unix.Errno(code)
	}
	return n, errors.Join(err, errSocket)
}

func (c *halfSocket) ShutWrite() { _ = unix.Shutdown(c.fd, unix.SHUT_WR) }

func (c *halfSocket) Drop() { _ = unix.Close(c.fd) } // nothing is lost by an error here

// untaken is how many bytes of what the peer was told its system has not acknowledged.
func (s *Session) untaken() (bytes int, err error) {
	bytes, err = s.conn.Unacknowledged()
	if s.backlog != nil {
		bytes += s.backlog.bytes
	}
	return bytes, err
}

func sendTo(fd int, p []byte) (sent int, err error) {
	for sent < len(p) {
		n, err := send(fd, p[sent:])
		switch {
		case err == nil:
			sent += n
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return sent, nil
		default:
			return sent, err
		}
	}
	return sent, nil
}
