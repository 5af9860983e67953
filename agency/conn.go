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

// readBytes is the size of a read buffer, which grows only for large replies.
const readBytes = 16 << 10

// A single server is waited for patiently: there is no other one. One of several is left soon.
const (
	// dialTimeout limits one try to connect, with the look-up of the name. dialTimeoutSeveral is as
	// long as TCP waits before it sends its first packet again. A server that is up answers much
	// faster, and a machine that is gone costs a round over the addresses no more.
	dialTimeout        = 5 * time.Second
	dialTimeoutSeveral = time.Second
	// answerTimeout limits how long a server may take to answer anything but GET_WINNERS, how long for
	// a TLS handshake, and how long a write may take. After that the client gives the connection up;
	// the next WELCOME tells what was stored. answerTimeoutSeveral finds a server that is paused, or
	// whose machine is gone, and is still long for a disk: giving a slow server up costs a window of
	// batches on the wire.
	answerTimeout        = 15 * time.Second
	answerTimeoutSeveral = 5 * time.Second
	// unacknowledgedMax limits how long bytes that were sent to the server may be unacknowledged by
	// its machine. It is as long as the keepalive takes.
	unacknowledgedMax        = 35 * time.Second
	unacknowledgedMaxSeveral = 10 * time.Second
)

// The keepalive finds a dead server within Idle + Count*Interval while nothing is sent.
var (
	keepAlive = net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4,
	}
	keepAliveSeveral = net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 5,
	}
)

// patience is how long a client waits for a server.
type patience struct {
	dial, answer, unacknowledged time.Duration
	keepAlive                    net.KeepAliveConfig
}

// patienceWith is the patience of a client that has this many addresses.
func patienceWith(addrs int) patience {
	if addrs == 1 {
		return patience{dialTimeout, answerTimeout, unacknowledgedMax, keepAlive}
	}
	return patience{
		dialTimeoutSeveral, answerTimeoutSeveral, unacknowledgedMaxSeveral, keepAliveSeveral,
	}
}

func (p patience) dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: p.keepAlive, Control: limitUnacknowledged(p.unacknowledged)}
	return d.DialContext(ctx, "tcp", addr)
}

// conn is a connection with a goroutine that reads it.
//
// It has two read buffers: the goroutine fills one while the client handles the other. If a server
// sends more than the client handles, conn stops reading (backpressure).
type conn struct {
	net net.Conn
	// replies carries what was read; nothing follows an error.
	replies chan inbound
	// released carries the buffers that can be filled again.
	released chan []byte
	quit     chan struct{}
	done     chan struct{} // closed when the goroutine has ended
	// writeErr is why nothing more can be written. Only the writer uses it.
	writeErr error
}

var errClosedByServer = errors.New("the server closed the connection")

// inbound is what one read brought.
type inbound struct {
	frames []byte // whole frames; the receiver returns it with conn.release
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

// read hands over whole frames until the connection ends.
func (c *conn) read(buf []byte, replyBytesMax int) {
	defer close(c.done)
	for {
		if len(buf) == cap(buf) {
			// The buffer doubles as bytes come, so a frame's length alone costs no memory.
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
			if buf[0] == alertRecord {
				err = ErrSpeaksTLS
			}
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

// release gives back the buffer of an inbound.
func (c *conn) release(frames []byte) { c.released <- frames }

// alertRecord is how an alert of TLS begins, and no frame does.
const alertRecord = 0x15

// write sends b within timeout, or until ctx is done. If it fails, it sets writeErr, and reading
// ends within lastWords. Reading goes on that long because the server may have said why it closed,
// which tells more than a write's error.
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
		<-expired // or its deadline could hit a later write
	}
	if err == nil {
		// TLS answers by itself a server that changes its key, whenever that is.
		_ = c.net.SetWriteDeadline(time.Time{}) // fails only if the socket is closed
	} else {
		c.writeErr = err
		_ = c.net.SetReadDeadline(time.Now().Add(lastWords)) // fails only if the socket is closed
	}
}

// close closes the socket and waits for the goroutine.
func (c *conn) close() error {
	close(c.quit)
	nc := c.net
	if secured, ok := nc.(secureConn); ok && c.writeErr != nil {
		nc = secured.NetConn() // a server that takes nothing takes no close_notify
	}
	err := nc.Close()
	<-c.done
	return err
}

// lostReason returns why the connection ended, for people; err is what ended the reading.
func (c *conn) lostReason(err error) error {
	refused := explainRefusal(err)
	switch {
	case refused != nil:
		return refused
	case os.IsTimeout(c.writeErr):
		return fmt.Errorf("the server doesn't take what is sent: %w", c.writeErr)
	case c.writeErr != nil:
		return c.writeErr
	case errors.Is(err, io.EOF):
		return errClosedByServer
	}
	return err
}
