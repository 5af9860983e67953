package mesh

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// sender is one lane to one server. Its goroutine dials, and writes what is queued.
type sender struct {
	mesh *Mesh
	to   uint64
	addr string
	lane lane

	dials chan struct{}   // holds one: that server has just dialled, so it is there
	ctx   context.Context // done when the mesh is closed, or the server is gone or elsewhere
	stop  context.CancelFunc

	mu      sync.Mutex
	open    bool          // there is a connection
	direct  *direct       // to it; nil: the goroutine writes everything
	busy    bool          // the goroutine writes, or has been woken to
	queue   [][]byte      // frames in parts, back to back
	queued  int           // bytes in queue
	wake    chan struct{} // holds one: queue has something
	writing [][]byte      // the goroutine's: what is being written
	piece   net.Buffers   // the goroutine's: a part of it
	records *bufio.Writer // the goroutine's: joins the parts of a piece to records of TLS; nil before the first
}

// recordBytesMax is how many bytes a record of TLS carries.
const recordBytesMax = 16 << 10

func newSender(m *Mesh, to uint64, addr string, l lane) *sender {
	s := &sender{mesh: m, to: to, addr: addr, lane: l, wake: make(chan struct{}, 1), dials: make(chan struct{}, 1)}
	s.ctx, s.stop = context.WithCancel(m.ctx)
	return s
}

func (s *sender) connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// directBytesMax is how large a message can be that is written by who sends it, if nothing waits: to wake
// the goroutine takes longer. Larger ones are worth another processor.
const directBytesMax = 16 << 10

// send writes or queues a message, unless there is no connection or no room. An empty queue takes any
// message.
func (s *sender) send(size int, parts [][]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := len(s.queue) > 0 && s.queued+frameHeaderBytes+size > s.mesh.settings.LaneBytesMax
	if !s.open || full {
		return false
	}
	s.queue = append(s.queue, binary.BigEndian.AppendUint32(nil, uint32(size)))
	s.queue = append(s.queue, parts...)
	s.queued += frameHeaderBytes + size
	if !s.busy && s.direct != nil && size <= directBytesMax {
		s.unqueue(s.direct.write(s.queue))
	}
	if len(s.queue) > 0 {
		s.busy = true
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// unqueue drops that many bytes of the queue, which were written. The mutex is held.
func (s *sender) unqueue(n int) {
	s.queued -= n
	whole := 0
	for whole < len(s.queue) && n >= len(s.queue[whole]) {
		n -= len(s.queue[whole])
		whole++
	}
	s.queue = slices.Delete(s.queue, 0, whole)
	if n > 0 {
		s.queue[0] = s.queue[0][n:]
	}
}

// take swaps the queue for the one that was written before. If that is empty, the goroutine is not busy
// any more.
func (s *sender) take() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.writing) // or it would hold the messages
	s.busy = len(s.queue) > 0
	s.writing, s.queue, s.queued = s.queue, s.writing[:0], 0
	return s.writing
}

// setOpen says whether there is a connection, and how to write to it directly. What is queued without
// one is dropped.
func (s *sender) setOpen(open bool, direct *direct) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.busy, s.direct = open, false, direct
	clear(s.queue)
	s.queue, s.queued = s.queue[:0], 0
}

// run keeps a connection until the sender is stopped. It logs each connection, and behind it each
// failure that has another reason than the one before.
func (s *sender) run() {
	delay, said := retryMin, ""
	for s.ctx.Err() == nil {
		began := time.Now()
		err := s.serve()
		s.setOpen(false, nil)
		if s.ctx.Err() != nil {
			return
		}
		if time.Since(began) > dialTimeout { // it was of use
			delay, said = retryMin, ""
		}
		if why := reason(err); why != said && s.lane == urgent { // one lane's word is enough
			said = why
			s.mesh.log.Warn("par", zap.String("result", "fail"), zap.Uint64("servidor", s.to),
				zap.String("addr", s.addr), zap.String("error", err.Error()))
		}
		wait := time.NewTimer(delay/2 + rand.N(delay))
		select {
		case <-wait.C:
		case <-s.dials:
			wait.Stop()
		case <-s.ctx.Done():
			wait.Stop()
		}
		delay = min(2*delay, retryMax)
	}
}

// reason is what an error says apart from the ports of its connection, which differ each time.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + op.Err.Error()
	}
	return err.Error()
}

// serve dials once, and writes until that connection breaks.
func (s *sender) serve() error {
	conn, err := s.mesh.dial(s.ctx, s.to, s.addr, s.lane)
	if err != nil {
		return err
	}
	broken := make(chan error, 1)
	defer context.AfterFunc(s.ctx, func() { _ = conn.Close() })()
	var watching sync.WaitGroup
	watching.Go(func() {
		// The other side says nothing more, so what comes is its end.
		var b [1]byte
		_, err := conn.Read(b[:])
		broken <- errors.Join(errors.New("the connection has ended"), err)
	})
	defer watching.Wait()
	defer func() { _ = conn.Close() }() // nothing that is lost was promised
	s.setOpen(true, newDirect(conn))
	if s.lane == urgent {
		s.mesh.log.Info("par", zap.String("result", "success"), zap.Uint64("servidor", s.to), zap.String("addr", s.addr))
	}
	for {
		select {
		case <-s.wake:
		case err := <-broken:
			return s.cause(err)
		}
		for parts := s.take(); len(parts) > 0; parts = s.take() {
			if err := s.write(conn, parts); err != nil {
				return s.cause(err)
			}
		}
	}
}

// cause is why the connection has broken, of which the goroutine may have heard only err.
func (s *sender) cause(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.direct.failure(), err)
}

// write writes all parts, as many as fit in a piece at once. Time is for each piece: a slow peer is
// no dead one.
func (s *sender) write(conn net.Conn, parts [][]byte) error {
	const pieceBytes = 256 << 10
	for len(parts) > 0 {
		piece, room := s.piece[:0], pieceBytes
		for len(parts) > 0 && room > 0 {
			n := min(len(parts[0]), room)
			piece, room = append(piece, parts[0][:n]), room-n
			if parts[0] = parts[0][n:]; len(parts[0]) == 0 {
				parts = parts[1:]
			}
		}
		if err := conn.SetWriteDeadline(time.Now().Add(s.mesh.writeTimeout)); err != nil {
			return err
		}
		s.piece = piece
		if err := s.writePiece(conn, piece); err != nil {
			return err
		}
	}
	return conn.SetWriteDeadline(time.Time{}) // direct writes have none
}

// writePiece writes a piece, and clears it, or it would hold the messages. Over TLS, each Write makes at
// least one record and one system call, so the parts are joined first.
func (s *sender) writePiece(conn net.Conn, piece net.Buffers) error {
	defer clear(piece)
	if _, is := conn.(*tls.Conn); !is {
		_, err := piece.WriteTo(conn)
		return err
	}
	if s.records == nil {
		s.records = bufio.NewWriterSize(nil, recordBytesMax)
	}
	s.records.Reset(conn)
	defer s.records.Reset(nil)
	for _, part := range piece {
		if _, err := s.records.Write(part); err != nil {
			return err
		}
	}
	return s.records.Flush()
}
