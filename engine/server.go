package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/front"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

var (
	// ErrListen says that the server can't listen on SERVER_ADDR.
	ErrListen = errors.New("cannot listen")
	// ErrStorage says that the ledger can't be written. Nothing that was not acknowledged is
	// promised.
	ErrStorage = errors.New("storage failed")
	// ErrEngine says that the event loops stopped by themselves.
	ErrEngine = errors.New("event loops stopped")
	// ErrUnfinished says that the server ended without its goal; see commit.ErrUnfinished.
	ErrUnfinished = commit.ErrUnfinished
)

// UnfinishedError names the agencies that are missing; see commit.UnfinishedError.
type UnfinishedError = commit.UnfinishedError

// farewellTimeout is how long a server that stops waits for its sockets to take the last answers
// and for its peers to close.
const farewellTimeout = 500 * time.Millisecond

// Server holds one draw. Open makes it, Serve runs it to its end.
type Server struct {
	cfg Config
	log *zap.Logger
	now func() time.Time // the clock of all decisions

	ledger      commit.Log
	committer   *commit.Committer
	front       *front.Front
	listener    net.Listener  // nil if the server was made to be driven, and not to Serve
	missingNext time.Time     // when the log next names the agencies that are missing
	exports     chan error    // the result of the export, once; nil before the draw
	ready       chan struct{} // closed when connections are accepted
}

// Open validates the configuration, listens on cfg.Addr, reads
// cfg.AgencySecretsFile, takes the ledger of cfg.DataDir and replays it. Who
// connects meanwhile waits: nothing is accepted before Serve. An address that is
// in use leaves the file system as it was. The log is used from many goroutines.
// The server has to Serve, or else to be closed.
//
// Errors wrap ErrConfig, ErrListen, history.ErrSettings, ledger.ErrLocked,
// ledger.ErrCorrupt, history.ErrDamaged, ErrStorage, or are the file system's. After an
// error nothing is left open.
func Open(cfg Config, log *zap.Logger) (*Server, error) {
	return openListening(cfg, log, environment{})
}

// environment is what a server takes from the world beside its configuration. The zero value is the
// real one; a test has one of its own.
type environment struct {
	ledger  ledger.Options // the durability is the configuration's
	openLog openLog        // nil: the ledger's
	// front is looked at for its clock, timers and nonces, and for secrets in place of the file's.
	front       front.Config
	requestsMax int // of a stage; 0 is the default
}

// openLog takes a log and replays it through visit. It returns where the log was found to end.
type openLog func(visit func(ledger.Record) error) (commit.Log, ledger.Tail, error)

func openListening(cfg Config, log *zap.Logger, env environment) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	listener, err := front.Listen(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("%w on SERVER_ADDR=%s: %w: stop what uses it, or choose another address", ErrListen, cfg.Addr, err)
	}
	s, err := open(cfg, log, env)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s.listener = listener
	return s, nil
}

// open makes a server that listens on nothing, of a configuration that is legal.
func open(cfg Config, log *zap.Logger, env environment) (*Server, error) {
	secrets, err := front.OpenSecrets(cfg.AgencySecretsFile, cfg.Agencies, log)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	led, state, err := openLedger(cfg, log, env)
	if err != nil {
		return nil, err
	}
	log.Info("ledger", zap.String("result", "success"), zap.String("dir", cfg.DataDir), zap.Int64("apuestas", state.Bets()),
		zap.Bool("realizado", state.Drawn()), zap.Duration("duracion", time.Since(started)))
	loops := cfg.EventLoops
	if loops == 0 {
		loops = runtime.NumCPU()
	}
	s := &Server{cfg: cfg, log: log, now: env.front.Now, ledger: led, ready: make(chan struct{})}
	if s.now == nil {
		s.now = time.Now
	}
	s.committer = commit.New(led, state, commit.Settings{
		Agencies:      cfg.Agencies,
		Loops:         loops,
		QueueBytesMax: cfg.QueueBytesMax,
		RequestsMax:   env.requestsMax,
		Grace:         cfg.ExitGrace,
		Deadline:      cfg.Deadline.from(started),
	})
	f := env.front
	f.Agencies, f.WinningNumber = cfg.Agencies, cfg.WinningNumber
	f.Window, f.FrameBytesMax = cfg.Window, cfg.FrameBytesMax
	f.UnreadBytesMax, f.PartialBytesMax = cfg.UnreadBytesMax, cfg.PartialBytesMax
	f.ConnectionsMax, f.ConnectionsPerSource = cfg.ConnectionsMax, cfg.ConnectionsPerSource
	f.ReadTimeout, f.ExitGrace = cfg.ReadTimeout, cfg.ExitGrace
	f.Term = led.Term()
	if secrets != nil {
		f.Secrets = secrets
	}
	s.front = front.New(f, log, s.committer.Stages())
	if state.Drawn() {
		s.front.Drawn()
	}
	return s, nil
}

// openLedger takes the ledger and replays it.
func openLedger(cfg Config, log *zap.Logger, env environment) (commit.Log, *lottery.Lottery, error) {
	state := lottery.New(lottery.Rules{Agencies: cfg.Agencies, Poll: cfg.Winners == WinnersPoll, AllWinners: cfg.WinnersScope == ScopeAll})
	want := history.Settings{Agencies: cfg.Agencies, WinningNumber: cfg.WinningNumber}
	replayed := history.Replay(state, want)
	if cfg.Durability == DurabilityOS {
		env.ledger.Durability = ledger.OS
		log.Warn("config", zap.String("result", "success"), zap.String("SERVER_DURABILITY", cfg.Durability),
			zap.String("aviso", "an ACK does not wait for the disk: a crash of the machine can lose acknowledged bets"))
	}
	if env.openLog == nil {
		env.openLog = func(visit func(ledger.Record) error) (commit.Log, ledger.Tail, error) {
			led, err := ledger.Open(history.Dir(cfg.DataDir), env.ledger, visit)
			if err != nil {
				return nil, ledger.Tail{}, err
			}
			return led, led.Recovered(), nil
		}
	}
	led, tail, err := env.openLog(replayed.Visit)
	if err != nil {
		return nil, nil, startError(cfg.DataDir, err)
	}
	if tail.Torn {
		log.Warn("ledger", zap.String("result", "success"), zap.String("archivo", tail.File), zap.Int64("posicion", tail.Offset),
			zap.String("aviso", "an unfinished write, never acknowledged, was cut off here: "+tail.Reason))
	}
	if err := finishOpening(led, tail, replayed.Opened, want, state.Drawn()); err != nil {
		return nil, nil, errors.Join(err, led.Close())
	}
	return led, state, nil
}

// finishOpening writes what a ledger has to hold that was just opened, and refuses one that lacks
// its draw.
func finishOpening(led commit.Log, tail ledger.Tail, opened bool, want history.Settings, drawn bool) error {
	if err := history.CheckSealed(tail, drawn); err != nil {
		return err
	}
	var err error
	switch {
	case !opened:
		err = led.Commit([][]byte{want.AppendRecord(nil)})
	case drawn && tail.SealedSeq == 0:
		err = led.Seal() // the server before this one ended at its draw, or knew no seal
	}
	if err != nil {
		return storageError(err)
	}
	return nil
}

// Ready is closed when the server accepts connections.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is the address that the server listens on, with the port that it was
// given for port 0.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve accepts connections and holds the draw. It returns when the server has
// ended, for whatever reason, with the address and the ledger released; it may
// be called once.
//
// It returns nil when every agency is known to have its winners and none that it
// waits for is connected, and when ctx is done: then what is queued is answered and
// those who wait are told that there is no draw yet. Errors wrap ErrUnfinished,
// ErrStorage, ErrEngine or commit.ErrNotLeader.
func (s *Server) Serve(ctx context.Context) error {
	err := s.serve(ctx)
	s.log.Info("limites", s.front.Limits()...)
	// How well groups fill is the first thing to look at when throughput
	// disappoints. `loteria bench` reads this line.
	total := s.committer.Totals()
	s.log.Info("ledger", zap.String("result", "success"), zap.Int64("apuestas", s.committer.Lottery().Bets()),
		zap.Int64("grupos", total.Groups), zap.Int64("bytes", total.Bytes), zap.Int64("grupo_bytes_max", total.GroupBytesMax))
	errClose := s.ledger.Close()
	switch {
	case errors.Is(errClose, ledger.ErrGone):
		// In place of err, whatever that is: other errors say that the ledger has what was acknowledged.
		err = storageError(errClose)
	case errClose != nil && !errors.Is(err, ErrStorage):
		err = errors.Join(err, storageError(errClose))
	}
	return err
}

// Close releases the address and the ledger of a server that is not going to
// Serve.
func (s *Server) Close() error {
	err := s.ledger.Close()
	if s.listener != nil {
		err = errors.Join(err, s.listener.Close())
	}
	return err
}

func (s *Server) serve(ctx context.Context) error {
	if err := s.front.Start(); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrEngine, err), s.listener.Close())
	}
	close(s.ready)
	s.front.Accept(s.listener)
	s.log.Info("accept_connections", zap.String("result", "in_progress"), zap.Stringer("addr", s.Addr()))
	s.committer.Exit().Begin(s.now())
	s.missingNext = s.now().Add(missingPeriod)
	if s.committer.Lottery().Drawn() {
		s.sayMissing(s.now())
		s.startExport()
	}

	done, err := s.commitUntilDone(ctx)
	s.front.StopAccepting()
	if !isAbrupt(err) {
		err = s.stop(err)
	}
	s.committer.Close() // a loop that waits for room would never end
	if errStop := s.front.Stop(); errStop != nil {
		err = errors.Join(err, fmt.Errorf("%w: %w", ErrEngine, errStop))
	}
	if done {
		// Asked only now: the last groups may have finished what was missing.
		err = errors.Join(err, s.committer.Exit().Result(s.now()))
	}
	return errors.Join(err, s.awaitExport())
}

// commitUntilDone is the committer's loop: it runs until the exit rule says
// that there is nothing left to do, which is when done is true, ctx is done, or
// something fails.
func (s *Server) commitUntilDone(ctx context.Context) (done bool, err error) {
	ticks := time.NewTicker(s.front.TickPeriod())
	defer ticks.Stop()
	for {
		now := s.now()
		done, wait := s.committer.Exit().Verdict(now)
		var grace <-chan time.Time
		switch {
		case s.committer.Exit().Overdue(now), done && len(s.committer.Wake()) == 0 && !s.hasLoopEnded():
			return true, nil
		case wait > 0:
			grace = time.After(wait)
		}
		// What has been handed over while a group synced is looked at before a
		// verdict counts: an agency may be back.
		select {
		case <-s.committer.Wake():
			if err := s.commit(); err != nil {
				return false, err
			}
		case <-grace:
		case <-ticks.C:
			s.front.Tick()
			s.sayMissingNowAndThen(now)
		case <-ctx.Done():
			s.log.Info("shutdown", zap.String("result", "in_progress"))
			return false, nil
		case <-s.front.Ended():
			return false, errLoopEnded
		}
	}
}

// isAbrupt reports whether a server that meets the error ends without a word to anybody: the event
// loops have ended, or another holder leads the log and knows what became of the last group.
func isAbrupt(err error) bool {
	return errors.Is(err, ErrEngine) || errors.Is(err, commit.ErrNotLeader)
}

// errLoopEnded: an event loop stopped unasked because its epoll failed.
var errLoopEnded = fmt.Errorf("%w: one of them ended unasked; start again: what was acknowledged is kept", ErrEngine)

func (s *Server) hasLoopEnded() bool {
	select {
	case <-s.front.Ended():
		return true
	default:
		return false
	}
}

// commit makes what the loops have handed over durable as one group, and lets its answers go. An
// error leaves the answers unsent.
func (s *Server) commit() error {
	group, err := s.committer.Commit(s.now())
	for _, id := range group.Reported {
		s.reported(id)
	}
	switch {
	case errors.Is(err, commit.ErrNotLeader):
		return err
	case err != nil:
		return storageError(err)
	}
	if group.Drawn {
		s.drawn()
	}
	s.front.Deliver(group.Replies)
	s.served(group.Served)
	if n := s.committer.Lottery().Missing(); len(group.Reported) > 0 && 0 < n && n <= missingFew {
		s.sayMissing(s.now())
	}
	return nil
}

// stop ends a server that serves: everything that was taken in is answered, all that wait are told,
// and the sockets are closed. The front has been told to accept no more.
func (s *Server) stop(reason error) error {
	s.front.StopReading()
	through, loops := s.front.Through()
	code := codec.CodeNone
	if errors.Is(reason, ErrStorage) {
		code = codec.CodeStorage
	} else if err := s.commitRest(through, loops); isAbrupt(err) {
		return errors.Join(reason, err)
	} else if err != nil {
		reason, code = errors.Join(reason, err), codec.CodeStorage
	}
	s.dismiss(code)
	<-s.front.Accepted() // no loop waits for the committer any more
	s.front.AwaitClosed(farewellTimeout)
	return reason
}

// dismiss ends all sessions. Without a code, those that wait for the draw are told that it has not
// taken place; with one, all are told that.
func (s *Server) dismiss(code codec.Code) {
	if code == codec.CodeNone {
		s.front.Deliver(s.committer.Dismiss())
	}
	s.committer.Close() // nothing that is said from here on is stored
	s.front.Farewell(code)
}

// commitRest commits until every loop has handed over all that it had taken in before it was told
// to stop reading. It never waits for a loop without also taking from it. Loops that have ended hand
// over nothing more.
func (s *Server) commitRest(through <-chan struct{}, loops int) error {
	accepted := s.front.Accepted()
	for loops > 0 || accepted != nil {
		select {
		case <-through:
			loops--
		case <-accepted:
			accepted = nil
		case <-s.committer.Wake():
			if err := s.commit(); err != nil {
				return err
			}
		case <-s.front.Ended():
			return errors.Join(errLoopEnded, s.commit())
		}
	}
	return s.commit()
}

// reported says that an agency's report is durable.
func (s *Server) reported(id codec.Agency) {
	state := s.committer.Lottery()
	s.log.Info("fin_apuestas", zap.String("result", "success"), zap.Uint32("agencia", uint32(id)),
		zap.Int64("apuestas", state.Stored(id)), zap.Int("faltan", state.Missing()))
}

// served says that it is durable that agencies have their winners.
func (s *Server) served(ids []codec.Agency) {
	missing := s.committer.Lottery().Unserved() + len(ids)
	for _, id := range ids {
		missing--
		s.log.Info("ganadores_recibidos", zap.String("result", "success"), zap.Uint32("agencia", uint32(id)), zap.Int("faltan", missing))
	}
}

// drawn says that the draw is durable.
func (s *Server) drawn() {
	s.front.Drawn()
	state := s.committer.Lottery()
	s.log.Info("sorteo", zap.String("result", "success"), zap.Int64("apuestas", state.Bets()), zap.Int("cant_ganadores", state.Won()))
	// Written out before any winners leave: a server that is killed now must not leave agencies with
	// winners of which its log says nothing. A log that can't be written keeps nobody from the draw.
	_ = s.log.Sync()
	s.startExport()
}

// startExport writes bets.csv and winners.csv beside the event loops. After the
// draw the ledger doesn't change any more.
func (s *Server) startExport() {
	if s.cfg.NoExport {
		return
	}
	s.exports = make(chan error, 1)
	go func() {
		start := time.Now()
		err := history.ExportFiles(s.ledger.Scan, s.cfg.DataDir)
		if err == nil {
			s.log.Info("export", zap.String("result", "success"), zap.String("dir", s.cfg.DataDir), zap.Duration("duracion", time.Since(start)))
		}
		s.exports <- err
	}()
}

func (s *Server) awaitExport() error {
	if s.exports == nil {
		return nil
	}
	if err := <-s.exports; err != nil {
		return fmt.Errorf("%w: export: %w: the bets are safe in the ledger; `loteria export` writes them out", ErrStorage, err)
	}
	return nil
}
