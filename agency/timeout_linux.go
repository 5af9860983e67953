package agency

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// limitUnacknowledged makes a connection end when the server's machine has
// acknowledged nothing for so long. Keepalive does not run while something that
// was sent is unacknowledged, and retransmission takes a quarter of an hour to
// give up.
func limitUnacknowledged(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			// Without it a vanished server is only noticed later.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
	}
}
