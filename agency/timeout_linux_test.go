package agency

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test only checks that the option is set. Its effect takes too long to wait for.
func TestUserTimeout(t *testing.T) {
	c := mustStart(t, newBank().serve)
	if got, err := userTimeout(c); got != unacknowledgedMax || err != nil {
		t.Errorf("TCP_USER_TIMEOUT is %v, %v; want %v", got, err, unacknowledgedMax)
	}
	ls := listenAll(t, 2)
	ls.serve(t, 0, newBank().serve)
	c, err := ls.dial(t, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := userTimeout(c); got != unacknowledgedMaxSeveral || err != nil {
		t.Errorf("TCP_USER_TIMEOUT of several is %v, %v; want %v", got, err, unacknowledgedMaxSeveral)
	}
}

// userTimeout is how long the client's socket waits for the other system's acknowledgement.
func userTimeout(c *Client) (time.Duration, error) {
	raw, err := socketOf(c).SyscallConn()
	if err != nil {
		return 0, err
	}
	var ms int
	var errOption error
	err = raw.Control(func(fd uintptr) {
		ms, errOption = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	})
	return time.Duration(ms) * time.Millisecond, errors.Join(err, errOption)
}

// The keepalive takes as long as bytes may be unacknowledged: whichever is shorter counts for both.
func TestKeepAliveTakesAsLong(t *testing.T) {
	for _, addrs := range []int{1, 2, AddrsMax} {
		p := patienceWith(addrs)
		k := p.keepAlive
		if took := k.Idle + time.Duration(k.Count)*k.Interval; took != p.unacknowledged {
			t.Errorf("%d addresses: %v, want %v", addrs, took, p.unacknowledged)
		}
	}
}
