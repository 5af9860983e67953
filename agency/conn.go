package agency

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"loteria/codec"
)

const (
	// dialTimeout bounds one try to connect.
	dialTimeout = 5 * time.Second
	// readBytes is the size of a read buffer; it grows for large replies only.
	readBytes = 16 << 10
)

// keepAlive finds a dead server while nothing is said: within
// Idle + Count*Interval.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4}

// unacknowledgedMax is the same for a connection on which something is on its
// way to the server.
const unacknowledgedMax = 35 * time.Second

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive, Control: limitUnacknowledged(unacknowledgedMax)}
	return d.DialContext(ctx, "tcp", addr)
}

// conn is a connection with a goroutine that reads it.
//
// There are two read buffers: while one is filled, the other is looked at. So
// a peer that says more than is looked at is not read any more.
type conn struct {
	net net.Conn
	// replies has what was read; nothing follows an error.
	replies chan inbound
	// released has the buffers that can be filled.
	released chan []byte
	quit     chan struct{}
	done     chan struct{} // closed when the goroutine has ended
	// writeErr is why nothing more can be written. Only the writer uses it.
	writeErr error
}

var errClosedByServer = errors.New("the server closed the connection")

// inbound is what was read at once.
type inbound struct {
	frames []byte // whole frames; goes back with conn.release
	err    error  // why nothing more comes
}

func newConn(nc net.Conn, replyBytesMax int) *conn {
	c := &conn{
		net:      nc,
		replies:  make(chan inbound),
		released: make(chan []byte, 2),
		quit:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	c.released <- nil
	go c.read(make([]byte, 0, readBytes), replyBytesMax)
	return c
}

// read hands whole frames over until the connection ends.
func (c *conn) read(buf []byte, replyBytesMax int) {
	defer close(c.done)
	for {
		if len(buf) == cap(buf) {
			// Doubling as the bytes come: a length alone costs no memory.
			buf = slices.Grow(buf, max(readBytes, len(buf)))
		}
		n, err := c.net.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		whole, frameErr := wholeFrames(buf, replyBytesMax)
		if whole > 0 {
			var next []byte
			select {
			case next = <-c.released:
			case <-c.quit:
				return
			}
			next = append(next[:0], buf[whole:]...)
			if !c.hand(inbound{frames: buf[:whole]}) {
				return
			}
			buf = next
		}
		if frameErr != nil {
			err = frameErr
		}
		if err != nil {
			c.hand(inbound{err: err})
			return
		}
	}
}

func (c *conn) hand(in inbound) bool {
	select {
	case c.replies <- in:
		return true
	case <-c.quit:
		return false
	}
}

// wholeFrames is the length of the whole frames that b begins with.
func wholeFrames(b []byte, replyBytesMax int) (n int, err error) {
	for rest := b; ; {
		_, after, ok, err := codec.SplitFrame(rest, replyBytesMax)
		if err != nil || !ok {
			return len(b) - len(rest), err
		}
		rest = after
	}
}

// release gives the buffer of an inbound back.
func (c *conn) release(frames []byte) { c.released <- frames }

// write sends b within timeout, or until ctx is done. If it fails, writeErr
// is set, and reading ends within lastWords: the server may have said why it
// closed, and that is worth more than the error of a write.
func (c *conn) write(ctx context.Context, b []byte, timeout, lastWords time.Duration) {
	expired := make(chan struct{})
	err := c.net.SetWriteDeadline(time.Now().Add(timeout))
	stop := context.AfterFunc(ctx, func() {
		defer close(expired)
		_ = c.net.SetWriteDeadline(time.Unix(1, 0)) // fails only if the socket is closed
	})
	if err == nil {
		_, err = c.net.Write(b)
	}
	if !stop() {
		<-expired // so that it can't hit a later write
	}
	if err != nil {
		c.writeErr = err
		_ = c.net.SetReadDeadline(time.Now().Add(lastWords)) // fails only if the socket is closed
	}
}

// close closes the socket and waits for the goroutine.
func (c *conn) close() error {
	close(c.quit)
	err := c.net.Close()
	<-c.done
	return err
}

// lostReason says in words how the connection ended; err is what ended the
// reading.
func (c *conn) lostReason(err error) error {
	switch {
	case os.IsTimeout(c.writeErr):
		return fmt.Errorf("the server doesn't take what is sent: %w", c.writeErr)
	case c.writeErr != nil:
		return c.writeErr
	case errors.Is(err, io.EOF):
		return errClosedByServer
	}
	return err
}
