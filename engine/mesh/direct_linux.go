package mesh

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// direct writes to a connection, and never waits for it.
type direct struct {
	raw syscall.RawConn
	err error // why a write has failed: the system says so only once

	// What write gives to the connection, and what comes of it. They are here, and so is the function,
	// because a closure would be allocated for each message.
	parts   [][]byte
	n       int
	errno   error
	callRaw func(fd uintptr) bool
}

// newDirect returns nil for a connection that can't be written to like this: TLS has to write a record
// as a whole.
func newDirect(conn net.Conn) *direct {
	plain, is := conn.(*net.TCPConn)
	if !is {
		return nil
	}
	raw, err := plain.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{raw: raw}
	d.callRaw = func(fd uintptr) bool {
		d.n, d.errno = unix.Writev(int(fd), d.parts)
		return true
	}
	return d
}

// write writes as many bytes of the parts as the connection takes at once, and returns how many. It may
// take none. Nobody may call Write of the connection meanwhile, and its write deadline must not have
// passed.
func (d *direct) write(parts [][]byte) int {
	d.parts, d.n, d.errno = parts, 0, nil
	err := d.raw.Write(d.callRaw)
	d.parts = nil
	if err != nil {
		return 0 // it is closed, which its owner knows
	}
	if again := errors.Is(d.errno, unix.EAGAIN) || errors.Is(d.errno, unix.EINTR); d.errno != nil && !again {
		d.err = &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("writev", d.errno)}
	}
	return max(0, d.n)
}

// failure is why a write has failed; nil if none has.
func (d *direct) failure() error {
	if d == nil {
		return nil
	}
	return d.err
}
