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
	"loteria/engine/admin"
	"loteria/engine/commit"
	"loteria/engine/front"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

var (
	// ErrListen says that the server can't listen on SERVER_ADDR or SERVER_TLS_ADDR.
	ErrListen = errors.New("cannot listen")
	// ErrStorage says that the ledger or an export can't be written. Only what was acknowledged is
	// promised.
	ErrStorage = errors.New("storage failed")
	// ErrEngine says that the event loops didn't start, or stopped by themselves.
	ErrEngine = errors.New("event loops stopped")
	// ErrUnfinished says that the server ended without its goal. See commit.ErrUnfinished.
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
	listener    net.Listener // nil in tests that don't call Serve
	secure      *secure      // nil: nobody comes over TLS
	missingNext time.Time    // when the log next names the missing agencies
	exports     *exporter
	watch       *watch        // nil: nobody can watch
	ready       chan struct{} // closed when connections are accepted

	// A Member sets these: lost is closed when it doesn't lead any more, and conclude tells the other
	// servers that the draw has ended.
	lost     <-chan struct{}
	conclude func(overdue bool) error
}

// Open validates the configuration, listens on cfg.Addr, cfg.TLSAddr and cfg.HTTPAddr, reads the
// certificate and cfg.AgencySecretsFile, takes the ledger of cfg.DataDir and replays it. Peers that connect meanwhile
// wait: nothing is accepted before Serve. If an address is in use, the file system stays as it was.
// The log is used from many goroutines. Call Serve or Close on the server.
//
// Errors wrap ErrConfig, ErrListen, admin.ErrListen, history.ErrSettings, ledger.ErrLocked,
// ledger.ErrCorrupt, history.ErrDamaged or ErrStorage, or are the file system's. After an error
// nothing is left open.
func Open(cfg Config, log *zap.Logger) (*Server, error) {
	return openListening(cfg, log, environment{})
}

// environment is what a server needs besides its configuration. The zero value is the real one;
// tests have their own.
type environment struct {
	ledger  ledger.Options // the configuration sets the durability
	openLog openLog        // nil: the ledger of the data directory
	// front gives the clock, timers and nonces, and the secrets if no file is configured. Its other
	// fields are ignored.
	front       front.Config
	requestsMax int     // of a stage; 0 is the default
	watch       *watch  // nil: nobody can watch
	secure      *secure // nil: nobody comes over TLS
}

// openLog takes a log, replays it through visit, and returns where it ends.
type openLog func(visit func(ledger.Record) error) (commit.Log, ledger.Tail, error)

func openListening(cfg Config, log *zap.Logger, env environment) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	listener, err := listen(cfg)
	if err != nil {
		return nil, err
	}
	if env.secure, err = openSecure(cfg, log); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	if env.watch, err = openWatch(cfg, log, nil, env.secure); err != nil {
		return nil, errors.Join(err, env.secure.close(), listener.Close())
	}
	s, err := open(cfg, log, env)
	if err != nil {
		return nil, errors.Join(err, env.watch.close(nil), env.secure.close(), listener.Close())
	}
	s.listener = listener
	return s, nil
}

func listen(cfg Config) (net.Listener, error) { return listenOn("SERVER_ADDR", cfg.Addr) }

func listenOn(name, addr string) (net.Listener, error) {
	listener, err := front.Listen(addr)
	if err != nil {
		return nil, fmt.Errorf("%w on %s=%s: %w: stop what uses it, or choose another address",
			ErrListen, name, addr, err)
	}
	return listener, nil
}

// open makes a server that doesn't listen. The configuration has to be legal.
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
	log.Info("ledger", zap.String("result", "success"), zap.String("dir", cfg.DataDir),
		zap.Int64("apuestas", state.Bets()), zap.Bool("realizado", state.Drawn()),
		zap.Duration("duracion", time.Since(started)))
	return newServer(cfg, log, env, secrets, led, state, started), nil
}

// newServer makes the server that holds the log, with the state that the log's records make.
func newServer(cfg Config, log *zap.Logger, env environment, secrets *front.Secrets,
	led commit.Log, state *lottery.Lottery, started time.Time) *Server {
	loops := cfg.EventLoops
	if loops == 0 {
		loops = runtime.NumCPU()
	}
	s := &Server{cfg: cfg, log: log, now: env.front.Now, ledger: led, ready: make(chan struct{}), watch: env.watch, secure: env.secure,
		exports: newExporter(cfg, log, led.Scan), conclude: func(bool) error { return nil }}
	if s.now == nil {
		s.now = time.Now
	}
	s.committer = commit.New(s.watch.logOf(led), state, commit.Settings{
		Agencies:      cfg.Agencies,
		Loops:         loops,
		QueueBytesMax: cfg.QueueBytesMax,
		RequestsMax:   env.requestsMax,
		Grace:         cfg.ExitGrace,
		Deadline:      cfg.Deadline.from(started),
		Clock:         s.watch.clock(),
	})
	f := env.front
	f.Agencies, f.WinningNumber = cfg.Agencies, cfg.WinningNumber
	f.Window, f.FrameBytesMax = cfg.Window, cfg.FrameBytesMax
	f.UnreadBytesMax, f.PartialBytesMax = cfg.UnreadBytesMax, cfg.PartialBytesMax
	f.ConnectionsMax, f.ConnectionsPerSource = cfg.ConnectionsMax, cfg.ConnectionsPerSource
	f.ReadTimeout, f.ExitGrace = cfg.ReadTimeout, cfg.ExitGrace
	if cfg.TLSAddr != "" {
		f.TLSHandshakes = cfg.TLSHandshakes
	}
	f.Term = led.Term()
	if cfg.HTTPAddr != "" {
		f.Descriptors = admin.Descriptors
	}
	if secrets != nil {
		f.Secrets = secrets
	}
	s.front = front.New(f, log, s.committer.Stages())
	if state.Drawn() {
		s.front.Drawn()
	}
	return s
}

// openLedger takes the ledger and replays it.
func openLedger(cfg Config, log *zap.Logger, env environment) (commit.Log, *lottery.Lottery, error) {
	state := lottery.New(lottery.Rules{Agencies: cfg.Agencies,
		Poll: cfg.Winners == WinnersPoll, AllWinners: cfg.WinnersScope == ScopeAll})
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
		log.Warn("ledger", zap.String("result", "success"), zap.String("archivo", tail.File),
			zap.Int64("posicion", tail.Offset),
			zap.String("aviso", "an unfinished write, never acknowledged, was cut off here: "+tail.Reason))
	}
	if err := finishOpening(led, tail, replayed.Opened, want, state.Drawn()); err != nil {
		return nil, nil, errors.Join(err, led.Close())
	}
	return led, state, nil
}

// finishOpening refuses a ledger that has lost its draw. It writes the settings to a new ledger,
// and the seal to one that has its draw but no seal.
func finishOpening(led commit.Log, tail ledger.Tail, opened bool, want history.Settings, drawn bool) error {
	if err := history.CheckSealed(tail, drawn); err != nil {
		return err
	}
	var err error
	switch {
	case !opened:
		err = led.Commit([][]byte{want.AppendRecord(nil)})
	case drawn && tail.SealedSeq == 0:
		err = led.Seal() // the last server ended between draw and seal, or knew no seals
	}
	if err != nil {
		return storageError(err)
	}
	return nil
}

// Ready is closed when the server accepts connections.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is the address that the server listens on. For port 0 it has the port that the system chose.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// SecureAddr is the address that the server listens on for agencies over TLS; nil: none.
func (s *Server) SecureAddr() net.Addr { return s.secure.addr() }

// ReloadCertificate reads the files of the server's certificate again. The server does so by itself
// when they change; this says at once what came of it. Any goroutine may call it.
func (s *Server) ReloadCertificate() { s.secure.reload() }

// Serve accepts connections and holds the draw. It returns when the server has ended, and has then
// released the address and the ledger. It may be called once.
//
// It returns nil when every agency is known to have its winners and the exit rule waits for none.
// It also returns nil when ctx is done: then what was read is answered, and connections that wait
// are told that there is no draw yet. Errors wrap ErrUnfinished, ErrStorage, ErrEngine or
// commit.ErrNotLeader.
func (s *Server) Serve(ctx context.Context) error {
	defer s.watch.stopWith(ctx)()
	err := errors.Join(s.serve(ctx), s.secure.close(), s.exports.await())
	s.sayTotals()
	errClose := s.ledger.Close()
	switch {
	case errors.Is(errClose, ledger.ErrGone):
		// It replaces err, because other errors say that the ledger has what was acknowledged.
		err = storageError(errClose)
	case errClose != nil && !errors.Is(err, ErrStorage):
		err = errors.Join(err, storageError(errClose))
	}
	s.watch.end(err, nil)
	return err
}

// Close releases the address and the ledger of a server on which Serve is not called.
func (s *Server) Close() error {
	err := errors.Join(s.ledger.Close(), s.watch.close(nil), s.secure.close())
	if s.listener != nil {
		err = errors.Join(err, s.listener.Close())
	}
	return err
}

// sayTotals logs what the server has done, once it has ended.
func (s *Server) sayTotals() {
	s.log.Info("limites", s.front.Limits()...)
	// When throughput disappoints, look first at how full the groups are. `loteria bench` reads
	// this line.
	total := s.committer.Totals()
	s.log.Info("ledger", zap.String("result", "success"),
		zap.Int64("apuestas", s.committer.Lottery().Bets()), zap.Int64("grupos", total.Groups),
		zap.Int64("bytes", total.Bytes), zap.Int64("grupo_bytes_max", total.GroupBytesMax))
}

func (s *Server) serve(ctx context.Context) error {
	if err := s.front.Start(); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrEngine, err), s.listener.Close())
	}
	s.front.Accept(s.listener)
	if s.secure != nil {
		s.front.AcceptTLS(s.secure.listener, s.secure.credentials)
	}
	s.watch.serves(s)
	close(s.ready)
	s.log.Info("accept_connections", zap.String("result", "in_progress"), zap.Stringer("addr", s.Addr()))
	s.committer.Exit().Begin(s.now())
	s.missingNext = s.now().Add(missingPeriod)
	if s.committer.Lottery().Drawn() {
		s.sayMissing(s.now())
		s.exports.start()
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
	s.watch.leaves(s, err)
	return s.result(done, err)
}

// result is what serve returns. If the draw is done, it is concluded first.
func (s *Server) result(done bool, err error) error {
	if !done || errors.Is(err, commit.ErrNotLeader) {
		return err
	}
	// Ask only now: the last groups may have brought what was missing.
	now := s.now()
	return errors.Join(err, s.conclude(s.committer.Exit().Overdue(now)), s.committer.Exit().Result(now))
}

// commitUntilDone is the committer's loop. It returns done if the exit rule or the deadline ends
// the server. It also returns when ctx is done or something fails.
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
		// A verdict counts only if nothing waits for the committer: an agency may have come back
		// while the last group synced.
		select {
		case <-s.committer.Wake():
			if err := s.commit(); err != nil {
				return false, err
			}
		case <-grace:
		case <-ticks.C:
			s.front.Tick()
			s.watch.saw(s.committer.Lottery(), viewPeriod)
			s.sayMissingNowAndThen(now)
		case <-ctx.Done():
			s.log.Info("shutdown", zap.String("result", "in_progress"))
			return false, nil
		case <-s.front.Ended():
			return false, errLoopEnded
		case <-s.lost:
			return false, commit.ErrNotLeader
		}
	}
}

// isAbrupt reports whether the server ends without telling its peers: the event loops have ended,
// or another holder leads the log, and only that one knows what became of the last group.
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

// commit makes what the loops have handed over durable as one group, and then sends its answers.
// After an error no answer is sent.
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
	s.watch.answered(s.committer, group)
	if n := s.committer.Lottery().Missing(); len(group.Reported) > 0 && 0 < n && n <= missingFew {
		s.sayMissing(s.now())
	}
	return nil
}

// stop ends a serving server: it answers everything that was read, tells the connections that wait,
// and closes the sockets. If storage has failed, it tells all sessions so instead. Call it after
// front.StopAccepting.
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

// dismiss ends all sessions. With CodeNone, those that wait for the draw are told that it has not
// taken place. Any other code is told to all sessions.
func (s *Server) dismiss(code codec.Code) {
	if code == codec.CodeNone {
		s.front.Deliver(s.committer.Dismiss())
	}
	s.committer.Close() // nothing that peers say from here on is stored
	s.front.Farewell(code)
}

// commitRest commits until every loop has handed over what it read before it was told to stop.
// While it waits for the loops it goes on taking from them, because a loop may be waiting for room.
// Loops that have ended hand over nothing more.
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

// reported logs that an agency's report is durable.
func (s *Server) reported(id codec.Agency) {
	state := s.committer.Lottery()
	s.log.Info("fin_apuestas", zap.String("result", "success"), zap.Uint32("agencia", uint32(id)),
		zap.Int64("apuestas", state.Stored(id)), zap.Int("faltan", state.Missing()))
}

// served logs that these agencies have their winners, which is durable.
func (s *Server) served(ids []codec.Agency) {
	missing := s.committer.Lottery().Unserved() + len(ids)
	for _, id := range ids {
		missing--
		s.log.Info("ganadores_recibidos", zap.String("result", "success"),
			zap.Uint32("agencia", uint32(id)), zap.Int("faltan", missing))
	}
}

// drawn logs that the draw is durable, tells the front, and starts the export.
func (s *Server) drawn() {
	s.front.Drawn()
	state := s.committer.Lottery()
	s.log.Info("sorteo", zap.String("result", "success"),
		zap.Int64("apuestas", state.Bets()), zap.Int("cant_ganadores", state.Won()))
	// Write the log out before any winners leave. Otherwise a server that is killed now leaves
	// agencies with winners that its log says nothing of. An error of the log doesn't stop the
	// draw.
	_ = s.log.Sync()
	s.exports.start()
}
