package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// unacknowledged is how many bytes of a socket the peer has not acknowledged.
func unacknowledged(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.SIOCOUTQ) }

// limitUnacknowledged ends the connection of a peer that acknowledges nothing
// for so long, instead of the quarter of an hour that retransmission takes to
// give up.
func limitUnacknowledged(fd int, d time.Duration) {
	// Without it a vanished peer is only noticed later.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
}
