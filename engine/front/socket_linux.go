package front

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unacknowledged is how many bytes that were written to a socket the peer has not acknowledged.
func unacknowledged(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.SIOCOUTQ) }

// limitUnacknowledged makes the kernel end the connection when the peer acknowledges nothing for d.
// Otherwise retransmission goes on for a quarter of an hour.
func limitUnacknowledged(fd int, d time.Duration) {
	// If this fails, a vanished peer is only noticed later.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
}

// probeSoon makes the kernel ask soon, and often, whether the peer is still there.
func probeSoon(fd int) {
	// If this fails, a vanished peer is only noticed later.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(halfKeepAlive.Seconds()))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(halfKeepAlive.Seconds()))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, halfKeepAliveProbes)
}

// send writes as much of p as the socket takes now. p is not empty.
//
// It calls send(2), because write(2) also looks at the file that a socket is. That takes
// microseconds when 10,000 sockets get their winners one after the other, and none of them is in
// the processor's caches. unix.Sendto doesn't return how much was sent, and unix.SendmsgN takes as
// long as write(2).
func send(fd int, p []byte) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
