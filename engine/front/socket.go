package front

import (
	"errors"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// Conn is the part of a connection that a session needs. Its methods are only called on the
// session's event loop.
type Conn interface {
	// Send gives the socket as much of p as it takes now, and returns how many bytes that was. It
	// doesn't keep p. After an error the connection is of no use.
	Send(p []byte) (n int, err error)
	// Unacknowledged is how many of the bytes that the socket took have not been acknowledged by
	// the peer's kernel.
	Unacknowledged() (int, error)
	// ShutWrite tells the peer that nothing more will come. What the peer says can still be read.
	ShutWrite()
	// Drop closes the connection. If gnet reads from it, OnClose is called inside this call.
	Drop()
}

// descriptor is what all sockets have in common.
type descriptor int

func (fd descriptor) Send(p []byte) (sent int, err error) {
	for sent < len(p) {
		n, err := send(int(fd), p[sent:])
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

func (fd descriptor) Unacknowledged() (int, error) { return unacknowledged(int(fd)) }

func (fd descriptor) ShutWrite() {
	_ = unix.Shutdown(int(fd), unix.SHUT_WR) // fails only if the peer is gone already
}

// socket is a connection that gnet reads from.
//
// It doesn't use gnet's Write, which copies what the socket doesn't take into a buffer without a
// limit. When the peer half-closes, that buffer is lost.
type socket struct {
	descriptor
	gnet gnet.Conn
}

func (c *socket) Drop() {
	// An error concerns only gnet's bookkeeping: the connection is gone either way.
	_ = c.gnet.EventLoop().Close(c.gnet)
}

// halfSocket is a connection whose peer has said that it will send nothing more (shutdown(SHUT_WR),
// `nc -N`) while it is still owed something. gnet closes such a connection. This is a duplicate of
// its socket, which nobody reads.
//
// A peer that was killed looks the same until something is written to it, or until its system has
// forgotten the connection (after a minute on Linux) and answers a keepalive probe so. That is why
// only what the peer's kernel has acknowledged counts as taken.
type halfSocket struct{ descriptor }

const (
	// halfKeepAlive is how soon, and how often, a half-closed peer that is owed something is
	// probed.
	halfKeepAlive       = 5 * time.Second
	halfKeepAliveProbes = 3
)

func (c *halfSocket) Unacknowledged() (int, error) {
	n, err := c.descriptor.Unacknowledged()
	// Look for an error last: the reset of a dead peer must not pass for an acknowledgement.
	code, errSocket := unix.GetsockoptInt(int(c.descriptor), unix.SOL_SOCKET, unix.SO_ERROR)
	if code != 0 {
		err = unix.Errno(code)
	}
	return n, errors.Join(err, errSocket)
}

func (c *halfSocket) Drop() { _ = unix.Close(int(c.descriptor)) } // an error loses nothing here

// relayedSocket is a connection that another server passes on. That server tells what the agency's
// system has acknowledged.
type relayedSocket struct {
	Conn
	agency relayed
	sent   int64 // bytes
}

func (c *relayedSocket) Send(p []byte) (n int, err error) {
	n, err = c.Conn.Send(p)
	c.sent += int64(n)
	return n, err
}

func (c *relayedSocket) Unacknowledged() (int, error) {
	acknowledged, err := c.agency.Acknowledged()
	if left := c.sent - acknowledged; left > 0 {
		return int(left), err
	}
	return 0, nil
}

// untaken is how many bytes of answers the peer's system has not acknowledged, backlog included.
func (s *Session) untaken() (bytes int, err error) {
	bytes, err = s.conn.Unacknowledged()
	return bytes + s.unsent(), err
}

// unsent is how many bytes of answers the socket has not taken.
func (s *Session) unsent() (bytes int) {
	if s.backlog != nil {
		bytes = s.backlog.bytes
		if s.secure != nil {
			bytes += s.secure.ahead()
		}
	}
	return bytes
}
