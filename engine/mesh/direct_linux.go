package mesh

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// direct writes to a connection, and never waits for it.
type direct struct {
	raw syscall.RawConn

	// What write gives to the connection, and what that took. They are here, and so is the function,
	// because a closure would be allocated for each message.
	parts   [][]byte
	n       int
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
		d.n, _ = unix.Writev(int(fd), d.parts) // -1 for an error
		return true
	}
	return d
}

// write writes as many bytes of the parts as the connection takes at once, and returns how many. If it
// fails, that is 0: the next Write says why. Nobody may call Write of the connection meanwhile, and its
// write deadline must not have passed.
func (d *direct) write(parts [][]byte) int {
	d.parts, d.n = parts, 0
	err := d.raw.Write(d.callRaw)
	d.parts = nil
	if err != nil {
		return 0
	}
	return max(0, d.n)
}
