//go:build unix

package agency

import (
	"syscall"
	"testing"
)

func TestKeepAlive(t *testing.T) {
	c := mustStart(t, newBank().serve)
	raw, err := socketOf(c).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var on int
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		on, optErr = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
	}); err != nil {
		t.Fatal(err)
	}
	if on == 0 || optErr != nil {
		t.Errorf("keepalive is %d, %v", on, optErr)
	}
}
