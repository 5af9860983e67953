package relay

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// closed is TCP_CLOSE of Linux: the connection has broken, or both sides have ended and know it.
const closed = 7

const (
	// keepAlive is how soon, and how often, a peer is probed from which nobody reads.
	keepAlive       = 5 * time.Second
	keepAliveProbes = 3
)

// takenBytes finds out how much of what is written to a TCP socket the peer's system has acknowledged.
// It never asks for the socket's error: that would take it from who reads.
type takenBytes struct {
	socket syscall.RawConn // nil: what is written passes for acknowledged
	sealed bool            // what is written is sealed before it comes to the socket
	before uint64          // bytes that were written before the first that counts
}

func newTakenBytes(socket net.Conn, sealed bool) *takenBytes {
	t := &takenBytes{sealed: sealed}
	if c, ok := socket.(*net.TCPConn); ok {
		t.socket, _ = c.SyscallConn() // nil only if socket is
	}
	for again := true; again; {
		acknowledged, _, _ := t.info()
		left, _ := t.left()
		t.before = acknowledged + left
		now, _, err := t.info()
		again = now != acknowledged && err == nil // in between, some of what was left was acknowledged
	}
	_ = t.control(func(fd int) error { // without it, a peer that vanishes is only noticed later
		return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAlive.Seconds())),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAlive.Seconds())),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveProbes))
	})
	return t
}

// of returns how many of so many bytes are acknowledged, at least, and whether the connection is closed,
// so that no more will be.
func (t *takenBytes) of(written uint64) (taken uint64, gone bool) {
	if t.socket == nil {
		return written, false
	}
	// Sealed bytes are more than those that count, so what is left of them is at least as much. Of a
	// connection that is closed, nothing is left, acknowledged or not. So that is asked last.
	left, errLeft := t.left()
	acknowledged, gone, err := t.info()
	switch {
	case err != nil || errLeft != nil:
		return 0, true
	case !t.sealed && acknowledged < t.before:
		return 0, gone
	case !t.sealed:
		return min(written, acknowledged-t.before), gone
	case gone:
		return 0, true
	}
	return written - min(written, left), false
}

// left is how many bytes in the socket are not acknowledged.
func (t *takenBytes) left() (n uint64, err error) {
	err = t.control(func(fd int) error {
		left, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		n = uint64(left)
		return err
	})
	return n, err
}

// info is how many bytes the peer's system has acknowledged since the beginning, our end included.
func (t *takenBytes) info() (acknowledged uint64, gone bool, err error) {
	err = t.control(func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			acknowledged, gone = info.Bytes_acked, info.State == closed
		}
		return err
	})
	return acknowledged, gone, err
}

func (t *takenBytes) control(f func(fd int) error) (err error) {
	if t.socket == nil {
		return nil
	}
	errControl := t.socket.Control(func(fd uintptr) { err = f(int(fd)) })
	return errors.Join(err, errControl)
}
