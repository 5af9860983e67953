package engine

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/lottery"
)

// Agencies that stay connected after the draw, each in a way of its own, don't keep the server from
// ending. It counts those that have confirmed, asked on or closed, and names the others.
func TestStayAfterTheDraw(t *testing.T) {
	cfg := liveConfig(t)
	cfg.Agencies, cfg.ExitGrace = 6, 0
	s := serveLive(t, cfg)

	var wires []*wire
	for id := 1; id <= cfg.Agencies; id++ {
		w := s.dial(t)
		if id >= 5 {
			w.say(fmt.Sprintf("HELLO|%d", id)).hears(welcomed())
		}
		wires = append(wires, w.waitsUnlessLast(id, cfg.Agencies))
	}
	for _, w := range wires {
		w.hears("")
	}
	second := s.dial(t).say("GET_WINNERS|4").hears("")
	drawn := time.Now()

	var peers sync.WaitGroup
	// Agency 1 never closes. Agency 2 closes when the server ends its side.
	peers.Go(func() {
		if rest, err := io.ReadAll(wires[1].in); err != nil || len(rest) > 0 {
			t.Errorf("agency 2 at the end: %q, %v", rest, err)
		}
		if err := wires[1].conn.Close(); err != nil {
			t.Error(err)
		}
	})
	// Agency 3 asks again and again, and never closes.
	answers := 0
	peers.Go(func() {
		for {
			if _, err := wires[2].conn.Write(frames("GET_WINNERS|3")); err != nil {
				return
			}
			if _, err := wires[2].in.ReadString('\n'); err != nil {
				return // the server has ended its side
			}
			answers++
		}
	})
	// Agency 4 has its winners on two connections; it has asked on on the first.
	wires[3].say("GET_WINNERS|4").hears("")
	// Agency 5 never confirms. Agency 6 confirms, and stays.
	wires[5].confirms(6)

	err := s.end(t)
	if stayed := time.Since(drawn); stayed < lingerMax {
		t.Errorf("the server ended %v after the draw: that may be too little to confirm", stayed)
	}
	wantUnfinished(t, err, true, 1, 5)
	peers.Wait()
	if answers == 0 {
		t.Error("agency 3 was not answered")
	}
	for _, w := range []*wire{wires[0], wires[3], second, wires[4], wires[5]} {
		w.hearsEnd()
	}

	// Everything is started once more: those that were missing get their winners, too.
	cfg.ExitGrace = time.Hour
	s = serveLive(t, cfg)
	five := s.dial(t).say("HELLO|5", "GET_WINNERS|5").hears(welcomed(), "")
	six := s.dial(t).say("HELLO|6").hears(welcomed()).confirms(6)
	for id := 1; id <= 4; id++ {
		s.dial(t).say(fmt.Sprintf("GET_WINNERS|%d", id)).hears("").close()
	}
	five.confirms(5).close()
	six.close()
	if err := s.end(t); err != nil {
		t.Errorf("result of the next start: %v", err)
	}
}

// waitsUnlessLast is waits, but for the last agency, whose question holds the draw.
func (w *wire) waitsUnlessLast(agency, last int) *wire {
	w.t.Helper()
	if agency == last {
		return w.say(fmt.Sprintf("GET_WINNERS|%d", agency))
	}
	return w.waits(agency)
}

// A peer that has ended its side and waits is there: the grace doesn't begin before it has gone. So
// old agencies may wait; one that confirms can't, since it has nothing left to say it with.
func TestStayHalfClosed(t *testing.T) {
	cfg := liveConfig(t)
	cfg.Agencies, cfg.ExitGrace = 3, 200*time.Millisecond
	s := serveLive(t, cfg)
	one := s.dial(t).say(betJuan, "GET_WINNERS|1").hears("ACK")
	if err := one.conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	s.stays(t, 3*cfg.ExitGrace)
	two := s.dial(t).say(betCarlos, "GET_WINNERS|2").hears("ACK")
	if err := two.conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	s.stays(t, 3*cfg.ExitGrace)
	three := s.dial(t).say("HELLO|3", "GET_WINNERS|3").hears(welcomed(), "").confirms(3)
	one.hears(betJuan).hearsEnd()
	two.hears(betCarlos).hearsEnd()
	three.close()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}

	cfg = liveConfig(t)
	cfg.ExitGrace = 200 * time.Millisecond
	s = serveLive(t, cfg)
	two = s.dial(t).say(betCarlos).hears("ACK")
	one = s.dial(t).say("HELLO|1", betJuan).hears(welcomed(), "ACK").waits(1)
	if err := one.conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	s.stays(t, cfg.ExitGrace) // long enough to notice
	two.say("GET_WINNERS|2").hears(betCarlos)
	one.hears(betJuan).hearsEnd()
	two.close()
	wantUnfinished(t, s.end(t), true, 1)

	cfg.DataDir = t.TempDir()
	s = serveLive(t, cfg)
	one = s.dial(t).say("HELLO|1").hears(welcomed()).waits(1)
	if err := one.conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	wantUnfinished(t, s.end(t), false, 2)
	one.hears(codec.CodeLotteryHasntEnded.String()).hearsEnd()
}

// A start over a finished draw to which nobody comes: the grace, counted from the start, and the
// truth about who has their winners.
func TestStayAway(t *testing.T) {
	const betMaria3 = "María|Gómez|87654321|1985-07-10|7574|3"
	cfg := liveConfig(t)
	cfg.Agencies, cfg.ExitGrace = 3, 200*time.Millisecond
	s := serveLive(t, cfg)
	one := s.dial(t).say("HELLO|1", betJuan).hears(welcomed(), "ACK").waits(1)
	three := s.dial(t).say(betMaria3).hears("ACK").waits(3)
	two := s.dial(t).say("GET_WINNERS|2").hears("")
	one.hears(betJuan).kill()
	three.kill() // its winners unread
	two.close()
	wantUnfinished(t, s.end(t), true, 1, 3)

	start := func(entrega string) error {
		t.Helper()
		began := time.Now()
		s := serveLive(t, cfg)
		err := s.end(t)
		if took := time.Since(began); took < cfg.ExitGrace {
			t.Errorf("it waited for %v, want %v", took, cfg.ExitGrace)
		}
		if s.count("entrega", entrega) != 1 || s.count("sorteo", "success") != 0 {
			t.Errorf("it logs %v", s.logs.All())
		}
		return err
	}
	wantUnfinished(t, start("in_progress"), true, 1, 3)
	wantUnfinished(t, start("in_progress"), true, 1, 3)

	cfg.ExitGrace = time.Hour
	s = serveLive(t, cfg)
	one = s.dial(t).say("HELLO|1", "GET_WINNERS|1").hears(welcomed(betJuan), betJuan).confirms(1)
	two = s.dial(t).say("GET_WINNERS|2").hears("")
	s.dial(t).say("GET_WINNERS|3").hears(betMaria3).close()
	one.close()
	two.close()
	if err := s.end(t); err != nil {
		t.Errorf("result when all have come: %v", err)
	}

	cfg.ExitGrace = 200 * time.Millisecond
	if err := start("success"); err != nil {
		t.Errorf("result when nobody comes: %v", err)
	}
	if err := start("success"); err != nil {
		t.Errorf("result when nobody comes again: %v", err)
	}
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
			lp, sess, _ := late(t)
			lp.server.cfg = DefaultConfig()
			lp.server.later = func(time.Duration, func()) {} // ticks are all that happens
			lp.server.noise = newNoise(zap.NewNop(), time.Now)
			lp.server.admission = newAdmission(1, 1)
			lp.server.admission.enter(sess.source)
			lp.attach(noLoop{})
			lp.load++
			lp.add(sess)
			fake := &fakeConn{session: sess}
			sess.conn = fake
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
			lp, sess, _ := late(t)
			lp.server.cfg = DefaultConfig()
			lp.server.noise = newNoise(zap.NewNop(), time.Now)
			lp.server.admission = newAdmission(1, 1)
			lp.server.admission.enter(sess.source)
			lp.attach(noLoop{})
			lp.load++
			lp.add(sess)
			fake := &fakeConn{session: sess, unacked: 1 << 20}
			sess.conn = fake
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

// An agency that is done and comes again and again doesn't keep the server from ending, which would
// wait for another one.
func TestStayByComingAgain(t *testing.T) {
	cfg := liveConfig(t)
	cfg.ExitGrace = 300 * time.Millisecond
	s := serveLive(t, cfg)
	one := s.dial(t).say("HELLO|1").hears(welcomed()).waits(1)
	two := s.dial(t).say("GET_WINNERS|2").hears("")
	one.hears("").confirms(1)
	two.kill() // before the server can know that it has them
	// There is always a connection open.
	visits := 0
	for deadline := time.Now().Add(socketTimeout); ; {
		if time.Now().After(deadline) {
			t.Fatal("the server doesn't end")
		}
		next, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			break // the server has ended
		}
		if _, err := next.Write(frames("GET_WINNERS|1")); err != nil {
			_ = next.Close() // the server is ending
			break
		}
		answer := make([]byte, len(frames("")))
		if _, err := io.ReadFull(next, answer); err != nil {
			_ = next.Close()
			break
		}
		if !bytes.Equal(answer, frames("")) {
			t.Errorf("a visitor is told %q", answer)
		}
		visits++
		one.close()
		one = &wire{t: t, conn: next.(*net.TCPConn)}
		select {
		case <-time.After(cfg.ExitGrace / 10): // the interval of the visits
		case err := <-s.ended:
			s.ended <- err
		}
	}
	one.close()
	wantUnfinished(t, s.end(t), true, 2)
	if visits == 0 {
		t.Error("nobody came again")
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
