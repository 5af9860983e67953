package relay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"loteria/codec"
)

// streamHead is how a stream begins: an agency's address, without its port, and the agency that it has proved
// to be, or 0.
type streamHead struct {
	source source
	agency codec.Agency
}

const streamHeadBytes = 16 + 4

func (h streamHead) encode() []byte {
	return binary.BigEndian.AppendUint32(h.source[:], uint32(h.agency))
}

func readStreamHead(r io.Reader) (h streamHead, err error) {
	var b [streamHeadBytes]byte
	_, err = io.ReadFull(r, b[:])
	copy(h.source[:], b[:])
	h.agency = codec.Agency(binary.BigEndian.Uint32(b[len(h.source):]))
	return h, err
}

// source is an IPv6 address, or an IPv4 address mapped into one. Zero is no address.
type source [16]byte

func sourceOf(a net.Addr) source {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return source{}
	}
	ip, ok := netip.AddrFromSlice(tcp.IP)
	if !ok {
		return source{}
	}
	return ip.As16()
}

// ErrCut says that an agency's connection has broken, or the way to it.
var ErrCut = errors.New("the agency was cut off")

// Conn is an agency's connection at the leader. Its remote address is the agency's. What is said on
// it, the relay of another server passes on. What this server's kernel takes of the agency's answers,
// the agency need not have taken yet: see Acknowledged.
type Conn struct {
	*net.UnixConn
	from         net.TCPAddr
	agency       codec.Agency
	acknowledged atomic.Int64
	ended, cut   atomic.Bool
}

// RemoteAddr implements net.Conn. It returns the agency's address, without the port.
func (c *Conn) RemoteAddr() net.Addr { return &c.from }

// Agency is the one that has proved to the relay who it is, by a certificate; 0 if none has.
func (c *Conn) Agency() codec.Agency { return c.agency }

// Socket is the connection for who needs one of package net's types.
func (c *Conn) Socket() net.Conn { return c.UnixConn }

// Acknowledged is how many bytes of answers the agency's system has acknowledged. With ErrCut it won't
// be more. Any goroutine may call it.
func (c *Conn) Acknowledged() (bytes int64, err error) {
	if c.cut.Load() { // before the question, or what came last is missed
		err = ErrCut
	}
	return c.acknowledged.Load(), err
}

// Ended reports, of a connection that has no more to read, whether the agency has said so. Otherwise it
// was cut off. Any goroutine may call it.
func (c *Conn) Ended() bool { return c.ended.Load() }

// Receive takes a stream that another server's relay has opened to this one, which leads. It gives
// the agency's connection to take, which owns it from then on, and returns when it has ended. If take
// returns false, it is over at once. The stream is the caller's to close.
func Receive(stream net.Conn, take func(*Conn) bool) error {
	if err := stream.SetReadDeadline(time.Now().Add(lingerMax)); err != nil {
		return err
	}
	head, err := readStreamHead(stream)
	if err != nil {
		return err
	}
	if err := stream.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	near, far, err := Pair()
	if err != nil {
		return err
	}
	c := &Conn{UnixConn: near, from: net.TCPAddr{IP: net.IP(head.source[:])}, agency: head.agency}
	if !take(c) {
		return errors.Join(near.Close(), far.Close())
	}
	var back sync.WaitGroup
	back.Go(func() {
		send := func(b []byte) error {
			_, err := stream.Write(b)
			return err
		}
		if copyTo(send, far, 0) != nil || closeWrite(stream) != nil {
			_ = stream.Close() // the agency would wait for ever
		}
	})
	if err = c.take(stream, far); errors.Is(err, io.EOF) {
		err = nil
	} else {
		_ = stream.Close() // the relay may wait for the leader to hear it, and the leader to be heard
	}
	c.cut.Store(true)
	errClose := far.Close()
	back.Wait()
	return errors.Join(err, errClose)
}

// take takes what the relay reports, until the stream ends, which is io.EOF.
func (c *Conn) take(stream io.Reader, far *net.UnixConn) error {
	in := bufio.NewReaderSize(stream, saidHeadBytes+saidBytesMax)
	for {
		kind, size, acknowledged, err := readReport(in)
		if err != nil {
			return err
		}
		switch kind {
		case reportSaid:
			said, err := in.Peek(size)
			if err == nil {
				_, err = far.Write(said)
			}
			if err != nil {
				return err
			}
			_, _ = in.Discard(size) // they are there
		case reportAcknowledged:
			c.acknowledged.Store(int64(acknowledged))
		case reportEnded:
			c.ended.Store(true)
			if err := far.CloseWrite(); err != nil {
				return err
			}
		}
	}
}

// Pair is a connection within this process.
func Pair() (near, far *net.UnixConn, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range pair {
		unix.CloseOnExec(fd)
		file := os.NewFile(uintptr(fd), "relayed")
		c, errConn := net.FileConn(file)
		err = errors.Join(err, errConn, file.Close())
		ends[i], _ = c.(*net.UnixConn)
	}
	if err != nil {
		for _, c := range ends {
			if c != nil {
				_ = c.Close() // the error above says more
			}
		}
		return nil, nil, err
	}
	return ends[0], ends[1], nil
}
