package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

// exitMax is less than a peer's time-outs and the tests' grace, for which a server could wait by mistake,
// and more than a busy machine needs to end one.
const exitMax = 20 * time.Second

// All agencies served and no agency's socket open: exit 0, and at once. A connection that never named
// an agency doesn't count, and is closed.
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
	if took := time.Since(closed); took > exitMax {
		t.Errorf("ended %v after the last close", took)
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
	for name, leave := range map[string]func(*wire){"reset": func(w *wire) { w.does(resets) }, "closed": (*wire).close} {
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
	t.Parallel()
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
	cfg.ExitGrace, cfg.ConnectionsMax = 200*time.Millisecond, 2
	s := serveLive(t, cfg)
	two := s.dial(t).say(betCarlos).hears("ACK").waits(2)
	one := s.dial(t).say(betJuan).hears("ACK")
	two.does(resets)
	s.dialUntilRoom(t).close()
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
	s.awaitAccepted(t)
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
	if took := time.Since(stopped); took > exitMax {
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
	if _, err := engine.Open(busy, zap.NewNop()); !errors.Is(err, engine.ErrListen) || !strings.Contains(err.Error(), "SERVER_ADDR="+busy.Addr) {
		t.Errorf("port in use: %v", err)
	}
	if _, err := os.Stat(busy.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a port in use made a directory: %v", err)
	}
	if _, err := engine.Open(cfg, zap.NewNop()); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("directory in use: %v", err)
	}
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}

	for name, change := range map[string]func(*engine.Config){
		"SERVER_AGENCIES=2 SERVER_WINNING_NUMBER=7574, configured are 3 and 7574": func(c *engine.Config) { c.Agencies = 3 },
		"SERVER_AGENCIES=2 SERVER_WINNING_NUMBER=7574, configured are 2 and 7575": func(c *engine.Config) { c.WinningNumber = 7575 },
	} {
		other := cfg
		change(&other)
		if _, err := engine.Open(other, zap.NewNop()); !errors.Is(err, history.ErrSettings) || !strings.Contains(err.Error(), name) {
			t.Errorf("ledger of other settings: %v, want it to say %q", err, name)
		}
	}
	wrong := cfg
	wrong.Window = 0
	wrong.DataDir = filepath.Join(t.TempDir(), "new")
	if _, err := engine.Open(wrong, zap.NewNop()); !errors.Is(err, engine.ErrConfig) {
		t.Errorf("wrong configuration: %v", err)
	}
	if _, err := os.Stat(wrong.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a wrong configuration made a directory: %v", err)
	}

	// None of them has left anything locked.
	again, err := engine.Open(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
