package engine

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/front"
	"loteria/engine/ledger"
)

const (
	simDir  = "data"
	simSeal = "SEAL" // in the ledger's directory

	simPartialBytes = 4 << 10 // what a short half frame takes
)

// simServer is a server that serves agencies, from its start to its end.
type simServer struct {
	*Server
	handler    gnet.EventHandler
	loops      []*simLoop
	stageBytes int  // a stage's bytesMax
	dismissing bool // it stops, and tells the agencies that wait
	frozen     bool // it does nothing
	gone       bool
}

// serves gives a server its event loops.
func (w *world) serves(server *Server, stageBytes int) *simServer {
	s := &simServer{Server: server, handler: server.front.Handler(), stageBytes: stageBytes}
	s.committer.Exit().Begin(w.now)
	for i, lp := range s.front.Loops() {
		own := &simLoop{server: s, stage: s.committer.Stages()[i]}
		lp.Attach(own)
		s.loops = append(s.loops, own)
	}
	w.loops = append(w.loops, s.loops...)
	return s
}

// breakLinks breaks the connections of a server that serves no more, and forgets its event loops.
func (w *world) breakLinks(s *simServer) {
	for i := len(w.links) - 1; i >= 0; i-- {
		if l := w.links[i]; l.server == s && l.conn != nil {
			l.serverGone(w.chance(50))
		}
	}
	w.seen[seenShed] += int(s.front.Broken(front.LimitPartialBytes))
	w.loops = slices.DeleteFunc(w.loops, func(lp *simLoop) bool { return lp.server == s })
	s.gone = true
}

// simConfig is DefaultConfig, which reads tags for a while, for servers that start again and again.
var simConfig = sync.OnceValue(DefaultConfig)

// limits chooses a server's limits, and returns how many bytes a stage takes.
func (w *world) limits(cfg *Config) (stageBytes int) {
	cfg.Agencies = len(w.agencies)
	cfg.WinningNumber = simWinning
	if w.poll {
		cfg.Winners = WinnersPoll
	}
	if w.allWinners {
		cfg.WinnersScope = ScopeAll
	}
	if w.volatile {
		cfg.Durability = DurabilityOS
	}
	cfg.ExitGrace = time.Duration(w.between(0, 300)) * time.Millisecond
	cfg.Window = w.between(1, 6)
	cfg.FrameBytesMax = w.between(codec.BetBytesMax, 1200)
	cfg.EventLoops = w.between(1, 3)
	if w.chance(30) {
		cfg.ReadTimeout = timeoutMin
		if w.guard != nil {
			cfg.ReadTimeout *= simProofTakes
		}
	}
	if w.chance(30) {
		cfg.ConnectionsMax = len(w.agencies)
	}
	stageBytes = w.between(1, 8) * cfg.FrameBytesMax
	if w.chance(20) {
		// One record may fill an intake, and after it the same read may refuse half frames. There
		// must be room for that, because nothing else runs meanwhile.
		stageBytes = max(stageBytes, 2*cfg.FrameBytesMax)
		cfg.PartialBytesMax = int64(w.between(1, 3) * simPartialBytes)
	}
	cfg.QueueBytesMax = 2 * cfg.EventLoops * stageBytes
	return stageBytes
}

// environment is the clock and the timers of a server.
func (w *world) environment() environment {
	return environment{
		requestsMax: simStageRequests,
		front: front.Config{
			Now:   func() time.Time { return w.now },
			Later: func(_ time.Duration, f func()) { f() }, // f only posts: a loop acts later
		},
	}
}

// start begins another life of the server on the same ledger, with new limits.
func (w *world) start() {
	w.life++
	cfg := simConfig()
	cfg.DataDir = simDir
	stageBytes := w.limits(&cfg)
	env := w.environment()
	env.ledger = ledger.Options{FS: w.disk, SegmentBytes: ledger.SegmentBytesMin}
	w.guard.watch(&env.front)
	if w.chance(20) {
		env.ledger.SegmentBytes *= int64(w.between(2, 4))
		env.ledger.ReserveBytes = int64(w.between(1, 3) * ledger.BlockBytes)
	}
	if w.chaos() && w.chance(3*w.flaky) {
		w.disk.breakAt(w.between(1, 15), w.chance(80))
	}
	s, err := open(cfg, zap.NewNop(), env)
	if err != nil {
		if !w.disk.broken() {
			w.failf("life %d: the server doesn't start: %v", w.life, err)
		}
		w.seen[seenCrashWhileStarting]++
		w.tracef("life %d: the server crashes while it starts: %v", w.life, err)
		w.disk.crash(w)
		return
	}
	w.server, w.ledger = w.serves(s, stageBytes), s.ledger.(*ledger.Ledger)
	recovered := w.ledger.Recovered()
	if recovered.Torn {
		w.seen[seenTorn]++
	}
	w.tracef("life %d: window %d, frames of %d, %d loops, stage of %d, ledger %+v", w.life, cfg.Window, cfg.FrameBytesMax, cfg.EventLoops, stageBytes, recovered)
	w.checkRecovered()
}

// commit is one round of the server's goroutine.
func (w *world) commit() {
	if w.server == nil {
		return
	}
	select {
	case <-w.server.committer.Wake():
	default:
		return
	}
	segments := w.ledger.Stats().Segments
	w.tracef("commit")
	w.disk.commit++
	w.committing = true
	drawn := w.server.committer.Lottery().Drawn()
	err := w.server.commit()
	w.committing = false
	for _, lp := range w.loops {
		lp.answering = lp.answering || err == nil && lp.Busy()
	}
	switch {
	case err == nil:
	case w.disk.died():
		w.seen[seenCrashWhileCommitting]++
		w.tracef("the server crashes in a commit: %v", err)
		w.serverGone()
		return
	case w.disk.broken() && errors.Is(err, ErrStorage):
		w.seen[seenStorageError]++
		w.tracef("storage fails: %v", err)
		w.farewell(w.server, codec.CodeStorage)
		w.serverGone()
		return
	default:
		w.failf("commit: %v", err)
	}
	if !drawn && w.server.committer.Lottery().Drawn() {
		w.onDraw()
	}
	w.checkServed()
	w.seen[seenRotation] += w.ledger.Stats().Segments - segments
	w.verdict()
}

// meanwhile lets the rest of the world go on while the committer waits for the disk.
func (w *world) meanwhile() {
	if !w.committing {
		return
	}
	w.committing = false // no nesting
	for w.chance(60) {
		w.goOn()
	}
	w.committing = true
}

// tick does what the server does at a tick.
func (w *world) tick() {
	if w.server == nil {
		return
	}
	w.server.front.Tick()
	w.verdict()
}

// verdict ends the server when the exit rule says so.
func (w *world) verdict() {
	s := w.server
	done, _ := s.committer.Exit().Verdict(w.now)
	if !done {
		return
	}
	err := s.committer.Exit().Result(w.now)
	w.tracef("the server ends: %v", err)
	switch {
	case err == nil:
		w.seen[seenGoalReached]++
		w.checkGoal()
	case errors.Is(err, ErrUnfinished):
		w.seen[seenUnfinished]++
		w.checkUnfinished(err)
	default:
		w.failf("the exit rule says %v", err)
	}
	w.farewell(s, codec.CodeNone)
	if err := s.ledger.Close(); err != nil && !w.disk.broken() {
		w.failf("closing the ledger: %v", err)
	}
	w.serverGone()
}

// signal is SIGTERM: what was read is answered, agencies that wait are told that there is no draw,
// and the process ends. It does the same as Server.stop.
func (w *world) signal() {
	s := w.server
	w.seen[seenSignal]++
	w.tracef("the server is told to stop")
	s.front.StopReading()
	s.front.Through()
	for w.server == s && !s.handedOver() {
		for _, lp := range w.loops {
			if w.ready(lp, 0) {
				w.runTasks(lp)
			}
		}
		w.commit()
	}
	if w.server != s {
		return // it has crashed, or ended for another reason
	}
	w.farewell(s, codec.CodeNone)
	if err := s.ledger.Close(); err != nil && !w.disk.broken() {
		w.failf("closing the ledger: %v", err)
	}
	w.serverGone()
}

// handedOver reports whether the loops have nothing to do and the committer has taken everything.
func (s *simServer) handedOver() bool {
	for _, lp := range s.loops {
		if lp.Busy() {
			return false
		}
	}
	return len(s.committer.Wake()) == 0
}

// farewell ends all sessions of a server, and lets the loops tell their peers.
func (w *world) farewell(s *simServer, code codec.Code) {
	s.dismissing = true
	s.dismiss(code)
	for _, lp := range s.loops {
		for lp.Busy() {
			w.runTasks(lp)
		}
	}
	s.dismissing = false
}

// serverGone ends the server's process: its connections break, and its memory is gone. The machine
// may crash with it.
func (w *world) serverGone() {
	w.breakLinks(w.server)
	w.server = nil
	w.disk.crash(w)
}

// crash ends the process that used the disk and, perhaps, the machine.
func (d *simDisk) crash(w *world) {
	if w.volatile || w.chance(40) {
		w.seen[seenProcessCrash]++
		w.tracef("disk: all that was written is kept")
		d.Kill()
		return
	}
	w.seen[seenMachineCrash]++
	w.tracef("disk: some of what was not synced is lost")
	d.FS.Crash()
}

// onDraw is called when a draw is durable.
func (w *world) onDraw() {
	w.drawn++
	w.seen[seenDraw]++
	state := w.server.committer.Lottery()
	w.tracef("the draw: %d bets, %d won", state.Bets(), state.Won())
	w.checkDraw(state)
}
