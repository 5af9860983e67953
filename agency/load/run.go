package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"loteria/agency/load/proc"
	"loteria/codec"
)

const (
	// dialsMax is how many connections are made at once. A listener's queue is short.
	dialsMax = 64
	// dialTimeout limits one dial.
	dialTimeout = 10 * time.Second
	// stallTimeout is how long the load may make no progress before it gives up.
	stallTimeout = 30 * time.Second
	// pollPeriod is the delay between two GET_WINNERS to a server that doesn't push.
	pollPeriod = 50 * time.Millisecond
)

// ErrStalled says that the server stopped answering.
var ErrStalled = errors.New("load: the server has not answered for " + stallTimeout.String())

// Target is the server that is measured.
type Target struct {
	// Addr is where it listens. Of several servers that hold one draw it has all addresses, with
	// commas between them; the load goes to the one that leads.
	Addr string
	// PIDs are its processes, for processor time and memory; empty if they are not known.
	PIDs []int
	// Bare says that the server is a Yardstick, which sends ACKs and nothing else.
	Bare bool
	// TLS is how an agency connects by TLS; nil: all do it plain. It is called once for each agency,
	// before anything is measured. The configuration must not change afterwards.
	TLS func(codec.Agency) (*tls.Config, error)
}

// secure is the configuration of an agency; nil: plain.
func (t Target) secure(id codec.Agency) (*tls.Config, error) {
	if t.TLS == nil {
		return nil, nil
	}
	return t.TLS(id)
}

// Meter tells how far a running load has come. Any goroutine may use it.
type Meter struct {
	bets, bytes atomic.Int64
	phase       atomic.Pointer[string]
}

// Bets is how many bets are acknowledged so far.
func (m *Meter) Bets() int64 { return m.bets.Load() }

// Phase says in words what the load is doing; "" before it begins.
func (m *Meter) Phase() string {
	if p := m.phase.Load(); p != nil {
		return *p
	}
	return ""
}

// Enter sets the phase.
func (m *Meter) Enter(phase string) { m.phase.Store(&phase) }

// sender is a lane or a messenger.
type sender interface {
	connect() error
	upload() error
	report() error
	winners() (int, error)
	confirm() error
}

// agent is an agency that sends: what lanes and messengers have in common.
type agent struct {
	run     *run
	id      codec.Agency
	index   int // in run.agents
	share   share
	tls     *tls.Config // nil: plain
	conn    net.Conn    // nil if there is none
	acked   int         // frames
	lastACK time.Duration
}

// sentBets is how many bets were acknowledged.
func (a *agent) sentBets() (bets int64) {
	for n := range a.acked {
		bets += int64(a.share.betsOf(n))
	}
	return bets
}

// dial connects to the target.
func (a *agent) dial() (net.Conn, error) { return a.run.dial(a.run.target.Addr, a.tls) }

func (a *agent) close() error {
	if a.conn == nil {
		return nil
	}
	return a.conn.Close()
}

// run is one load.
type run struct {
	ctx      context.Context         // once it is done, all connections are closed
	cancel   context.CancelCauseFunc // ends the load with an error; the first one counts
	options  Options
	target   Target
	meter    *Meter
	recorder *recorder
	start    time.Time
	over     atomic.Bool  // no more batches are sent
	waiting  atomic.Int64 // waiting agencies that have connected

	senders []sender
	agents  []*agent // of the senders
	lanes   []*lane  // the senders, if they are lanes
	waiters []*waiter
	room    *waitingRoom
}

// Run puts the load on the target and measures it. The meter may be nil. When Run returns, all its
// connections are closed and all its goroutines have ended.
//
// Errors wrap ErrOptions, ErrServer, ErrWinners, ErrBacklog or ErrStalled, or
// are the network's.
func Run(ctx context.Context, o Options, t Target, m *Meter) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	if m == nil {
		m = new(Meter)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{ctx: ctx, cancel: cancel, options: o, target: t, meter: m, recorder: newRecorder(), start: time.Now(), room: newWaitingRoom()}
	unhook := context.AfterFunc(ctx, func() { r.room.end(net.ErrClosed) })
	defer unhook()
	result, err := r.do()
	err = errors.Join(err, r.close())
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // the other errors only follow from closing
	}
	return result, err
}

func (r *run) sinceStart() time.Duration { return time.Since(r.start) }

func (r *run) do() (Result, error) {
	r.meter.Enter("making bets")
	if err := r.prepare(); err != nil {
		return Result{}, err
	}
	r.meter.Enter("connecting")
	if err := r.connect(); err != nil {
		return Result{}, err
	}
	stopWatching := r.watch()
	defer stopWatching()

	var result Result
	h := r.newHarvest()
	if r.options.Waiting > 0 {
		w, err := r.connectWaiters()
		if err != nil {
			return Result{}, err
		}
		result.Waiting = w
		// They must be ready before the draw.
		h.group.Go(r.room.wait)
		if err := r.room.open(h, r.waiters); err != nil {
			return Result{}, h.abandon(err)
		}
	}
	r.meter.Enter("sending")
	if err := r.upload(&result); err != nil || r.target.Bare {
		return result, h.abandon(err)
	}
	r.meter.Enter("draw")
	return result, r.draw(h, &result)
}

// prepare makes the frames, the senders and the waiters.
func (r *run) prepare() error {
	o := r.options
	shares := make([]share, o.Agencies)
	makers := new(errgroup.Group)
	makers.SetLimit(4)
	for i := range shares {
		makers.Go(func() error {
			ring, err := newRing(codec.Agency(i+1), o, o.ringBytes())
			if err != nil {
				return err
			}
			if o.Bets == 0 {
				shares[i] = endless(ring)
				return nil
			}
			bets := o.Bets / int64(o.Agencies)
			if int64(i) < o.Bets%int64(o.Agencies) {
				bets++
			}
			shares[i], err = exactly(ring, bets)
			return err
		})
	}
	if err := makers.Wait(); err != nil {
		return err
	}
	if o.Rate > 0 && o.Bets == 0 {
		schedule{rate: o.Rate}.until(o.Duration, shares)
	}
	for i := range shares {
		a := &agent{run: r, id: codec.Agency(i + 1), index: i, share: shares[i]}
		var err error
		if a.tls, err = r.target.secure(a.id); err != nil {
			return err
		}
		r.agents = append(r.agents, a)
		if o.ConnectionPerMessage {
			r.senders = append(r.senders, &messenger{a})
			continue
		}
		l := &lane{agent: a, window: o.Window}
		r.lanes = append(r.lanes, l)
		r.senders = append(r.senders, l)
	}
	for i := range o.Waiting {
		w, err := newWaiter(r, i)
		if err != nil {
			return err
		}
		r.waiters = append(r.waiters, w)
	}
	return nil
}

// upload sends everything, and fills in what it measured.
func (r *run) upload(result *Result) error {
	server, errServer := r.serverUsage()
	client := ownCPU()
	r.start = time.Now()
	if r.options.Bets == 0 && r.options.Rate == 0 {
		end := time.AfterFunc(r.options.Duration, func() { r.over.Store(true) })
		defer end.Stop()
	}
	all := r.together()
	for _, s := range r.senders {
		all.Go(s.upload)
	}
	if r.options.Rate > 0 {
		all.Go(r.pace)
	}
	if err := all.Wait(); err != nil {
		return err
	}
	result.Client.CPUSeconds = (ownCPU() - client).Seconds()
	var last time.Duration
	for _, a := range r.agents {
		result.Bets += a.sentBets()
		result.Batches += int64(a.acked)
		last = max(last, a.lastACK)
	}
	result.Bytes = r.meter.bytes.Load()
	result.Seconds = last.Seconds()
	result.BetsPerSecond = perSecond(result.Bets, last)
	result.ACK = r.recorder.latency()
	result.Client.PerMillionBets = perMillion(result.Client.CPUSeconds, result.Bets)
	if errServer == nil {
		now, err := r.serverUsage()
		if err != nil {
			return err
		}
		cpu := (now.CPU - server.CPU).Seconds()
		result.Server = &Server{
			CPUSeconds:      cpu,
			PerMillionBets:  perMillion(cpu, result.Bets),
			MemoryPeakBytes: now.MemoryPeak,
		}
	}
	return nil
}

// draw lets every agency report, and waits until all have their winners. Only then it confirms
// them, so that receipts don't take the server's time while agencies still wait.
func (r *run) draw(h *harvest, result *Result) error {
	err := each(dialsMax, r.senders, sender.report)
	reported := time.Since(h.start)
	if err != nil {
		return h.abandon(err)
	}
	for _, s := range r.senders {
		h.await(s.winners)
	}
	if err := h.group.Wait(); err != nil {
		return err
	}
	result.Draw = &Draw{
		Winners: h.winners.Load(),
		// A draw may be so quick that the last answer comes before reported is measured.
		Seconds: max(time.Duration(h.last.Load())-reported, 0).Seconds(),
	}
	r.meter.Enter("confirming the winners")
	all := r.together()
	for _, s := range r.senders {
		all.Go(s.confirm)
	}
	return all.Wait()
}

// harvest collects the winners of all agencies as they come in.
type harvest struct {
	run     *run
	group   *errgroup.Group
	start   time.Time
	winners atomic.Int64
	last    atomic.Int64 // when the last winners came, in nanoseconds after start
}

func (r *run) newHarvest() *harvest {
	return &harvest{run: r, group: r.together(), start: time.Now()}
}

// await waits for an agency's winners in a goroutine of the group.
func (h *harvest) await(winners func() (int, error)) {
	h.group.Go(func() error {
		n, err := winners()
		if err != nil {
			return err
		}
		h.came(n)
		return nil
	})
}

// came counts winners that have come, and notes the time.
func (h *harvest) came(winners int) {
	h.winners.Add(int64(winners))
	now := int64(time.Since(h.start))
	for before := h.last.Load(); before < now && !h.last.CompareAndSwap(before, now); {
		before = h.last.Load()
	}
}

// abandon ends all waiting after err, and returns err. It does nothing if err is nil.
func (h *harvest) abandon(err error) error {
	if err == nil {
		return nil
	}
	h.run.cancel(err)
	_ = h.group.Wait() // its error only says that the connections were closed
	return err
}

// warmWaitersPercent of the waiting agencies connect before memory is first measured. Buffers that
// the server allocates once, with its first requests, must not count for the agencies.
const warmWaitersPercent = 2

// connectWaiters connects the waiting agencies, and measures their memory in the server.
func (r *run) connectWaiters() (*Waiting, error) {
	r.meter.Enter("connecting those who wait")
	warm := len(r.waiters) * warmWaitersPercent / 100
	if err := each(dialsMax, r.waiters[:warm], (*waiter).connect); err != nil {
		return nil, err
	}
	before, err := r.settledMemory()
	if err != nil {
		return nil, err
	}
	if err := each(dialsMax, r.waiters[warm:], (*waiter).connect); err != nil {
		return nil, err
	}
	after, err := r.settledMemory()
	if err != nil {
		return nil, err
	}
	return &Waiting{
		Agencies:       len(r.waiters),
		BytesPerAgency: float64(after-before) / float64(len(r.waiters)-warm),
	}, nil
}

const (
	// Memory is settled when it was the same in settledSamples samples, settledPeriod apart. After
	// settledTries samples the last one counts.
	settledSamples = 5
	settledPeriod  = 20 * time.Millisecond
	settledTries   = 100
)

// settledMemory returns the resident memory of all of the target's processes, in bytes, once it has
// settled; 0 if they are not known.
func (r *run) settledMemory() (int64, error) {
	if len(r.target.PIDs) == 0 {
		return 0, nil
	}
	ticks := time.NewTicker(settledPeriod)
	defer ticks.Stop()
	var memory int64
	for same, tries := 0, 0; same < settledSamples && tries < settledTries; tries++ {
		now, err := r.serverUsage()
		if err != nil {
			return 0, err
		}
		if same++; now.Memory != memory {
			memory, same = now.Memory, 0
		}
		select {
		case <-ticks.C:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
	return memory, nil
}

// serverUsage is what all of the target's processes use together, and the highest of their memory's
// peaks. It fails if they are not known or there is no /proc. The report then has no usage.
func (r *run) serverUsage() (all proc.Usage, err error) {
	if len(r.target.PIDs) == 0 {
		return all, proc.ErrUnreadable
	}
	for _, pid := range r.target.PIDs {
		one, err := proc.UsageOf(pid)
		if err != nil {
			return all, err
		}
		all.CPU += one.CPU
		all.Memory += one.Memory
		all.MemoryPeak = max(all.MemoryPeak, one.MemoryPeak)
	}
	return all, nil
}

// watch cancels a load whose server has stopped answering.
func (r *run) watch() (stop func()) {
	const period = time.Second
	done := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		ticks := time.NewTicker(period)
		defer ticks.Stop()
		seen, quiet := "", time.Duration(0)
		for {
			select {
			case <-done:
				return
			case <-ticks.C:
			}
			if now := fmt.Sprint(r.meter.Phase(), r.meter.Bets(), r.waiting.Load()); now != seen {
				seen, quiet = now, 0
			} else if quiet += period; quiet >= stallTimeout {
				r.cancel(fmt.Errorf("%w (%s): does it expect exactly %d agencies?", ErrStalled, r.meter.Phase(), r.options.Agencies+r.options.Waiting))
				return
			}
		}
	})
	return func() {
		close(done)
		watcher.Wait()
	}
}

// together returns a group. Its first error ends the load.
func (r *run) together() *errgroup.Group {
	group, ctx := errgroup.WithContext(r.ctx)
	context.AfterFunc(ctx, func() {
		// A group cancels its context even if it ends without an error.
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			r.cancel(cause)
		}
	})
	return group
}

func (r *run) beforeNextPoll() error {
	select {
	case <-time.After(pollPeriod):
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// dial connects to an address, by TLS if there is a configuration. The connection is closed when the
// load fails.
func (r *run) dial(addr string, config *tls.Config) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	c, err := dialer.DialContext(r.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	// Only closing its connection ends a blocked read.
	bound := &boundConn{c, context.AfterFunc(r.ctx, func() { _ = c.Close() })}
	if config != nil {
		if bound.Conn, err = secure(r.ctx, c, config); err != nil {
			return nil, errors.Join(err, bound.Close())
		}
	}
	return bound, nil
}

// boundConn is a connection that is closed when the load fails, unless it is unbound before that.
type boundConn struct {
	net.Conn
	unbind func() bool // false if it is closed or unbound already
}

func (c *boundConn) Close() error {
	bound := c.unbind()
	if err := c.Conn.Close(); bound {
		return err
	}
	return nil // it was closed before, or is being closed
}

func (r *run) close() error {
	var errs []error
	for _, a := range r.agents {
		errs = append(errs, a.close())
	}
	for _, w := range r.waiters {
		errs = append(errs, w.close())
	}
	errs = append(errs, r.room.close())
	return errors.Join(errs...)
}

// each calls do for every element of all, at most limit at once, and returns the first error.
func each[T any](limit int, all []T, do func(T) error) error {
	var group errgroup.Group
	group.SetLimit(limit)
	for _, one := range all {
		group.Go(func() error { return do(one) })
	}
	return group.Wait()
}

func perSecond(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

func perMillion(seconds float64, bets int64) float64 {
	if bets == 0 {
		return 0
	}
	return seconds / float64(bets) * 1e6
}
