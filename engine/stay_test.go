package engine_test

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"loteria/codec"
)

// graceMin is what SERVER_EXIT_GRACE is at least after the draw, as its help says.
const graceMin = 2 * time.Second

// What keeps a server from ending, and what doesn't. The servers wait for seconds, so they wait
// beside each other.

// Agencies that stay connected after the draw, each in a way of its own, don't keep the server from
// ending. It counts those that have confirmed, asked on or closed, and names the others.
func TestStayAfterTheDraw(t *testing.T) {
	t.Parallel()
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
	if stayed := time.Since(drawn); stayed < graceMin {
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
	t.Parallel()
	cfg := liveConfig(t)
	cfg.Agencies, cfg.ExitGrace = 3, 200*time.Millisecond
	s := serveLive(t, cfg)
	one := s.dial(t).say(betJuan, "GET_WINNERS|1").hears("ACK").does(halfCloses)
	s.stays(t, 3*cfg.ExitGrace)
	two := s.dial(t).say(betCarlos, "GET_WINNERS|2").hears("ACK").does(halfCloses)
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
	one = s.dial(t).say("HELLO|1", betJuan).hears(welcomed(), "ACK").waits(1).does(halfCloses)
	s.stays(t, cfg.ExitGrace) // long enough to notice
	two.say("GET_WINNERS|2").hears(betCarlos)
	one.hears(betJuan).hearsEnd()
	two.close()
	wantUnfinished(t, s.end(t), true, 1)

	cfg.DataDir = t.TempDir()
	s = serveLive(t, cfg)
	one = s.dial(t).say("HELLO|1").hears(welcomed()).waits(1).does(halfCloses)
	wantUnfinished(t, s.end(t), false, 2)
	one.hears(codec.CodeLotteryHasntEnded.String()).hearsEnd()
}

// A start over a finished draw to which nobody comes: the grace, counted from the start, and the
// truth about who has their winners.
func TestStayAway(t *testing.T) {
	t.Parallel()
	const betMaria3 = "María|Gómez|87654321|1985-07-10|7574|3"
	cfg := liveConfig(t)
	cfg.Agencies, cfg.ExitGrace = 3, 200*time.Millisecond
	s := serveLive(t, cfg)
	one := s.dial(t).say("HELLO|1", betJuan).hears(welcomed(), "ACK").waits(1)
	three := s.dial(t).say(betMaria3).hears("ACK").waits(3)
	two := s.dial(t).say("GET_WINNERS|2").hears("")
	one.hears(betJuan).does(resets)
	three.does(resets) // its winners unread
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

// An agency that is done and comes again and again doesn't keep the server from ending, which would
// wait for another one.
func TestStayByComingAgain(t *testing.T) {
	t.Parallel()
	cfg := liveConfig(t)
	cfg.ExitGrace = 300 * time.Millisecond
	s := serveLive(t, cfg)
	one := s.dial(t).say("HELLO|1").hears(welcomed()).waits(1)
	two := s.dial(t).say("GET_WINNERS|2").hears("")
	one.hears("").confirms(1)
	two.does(resets) // before the server can know that it has them
	// There is always a connection open.
	visits := 0
	for deadline := time.Now().Add(patience); ; {
		if time.Now().After(deadline) {
			t.Fatal("the server doesn't end")
		}
		next, err := dial(t.Context(), s.Addr().String(), nil, patience)
		if err != nil {
			break // the server has ended
		}
		next.t = t
		_, err = next.conn.Write(frames("GET_WINNERS|1"))
		answer, errAnswer := next.next()
		if err != nil || errAnswer != nil {
			next.close() // the server is ending
			break
		}
		if answer != "" {
			t.Errorf("a visitor is told %q", answer)
		}
		visits++
		one.close()
		one = next
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
