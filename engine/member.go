package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"loteria/engine/commit"
	"loteria/engine/front"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
	"loteria/engine/member"
	"loteria/engine/mesh"
	"loteria/engine/relay"
	"loteria/engine/replica"
)

const (
	// handOverMax is how long a leader that is stopped waits for another server to take over.
	handOverMax = 2 * time.Second
	// hearMin is how long a server that knows of the end stays for one that isn't there, which may be
	// on its way back, and for all others, if the grace is shorter: several elections, because one that
	// was cut off for a moment may need them to hear of it.
	hearMin = 6 * time.Second
	// awayPatience is how long a server may be away from the end before the log names it.
	awayPatience = time.Second
	// goneKept is how long a server that was removed is still talked to.
	goneKept = 10 * time.Second
	// endedPeriod is how often a leader looks whether the other servers have ended.
	endedPeriod = 10 * time.Millisecond
	// pairMax is of how many servers any two are a majority.
	pairMax = 3
)

// Member is one of several servers that hold one draw together. Join makes it, Serve runs it to its
// end.
//
// While it leads, it is a Server like one that is alone, but for its log, which is that of all
// servers. While it doesn't, it sends agencies to the server that does. Package replica decides who
// leads.
type Member struct {
	cfg     Config
	log     *zap.Logger
	now     func() time.Time // the clock of its decisions
	started time.Time
	secrets *front.Secrets
	first   []byte // the packed first record of the ledger
	ready   chan struct{}
	joined  chan struct{} // closed when this server takes part; until then only join uses member
	closing context.Context
	close   context.CancelFunc

	listener keptListener
	secure   *secure // nil: nobody comes over TLS
	register *member.Register
	ledger   *ledger.EntryLog
	mesh     *mesh.Mesh
	member   *member.Member
	exports  *exporter
	relay    *relay.Relay
	taking   sync.WaitGroup // agencies that this server's relay passes on to itself
	control  *control
	watch    *watch // nil: nobody can watch

	begun chan leadership // holds the newest
	ended chan ending     // holds one: this server has heard of the end

	machine *machine // the member's goroutine's

	mu      sync.Mutex // guards what follows
	peers   Peers      // that hold the draw now, and this one
	learns  bool       // some of them don't vote
	heard   Peers      // that another server knows, and this one doesn't yet
	leaving Peers      // that were removed a moment ago
	// goneLater forgets leaving.
	goneLater *time.Timer
	status    replica.Status
	changed   chan struct{} // closed at the next change of status, or when alone begins
	termSaid  uint64        // the newest term of which the log names the leader
	lastEnd   *ending       // how the log ends; nil: with something else
	alone     time.Time     // since when lastEnd is there, and nobody leads or is being elected
	door      *door         // nil: this server doesn't lead
}

// machine is what the committed records make.
type machine struct {
	state *lottery.Lottery
	end   *ending // the last record is this end; nil: it isn't one
}

// ending is an end of the servers, and the outcome.
type ending struct {
	term    uint64
	outcome error
	stay    bool // nobody goes yet; see history.End
}

// leadership is a term of this server.
type leadership struct {
	log   termLog
	state *lottery.Lottery
}

// termLog is the log of one term; see member.Log.
type termLog interface {
	commit.Log
	Lost() <-chan struct{}
}

// Join validates the configuration, listens as Open does, and for the other servers, and
// takes the ledger of cfg.DataDir. Errors are those of Open, and wrap mesh.ErrListen, mesh.ErrIdentity,
// ledger.ErrForeign, ledger.ErrNotShared, ledger.ErrNone or member.ErrRegister. After an error nothing
// is left open.
func Join(cfg Config, log *zap.Logger) (_ *Member, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := newMember(cfg, log, time.Now)
	if m.secrets, err = front.OpenSecrets(cfg.AgencySecretsFile, cfg.Agencies, log); err != nil {
		return nil, err
	}
	var identity *mesh.Identity
	if cfg.PeerTLSCert != "" {
		if identity, err = mesh.OpenIdentity(cfg.PeerTLSCert, cfg.PeerTLSKey, cfg.PeerTLSCA); err != nil {
			return nil, err
		}
	} else if !cfg.Peers.isLocal() {
		log.Warn("config", zap.String("result", "success"), zap.String("SERVER_PEER_PLAIN", cfg.PeerPlain),
			zap.String("aviso", "the servers talk without TLS: whoever reaches SERVER_PEERS can be a server, and read every bet"))
	}
	listener, err := listen(cfg)
	if err != nil {
		return nil, err
	}
	m.listener = keptListener{listener.(*net.TCPListener)}
	if m.secure, err = openSecure(cfg, log); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if m.watch, err = openWatch(cfg, log, m, m.secure); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if err := m.open(identity); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	m.relay = relay.New(relay.Settings{ReadTimeout: cfg.ReadTimeout, ConnectionsMax: cfg.ConnectionsMax,
		TLSHandshakes: cfg.TLSHandshakes}, m, log)
	return m, nil
}

// newMember makes a member without a ledger, and without the other servers.
func newMember(cfg Config, log *zap.Logger, now func() time.Time) *Member {
	m := &Member{
		cfg: cfg, log: log, now: now, started: now(), ready: make(chan struct{}), joined: make(chan struct{}),
		machine: new(machine), begun: make(chan leadership, 1), ended: make(chan ending, 1), changed: make(chan struct{}),
	}
	m.closing, m.close = context.WithCancel(context.Background())
	m.peers = cfg.Peers
	m.first = m.settings().AppendRecord(nil)
	m.exports = newExporter(cfg, log, m.scan)
	return m
}

// settings are those of the first record.
func (m *Member) settings() history.Settings {
	return history.Settings{Agencies: m.cfg.Agencies, WinningNumber: m.cfg.WinningNumber}
}

func (m *Member) rules() lottery.Rules {
	return lottery.Rules{Agencies: m.cfg.Agencies,
		Poll: m.cfg.Winners == WinnersPoll, AllWinners: m.cfg.WinnersScope == ScopeAll}
}

// fresh makes a state machine, and returns what feeds it. The member's goroutine calls it.
func (m *Member) fresh() func(ledger.Record) error {
	state := lottery.New(m.rules())
	now := &machine{state: state}
	m.machine = now
	reader := history.Replay(state, m.settings())
	reader.OnEnded = func(e history.End) error {
		now.end = &ending{e.Term, commit.Outcome(state, e.Overdue), e.Stay}
		return nil
	}
	return func(r ledger.Record) error {
		if !reader.Opened {
			first, _ := ledger.Unpack(m.first)
			if err := reader.Visit(first); err != nil {
				return err
			}
		}
		if r.Kind != ledger.Members { // who keeps the log doesn't go on with the draw
			now.end = nil
		}
		if err := reader.Visit(r); err != nil {
			return err
		}
		if r.Kind == ledger.Reported && state.Drawn() {
			m.exports.start()
		}
		return nil
	}
}

// begin takes a leadership. The member's goroutine calls it.
func (m *Member) begin(l termLog) {
	select {
	case <-m.begun: // nobody has taken it, and it is over
	default:
	}
	m.begun <- leadership{l, m.machine.state}
	m.machine = new(machine) // the leader's now
}

// worked notes where the server stands. The member's goroutine calls it.
//
// An end ends this server only while the leader that wrote it still leads. Servers that are started
// again find it in their logs, and go on: agencies may come again, too.
func (m *Member) worked(status replica.Status) {
	end := m.machine.end
	m.mu.Lock()
	changes, election := status != m.status, status.Term != m.status.Term
	m.status = status
	if m.lastEnd = end; end == nil || status.Leader != 0 {
		m.alone = time.Time{}
	} else if m.alone.IsZero() || election {
		m.alone = m.now()
		changes = true // the end may come when the leader is gone already
	}
	if changes {
		close(m.changed)
		m.changed = make(chan struct{})
	}
	m.mu.Unlock()
	m.watch.led(status)
	m.watch.saw(m.machine.state, viewPeriod)
	if end != nil && !end.stay && status.Leader != 0 && status.Term == end.term {
		select {
		case m.ended <- *end:
		default: // it is told
		}
	}
}

// scan reads what is committed, as a single server's ledger has it. It implements history.Log.
func (m *Member) scan(visit func(ledger.Record) error) (ledger.Tail, error) {
	<-m.joined
	return scanFrom(m.first, visit, m.member.Scan)
}

// scanFrom visits the first record, which is in no entry, and then those of a log.
func scanFrom(first []byte, visit func(ledger.Record) error, log history.Log) (ledger.Tail, error) {
	record, _ := ledger.Unpack(first)
	record.Seq = 1
	if visit != nil {
		if err := visit(record); err != nil {
			return ledger.Tail{}, err
		}
	}
	return log(visit)
}

// Ready is closed when the server accepts connections.
func (m *Member) Ready() <-chan struct{} { return m.ready }

// Addr is the address that the server listens on for agencies.
func (m *Member) Addr() net.Addr { return m.listener.Addr() }

// SecureAddr is the address that the server listens on for agencies over TLS; nil: none.
func (m *Member) SecureAddr() net.Addr { return m.secure.addr() }

// ReloadCertificate is that of Server.
func (m *Member) ReloadCertificate() { m.secure.reload() }

// Serve serves agencies, or sends them to the server that does. It returns when the draw has ended
// for all servers, and has then released everything. It may be called once.
//
// It returns what Server.Serve does, whoever led at the end. When ctx is done, it hands over to
// another server if it leads, and returns nil. Errors wrap those that Server.Serve returns, but not
// commit.ErrNotLeader, or are member.ErrKnown, replica.ErrLost, replica.ErrDiverged or
// replica.ErrRemoved.
func (m *Member) Serve(ctx context.Context) error {
	defer m.watch.stopWith(ctx)()
	err := m.join(ctx)
	switch {
	case err == nil:
		m.watch.open()
		close(m.ready)
		m.log.Info("accept_connections", zap.String("result", "in_progress"), zap.Stringer("addr", m.Addr()))
		err = errors.Join(m.serve(ctx), m.exports.await())
	case ctx.Err() != nil:
		err = nil // it has not taken part yet
	}
	if errClose := m.release(); errClose != nil && !errors.Is(err, ErrStorage) {
		err = errors.Join(err, errClose)
	}
	m.watch.end(err, m.machine.state) // no goroutine has it any more
	return err
}

// serve follows and leads in turn, until the end.
func (m *Member) serve(ctx context.Context) error {
	for {
		next, over, err := m.follow(ctx)
		if over {
			return err
		}
		err = m.lead(ctx, next)
		switch {
		case !errors.Is(err, commit.ErrNotLeader):
			return err
		case ctx.Err() != nil:
			return nil
		}
	}
}

// follow sends agencies to the leader. It returns when this server leads, or when it is over: then
// err is the server's.
func (m *Member) follow(ctx context.Context) (next leadership, over bool, err error) {
	if err := m.reopen(); err != nil {
		return next, true, err
	}
	following, stop := context.WithCancel(ctx)
	var relaying sync.WaitGroup
	relaying.Go(func() { m.relay.Serve(following, m.listener, nil) })
	if m.secure != nil {
		relaying.Go(func() { m.relay.Serve(following, m.secure.listener, m.secure.credentials) })
	}
	defer relaying.Wait()
	defer stop()

	patience := time.NewTicker(missingPeriod)
	defer patience.Stop()
	for {
		changed := m.Changed()
		m.sayLeader() // it may have been known before anybody looked
		end, wait := m.abandoned()
		var abandoned <-chan time.Time
		switch {
		case end != nil && wait <= 0:
			return next, true, end.outcome
		case end != nil:
			abandoned = time.After(wait)
		}
		select {
		case next = <-m.begun:
			return next, false, nil
		case end := <-m.ended:
			return next, true, end.outcome
		case <-abandoned:
		case <-changed:
		case <-patience.C:
			m.sayPeers()
		case <-m.member.Done():
			return next, true, m.failure()
		case <-ctx.Done():
			m.log.Info("shutdown", zap.String("result", "in_progress"))
			return next, true, nil
		}
	}
}

// abandoned returns the end that this server's log has, if no other server is there to go on with, and
// how long to wait for one. It returns nil otherwise. A new term begins the wait anew: somebody has
// this server's vote, and may need it to hear of the end.
func (m *Member) abandoned() (end *ending, wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.alone.IsZero() {
		return nil, 0
	}
	return m.lastEnd, m.grace() - m.now().Sub(m.alone)
}

// grace is how long a server that knows of the end stays for one that may not have heard of it.
func (m *Member) grace() time.Duration { return max(m.cfg.ExitGrace, hearMin) }

// failure is why the member has ended by itself.
func (m *Member) failure() error {
	err := m.member.Stop()
	for _, is := range []error{replica.ErrLost, replica.ErrDiverged, replica.ErrRemoved} {
		if errors.Is(err, is) {
			return err
		}
	}
	return storageError(err)
}

// lead holds the draw until the leadership ends, with commit.ErrNotLeader, or the draw does.
func (m *Member) lead(ctx context.Context, now leadership) error {
	m.sayLeader()
	s, err := m.newReign(now, environment{watch: m.watch, secure: m.secure})
	if err != nil {
		return err
	}
	// Agencies wait for the draw at the next leader, so nobody is told that there is none.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	lost := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		defer close(lost)
		select {
		case <-now.log.Lost():
		case <-ctx.Done():
			m.handOver(now.log)
		case <-serving.Done():
		}
	})
	defer watching.Wait()
	defer stop()

	s.lost = lost
	if err := m.reopen(); err != nil {
		return err
	}
	d := newDoor(m.listener)
	s.listener = d
	m.setDoor(d)
	err = s.serve(serving)
	m.setDoor(nil)
	s.sayTotals()
	if !s.concluded {
		if reason := m.stopped(); reason != nil {
			return reason
		}
		return err
	}
	looks := time.NewTicker(endedPeriod)
	defer looks.Stop()
	pause := func() bool {
		select {
		case <-looks.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	goesOn := m.awaitOthers(s, others{m.member.Committed, m.member.Progress, m.mesh.Connected, m.stopped, pause})
	if goesOn != nil {
		return goesOn
	}
	return err
}

// reopen lets this server's next role accept connections.
func (m *Member) reopen() error {
	if err := errors.Join(m.listener.reopen(), m.secure.reopen()); err != nil {
		return fmt.Errorf("%w: %w", ErrListen, err)
	}
	return nil
}

// reign is the Server of a leadership.
type reign struct {
	*Server
	log       leaderLog
	end       history.End
	concluded bool // the draw has ended, and the log says so
}

// sayEnd writes the end into the log.
func (r *reign) sayEnd() error { return r.log.Commit([][]byte{history.AppendEnded(nil, r.end)}) }

// newReign makes the Server of a leadership. An error ends the leadership.
func (m *Member) newReign(now leadership, env environment) (*reign, error) {
	l := leaderLog{now.log, m.first}
	if now.state.Drawn() {
		if err := l.Seal(); err != nil { // the last leader may have lost the time for it
			return nil, err
		}
		m.exports.start()
	}
	r := &reign{Server: newServer(m.cfg, m.log, env, m.secrets, l, now.state, m.started), log: l}
	r.exports = m.exports
	r.conclude = func(overdue bool) error {
		r.end = history.End{Term: l.Term(), Overdue: overdue, Stay: m.needOthers()}
		err := r.sayEnd()
		r.concluded = err == nil
		return err
	}
	return r, nil
}

// stopped is why the member has ended by itself; nil if it hasn't.
func (m *Member) stopped() error {
	select {
	case <-m.member.Done():
		return m.failure()
	default:
		return nil
	}
}

// transfer asks another server to lead, if one is there.
func (m *Member) transfer() bool {
	members := m.member.Members()
	for _, id := range m.others() {
		if s, known := members.Server(id); known && !s.Learner && m.mesh.Connected(id) {
			return m.member.Transfer(id) == nil
		}
	}
	return false
}

// handOver asks another server to lead, and waits until this one doesn't.
func (m *Member) handOver(l termLog) {
	m.log.Info("shutdown", zap.String("result", "in_progress"))
	timeout := time.NewTimer(handOverMax)
	defer timeout.Stop()
	if !m.transfer() {
		return
	}
	select {
	case <-l.Lost():
	case <-timeout.C: // another server will notice that this one is gone
	}
}

// others is what the last leader knows of the other servers while it waits for them.
type others struct {
	committed   func() uint64
	progress    func() []replica.Progress
	isConnected func(server uint64) bool
	stopped     func() error // why this server's own log has failed; nil: it hasn't
	pause       func() bool  // returns false if the leader is told to stop
}

// needOthers reports whether the servers that know of the end have to stay until all do. A server that
// has not heard yet can't be told by a leader that has no majority with it.
func (m *Member) needOthers() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.peers) > pairMax || m.learns
}

// awaitOthers waits, as the last leader, until the other servers have heard of the end and are gone,
// but no longer than the grace after one of them has acknowledged entries: who catches up learns of
// the end from nobody else. A server that isn't there gets hearMin to come back, and as long again once
// it is, because there may have to be an election.
// Errors are those of mayGo. If this server's log fails, its error is returned at once: the others
// hear nothing more from here, and may go on with the draw.
//
// If the others stay, they are let go once each of them has acknowledged a seal. It comes behind the
// end, so who has it knows that the end is committed, and ends even if nobody is left to lead.
func (m *Member) awaitOthers(r *reign, o others) error {
	g := goodbye{end: o.committed(), since: m.now(), stay: r.end.Stay}
	if g.stay && r.log.Seal() == nil { // otherwise another server leads soon
		g.end = o.committed()
		if all, err := m.await(&g, o); !all {
			return err
		}
		r.end.Stay = false
		if r.sayEnd() == nil {
			g.end = 0 // who has not heard of it isn't there, or has had its time
		}
		g.since = m.now()
	}
	g.stay = false
	_, err := m.await(&g, o)
	return err
}

// await waits until mayGo says yes. It returns false if the draw goes on, which is an error, or if the
// leader is told to stop.
func (m *Member) await(g *goodbye, o others) (bool, error) {
	for {
		if err := o.stopped(); err != nil {
			return false, err
		}
		done, err := m.mayGo(g, o.progress(), o.isConnected)
		if done || err != nil || !o.pause() {
			return done, err
		}
	}
}

// goodbye is the last leader's wait for the other servers.
type goodbye struct {
	end          uint64    // the entry that all of them have to have; 0: they need not have any
	stay         bool      // they don't have to be gone
	acknowledged uint64    // entries, by all other servers together
	since        time.Time // when there were fewer of them, a server came back, or the wait began
	said         time.Time // when the log named who is away

	// has are the servers that have acknowledged the end. Progress forgets them once so many are gone
	// that this server doesn't lead any more.
	has map[uint64]bool
	// away are the servers that lack it and are not there. Those that have come back are in it with
	// false: each may make the wait longer once.
	away map[uint64]bool
}

// mayGo reports whether the last leader may go. The error is commit.ErrNotLeader if another server
// leads by now, or this one again: then the draw goes on, and may end otherwise.
func (m *Member) mayGo(g *goodbye, progress []replica.Progress, isConnected func(uint64) bool) (bool, error) {
	if _, another := m.otherLeader(); another || len(m.begun) > 0 {
		return false, commit.ErrNotLeader
	}
	if g.has == nil {
		g.has, g.away = map[uint64]bool{}, map[uint64]bool{}
	}
	acknowledged := uint64(0)
	for _, p := range progress {
		if p.Match >= g.end {
			g.has[p.ID] = true
		}
		acknowledged += p.Match
	}
	now := m.now()
	if acknowledged > g.acknowledged {
		g.acknowledged, g.since = acknowledged, now
	}
	var away []string
	waiting, connected := 0, 0
	for _, id := range m.others() {
		there, lacks := isConnected(id), !g.has[id] && g.end > 0
		if lacks && !there {
			away = append(away, strconv.FormatUint(id, 10))
			if _, seen := g.away[id]; !seen {
				g.away[id] = true
			}
		} else if g.away[id] { // it has come back
			g.away[id], g.since = false, now
		}
		if there && !g.stay || lacks {
			waiting++
			if there {
				connected++
			}
		}
	}
	took := now.Sub(g.since)
	if waiting == 0 || took >= m.grace() || connected == 0 && took >= hearMin {
		return true, nil
	}
	if len(away) > 0 && took >= awayPatience && now.Sub(g.said) >= missingPeriod {
		g.said = now
		m.log.Warn("espera", zap.String("result", "in_progress"), zap.String("servidores", strings.Join(away, ",")),
			zap.String("aviso", "the draw has ended, and these servers are away and don't know: are they running?"))
	}
	return false, nil
}

// saveCommitted notes in the ledger what is known to be committed. A server that is started alone
// would not know otherwise that the draw has ended. The member has stopped.
func (m *Member) saveCommitted() error {
	state := m.ledger.State()
	if committed := m.member.Committed(); committed > state.Commit {
		state.Commit = committed
		if err := m.ledger.Save(state, nil); err != nil {
			return storageError(err)
		}
	}
	return nil
}

// Close releases everything. Serve does so, too; who doesn't call Serve has to call Close.
func (m *Member) Close() error { return errors.Join(m.release(), m.watch.close(nil)) }

// release releases everything but those who watch.
func (m *Member) release() error {
	m.close()
	if m.relay != nil {
		m.relay.Close()
		m.taking.Wait()
	}
	var errs []error
	if m.control != nil {
		errs = append(errs, m.control.close())
	}
	if m.member != nil && m.member.Stop() == nil { // Serve has said why it ended
		errs = append(errs, m.saveCommitted())
	}
	m.mu.Lock()
	if m.goneLater != nil {
		m.goneLater.Stop()
	}
	m.mu.Unlock()
	if m.mesh != nil {
		errs = append(errs, m.mesh.Close())
	}
	if m.ledger != nil {
		if err := m.ledger.Close(); err != nil {
			errs = append(errs, storageError(err))
		}
	}
	if m.register != nil {
		errs = append(errs, m.register.Close())
	}
	errs = append(errs, m.secure.close(), m.listener.TCPListener.Close())
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool { return err == nil })...)
}

// leaderLog is the log of a server that leads. Whatever goes wrong with it, another server goes on
// with the draw. So every error ends the leadership without a word to agencies.
type leaderLog struct {
	commit.Log
	first []byte
}

// Commit implements commit.Log.
func (l leaderLog) Commit(runs [][]byte) error { return notLeader(l.Log.Commit(runs)) }

// Seal implements commit.Log.
func (l leaderLog) Seal() error { return notLeader(l.Log.Seal()) }

// Read implements commit.Log.
func (l leaderLog) Read() error { return notLeader(l.Log.Read()) }

// Scan implements commit.Log.
func (l leaderLog) Scan(visit func(ledger.Record) error) (ledger.Tail, error) {
	return scanFrom(l.first, visit, l.Log.Scan)
}

func notLeader(err error) error {
	if err != nil && !errors.Is(err, commit.ErrNotLeader) {
		return fmt.Errorf("%w: %w", commit.ErrNotLeader, err)
	}
	return err
}
