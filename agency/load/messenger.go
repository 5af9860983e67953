package load

import (
	"errors"
	"fmt"

	"loteria/codec"
)

// messenger is an agency of the oldest kind: it sends every message on a connection of its own, one
// after the other.
type messenger struct {
	*agent // its connection waits for the winners
}

func (*messenger) connect() error { return nil }

func (m *messenger) upload() error {
	for ; m.acked < m.share.frames && !m.run.over.Load(); m.acked++ {
		frame, _ := m.share.next(m.acked, 1)
		begun := m.run.sinceStart()
		reply, err := m.say(frame)
		if err != nil {
			return fmt.Errorf("batch of agency %d: %w", m.id, err)
		}
		if reply.Kind != codec.ReplyAck {
			return fmt.Errorf("%w: batch of agency %d: %s", ErrServer, m.id, describe(reply))
		}
		m.lastACK = m.run.sinceStart()
		m.run.recorder.record(m.index, []int64{int64(m.lastACK - begun)})
		m.run.meter.bets.Add(int64(m.share.betsOf(m.acked)))
		m.run.meter.bytes.Add(int64(len(frame)))
	}
	return nil
}

// say sends one message on a connection of its own and returns the answer.
func (m *messenger) say(frame []byte) (reply codec.Reply, err error) {
	conn, err := m.dial()
	if err != nil {
		return codec.Reply{}, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return exchange(conn, frame)
}

func (m *messenger) report() (err error) {
	if m.conn, err = m.dial(); err != nil {
		return err
	}
	_, err = m.conn.Write(codec.AppendGetWinners(nil, m.id))
	return err
}

func (m *messenger) winners() (count int, err error) {
	for {
		reply, err := readReply(m.conn)
		if err != nil {
			return 0, fmt.Errorf("winners of agency %d: %w", m.id, err)
		}
		if reply.Kind != codec.ReplyError || reply.Code != codec.CodeLotteryHasntEnded {
			return checkWinners(m.id, reply, m.share.winningLines(m.acked))
		}
		if err := errors.Join(m.close(), m.run.beforeNextPoll()); err != nil {
			return 0, err
		}
		if err := m.report(); err != nil {
			return 0, err
		}
	}
}

// confirm sends nothing: a messenger's winners count once it closes after reading them.
func (*messenger) confirm() error { return nil }
