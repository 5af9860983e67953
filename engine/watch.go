package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/admin"
	"loteria/engine/admin/board"
	"loteria/engine/commit"
	"loteria/engine/front"
	"loteria/engine/history"
	"loteria/engine/lottery"
	"loteria/engine/replica"
)

const (
	// viewPeriod is the least time between two views of a lottery in which only bets have come. The
	// server ticks at least every 100 ms, so the newest view is out within 250 ms.
	viewPeriod = 150 * time.Millisecond
	// viewShare bounds the time that views take: one in so many parts of it.
	viewShare = 50
	// stillPeriod is how often there is a new state while nothing happens but time.
	stillPeriod = time.Second
)

// BoardFile is the page that a server with SERVER_HTTP_ADDR leaves in its data directory at its end.
const BoardFile = "board.html"

// watch is what is shown of this process's server, alone or one of several, for its whole life. It
// implements admin.Source. The methods of a nil watch do nothing: nobody can watch.
//
// Whose goroutine owns the lottery makes views of it, which never change. Those who watch get
// everything from the newest view, and from counters that are atomic.
type watch struct {
	cfg     Config
	log     *zap.Logger
	now     func() time.Time
	started time.Time
	member  *Member // nil: a server alone
	secure  *secure // nil: nobody comes over TLS
	admin   *admin.Server

	opened   atomic.Bool // what the log had at the start is replayed
	stopping atomic.Bool
	agencies atomic.Int64 // connections of agencies
	commits  atomic.Int64
	written  atomic.Int64 // bytes

	mu       sync.Mutex // guards what follows; held for microseconds, because the committer takes it
	serving  *Server    // nil: none takes agencies
	past     admin.Counters
	view     *view
	recorder *board.Recorder
	bets     int64 // that were ever seen to be stored
	drawnAt  *time.Time
	leader   replica.Status
	over     bool
	outcome  string

	showing sync.Mutex   // guards state, and what views remember
	state   *board.State // the newest; nil before the first
}

// openWatch listens on SERVER_HTTP_ADDR, and shows a server that opens. It returns nil if there is no
// such address. Errors wrap admin.ErrListen.
func openWatch(cfg Config, log *zap.Logger, m *Member, tls *secure) (*watch, error) {
	if cfg.HTTPAddr == "" {
		return nil, nil
	}
	now := time.Now()
	w := &watch{cfg: cfg, log: log, now: time.Now, started: now, member: m, secure: tls, view: emptyView(cfg.Agencies),
		recorder: board.NewRecorder(now)}
	w.recorder.Note(board.Event{Time: now, Kind: board.EventStarted})
	var err error
	w.admin, err = admin.Open(admin.Settings{Addr: cfg.HTTPAddr, Pprof: cfg.HTTPPprof == PprofOn}, log)
	if err != nil {
		return nil, fmt.Errorf("%w: stop what uses it, or choose another address", err)
	}
	w.admin.Show(w)
	log.Info("tablero", zap.String("result", "success"), zap.String("url", fmt.Sprintf("http://%v/board/", w.admin.Addr())))
	return w, nil
}

// close stops listening. Those who watch are told last; nil is the newest state.
func (w *watch) close(last *board.State) error {
	if w == nil {
		return nil
	}
	return w.admin.Close(last)
}

// open says that what the log had at the start is replayed. What comes from now on happens now.
func (w *watch) open() {
	if w != nil {
		w.opened.Store(true)
	}
}

// stop says that the server was told to stop.
func (w *watch) stop() {
	if w != nil {
		w.stopping.Store(true)
	}
}

// end tells those who watch how the server has ended, and leaves the last state as a file. l is the
// lottery that was fed last; nil if that was a Server's.
func (w *watch) end(outcome error, l *lottery.Lottery) {
	if w == nil {
		return
	}
	if l != nil {
		w.look(l, w.now())
	}
	w.mu.Lock()
	w.over = true
	if outcome != nil {
		w.outcome = strings.ReplaceAll(outcome.Error(), "\n", "; ")
	}
	w.recorder.Note(board.Event{Time: w.now(), Kind: board.EventOver})
	w.mu.Unlock()
	last := w.State()
	path := filepath.Join(w.cfg.DataDir, BoardFile)
	err := errors.Join(w.close(last),
		history.WriteFile(path, func(out io.Writer) error { return board.Write(out, last) }))
	if err != nil { // the draw is no worse for it
		w.log.Error("tablero", zap.String("result", "fail"), zap.NamedError("error", err))
		return
	}
	w.log.Info("tablero", zap.String("result", "success"), zap.String("archivo", path))
}

// serves says that s takes agencies, with a lottery that holds what is stored.
func (w *watch) serves(s *Server) {
	if w == nil {
		return
	}
	w.look(s.committer.Lottery(), w.now())
	w.open()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serving = s
}

// leaves says that s takes no agencies any more, because of err. Its lottery holds what is stored,
// unless the last group failed.
func (w *watch) leaves(s *Server, err error) {
	if w == nil {
		return
	}
	if !isAbrupt(err) && !errors.Is(err, ErrStorage) {
		w.look(s.committer.Lottery(), w.now())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serving, w.past = nil, s.counters(w.past)
	w.agencies.Store(0)
}

// answered says that a group is stored, and its answers are delivered. The committer's goroutine calls
// it.
func (w *watch) answered(c *commit.Committer, g commit.Group) {
	if w == nil {
		return
	}
	if len(g.Replies) > 0 {
		w.admin.Acked(w.now().Sub(g.Since))
	}
	w.agencies.Store(int64(c.Exit().Open()))
	period := viewPeriod
	if g.Drawn || len(g.Reported) > 0 || len(g.Served) > 0 {
		period = 0
	}
	w.saw(c.Lottery(), period)
}

// saw makes a view of a lottery that holds what is stored, if something has changed, the last view is
// so old, and views don't take too much time. The goroutine that owns the lottery calls it; nil is no
// lottery.
func (w *watch) saw(l *lottery.Lottery, period time.Duration) {
	if w == nil || l == nil {
		return
	}
	now := w.now()
	w.mu.Lock()
	w.count(l.Bets(), now)
	v := w.view
	changed := l.Bets() != v.bets || l.Missing() != v.missing || l.Unserved() != v.unserved
	age := now.Sub(v.taken)
	w.mu.Unlock()
	if changed && age >= max(period, viewShare*v.took) {
		w.look(l, now)
	}
}

// look makes a view of a lottery. The goroutine that owns the lottery calls it.
func (w *watch) look(l *lottery.Lottery, now time.Time) {
	v := newView(l, now)
	v.took = w.now().Sub(now)
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.view
	if v.bets < old.bets || v.missing > old.missing || v.unserved > old.unserved {
		return // it is replayed, and has not come so far again
	}
	w.count(v.bets, now)
	w.view = v
	if w.opened.Load() {
		w.noteChanges(old, v)
	}
}

// count notes how many bets are stored by now. The caller holds mu.
func (w *watch) count(bets int64, now time.Time) {
	if bets <= w.bets {
		return
	}
	if w.opened.Load() {
		w.recorder.Count(now, bets-w.bets)
	}
	w.bets = bets
}

// noteChanges notes what has happened between two views. The caller holds mu.
func (w *watch) noteChanges(old, v *view) {
	if v.missing < old.missing {
		w.noteReached(board.EventReported, stateReported, old, v)
	}
	if v.drawn() && !old.drawn() {
		at := v.taken
		w.drawnAt = &at
		w.recorder.Note(board.Event{Time: v.taken, Kind: board.EventDraw})
	}
	if v.unserved < old.unserved {
		w.noteReached(board.EventServed, stateServed, old, v)
	}
}

func (w *watch) noteReached(kind board.EventKind, state agencyState, old, v *view) {
	for i := range v.agencies {
		if v.agencies[i].state >= state && old.agencies[i].state < state {
			w.recorder.Note(board.Event{Time: v.taken, Kind: kind, Agency: uint32(i + 1)})
		}
	}
}

// led notes who leads. The member's goroutine calls it.
func (w *watch) led(status replica.Status) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.leader
	w.leader = status
	switch e := (board.Event{Time: w.now(), Server: status.Leader, Term: status.Term}); {
	case status.Leader != 0 && (status.Leader != old.Leader || status.Term != old.Term): // roles change, too
		e.Kind = board.EventLeader
		w.recorder.Note(e)
	case status.Leader == 0 && old.Leader != 0:
		e.Kind = board.EventLost
		w.recorder.Note(e)
	}
}

// watchedLog is a log that says what each commit takes.
type watchedLog struct {
	commit.Log
	watch *watch
}

// logOf is the log for a committer.
func (w *watch) logOf(l commit.Log) commit.Log {
	if w == nil {
		return l
	}
	return watchedLog{l, w}
}

// clock is the one for a committer; nil if nobody can watch.
func (w *watch) clock() func() time.Time {
	if w == nil {
		return nil
	}
	return w.now
}

// Commit implements commit.Log.
func (l watchedLog) Commit(runs [][]byte) error {
	begun := l.watch.now()
	if err := l.Log.Commit(runs); err != nil {
		return err
	}
	l.watch.admin.Committed(l.watch.now().Sub(begun))
	l.watch.commits.Add(1)
	for _, run := range runs {
		l.watch.written.Add(int64(len(run)))
	}
	return nil
}

// State implements admin.Source.
func (w *watch) State() *board.State {
	w.showing.Lock()
	defer w.showing.Unlock()
	now := w.now()
	w.mu.Lock()
	v, serving, over := w.view, w.serving, w.over
	s := &board.State{
		Time: now, Started: w.started, Agencies: w.cfg.Agencies, DrawnAt: w.drawnAt, Outcome: w.outcome,
		QueueLimitBytes: int64(w.cfg.QueueBytesMax), Series: w.recorder.Series(now), Events: w.recorder.Events(),
	}
	w.mu.Unlock()
	v.show(s)
	if serving != nil {
		s.Connections, s.QueueBytes = serving.front.Connections(), serving.committer.QueueBytes()
	}
	isLed := true
	if m := w.member; m != nil {
		_, _, isLed = m.Leader()
		s.Cluster = m.cluster()
		s.Connections += m.relayed()
	}
	switch {
	case over:
		s.Phase = board.Over
	case !isLed, !w.opened.Load():
		s.Phase = board.Opening
	case v.drawn():
		s.Phase = board.Drawn
	default:
		s.Phase = board.Intake
	}
	if w.state == nil || !isSame(s, w.state) {
		w.state = s
	}
	return w.state
}

// isSame reports whether nothing has happened between two states, a moment apart, but time.
func isSame(s, old *board.State) bool {
	a, b := *s, *old
	if s.Phase == board.Over || s.Time.Sub(old.Time) < stillPeriod {
		n := min(len(a.Series.Bets), len(b.Series.Bets)) // the rest are zeros, or the sum differs, too
		if a.Bets == b.Bets {
			a.Series.Bets, b.Series.Bets = a.Series.Bets[:n], b.Series.Bets[:n]
		}
	}
	a.Time = b.Time
	return reflect.DeepEqual(a, b)
}

// Agencies implements admin.Source.
func (w *watch) Agencies(visit func(board.Agency) bool) {
	w.mu.Lock()
	v := w.view
	w.mu.Unlock()
	for i := range v.agencies {
		if !visit(v.agency(i)) {
			return
		}
	}
}

// Counters implements admin.Source.
func (w *watch) Counters() admin.Counters {
	w.mu.Lock()
	c, serving := w.past, w.serving
	c.BetsStored = w.bets
	w.mu.Unlock()
	agencies := w.agencies.Load()
	c.Connections = map[string]int64{"agency": agencies, "other": 0}
	if serving != nil {
		c = serving.counters(c)
		c.Connections["other"] = max(int64(serving.front.Connections())-agencies, 0)
		c.QueueBytes = serving.committer.QueueBytes()
	}
	if w.member != nil {
		c.Connections["relayed"] = int64(w.member.relayed())
	}
	if w.secure != nil {
		c.CertificateExpires = w.secure.credentials.Expiry()
		c.Handshakes = w.secure.credentials.Handshakes()
	}
	c.Commits, c.WrittenBytes = w.commits.Load(), w.written.Load()
	return c
}

// counters returns c with what this server has counted, which are no gauges. Any goroutine may call it.
func (s *Server) counters(c admin.Counters) admin.Counters {
	c.Rejected, c.ConnectionsRefused = maps.Clone(c.Rejected), maps.Clone(c.ConnectionsRefused)
	if c.Rejected == nil {
		c.Rejected, c.ConnectionsRefused = map[string]int64{}, map[string]int64{}
	}
	for _, code := range codec.Codes() {
		if n := s.committer.Rejected(code); n > 0 {
			c.Rejected[code.String()] += n
		}
	}
	c.ConnectionsRefused["connections"] += s.front.Broken(front.LimitConnections)
	c.ConnectionsRefused["source"] += s.front.Broken(front.LimitSource)
	c.LinesSuppressed += s.front.Suppressed()
	return c
}

// Why a server is not ready.
var (
	errOpening  = errors.New("the ledger is being replayed, or the other servers are awaited")
	errNoLeader = errors.New("no server is known to lead: are most of SERVER_PEERS running?")
	errStopping = errors.New("the server stops")
)

// Ready implements admin.Source.
func (w *watch) Ready() error {
	w.mu.Lock()
	serving, over := w.serving, w.over
	w.mu.Unlock()
	switch {
	case over, w.stopping.Load(), serving != nil && serving.front.IsStopping():
		return errStopping
	case !w.opened.Load():
		return errOpening
	case w.member == nil && serving == nil:
		return errStopping
	case w.member == nil:
		return nil
	}
	if _, _, ok := w.member.Leader(); !ok {
		return errNoLeader
	}
	return nil
}

// relayed is how many agencies' connections this server passes on.
func (m *Member) relayed() int {
	if !m.isJoined() {
		return 0
	}
	return m.relay.Connections()
}

// cluster is what this server knows of the others.
func (m *Member) cluster() *board.Cluster {
	c := &board.Cluster{Server: m.cfg.ID}
	if !m.isJoined() {
		for _, p := range m.cfg.Peers {
			c.Servers = append(c.Servers, board.ClusterServer{ID: p.ID, Addr: p.Addr, Connected: p.ID == m.cfg.ID})
		}
		return c
	}
	status := m.clusterStatus()
	c.Leader, c.Term, c.Committed = status.Leader, status.Term, status.Committed
	for _, s := range status.Servers {
		shown := board.ClusterServer{ID: s.ID, Addr: s.Addr, Votes: s.Votes, Connected: s.Connected}
		if s.Has != nil {
			behind := status.Behind(s)
			shown.Behind = &behind
		}
		c.Servers = append(c.Servers, shown)
	}
	return c
}

// stopWith says that the server was told to stop, once ctx is done. The function that it returns has
// to be called.
func (w *watch) stopWith(ctx context.Context) func() bool { return context.AfterFunc(ctx, w.stop) }
