package agency

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// blockedPort is an address at which connections are neither taken nor refused, as behind a
// firewall: its queue of connections is full.
func blockedPort(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
	const queueMost = 8 // the system's queue is a little longer than was asked for
	for range queueMost {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatalf("%s still takes connections", addr)
	return ""
}

// A machine that is gone costs dialTimeoutSeveral.
func TestBlockedPort(t *testing.T) {
	t.Parallel()
	input, lines := testInput(100)
	b := newBank()
	ls := listenAll(t, 1)
	ls.serve(t, 0, b.serve)
	begin := time.Now()
	c, err := dial(t, &tcpNetwork{address: blockedPort(t) + "," + ls.addrs[0]})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < dialTimeoutSeveral {
		t.Errorf("the port is not blocked: it took %v", took)
	}
	finish(t, c, b, input, lines)
}
