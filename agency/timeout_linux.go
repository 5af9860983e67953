package agency

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// limitUnacknowledged ends a connection when the server's machine has acknowledged nothing for d.
// Keepalive does not run while sent bytes are unacknowledged, and retransmission gives up only
// after a quarter of an hour.
func limitUnacknowledged(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			// An error is ignored: without the option a vanished server is only noticed later.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
	}
}
