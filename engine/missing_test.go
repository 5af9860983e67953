package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/engine/lottery"
)

// waits are the lines that name the agencies that are missing.
func waits(logs *observer.ObservedLogs) (lines []string) {
	for _, entry := range logs.TakeAll() {
		if entry.Message == "espera" || entry.Message == "entrega" {
			fields := entry.ContextMap()
			lines = append(lines, fmt.Sprint(entry.Message, " ", fields["result"], " ", fields["faltan"], " ", fields["agencias"]))
		}
	}
	return lines
}

// The log names the agencies that are missing now and then, and with every report when few are left;
// behind the draw those that don't have their winners.
func TestMissingAreNamed(t *testing.T) {
	s, c := newCommitServer(lottery.Rules{Agencies: 6})
	core, logs := observer.New(zap.InfoLevel)
	s.log = zap.New(core)
	s.committer.onReport, s.cfg.NoExport = s.reported, true
	now := time.Unix(1_000_000, 0)
	s.now = func() time.Time { return now }
	s.sayMissing(now)
	wants := func(what string, want ...string) {
		t.Helper()
		if got := waits(logs); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	wants("at first", "espera in_progress 6 1, 2, 3, 4, 5, 6")
	commit := func() {
		t.Helper()
		if err := s.commit(); err != nil {
			t.Fatal(err)
		}
	}
	one, two := c.session(0), c.session(1)
	for id, session := range []*session{one, two} {
		c.say(session, requestHello, s.committer.exit.missing()[id])
	}
	c.getWinners(one, 1)
	commit()
	wants("many are missing")
	s.sayMissingNowAndThen(now.Add(missingPeriod - 1))
	wants("too soon")
	s.sayMissingNowAndThen(now.Add(missingPeriod))
	wants("after a while", "espera in_progress 5 2, 3, 4, 5, 6")
	c.getWinners(two, 2)
	commit()
	wants("still many")
	c.getWinners(c.session(0), 4)
	commit()
	wants("few", "espera in_progress 3 3, 5, 6")
	c.getWinners(c.session(0), 6)
	c.getWinners(c.session(0), 3)
	commit()
	wants("fewer, by two at once", "espera in_progress 1 5")
	c.getWinners(c.session(0), 5)
	c.say(one, requestReceived, 1)
	commit()
	wants("nobody")
	s.sayMissing(now)
	wants("after the draw", "entrega in_progress 5 2, 3, 4, 5, 6")
}

// syncedCore tells when a log is written out.
type syncedCore struct {
	zapcore.Core
	onSync func()
}

func (c *syncedCore) Sync() error {
	c.onSync()
	return c.Core.Sync()
}

// The line of the draw is out before any winners leave: whoever kills the server then has a log that
// tells of it.
func TestDrawIsLoggedBeforeWinnersLeave(t *testing.T) {
	s, c := newCommitServer(lottery.Rules{Agencies: 2})
	core, logs := observer.New(zap.InfoLevel)
	synced := 0
	s.log = zap.New(&syncedCore{core, func() {
		synced++
		if logs.FilterMessage("sorteo").Len() != 1 || delivered(c) != 0 {
			t.Errorf("written out with %d lines of the draw, and %d answers had left", logs.FilterMessage("sorteo").Len(), delivered(c))
		}
	}})
	s.committer.onReport, s.committer.onDraw, s.cfg.NoExport = s.reported, s.drawn, true
	c.getWinners(c.session(0), 1)
	c.getWinners(c.session(1), 2)
	if err := s.commit(); err != nil {
		t.Fatal(err)
	}
	if synced != 1 || delivered(c) != 2 {
		t.Errorf("written out %d times, %d answers left", synced, delivered(c))
	}
}

// A line that is written late has the time of what it is about.
func TestLateLinesHaveTheirTime(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	log := zap.New(core)
	began := time.Unix(1_000_000, 0)
	now := began
	server := &Server{log: log, noise: newNoise(log, func() time.Time { return now }), awarded: newFirsts(1)}
	lp := newLoop(server)
	answer := &reply{session: new(session), kind: lottery.Winners, agency: 1, told: true}
	now = began.Add(time.Second)
	lp.clock.at = began
	lp.logReply(answer) // the first of the agency
	now = now.Add(time.Second)
	lp.clock.at = began.Add(1)
	lp.logReply(answer) // one that others can provoke, too
	lp.clock.at = began.Add(2)
	lp.logReply(answer) // and one that is suppressed
	now = now.Add(time.Minute)
	server.noise.flush()
	var times []time.Duration
	for _, entry := range logs.All() {
		times = append(times, entry.Time.Sub(began))
	}
	if want := []time.Duration{0, 1, 2}; !slices.Equal(times, want) {
		t.Errorf("the lines have the times %v, want %v", times, want)
	}
}
