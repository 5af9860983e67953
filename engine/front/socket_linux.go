package front

import (
	"time"
	"unsafe"

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

// probeSoon has the kernel ask soon, and often, whether the peer is still there.
func probeSoon(fd int) {
	// Without it a vanished peer is only noticed later.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(halfKeepAlive.Seconds()))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(halfKeepAlive.Seconds()))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, halfKeepAliveProbes)
}

// send writes as much of p as the socket takes now. p is not empty.
//
// It is send(2): write(2) also looks at the file that a socket is, which is a
// matter of microseconds when 10,000 sockets have their winners, one after the
// other, and none of them is in the processor's caches. unix.Sendto doesn't return
// how much was sent, and unix.SendmsgN takes as long as write(2).
func send(fd int, p []byte) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
