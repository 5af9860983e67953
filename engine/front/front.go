package front

import (
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/commit"
)

const (
	// peerTimeout ends the connection of a peer that acknowledges nothing. At least twice
	// SERVER_READ_TIMEOUT does, because to the kernel a peer that reads nothing looks the same.
	peerTimeout = 60 * time.Second

	// tickPeriodMax and ticksInTimeout say how often time-outs are looked at.
	tickPeriodMax  = 100 * time.Millisecond
	ticksInTimeout = 10

	// descriptorsReserved is how many descriptors are kept for other things than connections.
	descriptorsReserved = 64
)

// Config is what a front is made with. All fields up to Secrets have to be set; the settings of the
// server say what they mean.
type Config struct {
	Agencies             int
	WinningNumber        uint32
	Window               int
	FrameBytesMax        int
	UnreadBytesMax       int
	PartialBytesMax      int64
	ConnectionsMax       int
	ConnectionsPerSource int
	ReadTimeout          time.Duration
	ExitGrace            time.Duration
	Secrets              *Secrets // nil: nobody has to authenticate
	Term                 uint64   // of the log: sessions are numbered from it on

	// A simulation has a clock, timers and nonces of its own; nil stands for the system's.
	Now   func() time.Time
	Later func(d time.Duration, f func()) // calls f after d, in a goroutine of its own
	Nonce func() codec.Nonce
}

// Front holds the connections. New makes it, Start starts its event loops, Accept has it take
// connections, and Stop ends it. Its methods may be called from any goroutine, unless they say
// otherwise.
type Front struct {
	cfg          Config
	log          *zap.Logger
	noise        *noise // the log of what strangers can provoke
	introduced   firsts // whose authentication has been logged
	greeted      firsts // whose HELLO has been logged
	awarded      firsts // whose winners have been logged
	timeoutTicks int32
	// graceTicks is how long a connection may stay after the draw once it has had its winners,
	// askTicks how long one may stay that has not asked. See Loop.hangUp.
	graceTicks, askTicks int32
	tickPeriod           time.Duration

	loops     []*Loop
	ended     chan struct{} // closed when an event loop has ended unasked
	end       func()        // closes ended, once
	running   *eventLoops   // nil before Start
	acceptor  *acceptor     // nil before Accept
	admission *admission
	counters  counters

	mu       sync.Mutex // guards the loops' loads, and accepted
	accepted uint64     // connections since the start

	opened   atomic.Int64  // connections that have come to their loops
	drawn    atomic.Bool   // the draw is durable
	stopping atomic.Bool   // nothing more is taken in
	drained  chan struct{} // holds one: the last connection closed while stopping
}

// New makes a front with a loop for each of the stages. No loop runs yet.
func New(cfg Config, log *zap.Logger, stages []*commit.Stage) *Front {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Later == nil {
		cfg.Later = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	}
	if cfg.Nonce == nil {
		cfg.Nonce = randomNonce
	}
	f := &Front{
		cfg:        cfg,
		log:        log,
		noise:      newNoise(log, cfg.Now),
		introduced: newFirsts(cfg.Agencies),
		greeted:    newFirsts(cfg.Agencies),
		awarded:    newFirsts(cfg.Agencies),
		tickPeriod: min(cfg.ReadTimeout/ticksInTimeout, tickPeriodMax),
		ended:      make(chan struct{}),
		drained:    make(chan struct{}, 1),
	}
	f.end = sync.OnceFunc(func() { close(f.ended) })
	f.timeoutTicks = f.ticks(cfg.ReadTimeout)
	f.graceTicks, f.askTicks = f.ticks(max(cfg.ExitGrace, lingerMax)), f.ticks(askMax)
	limit := newPartialLimit(cfg.PartialBytesMax)
	for _, stage := range stages {
		lp := newLoop(f, stage, limit)
		limit.loops = append(limit.loops, lp)
		f.loops = append(f.loops, lp)
	}
	f.admission = newAdmission(f.connectionsMax(), cfg.ConnectionsPerSource)
	return f
}

// ticks is how many whole ticks fit into d, but few enough to be added up.
func (f *Front) ticks(d time.Duration) int32 {
	return int32(min(d/f.tickPeriod, math.MaxInt32/4))
}

func (f *Front) today() codec.Date { return codec.DateOf(f.cfg.Now().UTC()) }

// connectionsMax is SERVER_CONNECTIONS_MAX, lowered to what the descriptor limit allows.
func (f *Front) connectionsMax() int {
	limit, err := descriptorLimit()
	if err != nil {
		f.log.Warn("config", zap.String("result", "fail"), zap.String("aviso", "the descriptor limit is unknown"), zap.Error(err))
		return f.cfg.ConnectionsMax
	}
	// A loop has an epoll, an eventfd and both ends of its sentinel's connection. It may be about to
	// duplicate the socket of a peer that half-closes. A connection that is being enrolled has two.
	const descriptorsPerLoop = 5
	allowed := max(limit-descriptorsReserved-refusedMax-enrollingMax-descriptorsPerLoop*len(f.loops), 1)
	if f.cfg.ConnectionsMax <= allowed {
		return f.cfg.ConnectionsMax
	}
	f.log.Warn("config", zap.String("result", "success"), zap.Int("SERVER_CONNECTIONS_MAX", allowed),
		zap.String("aviso", fmt.Sprintf("lowered from %d: the limit of descriptors is %d", f.cfg.ConnectionsMax, limit)))
	return allowed
}

// Start starts the event loops. It is called once.
func (f *Front) Start() (err error) {
	f.running, err = startLoops(&handler{front: f}, f.loops)
	return err
}

// Accept takes connections from l until StopAccepting, and then closes it. It returns at once, and
// is called once, behind Start.
func (f *Front) Accept(l net.Listener) {
	f.acceptor = newAcceptor(f, l)
	go f.acceptor.run()
}

// StopAccepting has no more connections taken. Accepted tells when those that were taken belong to
// a loop.
func (f *Front) StopAccepting() { f.acceptor.stop() }

// Accepted is closed behind StopAccepting, when all connections that were taken belong to a loop.
func (f *Front) Accepted() <-chan struct{} { return f.acceptor.done }

// Ended is closed when an event loop has ended unasked, because its epoll failed.
func (f *Front) Ended() <-chan struct{} { return f.ended }

// TickPeriod is how often Tick has to be called.
func (f *Front) TickPeriod() time.Duration { return f.tickPeriod }

// Tick has the loops look at time-outs, and writes log lines that are due.
func (f *Front) Tick() {
	f.noise.tick()
	f.tickLoops()
}

func (f *Front) tickLoops() {
	for _, lp := range f.loops {
		lp.post(func(m *mailbox) { m.tick = true })
	}
}

// Deliver hands replies to the loops of their sessions, in order. Those of one loop nearly always
// stand together. The slice is the caller's again afterwards.
func (f *Front) Deliver(replies []commit.Reply) {
	for len(replies) > 0 {
		lp := loopOf(&replies[0])
		n := 1
		for n < len(replies) && loopOf(&replies[n]) == lp {
			n++
		}
		lp.deliver(replies[:n])
		replies = replies[n:]
	}
}

func loopOf(r *commit.Reply) *Loop { return sessionOf(r).loop }

// Drawn says that the draw is durable: from now on no connection stays without a bound.
func (f *Front) Drawn() { f.drawn.Store(true) }

// StopReading has nothing taken in any more. Through tells when all that had been taken in is handed
// over.
func (f *Front) StopReading() { f.stopping.Store(true) }

// Through gives a channel that receives once from each of so many loops, when the loop has done all
// that it was told to do before.
func (f *Front) Through() (through <-chan struct{}, loops int) {
	done := make(chan struct{}, len(f.loops))
	for _, lp := range f.loops {
		lp.post(func(m *mailbox) { m.ran = append(m.ran, func() { done <- struct{}{} }) })
	}
	return done, len(f.loops)
}

// Farewell ends all sessions, each behind everything that was delivered to it. A code other than
// CodeNone is told to every one of them first.
func (f *Front) Farewell(code codec.Code) {
	for _, lp := range f.loops {
		lp.post(func(m *mailbox) { m.farewell = &farewell{code: code} })
	}
}

// AwaitClosed waits until all connections are closed, but for no longer than d. It needs the loops
// to run, and to wait for nothing.
func (f *Front) AwaitClosed(d time.Duration) {
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	ticks := time.NewTicker(f.tickPeriod)
	defer ticks.Stop()
	for f.Connections() > 0 {
		select {
		case <-f.drained:
		case <-ticks.C:
			f.tickLoops()
		case <-timeout.C:
			return
		}
	}
}

// Stop ends the event loops with all connections that are still open, and waits until they have
// ended. StopAccepting has been called, and the stages are closed, since a loop that waits in one
// would never end.
func (f *Front) Stop() error {
	<-f.acceptor.done
	for _, lp := range f.loops {
		lp.detach() // a timer may still post
	}
	err := f.running.stop()
	for _, lp := range f.loops {
		lp.closeHalves() // the loops have ended
	}
	f.noise.flush()
	return err
}

// Opened is how many connections have come to their loops since the start.
func (f *Front) Opened() int64 { return f.opened.Load() }

// Connections is how many connections are open.
func (f *Front) Connections() int { return f.admission.count() }

// PartialBytes is how many bytes of half frames are held.
func (f *Front) PartialBytes() int64 { return f.loops[0].rd.partials.limit.bytes.Load() }

// Limits are the log's fields that say how often each limit was run into.
func (f *Front) Limits() []zap.Field {
	fields := []zap.Field{zap.String("result", "success")}
	for l := range limits {
		fields = append(fields, zap.Int64(limitKeys[l], f.Broken(l)))
	}
	return fields
}

// Broken is how often a limit was run into since the start.
func (f *Front) Broken(l Limit) int64 {
	if l != LimitQueueBytes {
		return f.counters[l].Load()
	}
	var waits int64
	for _, lp := range f.loops {
		waits += lp.rd.stage.Waits()
	}
	return waits
}

// Loops are the event loops, as many as there are stages, in their order.
func (f *Front) Loops() []*Loop { return f.loops }

// Handler is what drives the sessions: gnet's event loops do, or a simulation in their place. A
// connection's context is its session. Its methods belong to the event loop of the session.
func (f *Front) Handler() gnet.EventHandler { return &handler{front: f} }

// Admit makes a session for a connection from there, on the loop with the fewest. If it would be one
// connection too many, Admit returns the limit and no session. Every session has to be opened, or
// else abandoned. Admit is called in the order in which connections are accepted.
func (f *Front) Admit(from Source) (*Session, Limit, bool) {
	if broken, ok := f.admission.enter(from); !ok {
		f.counters.count(broken)
		return nil, broken, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	lp := slices.MinFunc(f.loops, func(a, b *Loop) int { return a.load - b.load })
	lp.load++
	f.accepted++
	s := &Session{loop: lp, source: from}
	s.Session.Peer, s.Number = s, f.cfg.Term<<numberBits+f.accepted
	return s, 0, true
}

// numberBits are the bits of a session's number that count the connections of one term.
const numberBits = 40

// Open makes the session one of its loop's. It belongs to the event loop.
func (f *Front) Open(s *Session, c Conn) gnet.Action {
	s.conn = c
	s.opened = true
	s.loop.add(s)
	f.opened.Add(1)
	if f.stopping.Load() {
		return gnet.Close
	}
	return gnet.None
}

// Abandon forgets a session whose connection is gone, or never came to its loop.
func (f *Front) Abandon(s *Session) {
	f.mu.Lock()
	s.loop.load--
	f.mu.Unlock()
	if f.admission.leave(s.source) == 0 && f.stopping.Load() {
		select {
		case f.drained <- struct{}{}:
		default:
		}
	}
}
