package front

import (
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/front/fronttest"
	"loteria/engine/lottery"
)

// An agency that polls on one connection may take longer than the grace to ask again after the
// draw. The server hangs up on it later than on one that has its winners.
func TestStayUntilAsked(t *testing.T) {
	for _, test := range []struct {
		delivery delivery
		ticks    int
	}{{delivered, 5}, {undelivered, 10}} {
		shut := new(shutSink)
		lp, sess := late(t, shut)
		sess.delivery = test.delivery
		for tick := 1; tick <= test.ticks+1; tick++ {
			lp.hangUp(sess)
			if shut.ended != (tick > test.ticks) {
				t.Errorf("delivery %d; after %d ticks hung up on: %v", test.delivery, tick, shut.ended)
			}
		}
	}
}

// shutSink is a sink that notes whether our side was shut.
type shutSink struct {
	sink
	ended bool
}

func (s *shutSink) ShutWrite() { s.ended = true }

// An agency that asks late gets all of its time to confirm, counted from when it is told its
// winners. It gets that time only once: otherwise it could stay by asking again and again.
func TestStayToConfirm(t *testing.T) {
	shut := new(shutSink)
	lp, sess := late(t, shut)
	for range 9 {
		lp.hangUp(sess)
	}
	told := func() { lp.tell(sess, commit.Reply{Effect: lottery.Effect{Kind: lottery.Winners, Agency: 1}}) }
	told()
	for tick := 1; tick <= 6; tick++ {
		lp.hangUp(sess)
		if shut.ended != (tick > 5) {
			t.Errorf("%d ticks after it was told its winners hung up on: %v", tick, shut.ended)
		}
		if tick < 6 {
			told()
		}
	}
}

// If winners come just after the time to ask for them has run out, the agency still gets all of its
// time to confirm them, and is heard.
func TestStayToConfirmWhatCameLate(t *testing.T) {
	shut := new(shutSink)
	lp, sess := late(t, shut)
	sess.unanswered = 1 // its question
	for range 11 {
		lp.hangUp(sess)
	}
	sess.unanswered--
	lp.tell(sess, commit.Reply{Effect: lottery.Effect{Kind: lottery.Winners, Agency: 1}})
	for range 5 {
		lp.hangUp(sess)
	}
	if shut.ended || !sess.phase.hears() {
		t.Errorf("within its time to confirm, hung up on: %v, heard: %v", shut.ended, sess.phase.hears())
	}
}

// An agency that never asks for its winners can't stay by asking for something else.
func TestStayByOtherQuestions(t *testing.T) {
	shut := new(shutSink)
	lp, sess := late(t, shut)
	most := 10 + int(lp.front.ticks(lingerMax)) + 2
	ticks := 0
	for ; !shut.ended && ticks < 2*most; ticks++ {
		if sess.phase.hears() {
			lp.tell(sess, commit.Reply{Effect: lottery.Effect{Kind: lottery.Reject, Agency: 1, Code: codec.CodeBetsClosed}})
			sess.unanswered++ // the next question
		} else {
			sess.unanswered = 0
		}
		lp.hangUp(sess)
	}
	if ticks > most {
		t.Errorf("hung up on after %d ticks, want %d at most", ticks, most)
	}
}

// A frame that names agency 0 leaves the session its agency, so its time stays bounded.
func TestStayAsNobody(t *testing.T) {
	shut := new(shutSink)
	lp, sess := late(t, shut)
	lp.tell(sess, commit.Reply{Effect: lottery.Effect{Kind: lottery.Reject, Code: codec.CodeInvalidAgency}})
	for range 11 {
		lp.hangUp(sess)
	}
	if !shut.ended {
		t.Error("the loop never hangs up on it")
	}
}

// If a receipt is on its way to the disk when the time is over, it is acknowledged before the end.
func TestStayUntilAcknowledged(t *testing.T) {
	shut := new(shutSink)
	lp, sess := late(t, shut)
	sess.delivery, sess.unanswered = delivered, 1
	for range 20 {
		lp.hangUp(sess)
	}
	if shut.ended || sess.phase.hears() {
		t.Fatalf("with its ACK owed, hung up on: %v; still read: %v", shut.ended, sess.phase.hears())
	}
	sess.unanswered--
	lp.tell(sess, commit.Reply{Effect: lottery.Effect{Kind: lottery.Receipt, Agency: 1}})
	if shut.bytes != len(codec.AppendAck(nil)) {
		t.Errorf("it was sent %d bytes, not an ACK", shut.bytes)
	}
	if lp.hangUp(sess); !shut.ended {
		t.Error("it stays after its ACK")
	}
}

// An agency that takes its winners slowly has its time to confirm after the last of them. One that
// takes a byte now and then and asks for more has no longer than the slowest legal agency.
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
		{"a byte in each tick, and asks for more", 1, true, seconds * 10, seconds*10 + 30},
		{"as fast as it is told, and asks for more", 2 * perTick, true, seconds * 5, seconds*10 + 30},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := new(fakeConn)
			lp, sess := late(t, fake)
			fake.session = sess
			ask := func(payload []byte) {
				lp.tell(sess, commit.Reply{Effect: lottery.Effect{Kind: lottery.Winners, Agency: 1, Payload: payload}})
			}
			ask(winners)
			ticks := 0
			for ; sess.phase.answers() && ticks < 2*test.max; ticks++ {
				fake.room = test.take
				if sess.backlog != nil {
					lp.flushSession(sess)
				}
				if test.asks && sess.phase.hears() && (sess.backlog == nil || sess.backlog.bytes < 1000) {
					ask(winners[:2*perTick])
				}
				lp.hangUp(sess)
			}
			if ticks < test.least || ticks > test.max {
				t.Errorf("it ends after %d ticks, want %d to %d", ticks, test.least, test.max)
			}
			if (sess.phase == gone) != (test.take == 1) {
				t.Errorf("with winners unread, phase %d", sess.phase)
			}
		})
	}
}

// A session is gone whose socket doesn't say any more how much of the winners its peer has taken.
func TestStayOnBrokenSocket(t *testing.T) {
	fake := &fakeConn{room: 1 << 10, broken: errors.New("gone")}
	lp, sess := late(t, fake)
	fake.session = sess
	lp.tell(sess, commit.Reply{Effect: lottery.Effect{Kind: lottery.Winners, Agency: 1}})
	if sess.phase != gone || lp.Sessions() != 0 {
		t.Errorf("phase %d, with %d sessions", sess.phase, lp.Sessions())
	}
}

// A peer that was told its last answer is dropped after lingerMax, however slowly its system
// acknowledges it. Its unanswered frames don't matter: nothing more is owed. After the draw its
// time to confirm comes first.
func TestStayBehindTheLastAnswer(t *testing.T) {
	linger := int(lingerMax / tickPeriodMax)
	for _, test := range []struct {
		name    string
		backlog bool
		look    func(*Loop, *Session) // what every tick does
		want    int                   // ticks until it is gone
	}{
		{"the socket has taken everything", false, (*Loop).checkProgress, linger + 1},
		{"a backlog is left after the draw", true, (*Loop).hangUp, 5 + linger + 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := &fakeConn{unacked: 1 << 20}
			lp, sess := late(t, fake)
			fake.session = sess
			sess.phase, sess.unanswered, sess.delivery = parting, 1, delivered
			if test.backlog {
				sess.backlog = new(backlog)
				sess.backlog.add(make([]byte, 1<<10), false)
			}
			ticks := 0
			for ; sess.phase != gone && ticks < 10*test.want; ticks++ {
				test.look(lp, sess)
			}
			if ticks != test.want {
				t.Errorf("phase %d after %d ticks, want it gone after %d", sess.phase, ticks, test.want)
			}
		})
	}
}

// late makes a loop after the draw with a session of agency 1 on connection c, which has not been
// told anything. The session may stay five ticks once it has its winners, and ten before that.
func late(t *testing.T, c Conn) (*Loop, *Session) {
	t.Helper()
	cfg := testConfig()
	cfg.Later = func(time.Duration, func()) {} // ticks are all that happens
	f := New(cfg, zap.NewNop(), newStages(1))
	f.drawn.Store(true)
	f.graceTicks, f.askTicks = 5, 10
	s := open(t, f, c)
	s.agency = 1
	return s.loop, s
}

// open makes a session on connection c.
func open(t *testing.T, f *Front, c Conn) *Session {
	t.Helper()
	s, broken, ok := f.Admit(Source{})
	if !ok {
		t.Fatalf("refused: limit %d", broken)
	}
	s.loop.Attach(new(fronttest.Loop))
	f.Open(s, c)
	return s
}

// newStages makes stages that no committer empties.
func newStages(loops int) []*commit.Stage {
	return commit.New(nil, lottery.New(lottery.Rules{Agencies: 1}), commit.Settings{
		Agencies: 1, Loops: loops, QueueBytesMax: 1 << 20,
	}).Stages()
}

// tell answers a new frame of the session with r.
func (lp *Loop) tell(s *Session, r commit.Reply) {
	s.unanswered++
	r.Session = &s.Session
	lp.answer([]commit.Reply{r})
}
