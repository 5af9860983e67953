package mesh

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// endUnacknowledged is a net.Dialer's Control. It ends a connection whose peer acknowledges nothing
// for writeTimeout. Otherwise a network that heals would be found again only when the next
// retransmission comes, which may be after many times as long as it was broken.
func endUnacknowledged(_, _ string, c syscall.RawConn) error {
	var errSet error
	err := c.Control(func(fd uintptr) {
		errSet = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(writeTimeout.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return errSet
}
