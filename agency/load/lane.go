package load

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"loteria/codec"
)

var (
	// ErrServer says that the server's answer is not the expected one. The message has the answer.
	ErrServer = errors.New("load: the server's answer is not the expected one")
	// ErrWinners says that an agency's winners are not the winning bets that it has sent.
	ErrWinners = errors.New("load: winners differ from the winning bets that were sent")
	// ErrBacklog says that the server is slower than the rate of a paced load.
	ErrBacklog = errors.New("load: the server can't keep up with --rate")
)

// backlogMax is how many batches of a lane may be due and not sent.
const backlogMax = 1 << 20

// lane is one agency on one connection. Its goroutine reads answers and sends what the window then
// allows. In a paced load the pacer sends too.
type lane struct {
	*agent
	window int

	mu     sync.Mutex // guards what follows, acked and lastACK
	sent   int        // frames; sent-acked <= window
	begun  []int64    // by frame modulo window: when its latency began, after the start
	due    []int64    // paced: due times of the frames that are due but not sent, oldest first
	acks   ackCounter
	answer []int64 // scratch: the latencies of one read
}

// connect dials and, if the options say so, says HELLO.
func (l *lane) connect() (err error) {
	if l.conn, err = l.dial(); err != nil || !l.run.options.helloes() || l.run.target.Bare {
		l.begun = make([]int64, l.window)
		return err
	}
	// Nobody watches for a stall before all are connected.
	if err := l.conn.SetDeadline(time.Now().Add(stallTimeout)); err != nil {
		return err
	}
	reply, err := exchange(l.conn, codec.AppendHello(nil, l.id))
	if err = errors.Join(err, l.conn.SetDeadline(time.Time{})); err != nil {
		return fmt.Errorf("HELLO of agency %d: %w", l.id, err)
	}
	if reply.Kind == codec.ReplyError && reply.Code == codec.CodeNotLeader {
		return fmt.Errorf("%w: HELLO of agency %d", errMoved, l.id)
	}
	if reply.Kind != codec.ReplyWelcome {
		return fmt.Errorf("%w: HELLO of agency %d: %s: for servers without HELLO there is --stop-and-wait", ErrServer, l.id, describe(reply))
	}
	w := reply.Welcome
	if w.FrameBytesMax < l.run.options.BatchBytes {
		return fmt.Errorf("%w: it takes frames of %d bytes: set --batch-bytes to that or less", ErrServer, w.FrameBytesMax)
	}
	if w.Stored > 0 {
		return fmt.Errorf("%w: it has %d bets of agency %d already: bench needs a fresh data directory", ErrServer, w.Stored, l.id)
	}
	l.window = min(l.window, w.Window)
	l.begun = make([]int64, l.window)
	return nil
}

// upload sends the lane's share, and returns when all sent frames are acknowledged.
func (l *lane) upload() error {
	buf := make([]byte, readBytes)
	if err := l.pump(); err != nil {
		return err
	}
	for !l.drained() {
		n, err := l.conn.Read(buf)
		if err != nil {
			return l.lost(err)
		}
		if other, err := l.take(buf[:n]); err != nil {
			return err
		} else if other != nil {
			return l.unexpected(other)
		}
	}
	return nil
}

// drained reports whether all frames are sent and acknowledged.
func (l *lane) drained() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked == l.share.frames || l.acked == l.sent && l.run.over.Load()
}

// take counts the ACKs of a read and sends what the window then allows.
func (l *lane) take(in []byte) (other []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	acks, other := l.acks.take(in)
	if acks > l.sent-l.acked {
		return nil, fmt.Errorf("%w: agency %d has %d ACKs for %d batches", ErrServer, l.id, l.acked+acks, l.sent)
	}
	if acks > 0 {
		now := l.run.sinceStart()
		l.lastACK = now
		l.answer = l.answer[:0]
		var bets int64
		for n := l.acked; n < l.acked+acks; n++ {
			l.answer = append(l.answer, int64(now)-l.begun[n%l.window])
			bets += int64(l.share.betsOf(n))
		}
		l.acked += acks
		l.run.recorder.record(l.index, l.answer)
		l.run.meter.bets.Add(bets)
	}
	if other != nil {
		return other, nil
	}
	return nil, l.send()
}

// pump sends what may be sent.
func (l *lane) pump() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.send()
}

// offer says that one more batch is due. Only the pacer calls it. The batch is sent as soon as the
// window allows.
func (l *lane) offer(due time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.due) == backlogMax {
		return fmt.Errorf("%w: %d batches of agency %d wait to be sent", ErrBacklog, len(l.due), l.id)
	}
	l.due = append(l.due, int64(due))
	return l.send()
}

// send sends what may be sent. The caller holds l.mu. A write may wait for the server, but not for
// ever: the server doesn't wait for us to read our ACKs.
func (l *lane) send() error {
	paced := l.run.options.Rate > 0
	n := min(l.window-(l.sent-l.acked), l.share.frames-l.sent)
	switch {
	case paced:
		n = min(n, len(l.due))
	case l.run.over.Load():
		n = 0
	}
	if n <= 0 {
		return nil
	}
	now := int64(l.run.sinceStart())
	for i := range n {
		begun := now
		if paced {
			begun = l.due[i]
		}
		l.begun[(l.sent+i)%l.window] = begun
	}
	if paced {
		l.due = l.due[n:]
	}
	for n > 0 {
		stream, frames := l.share.next(l.sent, n)
		if _, err := l.conn.Write(stream); err != nil {
			return l.lost(err)
		}
		l.run.meter.bytes.Add(int64(len(stream)))
		l.sent += frames
		n -= frames
	}
	return nil
}

// report says that the agency has no more bets.
func (l *lane) report() error {
	_, err := l.conn.Write(codec.AppendGetWinners(nil, l.id))
	return err
}

// winners waits for the agency's winners and checks them. It polls a server that doesn't push.
func (l *lane) winners() (count int, err error) {
	for {
		reply, err := readReply(l.conn)
		if err != nil {
			return 0, l.lost(err)
		}
		if reply.Kind != codec.ReplyError || reply.Code != codec.CodeLotteryHasntEnded {
			return checkWinners(l.id, reply, l.share.winningLines(l.acked))
		}
		if err := l.run.beforeNextPoll(); err != nil {
			return 0, err
		}
		if err := l.report(); err != nil {
			return 0, l.lost(err)
		}
	}
}

// confirm tells the server that the agency has its winners. Agencies without HELLO can't; for them
// it counts that they close after reading everything.
func (l *lane) confirm() error {
	if !l.run.options.helloes() {
		return nil
	}
	reply, err := exchange(l.conn, codec.AppendReceived(nil, l.id))
	if err != nil {
		return l.lost(err)
	}
	if reply.Kind != codec.ReplyAck {
		return fmt.Errorf("%w: RECEIVED of agency %d: %s", ErrServer, l.id, describe(reply))
	}
	return nil
}

// unexpected returns the error for an answer that is not an ACK; begin is its beginning.
func (l *lane) unexpected(begin []byte) error {
	reply, err := readReplyAfter(begin, l.conn)
	if err != nil {
		return fmt.Errorf("%w: agency %d: %.80q: %w", ErrServer, l.id, begin, err)
	}
	return fmt.Errorf("%w: agency %d: %s", ErrServer, l.id, describe(reply))
}

func (l *lane) lost(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("connection of agency %d: %w", l.id, err)
}
