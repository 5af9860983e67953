package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/codec"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// exitState is all that a verdict depends on.
type exitState struct {
	came, drawn      bool
	open             int
	unserved, absent int // of two agencies
	graceOver        bool
}

// exitStates yields every one that there can be.
func exitStates(yield func(exitState) bool) {
	for n := range 2 * 2 * 2 * 3 * 3 * 3 {
		s := exitState{came: n%2 == 1, drawn: n/2%2 == 1, graceOver: n/4%2 == 1, open: n / 8 % 3, unserved: n / 24 % 3, absent: n / 72 % 3}
		switch {
		case !s.came && (s.open > 0 || s.absent < 2):
			continue // who is here has come
		case !s.drawn && (s.unserved < 2 || s.absent < 2):
			continue // nobody has winners before the draw
		case s.unserved > s.absent:
			continue // who has not got their winners has not come for them
		}
		if !yield(s) {
			return
		}
	}
}

const exitGrace = 10 * time.Second

// rule makes the exit rule that is in this state, idle since then.
func (s exitState) rule(t *testing.T, idleSince time.Time) exitRule {
	t.Helper()
	state := lottery.New(lottery.Rules{Agencies: 2})
	x := newExitRule(state, 2, exitGrace)
	x.begin(idleSince)
	for id := codec.Agency(1); s.drawn && id <= 2; id++ {
		if err := state.Replay(lottery.ReportedEntry, id, 0, codec.Stretch{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for id := codec.Agency(1); id <= 2; id++ {
		if s.unserved < int(id) {
			if err := state.Replay(lottery.ServedEntry, id, 0, codec.Stretch{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if s.absent < int(id) {
			x.content(id)
			x.content(id) // once is enough
		}
	}
	x.came = s.came
	for range s.open {
		x.opened()
	}
	return x
}

// Every state is decided by exactly one row.
func TestExitRuleVerdict(t *testing.T) {
	rows := []struct {
		sentence string
		matches  func(exitState) bool
		done     bool
		wait     bool
		finished bool // if done: without an error
	}{
		{
			sentence: "no agency has ever come, and there was no draw: wait for ever",
			matches:  func(s exitState) bool { return !s.came && !s.drawn },
		},
		{
			sentence: "an agency's socket is open: wait for ever",
			matches:  func(s exitState) bool { return s.open > 0 },
		},
		{
			sentence: "all agencies are served, have been here since the start, and have closed: exit 0",
			matches:  func(s exitState) bool { return s.open == 0 && s.drawn && s.unserved == 0 && s.absent == 0 },
			done:     true, finished: true,
		},
		{
			sentence: "all are served, and some have not been here since the start: the grace ...",
			matches: func(s exitState) bool {
				return s.open == 0 && s.drawn && s.unserved == 0 && s.absent > 0 && !s.graceOver
			},
			wait: true,
		},
		{
			sentence: "... then exit 0",
			matches: func(s exitState) bool {
				return s.open == 0 && s.drawn && s.unserved == 0 && s.absent > 0 && s.graceOver
			},
			done: true, finished: true,
		},
		{
			sentence: "somebody is not served, whether or not anybody came: the grace ...",
			matches:  func(s exitState) bool { return s.open == 0 && s.drawn && s.unserved > 0 && !s.graceOver },
			wait:     true,
		},
		{
			sentence: "... then exit 3",
			matches:  func(s exitState) bool { return s.open == 0 && s.drawn && s.unserved > 0 && s.graceOver },
			done:     true,
		},
		{
			sentence: "all who came before the draw have closed: the grace ...",
			matches:  func(s exitState) bool { return s.came && s.open == 0 && !s.drawn && !s.graceOver },
			wait:     true,
		},
		{
			sentence: "... then exit 3",
			matches:  func(s exitState) bool { return s.came && s.open == 0 && !s.drawn && s.graceOver },
			done:     true,
		},
	}
	idleSince := time.Unix(1_000_000, 0)
	hit := make([]int, len(rows))
	for s := range exitStates {
		matching := -1
		for i, row := range rows {
			if row.matches(s) {
				if matching >= 0 {
					t.Fatalf("%+v: rows %d and %d", s, matching, i)
				}
				matching = i
			}
		}
		if matching < 0 {
			t.Fatalf("%+v falls through", s)
		}
		hit[matching]++
		row := rows[matching]
		times := []time.Duration{0, exitGrace / 2, exitGrace - 1}
		if s.graceOver {
			times = []time.Duration{exitGrace, exitGrace + 1, time.Hour}
		}
		for _, after := range times {
			x := s.rule(t, idleSince)
			done, wait := x.verdict(idleSince.Add(after))
			wantWait := time.Duration(0)
			if row.wait {
				wantWait = exitGrace - after
			}
			if done != row.done || wait != wantWait {
				t.Errorf("%+v, idle for %v: done %v, wait %v; want %v, %v: %s", s, after, done, wait, row.done, wantWait, row.sentence)
			}
			if done {
				if err := x.result(idleSince.Add(after)); (err == nil) != row.finished {
					t.Errorf("%+v: result %v, want finished %v", s, err, row.finished)
				}
			}
			// A deadline ends a wait for the draw, and nothing else.
			for _, left := range []time.Duration{-time.Hour, 0, 1} {
				x.deadline = idleSince.Add(after + left)
				if overdue := x.overdue(idleSince.Add(after)); overdue != (left <= 0 && !s.drawn) {
					t.Errorf("%+v, %v before the deadline: overdue %v", s, left, overdue)
				}
			}
		}
	}
	for i, n := range hit {
		if n == 0 {
			t.Errorf("no state for %q", rows[i].sentence)
		}
	}
}

// Without a grace there is no waiting, and time begins anew with every close.
func TestExitRuleGrace(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, grace := range []time.Duration{0, time.Minute} {
		x := newExitRule(lottery.New(lottery.Rules{Agencies: 1}), 1, grace)
		x.begin(now.Add(-time.Hour))
		x.opened()
		x.closed(now)
		if done, wait := x.verdict(now); done != (grace == 0) || wait != grace {
			t.Errorf("grace of %v: done %v, wait %v", grace, done, wait)
		}
	}
}

// A server that starts after the draw gives everybody the time to come, also without a grace, until
// the first has come.
func TestExitRuleFirstToCome(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	x := exitState{drawn: true, unserved: 2, absent: 2}.rule(t, now)
	x.grace = 0
	if done, wait := x.verdict(now); done || wait != lingerMax {
		t.Errorf("nobody has come: done %v, wait %v; want %v", done, wait, lingerMax)
	}
	if done, _ := x.verdict(now.Add(lingerMax)); !done {
		t.Error("nobody comes, and it waits on")
	}
	x.opened()
	x.closed(now)
	if done, wait := x.verdict(now); !done {
		t.Errorf("somebody has come and gone: wait %v", wait)
	}
}

// The error names who is missing: before the draw who has not reported, after
// it who is not known to have their winners.
func TestExitRuleNamesTheMissing(t *testing.T) {
	for _, test := range []struct {
		name     string
		agencies int
		drawn    bool
		there    []codec.Agency // before the draw those that have reported, after it those that are served
		overdue  bool
		want     []codec.Agency
		says     string
	}{
		{"no draw", 5, false, []codec.Agency{4, 2}, false, []codec.Agency{1, 3, 5}, "no draw: agencies that have not reported: 1, 3, 5; "},
		{"no draw in time", 2, false, []codec.Agency{2}, true, []codec.Agency{1}, "no draw before SERVER_DEADLINE: agencies that have not reported: 1; "},
		{"drawn, nobody served", 3, true, nil, false, []codec.Agency{1, 2, 3}, "agencies that are not known to have their winners: 1, 2, 3; "},
		{"drawn, one not served", 3, true, []codec.Agency{3, 1}, true, []codec.Agency{2}, "agencies that are not known to have their winners: 2; "},
		{"many", 100, false, nil, false, nil, ", 20 and 80 more; "},
	} {
		t.Run(test.name, func(t *testing.T) {
			state := lottery.New(lottery.Rules{Agencies: test.agencies})
			replay := func(entry lottery.Entry, id codec.Agency) {
				if err := state.Replay(entry, id, 0, codec.Stretch{}, nil); err != nil {
					t.Fatal(err)
				}
			}
			entry := lottery.ReportedEntry
			for id := codec.Agency(1); test.drawn && int(id) <= test.agencies; id++ {
				replay(lottery.ReportedEntry, id)
				entry = lottery.ServedEntry
			}
			for _, id := range test.there {
				replay(entry, id)
			}
			x := newExitRule(state, test.agencies, 0)
			now := time.Unix(1_000_000, 0)
			if test.overdue {
				x.deadline = now
			}
			err := x.result(now)
			var unfinished *UnfinishedError
			if !errors.As(err, &unfinished) || !errors.Is(err, ErrUnfinished) {
				t.Fatalf("error %v", err)
			}
			if unfinished.Drawn != test.drawn || test.want != nil && !slices.Equal(unfinished.Missing, test.want) {
				t.Errorf("drawn %v, missing %v; want %v, %v", unfinished.Drawn, unfinished.Missing, test.drawn, test.want)
			}
			if !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "SERVER_DATA_DIR") {
				t.Errorf("it says %q, want %q and what to do", err, test.says)
			}
		})
	}
}

// socketTimeout bounds every wait for something that has to happen.
const socketTimeout = 20 * time.Second

// liveServer is a server that serves on a port of its own.
type liveServer struct {
	*Server
	stop  context.CancelFunc
	ended chan error // its result, once
	logs  *observer.ObservedLogs
}

// liveConfig is a configuration for tests: two agencies, a grace that is
// longer than any test.
func liveConfig(t *testing.T) Config {
	cfg := DefaultConfig()
	cfg.Addr = "127.0.0.1:0"
	cfg.Agencies = 2
	cfg.DataDir = t.TempDir()
	cfg.ExitGrace = time.Hour
	return cfg
}

// serveLive starts a server. It is stopped at the end of the test, if it still
// runs then, and must leave no goroutine behind.
func serveLive(t *testing.T, cfg Config) *liveServer {
	t.Helper()
	return serveLiveOn(t, cfg, ledger.Options{})
}

// serveLiveOn is serveLive with a ledger of other segments, or on another file
// system.
func serveLiveOn(t *testing.T, cfg Config, options ledger.Options) *liveServer {
	t.Helper()
	before := goleak.IgnoreCurrent()
	core, logs := observer.New(zapcore.InfoLevel)
	s, err := openListening(cfg, zap.New(core), options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	live := &liveServer{Server: s, stop: stop, ended: make(chan error, 1), logs: logs}
	over := make(chan struct{})
	go func() {
		defer close(over)
		live.ended <- s.Serve(ctx)
	}()
	t.Cleanup(func() {
		stop()
		select {
		case <-over:
			goleak.VerifyNone(t, before, IdleWorkers())
		case <-time.After(socketTimeout):
			t.Error("the server doesn't stop")
		}
	})
	select {
	case <-s.Ready():
	case err := <-live.ended:
		t.Fatalf("ended before it listened: %v", err)
	}
	return live
}

// end waits until the server has ended, and returns its result.
func (s *liveServer) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(socketTimeout):
		t.Fatal("the server doesn't end")
		return nil
	}
}

// stays checks that the server doesn't end for a while.
func (s *liveServer) stays(t *testing.T, while time.Duration) {
	t.Helper()
	select {
	case err := <-s.ended:
		t.Fatalf("the server has ended: %v", err)
	case <-time.After(while): // the observation itself
	}
}

// count is how many lines it logged with this action and result.
func (s *liveServer) count(action, result string) (n int) {
	for _, entry := range s.logs.FilterMessage(action).All() {
		if entry.ContextMap()["result"] == result {
			n++
		}
	}
	return n
}

// wire is an agency's end of a connection, without any of our client.
type wire struct {
	t    *testing.T
	conn *net.TCPConn
	in   *bufio.Reader
}

func (s *liveServer) dial(t *testing.T) *wire {
	t.Helper()
	return s.dialFrom(t, "127.0.0.1")
}

// dialFrom connects from another address of this machine.
func (s *liveServer) dialFrom(t *testing.T, source string) *wire {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := d.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // mostly closed by then
	if err := conn.SetDeadline(time.Now().Add(socketTimeout)); err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, conn: conn.(*net.TCPConn), in: bufio.NewReader(conn)}
}

// say sends payloads as frames, in one write.
func (w *wire) say(payloads ...string) *wire {
	w.t.Helper()
	if _, err := w.conn.Write(frames(payloads...)); err != nil {
		w.t.Fatal(err)
	}
	return w
}

// hears wants the next frames to have these payloads.
func (w *wire) hears(payloads ...string) *wire {
	w.t.Helper()
	for _, want := range payloads {
		header, err := w.in.ReadString('\n')
		if err != nil {
			w.t.Fatalf("waiting for %q: %v", want, err)
		}
		n, err := strconv.Atoi(strings.TrimSuffix(header, "\n"))
		if err != nil {
			w.t.Fatalf("header %q", header)
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(w.in, payload); err != nil || string(payload) != want {
			w.t.Fatalf("heard %q, %v; want %q", payload, err, want)
		}
	}
	return w
}

// waits asks for the winners and returns when the server holds the question:
// what is asked behind it has been answered.
func (w *wire) waits(agency int) *wire {
	w.t.Helper()
	return w.say(fmt.Sprintf("GET_WINNERS|%d", agency), "").hears(codec.CodeEmptyBatch.String())
}

// confirms says that the agency has its winners, and returns when the server knows.
func (w *wire) confirms(agency int) *wire {
	w.t.Helper()
	return w.say(fmt.Sprintf("RECEIVED|%d", agency)).hears("ACK")
}

// welcomed is the answer to the HELLO of an agency that has these bets stored.
func welcomed(bets ...string) string {
	checksum := codec.Checksum(0).Add([]byte(strings.Join(bets, "\n")))
	return fmt.Sprintf("WELCOME|%d|64|65536|%v", len(bets), checksum)
}

// hearsEnd wants the server to have closed, after nothing more.
func (w *wire) hearsEnd() {
	w.t.Helper()
	if rest, err := io.ReadAll(w.in); err != nil || len(rest) > 0 {
		w.t.Errorf("at the end: %q, %v", rest, err)
	}
}

func (w *wire) close() {
	w.t.Helper()
	if err := w.conn.Close(); err != nil {
		w.t.Error(err)
	}
}

// kill closes as a killed process does whose socket has unread data: by reset.
func (w *wire) kill() {
	w.t.Helper()
	if err := w.conn.SetLinger(0); err != nil {
		w.t.Error(err)
	}
	w.close()
}

const (
	betCarlos = "Carlos|López|99887766|1982-02-17|7574|2"
	betLucia  = "Lucía|Martínez|11223344|1995-09-30|5421|2"
)

func wantExports(t *testing.T, dir, bets, winners string) {
	t.Helper()
	for name, want := range map[string]string{history.BetsFile: bets, history.WinnersFile: winners} {
		if content, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(content) != want {
			t.Errorf("%s has %q, error %v; want %q", name, content, err, want)
		}
	}
}

// exitMax is the second in which a server has to end, with as much again for a
// machine that is busy with other tests. What the disk takes for bets.csv and winners.csv comes on
// top: it begins with the draw, and a test's draw is over at once.
const exitMax = 2 * time.Second

// exportTook is how long the server wrote its exports.
func (s *liveServer) exportTook() (took time.Duration) {
	for _, entry := range s.logs.FilterMessage("export").All() {
		took, _ = entry.ContextMap()["duracion"].(time.Duration)
	}
	return took
}

// All agencies served and no agency's socket open: exit 0, within a second of
// the last close. A connection that never named an agency doesn't count, and
// is closed.
func TestExitAllServed(t *testing.T) {
	cfg := liveConfig(t)
	s := serveLive(t, cfg)
	stranger := s.dial(t)
	rude := s.dial(t).say("").hears(codec.CodeEmptyBatch.String())
	one := s.dial(t).say("HELLO|1", betJuan+"\n"+betMaria).hears(welcomed(), "ACK").waits(1)
	two := s.dial(t).say(betCarlos + "\n" + betLucia + "\n").hears("ACK").say("GET_WINNERS|2").hears(betCarlos)
	one.hears(betJuan).confirms(1)
	one.close()
	// The other socket is open, so the server is there for whoever asks again.
	two.say("GET_WINNERS|2").hears(betCarlos)
	two.close()
	closed := time.Now()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
	if took := time.Since(closed); took > exitMax+s.exportTook() {
		t.Errorf("ended %v after the last close, exports took %v", took, s.exportTook())
	}
	stranger.hearsEnd()
	rude.hearsEnd()
	if n := s.count("sorteo", "success"); n != 1 {
		t.Errorf("the draw was logged %d times", n)
	}
	wantExports(t, cfg.DataDir,
		"1,Juan,Pérez,12345678,1990-05-23,7574\r\n1,María,Gómez,87654321,1985-07-10,2311\r\n2,Carlos,López,99887766,1982-02-17,7574\r\n2,Lucía,Martínez,11223344,1995-09-30,5421\r\n",
		"1,Juan,Pérez,12345678,1990-05-23,7574\r\n2,Carlos,López,99887766,1982-02-17,7574\r\n")
}

// An agency that is killed while it waits and started again resumes, duplicates
// nothing and gets its winners.
func TestExitKilledAgencyReturns(t *testing.T) {
	for name, leave := range map[string]func(*wire){"reset": (*wire).kill, "closed": (*wire).close} {
		t.Run(name, func(t *testing.T) {
			s := serveLive(t, liveConfig(t))
			leave(s.dial(t).say("HELLO|1", betJuan, betMaria).hears(welcomed(), "ACK", "ACK").waits(1))
			again := s.dial(t).say("HELLO|1").hears(welcomed(betJuan, betMaria)).waits(1)
			two := s.dial(t).say("HELLO|2", "GET_WINNERS|2").hears(welcomed(), "").confirms(2)
			again.hears(betJuan).confirms(1)
			again.close()
			two.close()
			if err := s.end(t); err != nil {
				t.Errorf("result %v", err)
			}
		})
	}
}

// Killed and not noticed: the new connection takes over, and the winners go to
// it alone.
func TestExitTakenOver(t *testing.T) {
	s := serveLive(t, liveConfig(t))
	older := s.dial(t).say("HELLO|1", betJuan).hears(welcomed(), "ACK").waits(1)
	newer := s.dial(t).say("HELLO|1").hears(welcomed(betJuan)).waits(1)
	older.hears(codec.CodeAgencyTakenOver.String()).hearsEnd()
	older.close()
	two := s.dial(t).say("GET_WINNERS|2").hears("")
	newer.hears(betJuan).confirms(1)
	newer.close()
	two.close()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
}

func wantUnfinished(t *testing.T, err error, drawn bool, missing ...codec.Agency) {
	t.Helper()
	var unfinished *UnfinishedError
	if !errors.As(err, &unfinished) || unfinished.Drawn != drawn || !slices.Equal(unfinished.Missing, missing) {
		t.Errorf("result %v; want drawn %v, missing %v", err, drawn, missing)
	}
}

// All agencies' sockets closed before the draw: the grace, then exit 3, and the
// missing are named. The next start goes on.
func TestExitBeforeTheDraw(t *testing.T) {
	cfg := liveConfig(t)
	cfg.ExitGrace = 200 * time.Millisecond
	s := serveLive(t, cfg)
	s.dial(t).say("HELLO|1", betJuan).hears(welcomed(), "ACK").waits(1).close()
	closed := time.Now()
	wantUnfinished(t, s.end(t), false, 2)
	if took := time.Since(closed); took < cfg.ExitGrace/2 || took > cfg.ExitGrace+exitMax {
		t.Errorf("ended after %v, want about %v", took, cfg.ExitGrace)
	}
	if n := s.count("sorteo", "success"); n != 0 {
		t.Error("a draw was logged")
	}

	cfg.ExitGrace = time.Hour
	s = serveLive(t, cfg)
	one := s.dial(t).say("HELLO|1").hears(welcomed(betJuan)).waits(1)
	two := s.dial(t).say("GET_WINNERS|2").hears("")
	one.hears(betJuan).confirms(1)
	one.close()
	two.close()
	if err := s.end(t); err != nil {
		t.Errorf("result of the next start: %v", err)
	}
}

// The grace is for coming back: an agency that is there again stops it, for as
// long as it stays.
func TestExitGraceEndsWithReturn(t *testing.T) {
	cfg := liveConfig(t)
	cfg.ExitGrace = time.Second
	s := serveLive(t, cfg)
	for range 5 { // as agencies do that connect for each message
		s.dial(t).say(betJuan).hears("ACK").close()
	}
	one := s.dial(t).say("HELLO|1").hears(welcomed(betJuan, betJuan, betJuan, betJuan, betJuan))
	s.stays(t, cfg.ExitGrace+cfg.ExitGrace/2)
	one.close()
	wantUnfinished(t, s.end(t), false, 1, 2)
}

// Drawn, but somebody isn't there to be told: the grace, exit 3, and the next
// start serves them.
func TestExitNotServed(t *testing.T) {
	cfg := liveConfig(t)
	cfg.ExitGrace = 200 * time.Millisecond
	s := serveLive(t, cfg)
	two := s.dial(t).say(betCarlos).hears("ACK").waits(2)
	one := s.dial(t).say(betJuan).hears("ACK")
	two.kill()
	awaitConnections(t, s, 1)
	one.say("GET_WINNERS|1").hears(betJuan)
	one.close()
	err := s.end(t)
	wantUnfinished(t, err, true, 2)
	wantExports(t, cfg.DataDir, "2,Carlos,López,99887766,1982-02-17,7574\r\n1,Juan,Pérez,12345678,1990-05-23,7574\r\n", "2,Carlos,López,99887766,1982-02-17,7574\r\n1,Juan,Pérez,12345678,1990-05-23,7574\r\n")

	s = serveLive(t, cfg)
	one = s.dial(t).say("GET_WINNERS|1").hears(betJuan)
	s.dial(t).say("HELLO|2", "GET_WINNERS|2").hears(welcomed(betCarlos), betCarlos).confirms(2).close()
	one.close()
	if err := s.end(t); err != nil {
		t.Errorf("result of the next start: %v", err)
	}
	if n := s.count("sorteo", "success"); n != 0 {
		t.Error("a second draw was logged")
	}
}

// awaitConnections waits until the server knows of so many connections only.
func awaitConnections(t *testing.T, s *liveServer, want int) {
	t.Helper()
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	timeout := time.After(socketTimeout)
	for s.admission.count() != want {
		select {
		case <-looks.C:
		case <-timeout:
			t.Fatalf("%d connections, want %d", s.admission.count(), want)
		}
	}
}

// No agency has ever come: the server waits, whoever else comes and goes.
func TestExitNobodyCame(t *testing.T) {
	cfg := liveConfig(t)
	cfg.ExitGrace = 0
	s := serveLive(t, cfg)
	s.dial(t).close()
	s.dial(t).say("").hears(codec.CodeEmptyBatch.String()).close()
	s.dial(t).say("GET_WINNERS|3").hears(codec.CodeInvalidAgency.String()).close()
	s.stays(t, 300*time.Millisecond)
	s.stop()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
}

// SIGTERM with waiting agencies: what is queued is answered, who waits is told,
// and a restart goes on with the same draw.
func TestExitStopped(t *testing.T) {
	cfg := liveConfig(t)
	s := serveLive(t, cfg)
	stranger := s.dial(t)
	one := s.dial(t).say("HELLO|1", betJuan).hears(welcomed(), "ACK").waits(1)
	twice := s.dial(t).waits(1).waits(1)
	two := s.dial(t).say("HELLO|2", betCarlos).hears(welcomed(), "ACK")
	awaitConnections(t, s, 4)
	stopped := time.Now()
	s.stop()
	one.hears(codec.CodeLotteryHasntEnded.String()).hearsEnd()
	twice.hears(codec.CodeLotteryHasntEnded.String(), codec.CodeLotteryHasntEnded.String()).hearsEnd()
	two.hearsEnd() // it asked for nothing
	stranger.hearsEnd()
	for _, w := range []*wire{one, twice, two, stranger} {
		w.close()
	}
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
	if took := time.Since(stopped); took > exitMax {
		t.Errorf("stopped after %v", took)
	}
	if s.count("shutdown", "in_progress") != 1 {
		t.Error("no line says that it shuts down")
	}

	s = serveLive(t, cfg)
	// Agency 1 has reported: its bets are closed, and nobody else is missing.
	two = s.dial(t).say("HELLO|2", "GET_WINNERS|2").hears(welcomed(betCarlos), betCarlos).confirms(2)
	one = s.dial(t).say("HELLO|1", betMaria, "GET_WINNERS|1").hears(welcomed(betJuan), codec.CodeBetsClosed.String(), betJuan).confirms(1)
	one.close()
	two.close()
	if err := s.end(t); err != nil {
		t.Errorf("result after the restart: %v", err)
	}
	if n := s.count("sorteo", "success"); n != 1 {
		t.Errorf("the draw was logged %d times", n)
	}
}

// A peer that doesn't close when it is told the end can't hold the server.
func TestExitStoppedBesideStubbornPeer(t *testing.T) {
	s := serveLive(t, liveConfig(t))
	s.dial(t).say("HELLO|1").hears(welcomed()) // and keeps its side open
	s.stop()
	stopped := time.Now()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
	if took := time.Since(stopped); took > farewellTimeout+exitMax {
		t.Errorf("stopped after %v", took)
	}
}

// A restart after the draw serves at once, as often as it is asked.
func TestExitRestartAfterTheDraw(t *testing.T) {
	cfg := liveConfig(t)
	cfg.Agencies = 1
	s := serveLive(t, cfg)
	s.dial(t).say(betJuan, "GET_WINNERS|1").hears("ACK", betJuan).close()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(cfg.DataDir, history.BetsFile)); err != nil {
		t.Fatal(err)
	}
	s = serveLive(t, cfg)
	s.dial(t).say("GET_WINNERS|1", "GET_WINNERS|1", betMaria).hears(betJuan, betJuan, codec.CodeBetsClosed.String()).close()
	if err := s.end(t); err != nil {
		t.Error(err)
	}
	if n := s.count("sorteo", "success"); n != 0 {
		t.Error("a second draw was logged")
	}
	wantExports(t, cfg.DataDir, "1,Juan,Pérez,12345678,1990-05-23,7574\r\n", "1,Juan,Pérez,12345678,1990-05-23,7574\r\n")
}

// What a server doesn't start with.
func TestExitRefusedStarts(t *testing.T) {
	cfg := liveConfig(t)
	s := serveLive(t, cfg)

	busy := cfg
	busy.Addr = s.Addr().String()
	busy.DataDir = filepath.Join(t.TempDir(), "new")
	if _, err := Open(busy, zap.NewNop()); !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), "SERVER_ADDR="+busy.Addr) {
		t.Errorf("port in use: %v", err)
	}
	if _, err := os.Stat(busy.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a port in use made a directory: %v", err)
	}
	if _, err := Open(cfg, zap.NewNop()); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("directory in use: %v", err)
	}
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}

	for name, change := range map[string]func(*Config){
		"SERVER_AGENCIES=2 SERVER_WINNING_NUMBER=7574, configured are 3 and 7574": func(c *Config) { c.Agencies = 3 },
		"SERVER_AGENCIES=2 SERVER_WINNING_NUMBER=7574, configured are 2 and 7575": func(c *Config) { c.WinningNumber = 7575 },
	} {
		other := cfg
		change(&other)
		if _, err := Open(other, zap.NewNop()); !errors.Is(err, history.ErrSettings) || !strings.Contains(err.Error(), name) {
			t.Errorf("ledger of other settings: %v, want it to say %q", err, name)
		}
	}
	wrong := cfg
	wrong.Window = 0
	wrong.DataDir = filepath.Join(t.TempDir(), "new")
	if _, err := Open(wrong, zap.NewNop()); !errors.Is(err, ErrConfig) {
		t.Errorf("wrong configuration: %v", err)
	}
	if _, err := os.Stat(wrong.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a wrong configuration made a directory: %v", err)
	}

	// None of them has left anything locked.
	again, err := Open(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
