package relay

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unacknowledged is how many bytes that were written to a socket the peer's system has not
// acknowledged. The error says that it never will.
func unacknowledged(socket net.Conn) (left int, err error) {
	s, ok := socket.(syscall.Conn)
	if !ok {
		return 0, nil // a test's
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, err
	}
	errControl := raw.Control(func(fd uintptr) {
		left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		// Look for an error last: the reset of a dead peer must not pass for an acknowledgement.
		if code, errSocket := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); code != 0 {
			err = unix.Errno(code)
		} else {
			err = errors.Join(err, errSocket)
		}
	})
	return left, errors.Join(err, errControl)
}
