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
	"golang.org/x/sys/unix"

	"loteria/codec"
	"loteria/engine/channel"
	"loteria/engine/commit"
)

const (
	// peerTimeout is how long a peer may acknowledge nothing before the kernel ends its connection.
	// It is never less than twice SERVER_READ_TIMEOUT, because to the kernel a peer that reads
	// nothing looks the same.
	peerTimeout = 60 * time.Second

	// The tick period is SERVER_READ_TIMEOUT / ticksInTimeout, but at most tickPeriodMax.
	tickPeriodMax  = 100 * time.Millisecond
	ticksInTimeout = 10

	// descriptorsReserved is how many descriptors are kept for things other than connections.
	descriptorsReserved = 64
)

// Config is the configuration of a front. All fields before Secrets have to be set. They mean what
// the server's settings of the same name mean.
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
	TLSHandshakes        int      // at once; 0: AcceptTLS is not called
	Secrets              *Secrets // nil: nobody has to authenticate
	Term                 uint64   // of the log: the high bits of session numbers
	Descriptors          int      // that others may use, who aren't agencies

	// A simulation sets its own clock, timers and nonces; nil stands for the system's.
	Now   func() time.Time
	Later func(d time.Duration, f func()) // calls f after d, in another goroutine
	Nonce func() codec.Nonce
}

// Front holds the connections. New makes it, Start starts its event loops, Accept makes it take
// connections, and Stop ends it. Its methods may be called from any goroutine, unless they say
// otherwise.
type Front struct {
	cfg          Config
	log          *zap.Logger
	noise        *noise // the log of what strangers can cause
	introduced   firsts // agencies whose authentication has been logged
	greeted      firsts // agencies whose HELLO has been logged
	awarded      firsts // agencies whose winners have been logged
	timeoutTicks int32
	// An agency may stay connected for graceTicks after the draw and its winners. One that has not
	// asked yet may stay for askTicks, if that is longer. See Loop.hangUp.
	graceTicks, askTicks int32
	tickPeriod           time.Duration

	loops     []*Loop
	ended     chan struct{} // closed when an event loop has stopped unasked
	end       func()        // closes ended, once
	running   *eventLoops   // nil before Start
	acceptors []*acceptor
	accepting sync.WaitGroup // one for each acceptor
	admission *admission
	counters  counters

	mu       sync.Mutex // guards accepted, admission and the loops' loads
	accepted uint64     // connections since the start

	opened   atomic.Int64  // connections that have come to their loops
	drawn    atomic.Bool   // the draw is durable
	stopping atomic.Bool   // nothing more is read
	drained  chan struct{} // receives once the last connection has closed while stopping
}

// New makes a front with one loop for each stage. No loop runs yet.
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
		introduced: make(firsts, cfg.Agencies+1),
		greeted:    make(firsts, cfg.Agencies+1),
		awarded:    make(firsts, cfg.Agencies+1),
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

// ticks is how many whole ticks fit into d. It is capped so that sums don't overflow.
func (f *Front) ticks(d time.Duration) int32 {
	return int32(min(d/f.tickPeriod, math.MaxInt32/4))
}

func (f *Front) today() codec.Date { return codec.DateOf(f.cfg.Now().UTC()) }

// connectionsMax is SERVER_CONNECTIONS_MAX, lowered to what the descriptor limit allows.
func (f *Front) connectionsMax() int {
	var descriptors unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &descriptors); err != nil {
		f.log.Warn("config", zap.String("result", "fail"),
			zap.String("aviso", "the descriptor limit is unknown"), zap.Error(err))
		return f.cfg.ConnectionsMax
	}
	// A loop has an epoll, an eventfd, both ends of its sentinel's connection, and for a moment the
	// duplicate of a half-closing peer's socket. A connection that is being enrolled has two.
	const descriptorsPerLoop = 5
	// This is the hard limit: Go's runtime has raised the soft one to it by now.
	limit := int(min(descriptors.Cur, math.MaxInt32))
	acceptors := 1
	if f.cfg.TLSHandshakes > 0 {
		acceptors++
	}
	allowed := max(limit-descriptorsReserved-f.cfg.Descriptors-acceptors*(refusedMax+enrollingMax)-descriptorsPerLoop*len(f.loops), 1)
	if f.cfg.ConnectionsMax <= allowed {
		return f.cfg.ConnectionsMax
	}
	f.log.Warn("config", zap.String("result", "success"), zap.Int("SERVER_CONNECTIONS_MAX", allowed),
		zap.String("aviso",
			fmt.Sprintf("lowered from %d: the limit of descriptors is %d", f.cfg.ConnectionsMax, limit)))
	return allowed
}

// Start starts the event loops. It is called once.
func (f *Front) Start() (err error) {
	f.running, err = startLoops(&handler{front: f}, f.loops)
	return err
}

// Accept takes connections from l until StopAccepting, and then closes l. It returns at once. Call it
// after Start and before StopAccepting.
func (f *Front) Accept(l net.Listener) { f.AcceptTLS(l, nil) }

// AcceptTLS is Accept for connections over TLS. Nil credentials are none.
func (f *Front) AcceptTLS(l net.Listener, credentials *channel.Credentials) {
	a := newAcceptor(f, l, credentials)
	f.acceptors = append(f.acceptors, a)
	f.accepting.Go(a.run)
}

// StopAccepting ends Accept: no more connections are taken.
func (f *Front) StopAccepting() {
	for _, a := range f.acceptors {
		a.stop()
	}
}

// Accepted returns a channel that is closed after StopAccepting, once every connection that was taken
// belongs to a loop.
func (f *Front) Accepted() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		f.accepting.Wait()
		close(done)
	}()
	return done
}

// Ended is closed when an event loop stops unasked because its epoll failed. Stop closes it, too.
func (f *Front) Ended() <-chan struct{} { return f.ended }

// TickPeriod is how often Tick has to be called.
func (f *Front) TickPeriod() time.Duration { return f.tickPeriod }

// Tick makes the loops check time-outs, and writes log lines that are due.
func (f *Front) Tick() {
	f.noise.tick()
	f.tickLoops()
}

func (f *Front) tickLoops() {
	for _, lp := range f.loops {
		lp.post(func(m *mailbox) { m.tick = true })
	}
}

// Deliver hands replies to the loops of their sessions, in order. The slice is the caller's again
// afterwards.
func (f *Front) Deliver(replies []commit.Reply) {
	// The replies of one loop are nearly always adjacent.
	for len(replies) > 0 {
		lp := sessionOf(&replies[0]).loop
		n := 1
		for n < len(replies) && sessionOf(&replies[n]).loop == lp {
			n++
		}
		lp.post(func(m *mailbox) { m.replies = append(m.replies, replies[:n]...) })
		replies = replies[n:]
	}
}

// Drawn says that the draw is durable. From now on the time that an agency may stay connected is
// bounded.
func (f *Front) Drawn() { f.drawn.Store(true) }

// StopReading has nothing taken in any more. Through tells when all that had been taken in is handed
// over.
func (f *Front) StopReading() { f.stopping.Store(true) }

// Through gives a channel that receives once from each of so many loops, when the loop has done all
// that it was told to do before.
func (f *Front) Through() (through <-chan struct{}, loops int) {
	done := make(chan struct{}, len(f.loops))
	for _, lp := range f.loops {
		lp.then(func() { done <- struct{}{} })
	}
	return done, len(f.loops)
}

// Farewell ends all sessions, each after everything that was delivered to it. A code other than
// CodeNone is told to each of them first.
func (f *Front) Farewell(code codec.Code) {
	for _, lp := range f.loops {
		lp.then(func() { lp.sayFarewell(code) })
	}
}

// AwaitClosed waits until all connections are closed, but no longer than d. The loops have to run,
// and must not be waiting in their stages.
func (f *Front) AwaitClosed(d time.Duration) {
	timeout := time.After(d)
	ticks := time.NewTicker(f.tickPeriod)
	defer ticks.Stop()
	for f.Connections() > 0 {
		select {
		case <-f.drained:
		case <-ticks.C:
			f.tickLoops()
		case <-timeout:
			return
		}
	}
}

// Stop ends the event loops and all connections that are still open, and waits until the loops have
// ended. Call StopAccepting first, and close the stages: a loop that waits in one would never end.
func (f *Front) Stop() error {
	f.accepting.Wait()
	for _, lp := range f.loops {
		lp.Attach(nil) // timers may still post
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
func (f *Front) Connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.admission.open
}

// Suppressed is how many events since the start had no log line of their own, because they came too
// soon after another one of their kind.
func (f *Front) Suppressed() int64 { return f.noise.suppressed.Load() }

// IsStopping reports whether nothing more is taken in.
func (f *Front) IsStopping() bool { return f.stopping.Load() }

// PartialBytes is how many bytes the buffers of all half frames take.
func (f *Front) PartialBytes() int64 { return f.loops[0].rd.partials.limit.bytes.Load() }

// Limits are log fields that say how often each limit was run into since the start.
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

// Handler drives the sessions. A simulation calls it in place of gnet's event loops. A connection's
// context has to be its session. The handler's methods belong to the session's event loop.
func (f *Front) Handler() gnet.EventHandler { return &handler{front: f} }

// Admit makes a session for a connection from that source, on the loop with the fewest connections.
// If the connection would exceed a limit, Admit returns the limit and no session. Every session has
// to be opened or abandoned. Call Admit in the order in which connections are accepted.
func (f *Front) Admit(from Source) (*Session, Limit, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if broken, ok := f.admission.enter(from); !ok {
		f.counters.count(broken)
		return nil, broken, false
	}
	lp := slices.MinFunc(f.loops, func(a, b *Loop) int { return a.load - b.load })
	lp.load++
	f.accepted++
	s := &Session{loop: lp, source: from}
	s.Session.Peer, s.Number = s, f.cfg.Term<<numberBits+f.accepted
	return s, 0, true
}

// numberBits is how many bits of a session's number count the connections of one term.
const numberBits = 40

// Open adds the session to its loop, which has to call it. It returns gnet.Close if the front has
// stopped reading.
func (f *Front) Open(s *Session, c Conn) gnet.Action {
	s.over(c)
	s.opened = true
	s.loop.add(s)
	f.opened.Add(1)
	if s.proved != 0 {
		s.loop.introduce(s)
	}
	if f.stopping.Load() {
		return gnet.Close
	}
	return gnet.None
}

// Abandon takes a session back from the counts: its connection is gone, or never came to its loop.
func (f *Front) Abandon(s *Session) {
	f.mu.Lock()
	s.loop.load--
	open := f.admission.leave(s.source)
	f.mu.Unlock()
	if open == 0 && f.stopping.Load() {
		select {
		case f.drained <- struct{}{}:
		default:
		}
	}
}
