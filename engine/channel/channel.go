package channel

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"loteria/codec"
)

// RecordBytesMax is how much is sealed at once: the most that a record holds.
const RecordBytesMax = 16 << 10

// handshakeBytesMax is how much a peer may say in its handshake. That of an agency says 2 to 5 kB. What
// it says there, or what that means, is kept for as long as the connection lasts.
const handshakeBytesMax = 32 << 10

// errHandshakeTooLarge says that a peer says more than that.
var errHandshakeTooLarge = fmt.Errorf("the handshake is longer than %d bytes: does the certificate come with many others?",
	handshakeBytesMax)

// uselessMax is how many records of a connection may say nothing: they change keys, or are empty. New
// keys cost as much processor time as 300 bets, and the peer only 27 bytes. Who has to change keys does
// so once in millions of records.
const uselessMax = 256

var errUseless = fmt.Errorf("more than %d records change keys or are empty", uselessMax)

// Channel is TLS between the bytes of a socket and what they mean. Handshake makes it. Afterwards one
// goroutine uses it, an event loop.
type Channel struct {
	tls       *tls.Conn
	transport transport
	agency    codec.Agency
	ended     bool
}

// Handshake does the server's side of a handshake on conn, and leaves all that comes behind it in the
// socket. It waits for the peer for as long as conn's deadlines allow. conn stays the caller's; see
// Explain for errors.
func (c *Credentials) Handshake(conn net.Conn) (_ *Channel, err error) {
	ch := &Channel{transport: transport{conn: conn}}
	if ch.tls, ch.agency, err = c.handshake(&ch.transport); err != nil {
		return nil, err
	}
	ch.transport.conn = nil
	ch.transport.begin()
	return ch, nil
}

// Agency is the one that the peer has proved to be; 0 if nobody has asked.
func (c *Channel) Agency() codec.Agency { return c.agency }

// Feed gives the channel what has come from the socket. Call Next until it returns nothing before in
// is used for anything else.
func (c *Channel) Feed(in []byte) { c.transport.in = in }

// Next reads into buf what the peer has said. It returns nothing, and no error, if more has to come
// first. The error is io.EOF when the peer has ended; any other one is the end of the channel, and
// Sealed may hold an alert that tells the peer.
func (c *Channel) Next(buf []byte) (plain []byte, err error) {
	n, err := c.tls.Read(buf)
	useless := c.transport.heard(n)
	switch {
	case errors.Is(err, io.EOF):
		c.ended = true
		return nil, err
	case useless != nil:
		return nil, useless
	case n > 0:
		return buf[:n], nil // an error comes again
	case errors.Is(err, errDry):
		return nil, nil
	}
	return nil, err
}

// Ended reports whether the peer has said that it will say nothing more.
func (c *Channel) Ended() bool { return c.ended }

// Seal adds p, which is at most RecordBytesMax, to what is sealed.
func (c *Channel) Seal(p []byte) error {
	_, err := c.tls.Write(p)
	return err
}

// SealEnd adds to what is sealed that nothing more will come.
func (c *Channel) SealEnd() { _ = c.tls.CloseWrite() } // an error says that the channel has ended already

// Sealed is what has to be sent, in order. It is good until the channel is used again.
func (c *Channel) Sealed() []byte { return c.transport.sealed() }

// Sent says that so many bytes of Sealed have been sent.
func (c *Channel) Sent(n int) { c.transport.drop(n) }

// records follows the records that a tls.Conn reads. The tls.Conn must not be given more than the rest of
// the one that it reads: then what it has said, and what it has been given, can be compared.
type records struct {
	header [recordHeaderBytes]byte // of the record that is being read
	have   int                     // bytes of the header that are there
	rest   int                     // bytes of the record that are still to come, once the header is there

	whole   int // records that were read whole
	counted int // those of them that heard has seen
	useless int // those of them that said nothing
}

const recordHeaderBytes = 5

// room is the part of p that may be given to the tls.Conn.
func (r *records) room(p []byte) []byte {
	if r.have == recordHeaderBytes && r.rest == 0 {
		r.have = 0
	}
	want := r.rest
	if r.have < recordHeaderBytes {
		want = recordHeaderBytes - r.have
	}
	return p[:min(want, len(p))]
}

// given notes what the tls.Conn was given.
func (r *records) given(p []byte) {
	if r.have == recordHeaderBytes {
		r.rest -= len(p)
	} else if r.have += copy(r.header[r.have:], p); r.have == recordHeaderBytes {
		r.rest = int(r.header[3])<<8 | int(r.header[4])
	}
	if len(p) > 0 && r.have == recordHeaderBytes && r.rest == 0 {
		r.whole++
	}
}

// heard notes that the tls.Conn has been read once, and what it said had n bytes. Of the records that were
// read for that, at most one brought them, and the others nothing. The error is errUseless if these are
// too many by now; the peer's end counts as one of them, so who has heard that need not look.
func (r *records) heard(n int) error {
	r.useless += r.whole - r.counted
	if n > 0 && r.whole > r.counted {
		r.useless--
	}
	r.counted = r.whole
	if r.useless > uselessMax {
		return errUseless
	}
	return nil
}

// begin forgets the handshake's records.
func (r *records) begin() { r.counted = r.whole }

// transport is what a tls.Conn takes for its connection: a socket during the handshake, and memory
// afterwards.
//
// It never gives the tls.Conn more than the rest of the record that it reads. So nothing is read ahead
// that would have to be found after the handshake. And the tls.Conn's buffer, which it keeps for as
// long as the connection lasts, is no larger than one record.
type transport struct {
	records
	conn net.Conn // nil after the handshake
	said int      // bytes of the handshake that were read
	in   []byte

	out  *[]byte // nil if nothing is to be sent; from outs
	from int     // what was sent of it
}

// outs are buffers for what is to be sent. A connection has one only while its socket takes nothing.
var outs = sync.Pool{New: func() any {
	const overhead = 1 << 10 // of a record, and a few small ones
	b := make([]byte, 0, RecordBytesMax+overhead)
	return &b
}}

func (t *transport) sealed() []byte {
	if t.out == nil {
		return nil
	}
	return (*t.out)[t.from:]
}

func (t *transport) drop(n int) {
	if t.out == nil {
		return
	}
	if t.from += n; t.from == len(*t.out) {
		*t.out = (*t.out)[:0]
		outs.Put(t.out)
		t.out, t.from = nil, 0
	}
}

// dry is the error of a read that would have to wait. A tls.Conn goes on after a temporary error.
type dry struct{}

func (dry) Error() string   { return "nothing more has come yet" }
func (dry) Timeout() bool   { return true }
func (dry) Temporary() bool { return true }

var errDry net.Error = dry{}

// Read implements net.Conn.
func (t *transport) Read(p []byte) (n int, err error) {
	p = t.room(p)
	switch {
	case t.conn != nil && t.said >= handshakeBytesMax:
		return 0, errHandshakeTooLarge
	case t.conn != nil:
		n, err = t.conn.Read(p)
		t.said += n
	case len(t.in) == 0:
		return 0, errDry
	default:
		n = copy(p, t.in)
		t.in = t.in[n:]
	}
	t.given(p[:n])
	return n, err
}

// Write implements net.Conn.
func (t *transport) Write(p []byte) (int, error) {
	if t.conn != nil {
		return t.conn.Write(p)
	}
	if t.out == nil {
		t.out = outs.Get().(*[]byte)
	}
	*t.out = append(*t.out, p...)
	return len(p), nil
}

// The rest of net.Conn: a tls.Conn needs none of it, but sets a deadline for its last alert.

func (t *transport) Close() error                     { return nil }
func (t *transport) LocalAddr() net.Addr              { return nil }
func (t *transport) RemoteAddr() net.Addr             { return nil }
func (t *transport) SetDeadline(time.Time) error      { return nil }
func (t *transport) SetReadDeadline(time.Time) error  { return nil }
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

// cut is a connection whose end is ErrCut: a tls.Conn takes an end between two records for one that the
// peer has said, and so it does with [io.ErrUnexpectedEOF]. It also follows the records.
type cut struct {
	net.Conn
	records
	ahead *bufio.Reader // of Conn: otherwise a small record takes two system calls
	said  int           // bytes of the handshake that were read
	over  bool          // the handshake
}

func newCut(conn net.Conn) *cut { return &cut{Conn: conn, ahead: bufio.NewReader(conn)} }

func (c *cut) Read(p []byte) (int, error) {
	if !c.over && c.said >= handshakeBytesMax {
		return 0, errHandshakeTooLarge
	}
	p = c.room(p)
	n, err := c.ahead.Read(p)
	c.given(p[:n])
	c.said += n
	if errors.Is(err, io.EOF) {
		err = ErrCut
	}
	return n, err
}
