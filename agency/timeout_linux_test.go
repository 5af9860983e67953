package agency

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// The test only checks that the option is set. Its effect takes too long to wait for.
func TestUserTimeout(t *testing.T) {
	c := mustStart(t, newBank().serve)
	raw, err := c.conn.net.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	var errOption error
	if err := raw.Control(func(fd uintptr) {
		got, errOption = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}); err != nil {
		t.Fatal(err)
	}
	if got != int(unacknowledgedMax.Milliseconds()) || errOption != nil {
		t.Errorf("TCP_USER_TIMEOUT is %d ms, %v; want %v", got, errOption, unacknowledgedMax)
	}
}
