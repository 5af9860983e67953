package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

var (
	// ErrListen says that the server can't listen on SERVER_ADDR.
	ErrListen = errors.New("cannot listen")
	// ErrStorage says that the ledger can't be written. Nothing that was not
	// acknowledged is promised.
	ErrStorage = errors.New("storage failed")
	// ErrEngine says that the event loops stopped by themselves.
	ErrEngine = errors.New("event loops stopped")
)

const (
	readBufferBytes = 512 << 10 // a loop's read buffer

	// keepAlive finds a dead peer that is owed nothing. It does not run while
	// something is unacknowledged: then peerTimeout ends the connection.
	keepAlive   = 30 * time.Second
	peerTimeout = 60 * time.Second

	// tickPeriodMax and ticksInTimeout say how often time-outs are looked at.
	tickPeriodMax  = 100 * time.Millisecond
	ticksInTimeout = 10

	// farewellTimeout is how long a server that stops waits for its sockets to
	// take the last answers and for its peers to close.
	farewellTimeout = 500 * time.Millisecond

	// descriptorsReserved is how many descriptors are kept for what is not a connection.
	descriptorsReserved = 64

	ledgerDir = "ledger" // in SERVER_DATA_DIR
)

// Server holds one draw. Open makes it, Serve runs it to its end.
type Server struct {
	cfg          Config
	log          *zap.Logger
	welcome      codec.Welcome
	timeoutTicks int32
	tickPeriod   time.Duration
	now          func() time.Time // the clock of all decisions; a simulation has its own

	ledger    *ledger.Ledger
	committer committer
	wake      chan struct{} // holds one: some loop has handed something over
	taken     []*batch      // by loop: what is being committed
	exports   chan error    // the result of the export, once; nil before the draw

	loopsMu  sync.Mutex
	loops    []*loop
	attached int // loops that have had a connection

	engine  gnet.Engine
	ready   chan struct{} // closed when addr is known
	addr    net.Addr
	bootErr error

	open     atomic.Int64  // connections
	stopping atomic.Bool   // nothing more is taken in
	drained  chan struct{} // holds one: the last connection closed while stopping
}

// Open validates the configuration, takes the ledger of cfg.DataDir and
// replays it. It listens on nothing yet. The log is used from many goroutines.
//
// Errors wrap ErrConfig, ErrSettings, ledger.ErrLocked, ledger.ErrCorrupt,
// ErrDamaged, ErrStorage, or are the file system's.
func Open(cfg Config, log *zap.Logger) (*Server, error) {
	return open(cfg, log, ledger.Options{})
}

// open is Open with a ledger of other segments, or on another file system. The
// durability is cfg's.
func open(cfg Config, log *zap.Logger, options ledger.Options) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	started := time.Now()
	rules := lottery.Rules{Agencies: cfg.Agencies, Poll: cfg.Winners == WinnersPoll, AllWinners: cfg.WinnersScope == ScopeAll}
	state := lottery.New(rules)
	want := settings{agencies: cfg.Agencies, winningNumber: cfg.WinningNumber}
	hist := replayInto(state, want)
	if cfg.Durability == DurabilityOS {
		options.Durability = ledger.OS
		log.Warn("config", zap.String("result", "success"), zap.String("SERVER_DURABILITY", cfg.Durability),
			zap.String("aviso", "an ACK does not wait for the disk: a crash of the machine can lose acknowledged bets"))
	}
	led, err := ledger.Open(LedgerDir(cfg.DataDir), options, hist.visit)
	if err != nil {
		return nil, startError(cfg.DataDir, err)
	}
	if tail := led.Recovered(); tail.Torn {
		log.Warn("ledger", zap.String("result", "success"), zap.String("archivo", tail.File), zap.Int64("posicion", tail.Offset),
			zap.String("aviso", "an unfinished write, never acknowledged, was cut off here: "+tail.Reason))
	}
	if !hist.opened {
		if err := led.Commit([][]byte{want.record()}); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: %w", ErrStorage, err), led.Close())
		}
	}
	log.Info("ledger", zap.String("result", "success"), zap.String("dir", cfg.DataDir), zap.Int64("apuestas", state.Bets()),
		zap.Bool("realizado", state.Drawn()), zap.Duration("duracion", time.Since(started)))

	s := &Server{
		cfg:        cfg,
		log:        log,
		welcome:    codec.Welcome{Window: cfg.Window, FrameBytesMax: cfg.FrameBytesMax},
		tickPeriod: min(cfg.ReadTimeout/ticksInTimeout, tickPeriodMax),
		ledger:     led,
		wake:       make(chan struct{}, 1),
		now:        time.Now,
		ready:      make(chan struct{}),
		drained:    make(chan struct{}, 1),
	}
	s.timeoutTicks = int32(cfg.ReadTimeout / s.tickPeriod)
	s.committer = committer{log: led, lottery: state, exit: newExitRule(cfg.Agencies, cfg.ExitGrace, state.Drawn()), onReport: s.reported, onDraw: s.drawn}
	loops := cfg.EventLoops
	if loops == 0 {
		loops = runtime.NumCPU()
	}
	for range loops {
		lp := &loop{server: s, box: inbox{
			stage:         newStage(s.wake),
			rules:         codec.Rules{Today: s.today(), WinningNumber: cfg.WinningNumber},
			frameBytesMax: cfg.FrameBytesMax,
			window:        int32(cfg.Window),
		}}
		s.loops = append(s.loops, lp)
		s.taken = append(s.taken, new(batch))
	}
	s.limitConnections()
	return s, nil
}

// limitConnections lowers the cap on connections to what the descriptor limit
// allows: over it, accepting would end the event loops.
func (s *Server) limitConnections() {
	limit, err := descriptorLimit()
	if err != nil {
		s.log.Warn("config", zap.String("result", "fail"), zap.String("aviso", "the descriptor limit is unknown"), zap.Error(err))
		return
	}
	const descriptorsPerLoop = 2 // gnet's epoll and eventfd; its acceptor has them, too
	allowed := max(limit-descriptorsReserved-refusedMax-descriptorsPerLoop*(len(s.loops)+1), 1)
	if s.cfg.ConnectionsMax > allowed {
		s.log.Warn("config", zap.String("result", "success"), zap.Int("SERVER_CONNECTIONS_MAX", allowed),
			zap.String("aviso", fmt.Sprintf("lowered from %d: the limit of descriptors is %d", s.cfg.ConnectionsMax, limit)))
		s.cfg.ConnectionsMax = allowed
	}
}

// Ready is closed when the server listens.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is the address that the server listens on. It is known once Ready is
// closed.
func (s *Server) Addr() net.Addr { return s.addr }

// Serve listens and holds the draw. It returns when the server has ended, for
// whatever reason, with the ledger closed; it may be called once.
//
// It returns nil when every agency has its winners and has closed its socket,
// and when ctx is done: then what is queued is answered and those who wait are
// told that there is no draw yet. Errors wrap ErrUnfinished, ErrStorage,
// ErrListen or ErrEngine.
func (s *Server) Serve(ctx context.Context) error {
	err := s.serve(ctx)
	// How well groups fill is the first thing to look at when throughput
	// disappoints. `loteria bench` reads this line.
	total := s.committer.total
	s.log.Info("ledger", zap.String("result", "success"), zap.Int64("apuestas", s.committer.lottery.Bets()),
		zap.Int64("grupos", total.groups), zap.Int64("bytes", total.bytes), zap.Int64("grupo_bytes_max", total.groupBytesMax))
	if errClose := s.ledger.Close(); errClose != nil && !errors.Is(err, ErrStorage) {
		err = errors.Join(err, fmt.Errorf("%w: %w", ErrStorage, errClose))
	}
	return err
}

// Close releases the ledger of a server that is not going to Serve.
func (s *Server) Close() error { return s.ledger.Close() }

func (s *Server) serve(ctx context.Context) error {
	addr, err := probeAddr(s.cfg.Addr)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- gnet.Run(&handler{server: s}, "tcp://"+addr,
			gnet.WithNumEventLoop(len(s.loops)),
			// In turn: LeastConnections counts what the loops have registered, and puts
			// agencies that come together on one loop (50 at once: 50 and 0 of two).
			gnet.WithLoadBalancing(gnet.RoundRobin),
			gnet.WithReadBufferCap(readBufferBytes),
			gnet.WithReuseAddr(true),
			gnet.WithTCPKeepAlive(keepAlive),
			gnet.WithLogger(gnetLogger{s.log}),
		)
	}()
	select {
	case <-s.ready:
	case err := <-ended:
		switch {
		case s.bootErr != nil:
			return s.bootErr
		case s.addr != nil: // it did listen, but not for long
			return engineEnded(err)
		}
		return fmt.Errorf("%w on SERVER_ADDR=%s: %w", ErrListen, s.cfg.Addr, err)
	}
	s.log.Info("accept_connections", zap.String("result", "in_progress"), zap.Stringer("addr", s.addr))
	if s.committer.lottery.Drawn() {
		s.startExport()
	}

	done, err := s.commitUntilDone(ctx, ended)
	if !errors.Is(err, ErrEngine) {
		err = s.stop(err, ended)
	}
	for _, lp := range s.loops {
		lp.closeHalves() // the loops have ended
	}
	if done {
		// Asked only now: the last groups may have finished what was missing.
		err = errors.Join(err, s.committer.exit.result(s.committer.lottery.Reported))
	}
	return errors.Join(err, s.awaitExport())
}

// commitUntilDone is the committer's loop: it runs until the exit rule says
// that there is nothing left to do, which is when done is true, ctx is done, or
// something fails.
func (s *Server) commitUntilDone(ctx context.Context, ended <-chan error) (done bool, err error) {
	ticks := time.NewTicker(s.tickPeriod)
	defer ticks.Stop()
	for {
		now := s.now()
		done, wait := s.committer.exit.verdict(now)
		var grace <-chan time.Time
		switch {
		case done && len(s.wake) == 0 && len(ended) == 0:
			return true, nil
		case wait > 0:
			grace = time.After(wait)
		}
		// What has been handed over while a group synced is looked at before a
		// verdict counts: an agency may be back.
		select {
		case <-s.wake:
			if err := s.commit(); err != nil {
				return false, err
			}
		case <-grace:
		case <-ticks.C:
			for _, lp := range s.loops {
				lp.post(func(m *mailbox) { m.tick = true })
			}
		case <-ctx.Done():
			s.log.Info("shutdown", zap.String("result", "in_progress"))
			return false, nil
		case err := <-ended:
			return false, engineEnded(err)
		}
	}
}

// engineEnded is the error of event loops that end unasked. gnet does so, with
// a nil error, when it can't accept for want of descriptors.
func engineEnded(err error) error {
	const advice = "is the limit of descriptors reached? raise it or lower SERVER_CONNECTIONS_MAX, then start again: what was acknowledged is kept"
	if err == nil {
		return fmt.Errorf("%w: %s", ErrEngine, advice)
	}
	return fmt.Errorf("%w: %w: %s", ErrEngine, err, advice)
}

// commit takes what the loops have handed over, makes it durable as one group,
// and lets its answers go. An error leaves the answers unsent.
func (s *Server) commit() error {
	for i, lp := range s.loops {
		s.taken[i].reset()
		s.taken[i] = lp.box.stage.take(s.taken[i])
	}
	if err := s.committer.group(s.taken, s.now()); err != nil {
		return err
	}
	s.deliver(s.committer.replies)
	return nil
}

// deliver hands replies to their loops. Those of one loop nearly always stand
// together.
func (s *Server) deliver(replies []reply) {
	for len(replies) > 0 {
		lp := replies[0].session.loop
		n := 1
		for n < len(replies) && replies[n].session.loop == lp {
			n++
		}
		lp.deliver(replies[:n])
		replies = replies[n:]
	}
}

// stop ends a server that serves: everything that was taken in is answered,
// everyone who waits is told, the sockets are closed, then the loops end.
func (s *Server) stop(reason error, ended <-chan error) error {
	s.stopping.Store(true)
	code := codec.CodeNone
	if errors.Is(reason, ErrStorage) {
		code = codec.CodeStorage
	} else if err := s.commitRest(ended); errors.Is(err, ErrEngine) {
		return errors.Join(reason, err)
	} else if err != nil {
		reason, code = errors.Join(reason, err), codec.CodeStorage
	}
	s.dismiss(code)
	s.awaitDrained()

	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	// With a context that is done, Stop only gives the sign; Run's return says
	// that it was followed.
	if err := s.engine.Stop(cancelled); err != nil && !errors.Is(err, context.Canceled) {
		reason = errors.Join(reason, fmt.Errorf("%w: %w", ErrEngine, err))
	}
	if err := <-ended; err != nil {
		reason = errors.Join(reason, fmt.Errorf("%w: %w", ErrEngine, err))
	}
	return reason
}

// dismiss ends all sessions. Without a code, those who wait for the draw are
// told that it has not taken place; with one, everybody is told that.
func (s *Server) dismiss(code codec.Code) {
	if code == codec.CodeNone {
		s.committer.replies = s.committer.replies[:0]
		s.committer.take(s.committer.lottery.Dismiss(nil))
		s.deliver(s.committer.replies)
	}
	for _, lp := range s.loops {
		lp.box.stage.close() // nothing that is said from here on is stored
		lp.post(func(m *mailbox) { m.farewell = &farewell{code: code} })
	}
}

// commitRest commits until every loop has handed over all that it had taken in
// before stopping was set. It never waits for a loop without also taking from
// it. Loops that have ended hand over nothing more.
func (s *Server) commitRest(ended <-chan error) error {
	through := make(chan struct{}, len(s.loops))
	waiting := 0
	for _, lp := range s.loops {
		lp.post(func(m *mailbox) {
			if m.el != nil {
				waiting++
				m.ran = append(m.ran, func() { through <- struct{}{} })
			}
		})
	}
	for waiting > 0 {
		select {
		case <-through:
			waiting--
		case <-s.wake:
			if err := s.commit(); err != nil {
				return err
			}
		case err := <-ended:
			return errors.Join(engineEnded(err), s.commit())
		}
	}
	return s.commit()
}

// awaitDrained waits until all connections are closed, but not for long.
func (s *Server) awaitDrained() {
	timeout := time.NewTimer(farewellTimeout)
	defer timeout.Stop()
	ticks := time.NewTicker(s.tickPeriod)
	defer ticks.Stop()
	for s.open.Load() > 0 {
		select {
		case <-s.drained:
		case <-ticks.C:
			for _, lp := range s.loops {
				lp.post(func(m *mailbox) { m.tick = true })
			}
		case <-timeout.C:
			return
		}
	}
}

func (s *Server) connOpened() int { return int(s.open.Add(1)) }

func (s *Server) connClosed() {
	if s.open.Add(-1) == 0 && s.stopping.Load() {
		select {
		case s.drained <- struct{}{}:
		default:
		}
	}
}

// loopOf finds the loop of a gnet event loop, or takes a free one for it.
func (s *Server) loopOf(el gnet.EventLoop) *loop {
	s.loopsMu.Lock()
	defer s.loopsMu.Unlock()
	for _, lp := range s.loops[:s.attached] {
		if lp.mail.el == el {
			return lp
		}
	}
	lp := s.loops[s.attached]
	s.attached++
	lp.attach(el)
	lp.box.rules.Today = s.today() // a loop without connections gets no ticks
	return lp
}

// reported is called by the committer when an agency's report is durable.
func (s *Server) reported(id codec.Agency) {
	state := s.committer.lottery
	s.log.Info("fin_apuestas", zap.String("result", "success"), zap.Uint32("agencia", uint32(id)),
		zap.Int64("apuestas", state.Stored(id)), zap.Int("faltan", state.Missing()))
}

// drawn is called by the committer when the draw is durable.
func (s *Server) drawn(bets int64, won int) {
	s.log.Info("sorteo", zap.String("result", "success"), zap.Int64("apuestas", bets), zap.Int("cant_ganadores", won))
	s.startExport()
}

func (s *Server) today() codec.Date { return codec.DateOf(s.now().UTC()) }

// startExport writes bets.csv and winners.csv beside the event loops. After the
// draw the ledger doesn't change any more.
func (s *Server) startExport() {
	if s.cfg.NoExport {
		return
	}
	s.exports = make(chan error, 1)
	go func() {
		start := time.Now()
		err := exportFiles(s.cfg.DataDir)
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
