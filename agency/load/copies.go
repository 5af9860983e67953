package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Copies is the log of a Yardstick whose groups have to be in several files, as those of servers
// have that hold one draw together: a file of its own, and one in each process that runs ServeCopy.
// A group is durable when a majority has it. There is no consensus: nobody is elected, nobody may
// fail, and nothing is read again.
type Copies struct {
	own    Log
	peers  []*copyPeer
	groups int64
	heard  chan struct{} // holds one: a peer has answered
	closed atomic.Bool
	ctx    context.Context
	busy   *errgroup.Group
}

type copyPeer struct {
	conn    net.Conn
	groups  chan [][]byte
	written chan struct{}
	durable atomic.Int64 // how many groups it has
}

// A group is its length, in copyHeaderBytes, and its bytes. The answer is one byte.
const copyHeaderBytes = 8

// NewCopies makes a log with copies at the other ends of conns, which are its own from then on. When
// ctx is done, they are closed, and Commit returns an error.
func NewCopies(ctx context.Context, own Log, conns []net.Conn) *Copies {
	c := &Copies{own: own, heard: make(chan struct{}, 1)}
	c.busy, c.ctx = errgroup.WithContext(ctx)
	for _, conn := range conns {
		p := &copyPeer{conn: conn, groups: make(chan [][]byte, 1), written: make(chan struct{})}
		c.peers = append(c.peers, p)
		context.AfterFunc(c.ctx, func() { _ = closeOnce(conn) }) // the reads and writes return the error
		c.busy.Go(func() error { return c.send(p) })
		c.busy.Go(func() error { return c.hear(p) })
	}
	return c
}

// Commit implements Log. It also waits until all peers' sockets have taken the group.
func (c *Copies) Commit(pieces [][]byte) error {
	for _, p := range c.peers {
		p.groups <- pieces // there is room: the one before is written
	}
	if err := c.own.Commit(pieces); err != nil {
		return err
	}
	for _, p := range c.peers {
		select {
		case <-p.written:
		case <-c.ctx.Done():
			return c.lost()
		}
	}
	c.groups++
	for c.have() < len(c.peers)/2+1 {
		select {
		case <-c.heard:
		case <-c.ctx.Done():
			return c.lost()
		}
	}
	return nil
}

// have is how many files have all groups.
func (c *Copies) have() int {
	n := 1
	for _, p := range c.peers {
		if p.durable.Load() >= c.groups {
			n++
		}
	}
	return n
}

func (c *Copies) send(p *copyPeer) error {
	var header [copyHeaderBytes]byte
	var buffers net.Buffers
	for pieces := range p.groups {
		size := 0
		buffers = append(buffers[:0], header[:])
		for _, b := range pieces {
			buffers = append(buffers, b)
			size += len(b)
		}
		binary.BigEndian.PutUint64(header[:], uint64(size))
		rest := buffers // WriteTo takes from it what it has written
		if _, err := rest.WriteTo(p.conn); err != nil {
			return err
		}
		select {
		case p.written <- struct{}{}:
		case <-c.ctx.Done():
			return nil
		}
	}
	return p.conn.(interface{ CloseWrite() error }).CloseWrite()
}

func (c *Copies) hear(p *copyPeer) error {
	var answer [1]byte
	for {
		switch _, err := io.ReadFull(p.conn, answer[:]); {
		case errors.Is(err, io.EOF) && c.closed.Load():
			return closeOnce(p.conn)
		case err != nil:
			return unexpected(err)
		}
		p.durable.Add(1)
		select {
		case c.heard <- struct{}{}:
		default:
		}
	}
}

// lost is why the copies have ended.
func (c *Copies) lost() error { return fmt.Errorf("a copy is lost: %w", c.busy.Wait()) }

// Close waits until all peers have all groups, and ends them. After a Commit that has failed, the
// context has to be done.
func (c *Copies) Close() error {
	c.closed.Store(true)
	for _, p := range c.peers {
		close(p.groups)
	}
	return c.busy.Wait()
}

// ServeCopy takes one connection of l, and keeps in a log what a Copies sends there, until that one
// closes it. It closes l. When ctx is done it closes everything and returns an error.
func ServeCopy(ctx context.Context, l net.Listener, log Log) (err error) {
	defer context.AfterFunc(ctx, func() { _ = closeOnce(l) })() // Accept returns the error
	conn, err := l.Accept()
	if err = errors.Join(err, closeOnce(l)); err != nil {
		return err
	}
	busy, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, func() { _ = closeOnce(conn) }) // ctx is done at the latest behind Wait
	// While one group is written, the next one is read.
	groups, spare := make(chan []byte), make(chan []byte, 2)
	spare <- nil
	spare <- nil
	busy.Go(func() error {
		defer close(groups)
		for {
			var group []byte
			select {
			case group = <-spare:
			case <-ctx.Done():
				return ctx.Err()
			}
			group, err := readGroup(conn, group)
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
			select {
			case groups <- group:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	busy.Go(func() error {
		for group := range groups {
			if err := log.Commit([][]byte{group}); err != nil {
				return fmt.Errorf("yardstick: %w", err)
			}
			_, _ = conn.Write([]byte{1}) // a peer that is gone needs no answer; the read ends
			spare <- group
		}
		return nil
	})
	return busy.Wait()
}

// readGroup reads a group into a buffer, which grows if it has to. io.EOF is the end of all groups.
func readGroup(r io.Reader, buf []byte) ([]byte, error) {
	var header [copyHeaderBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint64(header[:])
	if size > groupBytesMax {
		return nil, fmt.Errorf("%w: a group of %d bytes", errFrame, size)
	}
	if uint64(cap(buf)) < size {
		buf = make([]byte, size, size+size/2)
	}
	_, err := io.ReadFull(r, buf[:size])
	return buf[:size], unexpected(err)
}

// unexpected is the error of a stream that ends within a group.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// groupBytesMax is more than any group has: all pieces of all connections.
const groupBytesMax = 1 << 30
