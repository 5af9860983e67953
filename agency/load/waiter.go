package load

import (
	"fmt"
	"net"

	"loteria/codec"
)

// waiter is an agency that places one winning bet, reports, and waits.
type waiter struct {
	run  *run
	id   codec.Agency
	ring *ring // of one frame with one bet
	conn net.Conn
}

func newWaiter(r *run, index int) (*waiter, error) {
	id := codec.Agency(r.options.Agencies + index + 1)
	ring, err := newRing(id, Options{BatchBets: 1, BatchBytes: BatchBytesMin}, 0)
	return &waiter{run: r, id: id, ring: ring}, err
}

// connect does everything up to waiting.
func (w *waiter) connect() (err error) {
	if w.conn, err = w.run.dial(); err != nil {
		return err
	}
	reply, err := exchange(w.conn, w.ring.stream)
	if err != nil {
		return fmt.Errorf("bet of waiting agency %d: %w", w.id, err)
	}
	if reply.Kind != codec.ReplyAck {
		return fmt.Errorf("%w: bet of waiting agency %d: %s", ErrServer, w.id, describe(reply))
	}
	_, err = w.conn.Write(codec.AppendGetWinners(nil, w.id))
	return err
}

// winners waits for the draw.
func (w *waiter) winners() (count int, err error) {
	reply, err := readReply(w.conn)
	if err != nil {
		return 0, fmt.Errorf("winners of waiting agency %d: %w", w.id, err)
	}
	whole := share{ring: w.ring, frames: 1}
	return checkWinners(w.id, reply, whole.winningLines(1))
}

func (w *waiter) close() error {
	if w.conn == nil {
		return nil
	}
	return w.conn.Close()
}
