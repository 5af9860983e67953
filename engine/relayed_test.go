package engine_test

import (
	"strings"
	"testing"
	"time"

	"loteria/codec"
	"loteria/engine"
)

// dialFollower connects to a server that doesn't lead, while another one does.
func (s *servers) dialFollower() *wire {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		for _, cfg := range s.cfgs[1:] {
			asks := s.dial(cfg.Addr).say("HELLO|9") // no agency
			answer, err := asks.next()
			asks.close()
			if leader, follows := strings.CutPrefix(answer, codec.CodeNotLeader.String()); err == nil && follows && leader != "" {
				return s.dial(cfg.Addr)
			}
		}
	}
	s.t.Fatal("no server follows")
	return nil
}

func (s *servers) dial(addr string) *wire {
	s.t.Helper()
	w, err := dial(s.t.Context(), addr, nil, patience)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = w.conn.Close() }) // mostly closed by then
	w.t = s.t
	return w
}

// An agency that another server passes on has its winners when its own system has taken them, not when
// some server has. Who is cut off before that is missing at the end, and is served by the next start.
func TestRelayedAgencyHasItsWinners(t *testing.T) {
	for _, test := range []struct {
		name    string
		waits   act // how it waits for the draw
		takes   act // what it does when its winners are there
		missing bool
	}{
		{"it reads and closes", nil, func(w *wire) error { w.hears(betCarlos).close(); return nil }, false},
		{"it is killed with its winners unread", nil, func(w *wire) error { return w.tries(peeks, resets) }, true},
		{"it has ended its side, and reads", halfCloses, func(w *wire) error { w.hears(betCarlos).hearsEnd(); return nil }, false},
		{"it has ended its side, and is killed before the draw", func(w *wire) error { return w.tries(halfCloses, resets) }, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newServers(t, 3, 2, func(cfg *engine.Config) { cfg.ExitGrace = graceMin })
			one := s.dialFollower().say(betJuan).hears("ACK")
			two := s.dialFollower().say(betCarlos).hears("ACK").waits(2)
			if test.waits != nil {
				two.does(test.waits)
			}
			one.say("GET_WINNERS|1").hears(betJuan)
			if test.takes != nil {
				two.does(test.takes)
			}
			one.close()
			if !test.missing {
				s.wantEnd()
				return
			}
			for id, r := range s.running[1:] {
				wantUnfinished(t, <-r.ended, true, 2)
				s.running[id+1] = nil
			}
			for id := 1; id <= 3; id++ {
				s.cfgs[id].ExitGrace = time.Hour
				s.start(id)
			}
			s.dialFollower().say("GET_WINNERS|2").hears(betCarlos).close()
			s.dialFollower().say("GET_WINNERS|1").hears(betJuan).close()
			s.wantEnd()
		})
	}
}

// An agency that has ended its side, and is killed while it waits for the draw, is not there any more:
// the servers end without it.
func TestRelayedAgencyDies(t *testing.T) {
	t.Parallel()
	s := newServers(t, 3, 2, func(cfg *engine.Config) { cfg.ExitGrace = 0 })
	two := s.dialFollower().say(betCarlos).hears("ACK").waits(2).does(halfCloses)
	<-time.After(300 * time.Millisecond) // long enough for the servers to see that
	two.does(resets)
	for id, r := range s.running[1:] {
		wantUnfinished(t, <-r.ended, false, 1)
		s.running[id+1] = nil
	}
}

// A half closed agency may wait for the draw for longer than any peer may be silent.
func TestRelayedAgencyWaitsLong(t *testing.T) {
	t.Parallel()
	const readTimeout = time.Second
	s := newServers(t, 3, 2, func(cfg *engine.Config) { cfg.ReadTimeout = readTimeout })
	two := s.dialFollower().say(betCarlos).hears("ACK").waits(2).does(halfCloses)
	<-time.After(2 * readTimeout) // the observation itself
	one := s.dialFollower().say(betJuan, "GET_WINNERS|1").hears("ACK", betJuan)
	two.hears(betCarlos).hearsEnd()
	one.close()
	s.wantEnd()
}
