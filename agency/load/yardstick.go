package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Yardstick does the least that any server must do under this load: receive the frames, append
// their bytes to a file, sync, acknowledge. It reads only the frames' lengths, to count them. Its
// groups form as a server's do: what comes while one group syncs is the next group.
type Yardstick struct {
	// Log gets the frames. A frame's group is durable before its ACK leaves.
	Log Log
	// Connections is how many connections it serves. It ends when all of them are closed.
	Connections int
	// GroupBytes is about how large a group grows; 0 stands for GroupBytesDefault. Set it to a
	// server's mean group to get groups of that size.
	GroupBytes int
}

// GroupBytesDefault is how many bytes loteria's server lets wait for the disk with two event loops.
const GroupBytesDefault = 4 << 20

const (
	// Each connection has two buffers: one to read into, and one to write to the file. All buffers
	// together have at most about yardstickBytes, or more if each has only pieceBytesMin.
	yardstickBytes  = 64 << 20
	pieceBytesMax   = 256 << 10
	pieceBytesMin   = 8 << 10
	buffersPerPiece = 2
)

// piece is what one read of a connection brought.
type piece struct {
	from   *yardstickConn
	bytes  []byte
	frames int // how many frames end in it
}

// yardstickConn is one connection.
type yardstickConn struct {
	conn net.Conn
	free chan []byte // buffers
}

// yardstick is a running Yardstick.
type yardstick struct {
	log        Log
	groupBytes int
	pending    chan piece // of all connections, one for each buffer at most
	acks       []byte     // scratch

	groups, bytes, bytesMax int64
}

// Serve accepts the connections of l, and returns what it wrote when all of them are closed. It
// closes l. When ctx is done it closes everything and returns an error.
func (y Yardstick) Serve(ctx context.Context, l net.Listener) (_ *Groups, err error) {
	defer func() { err = errors.Join(err, closeOnce(l)) }()
	unhook := context.AfterFunc(ctx, func() { _ = closeOnce(l) }) // Accept returns the error
	defer unhook()

	s := &yardstick{
		log: y.Log, groupBytes: cmp.Or(y.GroupBytes, GroupBytesDefault),
		pending: make(chan piece, buffersPerPiece*y.Connections),
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	readers, ctx := errgroup.WithContext(ctx)
	bufferBytes := min(max(yardstickBytes/buffersPerPiece/y.Connections, pieceBytesMin), pieceBytesMax)
	for range y.Connections {
		conn, err := l.Accept()
		if err != nil {
			cancel()
			return nil, errors.Join(err, readers.Wait())
		}
		c := &yardstickConn{conn: conn, free: make(chan []byte, buffersPerPiece)}
		for range buffersPerPiece {
			c.free <- make([]byte, bufferBytes)
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() }) // the read returns the error
		readers.Go(func() error { return s.receive(ctx, c) })
	}
	var committer errgroup.Group
	committer.Go(func() error {
		err := s.commit()
		if err != nil {
			cancel() // nothing takes pieces from pending any more
		}
		return err
	})
	errRead := readers.Wait()
	close(s.pending)
	if err := errors.Join(errRead, committer.Wait()); err != nil {
		return nil, err
	}
	return NewGroups(s.groups, s.bytes, s.bytesMax), nil
}

// receive hands over what it reads from a connection, until the connection is closed.
func (s *yardstick) receive(ctx context.Context, c *yardstickConn) (err error) {
	defer func() { err = errors.Join(err, closeOnce(c.conn)) }()
	var frames frameCounter
	for {
		var buf []byte
		select {
		case buf = <-c.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		n, err := c.conn.Read(buf)
		if n > 0 {
			ended, err := frames.count(buf[:n])
			if err != nil {
				return err
			}
			s.pending <- piece{from: c, bytes: buf[:n], frames: ended}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// closeOnce closes c. It is no error if c is closed already, because ctx was done.
func closeOnce(c io.Closer) error {
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// commit takes what is pending as one group and syncs it. Another goroutine acknowledges it while
// commit writes the next group.
func (s *yardstick) commit() error {
	durable := make(chan []piece, 1)
	spare := make(chan []piece, 2)
	spare <- nil
	spare <- nil
	var acknowledger sync.WaitGroup
	acknowledger.Go(func() {
		for group := range durable {
			s.acknowledge(group)
			spare <- group[:0]
		}
	})
	defer acknowledger.Wait()
	defer close(durable)
	var writes [][]byte
	for first := range s.pending {
		group := s.gather(append(<-spare, first))
		writes = writes[:0]
		var size int64
		for _, p := range group {
			writes = append(writes, p.bytes)
			size += int64(len(p.bytes))
		}
		if err := s.log.Commit(writes); err != nil {
			return fmt.Errorf("yardstick: %w", err)
		}
		s.groups++
		s.bytes += size
		s.bytesMax = max(s.bytesMax, size)
		durable <- group
	}
	return nil
}

// gather adds the other pending pieces to a group of one piece.
func (s *yardstick) gather(group []piece) []piece {
	for size := len(group[0].bytes); size < s.groupBytes; {
		select {
		case p, ok := <-s.pending:
			if !ok {
				return group
			}
			group = append(group, p)
			size += len(p.bytes)
		default:
			return group
		}
	}
	return group
}

func (s *yardstick) acknowledge(group []piece) {
	for _, p := range group {
		p.from.free <- p.bytes[:cap(p.bytes)]
		s.acks = s.acks[:0]
		for range p.frames {
			s.acks = append(s.acks, ackFrame...)
		}
		if len(s.acks) > 0 {
			// A peer that is gone needs no ACK; the connection's read returns the error.
			_, _ = p.from.conn.Write(s.acks)
		}
	}
}

// frameCounter counts the frames that end in each piece of a stream.
type frameCounter struct {
	length  int // what the header says so far
	digits  int // how many digits of the header have come
	payload int // how many payload bytes are still to come
}

// errFrame says that the stream is not made of frames.
var errFrame = errors.New("yardstick: no frame")

// lengthDigitsMax limits a header.
const lengthDigitsMax = 9

func (c *frameCounter) count(b []byte) (ended int, err error) {
	for len(b) > 0 {
		if c.payload > 0 {
			n := min(c.payload, len(b))
			b = b[n:]
			if c.payload -= n; c.payload == 0 {
				ended++
			}
			continue
		}
		switch digit := b[0]; {
		case '0' <= digit && digit <= '9' && c.digits < lengthDigitsMax:
			c.length, c.digits = c.length*10+int(digit-'0'), c.digits+1
		case digit == '\n' && c.digits > 0:
			c.payload, c.length, c.digits = c.length, 0, 0
			if c.payload == 0 {
				ended++
			}
		default:
			return ended, fmt.Errorf("%w: %.20q", errFrame, b)
		}
		b = b[1:]
	}
	return ended, nil
}
