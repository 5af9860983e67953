package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/history"
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
	// peerTimeout ends the connection of a peer that acknowledges nothing; at
	// least twice SERVER_READ_TIMEOUT does, since to the kernel a peer that reads
	// nothing is one of those.
	peerTimeout = 60 * time.Second

	// tickPeriodMax and ticksInTimeout say how often time-outs are looked at.
	tickPeriodMax  = 100 * time.Millisecond
	ticksInTimeout = 10

	// farewellTimeout is how long a server that stops waits for its sockets to
	// take the last answers and for its peers to close.
	farewellTimeout = 500 * time.Millisecond

	// descriptorsReserved is how many descriptors are kept for what is not a connection.
	descriptorsReserved = 64
)

// Server holds one draw. Open makes it, Serve runs it to its end.
type Server struct {
	cfg          Config
	log          *zap.Logger
	noise        *noise // the log of what strangers can provoke
	introduced   firsts // whose authentication has been logged
	greeted      firsts // whose HELLO has been logged
	awarded      firsts // whose winners have been logged
	welcome      codec.Welcome
	timeoutTicks int32
	// graceTicks is how long a connection may stay after the draw that has had its winners, askTicks
	// how long one that has not asked. See loop.hangUp.
	graceTicks, askTicks int32
	tickPeriod           time.Duration
	now                  func() time.Time // the clock of all decisions; a simulation has its own
	// later calls f after d, in a goroutine of its own; a simulation has its own.
	later func(d time.Duration, f func())

	ledger      *ledger.Ledger
	committer   committer
	wake        chan struct{} // holds one: some loop has handed something over
	taken       []*batch      // by loop: what is being committed
	missingNext time.Time     // when the log next names the agencies that are missing
	exports     chan error    // the result of the export, once; nil before the draw

	loops      []*loop
	eventLoops *eventLoops // gnet's; nil before serve
	loopEnded  chan struct{}
	endLoop    func() // closes loopEnded, once

	listener    net.Listener // nil if the server was made to be driven, and not to Serve
	admission   *admission
	counters    counters
	loopsMu     sync.Mutex    // guards the loops' loads, and connections
	connections uint64        // since the start
	ready       chan struct{} // closed when connections are accepted

	drawHeld atomic.Bool   // the draw is durable
	stopping atomic.Bool   // nothing more is taken in
	drained  chan struct{} // holds one: the last connection closed while stopping
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
	return openListening(cfg, log, ledger.Options{})
}

// openListening is Open with a ledger of other segments, or on another file
// system. The durability is cfg's.
func openListening(cfg Config, log *zap.Logger, options ledger.Options) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	listener, err := listen(cfg.Addr)
	if err != nil {
		return nil, err
	}
	s, err := open(cfg, log, options)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s.listener = listener
	return s, nil
}

// open makes a server that listens on nothing, of a configuration that is legal.
func open(cfg Config, log *zap.Logger, options ledger.Options) (*Server, error) {
	agencySecrets, err := openSecrets(cfg, log)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	led, state, err := openLedger(cfg, log, options)
	if err != nil {
		return nil, err
	}
	log.Info("ledger", zap.String("result", "success"), zap.String("dir", cfg.DataDir), zap.Int64("apuestas", state.Bets()),
		zap.Bool("realizado", state.Drawn()), zap.Duration("duracion", time.Since(started)))
	s := newServer(cfg, log, led, state)
	s.committer.exit.deadline = cfg.Deadline.from(started)
	s.addLoops(agencySecrets)
	s.admission = newAdmission(s.connectionsMax(), cfg.ConnectionsPerSource)
	return s, nil
}

// openLedger takes the ledger and replays it.
func openLedger(cfg Config, log *zap.Logger, options ledger.Options) (*ledger.Ledger, *lottery.Lottery, error) {
	state := lottery.New(lottery.Rules{Agencies: cfg.Agencies, Poll: cfg.Winners == WinnersPoll, AllWinners: cfg.WinnersScope == ScopeAll})
	want := history.Settings{Agencies: cfg.Agencies, WinningNumber: cfg.WinningNumber}
	replayed := history.Replay(state, want)
	if cfg.Durability == DurabilityOS {
		options.Durability = ledger.OS
		log.Warn("config", zap.String("result", "success"), zap.String("SERVER_DURABILITY", cfg.Durability),
			zap.String("aviso", "an ACK does not wait for the disk: a crash of the machine can lose acknowledged bets"))
	}
	led, err := ledger.Open(history.Dir(cfg.DataDir), options, replayed.Visit)
	if err != nil {
		return nil, nil, startError(cfg.DataDir, err)
	}
	if tail := led.Recovered(); tail.Torn {
		log.Warn("ledger", zap.String("result", "success"), zap.String("archivo", tail.File), zap.Int64("posicion", tail.Offset),
			zap.String("aviso", "an unfinished write, never acknowledged, was cut off here: "+tail.Reason))
	}
	if err := finishOpening(led, replayed.Opened, want, state.Drawn()); err != nil {
		return nil, nil, errors.Join(err, led.Close())
	}
	return led, state, nil
}

// newServer is a server of that ledger and what it comes to, without loops.
func newServer(cfg Config, log *zap.Logger, led *ledger.Ledger, state *lottery.Lottery) *Server {
	s := &Server{
		cfg:        cfg,
		log:        log,
		welcome:    codec.Welcome{Window: cfg.Window, FrameBytesMax: cfg.FrameBytesMax},
		tickPeriod: min(cfg.ReadTimeout/ticksInTimeout, tickPeriodMax),
		ledger:     led,
		wake:       make(chan struct{}, 1),
		now:        time.Now,
		later:      func(d time.Duration, f func()) { time.AfterFunc(d, f) },
		loopEnded:  make(chan struct{}),
		ready:      make(chan struct{}),
		drained:    make(chan struct{}, 1),
	}
	s.endLoop = sync.OnceFunc(func() { close(s.loopEnded) })
	s.noise = newNoise(log, func() time.Time { return s.now() })
	s.introduced, s.greeted, s.awarded = newFirsts(cfg.Agencies), newFirsts(cfg.Agencies), newFirsts(cfg.Agencies)
	s.timeoutTicks = s.ticks(cfg.ReadTimeout)
	s.graceTicks, s.askTicks = s.ticks(max(cfg.ExitGrace, lingerMax)), s.ticks(askMax)
	s.drawHeld.Store(state.Drawn())
	s.committer = committer{
		log: led, lottery: state, exit: newExitRule(state, cfg.Agencies, cfg.ExitGrace),
		onReport: s.reported, onDraw: s.drawn,
	}
	return s
}

// addLoops makes the loops, none of which runs yet.
func (s *Server) addLoops(agencySecrets *secrets) {
	loops := s.cfg.EventLoops
	if loops == 0 {
		loops = runtime.NumCPU()
	}
	limit := newPartialLimit(s.cfg.PartialBytesMax)
	for range loops {
		lp := newLoop(s)
		lp.box = inbox{
			stage:         newStage(s.wake, s.cfg.QueueBytesMax/(stageBatches*loops), &s.counters[limitQueueBytes]),
			counters:      &s.counters,
			rules:         codec.Rules{Today: s.today(), WinningNumber: s.cfg.WinningNumber},
			secrets:       agencySecrets,
			nonce:         randomNonce,
			frameBytesMax: s.cfg.FrameBytesMax,
			window:        int32(s.cfg.Window),
			partials:      partials{limit: limit},
		}
		limit.loops = append(limit.loops, lp)
		s.loops = append(s.loops, lp)
		s.taken = append(s.taken, new(batch))
	}
}

// ticks is how many whole ticks fit into d, but few enough to be added up.
func (s *Server) ticks(d time.Duration) int32 {
	return int32(min(d/s.tickPeriod, math.MaxInt32/4))
}

// finishOpening writes what a ledger has to hold that was just opened, and refuses one that lacks
// its draw.
func finishOpening(led *ledger.Ledger, opened bool, want history.Settings, drawn bool) error {
	tail := led.Recovered()
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

// connectionsMax is SERVER_CONNECTIONS_MAX, lowered to what the descriptor
// limit allows.
func (s *Server) connectionsMax() int {
	limit, err := descriptorLimit()
	if err != nil {
		s.log.Warn("config", zap.String("result", "fail"), zap.String("aviso", "the descriptor limit is unknown"), zap.Error(err))
		return s.cfg.ConnectionsMax
	}
	// A loop has an epoll, an eventfd and both ends of its sentinel's connection,
	// and may be at duplicating the socket of a peer that half-closes. One that is
	// being enrolled has two.
	const descriptorsPerLoop = 5
	allowed := max(limit-descriptorsReserved-refusedMax-enrollingMax-descriptorsPerLoop*len(s.loops), 1)
	if s.cfg.ConnectionsMax <= allowed {
		return s.cfg.ConnectionsMax
	}
	s.log.Warn("config", zap.String("result", "success"), zap.Int("SERVER_CONNECTIONS_MAX", allowed),
		zap.String("aviso", fmt.Sprintf("lowered from %d: the limit of descriptors is %d", s.cfg.ConnectionsMax, limit)))
	return allowed
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
// ErrStorage or ErrEngine.
func (s *Server) Serve(ctx context.Context) error {
	err := s.serve(ctx)
	s.noise.flush() // the loops have ended
	s.log.Info("limites", s.counters.fields()...)
	// How well groups fill is the first thing to look at when throughput
	// disappoints. `loteria bench` reads this line.
	total := s.committer.total
	s.log.Info("ledger", zap.String("result", "success"), zap.Int64("apuestas", s.committer.lottery.Bets()),
		zap.Int64("grupos", total.groups), zap.Int64("bytes", total.bytes), zap.Int64("grupo_bytes_max", total.groupBytesMax))
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

func (s *Server) serve(ctx context.Context) (err error) {
	if s.eventLoops, err = startLoops(&handler{server: s}, s.loops); err != nil {
		return errors.Join(err, s.listener.Close())
	}
	close(s.ready)
	acceptor := newAcceptor(s, s.listener)
	go acceptor.run()
	s.log.Info("accept_connections", zap.String("result", "in_progress"), zap.Stringer("addr", s.Addr()))
	s.committer.exit.begin(s.now())
	s.missingNext = s.now().Add(missingPeriod)
	if s.committer.lottery.Drawn() {
		s.sayMissing(s.now())
		s.startExport()
	}

	done, err := s.commitUntilDone(ctx)
	acceptor.stop()
	if !errors.Is(err, ErrEngine) {
		err = s.stop(err, acceptor)
	}
	for _, lp := range s.loops {
		lp.box.stage.close() // a loop that waits in it would never end
	}
	<-acceptor.done
	for _, lp := range s.loops {
		lp.detach() // a timer may still post
	}
	if errStop := s.eventLoops.stop(); errStop != nil {
		err = errors.Join(err, fmt.Errorf("%w: %w", ErrEngine, errStop))
	}
	for _, lp := range s.loops {
		lp.closeHalves() // the loops have ended
	}
	if done {
		// Asked only now: the last groups may have finished what was missing.
		err = errors.Join(err, s.committer.exit.result(s.now()))
	}
	return errors.Join(err, s.awaitExport())
}

// commitUntilDone is the committer's loop: it runs until the exit rule says
// that there is nothing left to do, which is when done is true, ctx is done, or
// something fails.
func (s *Server) commitUntilDone(ctx context.Context) (done bool, err error) {
	ticks := time.NewTicker(s.tickPeriod)
	defer ticks.Stop()
	for {
		now := s.now()
		done, wait := s.committer.exit.verdict(now)
		var grace <-chan time.Time
		switch {
		case s.committer.exit.overdue(now), done && len(s.wake) == 0 && !s.hasLoopEnded():
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
			s.noise.tick()
			s.sayMissingNowAndThen(now)
		case <-ctx.Done():
			s.log.Info("shutdown", zap.String("result", "in_progress"))
			return false, nil
		case <-s.loopEnded:
			return false, errLoopEnded
		}
	}
}

// errLoopEnded is why a server ends whose event loops do so by themselves, which
// takes an epoll that fails.
var errLoopEnded = fmt.Errorf("%w: one of them ended unasked; start again: what was acknowledged is kept", ErrEngine)

func (s *Server) hasLoopEnded() bool {
	select {
	case <-s.loopEnded:
		return true
	default:
		return false
	}
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
	if s.committer.drawn {
		s.drawHeld.Store(true)
	}
	s.deliver(s.committer.replies)
	s.served(s.committer.served)
	if n := s.committer.lottery.Missing(); len(s.committer.reports) > 0 && 0 < n && n <= missingFew {
		s.sayMissing(s.now())
	}
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
// everyone who waits is told, and the sockets are closed. The acceptor has been
// told to stop.
func (s *Server) stop(reason error, acceptor *acceptor) error {
	s.stopping.Store(true)
	code := codec.CodeNone
	if errors.Is(reason, ErrStorage) {
		code = codec.CodeStorage
	} else if err := s.commitRest(acceptor); errors.Is(err, ErrEngine) {
		return errors.Join(reason, err)
	} else if err != nil {
		reason, code = errors.Join(reason, err), codec.CodeStorage
	}
	s.dismiss(code)
	<-acceptor.done // no loop waits for the committer any more
	s.awaitDrained()
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
func (s *Server) commitRest(acceptor *acceptor) error {
	through := make(chan struct{}, len(s.loops))
	for _, lp := range s.loops {
		lp.post(func(m *mailbox) { m.ran = append(m.ran, func() { through <- struct{}{} }) })
	}
	accepted := acceptor.done
	for waiting := len(s.loops); waiting > 0 || accepted != nil; {
		select {
		case <-through:
			waiting--
		case <-accepted:
			accepted = nil
		case <-s.wake:
			if err := s.commit(); err != nil {
				return err
			}
		case <-s.loopEnded:
			return errors.Join(errLoopEnded, s.commit())
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
	for s.admission.count() > 0 {
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

// newSession is one for a connection that was admitted, on the loop that has
// the fewest. It is called in the order in which connections were accepted.
func (s *Server) newSession(from source) *session {
	s.loopsMu.Lock()
	defer s.loopsMu.Unlock()
	lp := slices.MinFunc(s.loops, func(a, b *loop) int { return a.load - b.load })
	lp.load++
	s.connections++
	sess := &session{loop: lp, source: from}
	sess.lottery.Peer, sess.lottery.Number = sess, s.connections
	return sess
}

// connClosed forgets a connection that newSession was called for.
func (s *Server) connClosed(sess *session) {
	s.loopsMu.Lock()
	sess.loop.load--
	s.loopsMu.Unlock()
	if s.admission.leave(sess.source) == 0 && s.stopping.Load() {
		select {
		case s.drained <- struct{}{}:
		default:
		}
	}
}

// reported is called by the committer when an agency's report is durable.
func (s *Server) reported(id codec.Agency) {
	state := s.committer.lottery
	s.log.Info("fin_apuestas", zap.String("result", "success"), zap.Uint32("agencia", uint32(id)),
		zap.Int64("apuestas", state.Stored(id)), zap.Int("faltan", state.Missing()))
}

// served is called when it is durable that agencies have their winners.
func (s *Server) served(ids []codec.Agency) {
	missing := s.committer.lottery.Unserved() + len(ids)
	for _, id := range ids {
		missing--
		s.log.Info("ganadores_recibidos", zap.String("result", "success"), zap.Uint32("agencia", uint32(id)), zap.Int("faltan", missing))
	}
}

// drawn is called by the committer when the draw is durable.
func (s *Server) drawn(bets int64, won int) {
	s.log.Info("sorteo", zap.String("result", "success"), zap.Int64("apuestas", bets), zap.Int("cant_ganadores", won))
	// Written out before any winners leave: a server that is killed now must not leave agencies with
	// winners of which its log says nothing. A log that can't be written keeps nobody from the draw.
	_ = s.log.Sync()
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
		err := history.ExportFiles(history.In(s.cfg.DataDir), s.cfg.DataDir)
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
