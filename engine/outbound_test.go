package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"loteria/codec"
	"loteria/engine/ledger"
)

// winningBatch is a batch of at most so many bytes that all win: for agency 1,
// the answer to GET_WINNERS.
func winningBatch(bytesMax int) string {
	return strings.TrimSuffix(strings.Repeat(betJuan+"\n", bytesMax/len(betJuan+"\n")), "\n")
}

// hearsLarge is hears for a payload that is too large to be shown.
func (w *wire) hearsLarge(want string) *wire {
	w.t.Helper()
	whole := frames(want)
	got := make([]byte, len(whole))
	if n, err := io.ReadFull(w.in, got); err != nil || !bytes.Equal(got, whole) {
		w.t.Fatalf("heard %d bytes, %v; want a frame of %d", n, err, len(whole))
	}
	return w
}

// onLoops runs look on every loop, one at a time.
func (s *liveServer) onLoops(t *testing.T, look func(*loop)) {
	t.Helper()
	for _, lp := range s.loops {
		ran := make(chan struct{})
		lp.post(func(m *mailbox) { m.ran = append(m.ran, func() { look(lp); close(ran) }) })
		select {
		case <-ran:
		case <-time.After(socketTimeout):
			t.Fatal("a loop doesn't look into its mailbox")
		}
	}
}

// unanswered is how many frames of an agency's connections have no answer yet,
// of those that the loops have read.
func (s *liveServer) unanswered(t *testing.T, id codec.Agency) (n int) {
	t.Helper()
	s.onLoops(t, func(lp *loop) {
		for _, sess := range lp.sessions {
			if sess.agency == id {
				n += int(sess.unanswered)
			}
		}
	})
	return n
}

// awaitThat waits until something is so that the server does on its own.
func awaitThat(t *testing.T, what string, is func() bool) {
	t.Helper()
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	timeout := time.After(socketTimeout)
	for !is() {
		select {
		case <-looks.C:
		case <-timeout:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// A peer that asks again and again and reads nothing is closed before the
// server keeps more for it than the limit and one answer. Nobody else notices,
// and the agency may come again.
func TestOutboundPeerThatDoesNotRead(t *testing.T) {
	const answerBytes, questionsMax = 512 << 10, 200
	cfg := liveConfig(t)
	cfg.FrameBytesMax, cfg.NoExport = answerBytes, true
	s := serveLive(t, cfg)
	batch := winningBatch(answerBytes)
	two := s.dial(t).waits(2)
	greedy := s.dial(t)
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
		if err := s.AwaitRead(t.Context()); err != nil {
			t.Fatal(err)
		}
		awaitThat(t, "an answer", func() bool { return closed() > 0 || s.unanswered(t, 1) == 0 })
	}
	awaitThat(t, "the line about it", func() bool { return closed() == 1 })
	line := s.logs.FilterMessage("conexion").All()[0].ContextMap()
	if unread := line["bytes"].(int64); line["agencia"] != uint32(1) || unread <= int64(cfg.UnreadBytesMax) || unread > int64(cfg.UnreadBytesMax+answerBytes+payloadCopyMax) {
		t.Errorf("closed with %v, want the limit of %d passed by one answer at most", line, cfg.UnreadBytesMax)
	}
	// What the sockets had taken is there, then comes the end.
	if n, err := io.Copy(io.Discard, greedy.in); errors.Is(err, os.ErrDeadlineExceeded) || n >= int64(asked*answerBytes) {
		t.Errorf("read %d bytes of %d answers, %v; want the connection's end before", n, asked, err)
	}
	greedy.close()

	two.hears("").say("GET_WINNERS|2").hears("")
	s.dial(t).say("GET_WINNERS|1").hearsLarge(batch).close()
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
	cfg.Agencies, cfg.FrameBytesMax, cfg.NoExport = 1, batchBytes, true
	s := serveLive(t, cfg)
	slow := s.dial(t)
	batch := winningBatch(batchBytes)
	for range batches {
		slow.say(batch).hears("ACK")
	}
	slow.say("GET_WINNERS|1")
	unread := 0
	awaitThat(t, "more to be unread than the limit", func() bool {
		s.onLoops(t, func(lp *loop) {
			for _, sess := range lp.sessions {
				if sess.backlog != nil {
					unread = sess.backlog.bytes
				}
			}
		})
		return unread > cfg.UnreadBytesMax
	})
	slow.hearsLarge(strings.TrimSuffix(strings.Repeat(batch+"\n", batches), "\n")).close()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
}

// Answers that leave together are copied, but not without a limit, however many
// a peer asks for at once.
func TestOutboundScratchIsBounded(t *testing.T) {
	cfg := liveConfig(t)
	cfg.Agencies = 1
	s := serveLive(t, cfg)
	batch := winningBatch(payloadCopyMax)
	one := s.dial(t).say(batch, "GET_WINNERS|1").hears("ACK").hearsLarge(batch)
	one.say(slices.Repeat([]string{"GET_WINNERS|1"}, cfg.Window)...)
	for range cfg.Window {
		one.hearsLarge(batch)
	}
	s.onLoops(t, func(lp *loop) {
		// Two payloads and headers, grown as append does.
		if limit := 3 * payloadCopyMax; cap(lp.out) > limit {
			t.Errorf("the scratch holds %d bytes, want at most %d", cap(lp.out), limit)
		}
	})
	one.close()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
}

// fakeConn is a connection whose socket takes room bytes more.
type fakeConn struct {
	room    int
	unacked int // one less at each look
	closed  bool
	session *session
}

func (c *fakeConn) send(p []byte) (int, error) {
	n := min(len(p), c.room)
	c.room -= n
	return n, nil
}

func (c *fakeConn) unacknowledged() (int, error) {
	c.unacked = max(c.unacked-1, 0)
	return c.unacked, nil
}

func (c *fakeConn) shutWrite() {}

func (c *fakeConn) close() {
	c.closed = true
	c.session.loop.bury(c.session) // as OnClose does
}

// noLoop is an event loop that never runs anything.
type noLoop struct{ gnet.EventLoop }

func (noLoop) Execute(context.Context, gnet.Runnable) error { return nil }

// A session is there as long as its peer goes on reading, however slowly. It is
// dropped SERVER_READ_TIMEOUT after that stops, or lingerMax if it was told
// everything.
func TestPatienceCountsFromTheLastProgress(t *testing.T) {
	const answerBytes = 16 << 20
	fake := func(sess session) func(*testing.T, *loop) (*session, func()) {
		return func(*testing.T, *loop) (*session, func()) {
			c := &fakeConn{session: &sess}
			sess.conn = c
			return &sess, func() { c.room = 1 }
		}
	}
	for _, test := range []struct {
		name     string
		patience func(*Server) time.Duration
		// open returns a session, and how to read some of its unread answer.
		open func(*testing.T, *loop) (*session, func())
	}{
		{"half-closed", func(*Server) time.Duration { return lingerMax }, func(t *testing.T, lp *loop) (*session, func()) {
			half, peer := halfClosedPair(t)
			buf := make([]byte, 64<<10)
			sess := &session{conn: half, deaf: true}
			left := func() int {
				unacknowledged, err := half.unacknowledged()
				if err != nil {
					t.Fatal(err)
				}
				if sess.backlog != nil {
					lp.flushSession(sess)
					return sess.backlog.bytes + unacknowledged
				}
				return unacknowledged
			}
			return sess, func() {
				for before := left(); left() >= before; {
					if _, err := io.ReadFull(peer, buf); err != nil {
						t.Fatal(err)
					}
				}
			}
		}},
		{"told its last answer", func(*Server) time.Duration { return lingerMax }, fake(session{deaf: true, lastSaid: true})},
		{"slow reader", func(s *Server) time.Duration { return s.cfg.ReadTimeout }, fake(session{spoke: true})},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := open(liveConfig(t), zap.NewNop(), ledger.Options{})
			if err != nil {
				t.Fatal(err)
			}
			s.later = func(time.Duration, func()) {} // ticks are all that happens
			lp := s.loops[0]
			lp.attach(noLoop{})
			sess, read := test.open(t, lp)
			s.admission.enter(sess.source)
			lp.load++
			sess.loop = lp
			lp.add(sess)
			lp.writeShared(sess, make([]byte, answerBytes))
			patience := int(test.patience(s) / s.tickPeriod) // ticks
			lp.tick()                                        // sees how much is unread
			for round := range 5 {
				read()
				for n := range patience {
					lp.tick()
					if sess.closed {
						t.Fatalf("round %d: dropped %d ticks after the peer read some, want more than %d", round, n+1, patience)
					}
				}
			}
			read()
			for range patience + 2 {
				lp.tick()
			}
			if !sess.closed || len(lp.sessions) != 0 || s.admission.count() != 0 {
				t.Errorf("closed %v, %d sessions, %d open %v after the peer stopped", sess.closed, len(lp.sessions), s.admission.count(), test.patience(s))
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// halfClosedPair is a connection over the loopback: what a server holds of it,
// and the peer, whose socket takes little at a time.
func halfClosedPair(t *testing.T) (*halfSocket, net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	peer, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	if err := errors.Join(peer.(*net.TCPConn).SetReadBuffer(64<<10), peer.SetDeadline(time.Now().Add(socketTimeout))); err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	raw, err := accepted.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	half := new(halfSocket)
	var errDup error
	if err := raw.Control(func(fd uintptr) { half.fd, errDup = unix.Dup(int(fd)) }); err != nil || errDup != nil {
		t.Fatal(err, errDup)
	}
	return half, peer
}
