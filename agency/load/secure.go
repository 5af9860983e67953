package load

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
)

// wire is the socket under a TLS connection. While it is corked it collects what is written: a
// tls.Conn writes each record by itself, and a lane writes many. Once it is fed it reads from memory
// in place of the socket, and collects all that is written. Then one goroutine uses it.
type wire struct {
	net.Conn

	mu     sync.Mutex // guards corked and out: a tls.Conn may write in its Read, too
	corked bool
	out    []byte

	fed bool
	in  []byte
}

// outBytesMax is about how much a wire collects.
const outBytesMax = 128 << 10

// outs are the buffers of corked wires.
var outs = sync.Pool{New: func() any { return new([]byte) }}

func (w *wire) Read(p []byte) (int, error) {
	if !w.fed {
		return w.Conn.Read(p)
	}
	if len(w.in) == 0 {
		return 0, errDry
	}
	n := copy(p, w.in)
	w.in = w.in[n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.corked && !w.fed {
		return w.Conn.Write(p)
	}
	w.out = append(w.out, p...)
	if w.corked && len(w.out) >= outBytesMax {
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// flush writes what was collected. The caller holds w.mu.
func (w *wire) flush() error {
	_, err := w.Conn.Write(w.out)
	w.out = w.out[:0]
	return err
}

// dry is the error of a read that would have to wait. A tls.Conn goes on after a temporary error.
type dry struct{}

func (dry) Error() string   { return "nothing more has come yet" }
func (dry) Timeout() bool   { return true }
func (dry) Temporary() bool { return true }

var errDry net.Error = dry{}

// secureConn is a TLS connection.
type secureConn struct {
	*tls.Conn
	wire *wire
}

// secure does the client's side of a handshake. socket stays the caller's if there is an error.
func secure(ctx context.Context, socket net.Conn, config *tls.Config) (*secureConn, error) {
	w := &wire{Conn: socket}
	c := &secureConn{Conn: tls.Client(w, config), wire: w}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return c, c.HandshakeContext(ctx)
}

// Write sends p in as few writes to the socket as possible.
func (c *secureConn) Write(p []byte) (int, error) {
	buffer := outs.Get().(*[]byte)
	defer outs.Put(buffer)
	c.wire.mu.Lock()
	c.wire.corked, c.wire.out = true, (*buffer)[:0]
	c.wire.mu.Unlock()
	n, err := c.Conn.Write(p)
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	err = errors.Join(err, c.wire.flush())
	*buffer = c.wire.out
	c.wire.corked, c.wire.out = false, nil
	return n, err
}

// Close says close_notify first. The server may be gone already.
func (c *secureConn) Close() error {
	_ = c.CloseWrite()
	return c.wire.Close()
}

// plainBytes is the size of the buffers for what waiting agencies read.
const plainBytes = 1 << 10

var plains = sync.Pool{New: func() any { return new([plainBytes]byte) }}

// unplug takes the socket away. From now on feed and lastWords stand for it.
func (c *secureConn) unplug() (socket net.Conn) {
	c.wire.fed = true
	return c.wire.Conn
}

// feed gives take what the bytes in say, which have come from the socket, piece by piece.
func (c *secureConn) feed(in []byte, take func(plain []byte) error) error {
	c.wire.in = in
	buf := plains.Get().(*[plainBytes]byte)
	defer plains.Put(buf)
	for {
		n, err := c.Read(buf[:])
		if n > 0 {
			if err := take(buf[:n]); err != nil {
				return err
			}
			continue // an error comes again
		}
		if errors.Is(err, errDry) {
			return nil
		}
		return err
	}
}

// lastWords is a close_notify, to be written to the socket.
func (c *secureConn) lastWords() []byte {
	_ = c.CloseWrite() // memory takes everything
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	return c.wire.out
}
