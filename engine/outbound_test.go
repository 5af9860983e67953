package engine_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"loteria/codec"
)

// awaitAnswered returns when the server has answered all that was sent to it before, or keeps the
// answers. It has one loop, which the witness is on, too.
func (s *liveServer) awaitAnswered(t *testing.T, witness *wire) {
	t.Helper()
	s.awaitRead(t)
	witness.say("").hears(codec.CodeEmptyBatch.String())
}

// A peer that asks again and again and reads nothing is closed before the
// server keeps more for it than the limit and one answer. Nobody else notices,
// and the agency may come again.
func TestOutboundPeerThatDoesNotRead(t *testing.T) {
	const answerBytes, questionsMax = 512 << 10, 200
	cfg := liveConfig(t)
	cfg.FrameBytesMax, cfg.NoExport, cfg.EventLoops = answerBytes, true, 1
	s := serveLive(t, cfg)
	batch := winningBatch(answerBytes)
	two := s.dial(t).waits(2)
	greedy, witness := s.dial(t), s.dial(t)
	greedy.say(batch).hears("ACK")

	closed := func() int { return s.count("conexion", "fail") }
	asked := 0
	for ; closed() == 0; asked++ {
		if asked == questionsMax {
			t.Fatalf("%d answers of %d bytes are unread and the peer is not closed", asked, answerBytes)
		}
		// One at a time: the window must not be what closes it.
		if _, err := greedy.conn.Write(frames("GET_WINNERS|1")); err != nil {
			break
		}
		s.awaitAnswered(t, witness)
	}
	awaitThat(t, "the line about it", func() bool { return closed() == 1 })
	line := s.logs.FilterMessage("conexion").All()[0].ContextMap()
	if unread := line["bytes"].(int64); line["agencia"] != uint32(1) || unread <= int64(cfg.UnreadBytesMax) || unread > int64(cfg.UnreadBytesMax+len(frames(batch))) {
		t.Errorf("closed with %v, want the limit of %d passed by one answer at most", line, cfg.UnreadBytesMax)
	}
	// What the sockets had taken is there, then comes the end.
	if n, err := io.Copy(io.Discard, greedy.in); errors.Is(err, os.ErrDeadlineExceeded) || n >= int64(asked*answerBytes) {
		t.Errorf("read %d bytes of %d answers, %v; want the connection's end before", n, asked, err)
	}
	greedy.close()

	two.hears("").say("GET_WINNERS|2").hears("")
	s.dial(t).say("GET_WINNERS|1").hears(batch).close()
	two.close()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
}

// One answer may be larger than the limit: who takes their time over it gets
// it whole.
func TestOutboundOneLargeAnswer(t *testing.T) {
	const batchBytes, batches = 2 << 20, 6 // more than the sockets take, and the limit
	cfg := liveConfig(t)
	cfg.Agencies, cfg.FrameBytesMax, cfg.NoExport, cfg.EventLoops = 1, batchBytes, true, 1
	s := serveLive(t, cfg)
	slow, witness := s.dial(t), s.dial(t)
	batch := winningBatch(batchBytes)
	for range batches {
		slow.say(batch).hears("ACK")
	}
	slow.does(takesLittle).say("GET_WINNERS|1")
	s.awaitAnswered(t, witness) // as far as the sockets take it
	slow.hears(strings.TrimSuffix(strings.Repeat(batch+"\n", batches), "\n")).close()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
}
