package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// Answers that leave together are copied, but not without a limit, however many
// a peer asks for at once.
func TestOutboundScratchIsBounded(t *testing.T) {
	lp, sess, sent := late(t)
	const asked = 64
	payload := make([]byte, payloadCopyMax)
	sess.unanswered = asked
	lp.answer(slices.Repeat([]reply{{session: sess, kind: lottery.Winners, agency: 1, payload: payload}}, asked))
	// Two payloads and headers, grown as append does.
	if limit := 3 * payloadCopyMax; cap(lp.out) > limit {
		t.Errorf("the scratch holds %d bytes, want at most %d", cap(lp.out), limit)
	}
	if want := asked * len(codec.AppendFrame(nil, payload)); sent.bytes != want {
		t.Errorf("sent %d bytes, want %d", sent.bytes, want)
	}
}

// fakeConn is a connection whose socket takes room bytes more.
type fakeConn struct {
	room    int
	unacked int // one less at each look
	broken  error
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
	return c.unacked, c.broken
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
	if err := errors.Join(peer.(*net.TCPConn).SetReadBuffer(64<<10), peer.SetDeadline(time.Now().Add(time.Minute))); err != nil {
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

// An agency that polls on one connection may take longer than the grace to ask again after the draw:
// it is hung up on later than one that has its winners.
func TestStayUntilAsked(t *testing.T) {
	s, c := newCommitServer(lottery.Rules{Agencies: 1})
	s.drawHeld.Store(true)
	s.graceTicks, s.askTicks = 5, 10
	for _, test := range []struct {
		content bool
		ticks   int
	}{{true, 5}, {false, 10}} {
		shut := new(shutSink)
		lp := c.loops[0]
		lp.server = s
		sess := &session{conn: shut, loop: lp, agency: 1, content: test.content}
		for tick := 1; tick <= test.ticks+1; tick++ {
			lp.hangUp(sess)
			if shut.ended != (tick > test.ticks) {
				t.Errorf("it has what it needs: %v; after %d ticks hung up on: %v", test.content, tick, shut.ended)
			}
		}
	}
}

// shutSink is a sink that knows whether our side was ended.
type shutSink struct {
	sink
	ended bool
}

func (s *shutSink) shutWrite() { s.ended = true }

// An agency that asks late gets all of its time to confirm, from when it was told its winners; once,
// or it could stay by asking again and again.
func TestStayToConfirm(t *testing.T) {
	lp, sess, shut := late(t)
	for range 9 {
		lp.hangUp(sess)
	}
	told := func() { lp.answer([]reply{{session: sess, kind: lottery.Winners, agency: 1}}) }
	sess.unanswered = 1
	told()
	for tick := 1; tick <= 6; tick++ {
		lp.hangUp(sess)
		if shut.ended != (tick > 5) {
			t.Errorf("%d ticks after it was told its winners hung up on: %v", tick, shut.ended)
		}
		if tick < 6 {
			sess.unanswered = 1
			told()
		}
	}
}

// A frame that names agency 0 doesn't make the session nobody's: its time stays bounded.
func TestStayAsNobody(t *testing.T) {
	lp, sess, shut := late(t)
	sess.unanswered = 1
	lp.answer([]reply{{session: sess, kind: lottery.Reject, code: codec.CodeInvalidAgency}})
	for range 11 {
		lp.hangUp(sess)
	}
	if !shut.ended {
		t.Error("it is never hung up on")
	}
}

// A receipt that is on its way to the disk when the time is over is acknowledged before the end.
func TestStayUntilAcknowledged(t *testing.T) {
	lp, sess, shut := late(t)
	sess.content, sess.unanswered = true, 1
	for range 20 {
		lp.hangUp(sess)
	}
	if shut.ended || !sess.deaf {
		t.Fatalf("with its ACK owed, hung up on: %v; still read: %v", shut.ended, !sess.deaf)
	}
	lp.answer([]reply{{session: sess, kind: lottery.Receipt, agency: 1}})
	if shut.bytes != len(codec.AppendAck(nil)) {
		t.Errorf("it was sent %d bytes, not an ACK", shut.bytes)
	}
	if lp.hangUp(sess); !shut.ended {
		t.Error("it stays behind its ACK")
	}
}

// An agency that takes its winners slowly has its time to confirm behind the last of them. One that
// takes a byte now and then and asks for more has as long as the slowest agency, and no longer.
func TestStayAndTrickle(t *testing.T) {
	const seconds = 20
	winners := make([]byte, seconds*winnersRateMin)
	perTick := int(winnersRateMin * tickPeriodMax / time.Second)
	for _, test := range []struct {
		name       string
		take       int // bytes in each tick
		asks       bool
		least, max int // ticks until the session ends
	}{
		{"twice as fast as it must", 2 * perTick, false, seconds * 5, seconds*5 + 10},
		{"a byte in a tick, and asks on", 1, true, seconds * 10, seconds*10 + 30},
		{"as much as it is told, and asks on", 2 * perTick, true, seconds * 5, seconds*10 + 30},
	} {
		t.Run(test.name, func(t *testing.T) {
			lp, sess, fake := lateFake(t)
			ask := func(payload []byte) {
				sess.unanswered++
				lp.answer([]reply{{session: sess, kind: lottery.Winners, agency: 1, payload: payload}})
			}
			ask(winners)
			ticks := 0
			for ; !sess.lastSaid && !sess.closed && ticks < 2*test.max; ticks++ {
				fake.room = test.take
				if sess.backlog != nil {
					lp.flushSession(sess)
				}
				if test.asks && !sess.deaf && (sess.backlog == nil || sess.backlog.bytes < 1000) {
					ask(winners[:2*perTick])
				}
				lp.hangUp(sess)
			}
			if ticks < test.least || ticks > test.max {
				t.Errorf("it ends after %d ticks, want %d to %d", ticks, test.least, test.max)
			}
			if sess.closed != (test.take == 1) {
				t.Errorf("closed with winners unread: %v", sess.closed)
			}
		})
	}
}

// A session is gone whose socket doesn't say any more how much of the winners its peer has taken.
func TestStayOnBrokenSocket(t *testing.T) {
	lp, sess, fake := lateFake(t)
	fake.room, fake.broken, sess.unanswered = 1<<10, errors.New("gone"), 1
	lp.answer([]reply{{session: sess, kind: lottery.Winners, agency: 1}})
	if !sess.closed || len(lp.sessions) != 0 {
		t.Errorf("closed: %v, with %d sessions", sess.closed, len(lp.sessions))
	}
}

// Who was told its last answer is gone after lingerMax, however slowly its system acknowledges it, and
// whatever has no answer: nothing more is owed. After the draw its time to confirm comes before that.
func TestStayBehindTheLastAnswer(t *testing.T) {
	linger := int(lingerMax / tickPeriodMax)
	for _, test := range []struct {
		name    string
		backlog bool
		look    func(*loop, *session) // what every tick does
		want    int                   // ticks until it is gone
	}{
		{"everything is in its system", false, (*loop).checkProgress, linger + 1},
		{"it takes a byte in a tick", true, (*loop).hangUp, 5 + linger + 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			lp, sess, fake := lateFake(t)
			fake.unacked = 1 << 20
			sess.lastSaid, sess.deaf, sess.unanswered, sess.content = true, true, 1, true
			if test.backlog {
				sess.backlog = new(backlog)
				sess.backlog.add(make([]byte, 1<<10), false)
			}
			ticks := 0
			for ; !sess.closed && ticks < 10*test.want; ticks++ {
				test.look(lp, sess)
			}
			if ticks != test.want {
				t.Errorf("gone after %d ticks: %v; want %d", ticks, sess.closed, test.want)
			}
		})
	}
}

// late is a loop after the draw with a session of agency 1 that has not been told anything. Five ticks
// are for one that has its winners, ten for one that has not.
func late(t *testing.T) (*loop, *session, *shutSink) {
	t.Helper()
	s, c := newCommitServer(lottery.Rules{Agencies: 1})
	s.drawHeld.Store(true)
	s.graceTicks, s.askTicks = 5, 10
	lp := c.loops[0]
	lp.server = s
	shut := new(shutSink)
	return lp, &session{conn: shut, loop: lp, agency: 1}, shut
}

// lateFake is late with a socket that does what the test says. Ticks are all that happens.
func lateFake(t *testing.T) (*loop, *session, *fakeConn) {
	t.Helper()
	lp, sess, _ := late(t)
	lp.server.cfg = DefaultConfig()
	lp.server.later = func(time.Duration, func()) {}
	lp.server.noise = newNoise(zap.NewNop(), time.Now)
	lp.server.admission = newAdmission(1, 1)
	lp.server.admission.enter(sess.source)
	lp.attach(noLoop{})
	lp.load++
	lp.add(sess)
	fake := &fakeConn{session: sess}
	sess.conn = fake
	return lp, sess, fake
}
