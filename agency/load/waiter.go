package load

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"loteria/codec"
)

// waiter is an agency that places one winning bet, reports, and waits.
type waiter struct {
	run  *run
	id   codec.Agency
	bet  []byte      // the frame that it sends
	want []byte      // its winners
	tls  *tls.Config // nil: plain
	conn net.Conn    // nil once the waiting room has it

	// While the agency waits, only its event loop uses these fields.
	seated   bool
	secured  *secureConn // nil: plain
	complete bool        // the agency has its winners
	answer   []byte      // the expected answer: want as a frame
	begun    []byte      // the part of an answer that has come in pieces
}

func newWaiter(r *run, index int) (*waiter, error) {
	id := codec.Agency(r.options.Agencies + index + 1)
	ring, err := newRing(id, Options{BatchBets: 1, BatchBytes: BatchBytesMin}, 0) // one frame with one bet
	if err != nil {
		return nil, err
	}
	secured, err := r.target.secure(id)
	if err != nil {
		return nil, err
	}
	whole := share{ring: ring, frames: 1}
	want := whole.winningLines(1)
	return &waiter{run: r, id: id, tls: secured, bet: ring.stream, want: want, answer: codec.AppendFrame(nil, want)}, nil
}

// connect dials, places the bet, and asks for the winners.
func (w *waiter) connect() (err error) {
	if w.conn, err = w.run.dial(w.run.target.Addr, w.tls); err != nil {
		return err
	}
	reply, err := exchange(w.conn, w.bet)
	if err != nil {
		return fmt.Errorf("bet of waiting agency %d: %w", w.id, err)
	}
	if reply.Kind != codec.ReplyAck {
		return fmt.Errorf("%w: bet of waiting agency %d: %s", ErrServer, w.id, describe(reply))
	}
	if _, err = w.conn.Write(codec.AppendGetWinners(nil, w.id)); err == nil {
		w.run.waiting.Add(1)
	}
	return err
}

// winnersDue is how many winners the agency has to get.
func (w *waiter) winnersDue() int { return codec.Lines(w.want) }

// hear takes what has come from the socket, and reports whether it completes the winners.
func (w *waiter) hear(in []byte) (complete bool, err error) {
	if w.secured == nil {
		return w.take(in)
	}
	before := w.complete
	var errTake error
	err = w.secured.feed(in, func(plain []byte) error {
		_, errTake = w.take(plain)
		return errTake
	})
	if errors.Is(err, io.EOF) && w.complete {
		err = nil
	}
	if err != nil && errTake == nil {
		err = w.lost(err)
	}
	return w.complete && !before, err
}

// take takes bytes that have come, and reports whether they complete the winners. The expected
// answer in one piece costs one comparison.
func (w *waiter) take(in []byte) (complete bool, err error) {
	switch {
	case w.complete:
		return false, w.lost(moreThanOneAnswer(in))
	case len(w.begun) == 0 && bytes.Equal(in, w.answer):
		w.complete = true
		return true, nil
	}
	w.begun = append(w.begun, in...)
	reply, ok, err := wholeReply(w.begun)
	if err != nil {
		return false, w.lost(err)
	}
	if !ok {
		return false, nil
	}
	if _, err := checkWinners(w.id, reply, w.want); err != nil {
		return false, err
	}
	w.begun, w.complete = nil, true
	return true, nil
}

// lost returns the error for an answer that doesn't come, or is not valid.
func (w *waiter) lost(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.EOF // without gnet's text about a system call
	}
	return fmt.Errorf("winners of waiting agency %d: %w", w.id, err)
}

func (w *waiter) close() error {
	if w.conn == nil {
		return nil
	}
	return w.conn.Close()
}
