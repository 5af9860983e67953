package engine

import (
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
	"loteria/engine/replica"
)

// clusterServer is one server, in all its lives.
type clusterServer struct {
	c    *cluster
	id   uint64
	disk *ledgertest.FS
	lazy bool // it applies an entry at a time

	clock        int // how many of its ticks it notices, in percent
	stoppedUntil int // its clock stands still before this step
	frozenUntil  int // it does nothing before this step
	slow         int // how long a save takes at most, in steps
	slowUntil    int // its saves take long before this step

	admitted bool // it has once had a ledger; the others know that

	// Of this life. member is nil while it is down.
	life       int
	member     *Member
	stageBytes int
	store      replica.Ledger
	replica    *replica.Replica
	failed     error // the disk has failed: the replica works no more
	status     replica.Status
	progress   []replica.Progress // at the last tick
	later      []*raftpb.Message  // by server's id-1: says only what is committed, and waits for a tick
	saving     *replica.Save      // nil: nothing is being saved
	saveDue    int                // step at which it is
	leading    *clusterLog        // nil: it doesn't lead
	op         *clusterOperation  // under way; nil: none
	follows    bool               // it sends agencies to the leader
	serving    *simServer         // nil: it doesn't serve agencies
	stopping   bool               // it was told to stop
	handsOver  time.Time          // until when it waits for another one to lead; zero: it doesn't
	over       bool               // Serve has returned
	outcome    error              // what it has returned
	exported   [2]string          // bets.csv and winners.csv

	// The coroutine of Serve. resume returns when it waits, or has ended.
	resume func() (struct{}, bool)
	halt   func()
	yield  func(struct{}) bool
}

// halted is the value of the panic that unwinds the coroutine of a server that is killed.
type halted struct{}

// clusterLog is what member.Log is: a leadership whose operations wait.
type clusterLog struct {
	*replica.Leadership
	server *clusterServer
	lost   chan struct{}
}

// clusterOperation is an operation of a clusterLog.
type clusterOperation struct {
	log  *clusterLog
	done bool
	err  error
}

func (l *clusterLog) Commit(runs [][]byte) error {
	return l.do(func() error { return l.BeginCommit(runs) })
}
func (l *clusterLog) Seal() error           { return l.do(l.BeginSeal) }
func (l *clusterLog) Read() error           { return l.do(l.BeginRead) }
func (l *clusterLog) Lost() <-chan struct{} { return l.lost }

func (l *clusterLog) Close() error {
	l.Leadership.Close()
	return nil
}

// do begins an operation and waits for its end, while the rest of the world goes on.
func (l *clusterLog) do(begin func() error) error {
	s := l.server
	if s.failed != nil {
		return s.failed
	}
	if err := begin(); err != nil {
		return err
	}
	op := &clusterOperation{log: l}
	s.op = op
	s.work()
	for !op.done {
		s.pause()
	}
	return op.err
}

// pause lets the world go on. It doesn't return in a server that is killed.
func (s *clusterServer) pause() {
	if !s.yield(struct{}{}) {
		panic(halted{})
	}
}

func newClusterServer(c *cluster, id uint64) *clusterServer {
	slow := c.slow
	if c.chance(15) {
		slow *= 10
	}
	return &clusterServer{c: c, id: id, slow: slow, lazy: c.chance(50), clock: 60 + c.rng.IntN(41),
		disk: ledgertest.NewFS(c.rng.Uint64())}
}

func (s *clusterServer) String() string {
	switch {
	case s.over:
		return fmt.Sprintf("server %d has ended: %v", s.id, s.outcome)
	case s.member == nil:
		return fmt.Sprintf("server %d is down", s.id)
	}
	index, _ := s.replica.Applied()
	return fmt.Sprintf("server %d: %+v, follows %v, serves %v, committed %d, applied %d, disk %v",
		s.id, s.status, s.follows, s.serving != nil, s.replica.Committed(), index, s.failed)
}

func (s *clusterServer) frozen() bool {
	frozen := s.c.chaos() && s.c.step < s.frozenUntil
	if s.serving != nil {
		s.serving.frozen = frozen
	}
	return frozen
}

// works reports whether its replica does.
func (s *clusterServer) works() bool { return s.member != nil && s.failed == nil }

// config makes every limit so small that the simulation meets it.
func (s *clusterServer) config() replica.Config {
	applyBytesMax := 2000
	if s.lazy {
		applyBytesMax = 1
	}
	var voters []uint64
	for _, peer := range s.c.peers {
		voters = append(voters, peer.ID)
	}
	return replica.Config{
		ID: s.id, Voters: voters, ElectionTicks: 8,
		MessageBytesMax: 1500, InflightMax: 4, InflightBytesMax: 3000,
		UncommittedBytesMax: 2000, UnsavedBytesMax: 3000, RecentBytesMax: 2000, ApplyBytesMax: applyBytesMax,
	}
}

// start begins another life of the server, as Join does.
func (s *clusterServer) start() {
	c := s.c
	cfg := simConfig()
	cfg.ID, cfg.Peers, cfg.DataDir, cfg.NoExport = s.id, c.peers, simDir, true
	s.stageBytes = c.limits(&cfg)
	m := newMember(cfg, zap.NewNop(), func() time.Time { return c.now })
	s.life++
	s.later = make([]*raftpb.Message, len(c.peers))
	s.failed, s.status, s.progress, s.saving, s.leading, s.op = nil, replica.Status{}, nil, nil, nil, nil
	s.follows, s.serving, s.over, s.outcome = false, nil, false, nil
	s.stopping, s.handsOver = false, time.Time{}
	if c.chaos() && c.chance(3*c.flaky) {
		s.disk.Break(ledgertest.Fault{N: c.between(1, 15), Dead: true})
	}
	err := m.openLedger(ledger.EntryOptions{FS: s.disk, SegmentBytes: ledger.SegmentBytesMin}, !s.admitted)
	if err != nil {
		if s.disk.Broken() == 0 {
			c.failf("server %d doesn't start: %v", s.id, err)
		}
		c.noticed[seenCrashStarting]++
		c.tracef("server %d crashes while it starts: %v", s.id, err)
		s.diskCrashes()
		return
	}
	s.admitted = true
	s.disk.Break(ledgertest.Fault{})
	if m.ledger.Recovered().Torn {
		c.noticed[seenTornTail]++
	}
	s.store = replica.Ledger{EntryLog: m.ledger}
	c.tracef("server %d starts: %+v, %d entries", s.id, m.ledger.State(), m.ledger.LastIndex())
	c.checkOpened(s)
	fresh := 0
	r, err := replica.Open(s.config(), s.store, func() func(ledger.Record) error {
		if fresh++; fresh > 1 {
			c.noticed[seenMachineDropped]++
		}
		return m.fresh()
	})
	if err != nil {
		c.failf("server %d doesn't start: %v", s.id, err)
	}
	s.member, s.replica = m, r
	s.resume, s.halt = iter.Pull(s.coroutine)
	s.work()
}

// coroutine runs Serve until it ends, or the server is killed.
func (s *clusterServer) coroutine(yield func(struct{}) bool) {
	s.yield = yield
	defer func() {
		switch p := recover().(type) {
		case nil, halted:
		case violation:
			panic(p)
		default:
			panic(violation(fmt.Sprintf("panic: %v\n%s", p, debug.Stack())))
		}
	}()
	s.outcome = s.serve()
	s.over = true
}

// serve is Member.serve.
func (s *clusterServer) serve() error {
	for {
		next, over, err := s.follow()
		if over {
			return err
		}
		err = s.lead(next)
		switch {
		case !errors.Is(err, commit.ErrNotLeader):
			return err
		case s.stopping:
			return nil
		}
	}
}

// follow is Member.follow.
func (s *clusterServer) follow() (next leadership, over bool, err error) {
	m := s.member
	s.follows = true
	defer func() { s.follows = false }()
	for {
		if end, wait := m.abandoned(); end != nil && wait <= 0 {
			s.c.noticed[seenAbandoned]++
			s.c.checkEnd(s, end.term, end.outcome)
			return next, true, end.outcome
		}
		switch {
		case s.failed != nil:
			return next, true, storageError(s.failed)
		case s.stopping:
			return next, true, nil
		}
		// Of what is ready, chance takes one.
		if s.c.chance(50) {
			select {
			case next = <-m.begun:
				return next, false, nil
			default:
			}
		}
		select {
		case end := <-m.ended:
			s.c.checkEnd(s, end.term, end.outcome)
			return next, true, end.outcome
		default:
		}
		s.pause()
	}
}

// lead is Member.lead.
func (s *clusterServer) lead(now leadership) error {
	c, m := s.c, s.member
	r, err := m.newReign(now, c.environment())
	if err != nil {
		return s.reason(err)
	}
	r.lost = now.log.Lost()
	s.serving = c.serves(r.Server, s.stageBytes)
	c.tracef("server %d serves agencies", s.id)
	done, err := s.commitUntilDone(r)
	if !isAbrupt(err) {
		if err = s.commitRest(r); err == nil {
			c.farewell(s.serving, codec.CodeNone)
		}
	}
	c.tracef("server %d serves agencies no more: %v, %v", s.id, done, err)
	r.committer.Close()
	c.breakLinks(s.serving)
	s.serving = nil
	err = r.result(done, err)
	if !r.concluded {
		c.noticed[seenDeposed]++
		return s.reason(err)
	}
	c.tracef("server %d has told the others of the end: %v", s.id, err)
	goesOn := m.awaitOthers(r, others{
		committed:   s.replica.Committed,
		progress:    func() []replica.Progress { return s.progress },
		isConnected: func(id uint64) bool { return c.connected(s.id, id) },
		stopped:     func() error { return s.reason(nil) },
		pause: func() bool {
			if !s.stopping {
				s.pause()
			}
			return !s.stopping
		},
	})
	if goesOn != nil {
		c.noticed[seenEndTakenBack]++
		return s.reason(goesOn)
	}
	c.checkEnd(s, now.log.Term(), err)
	return err
}

// reason is the end of a leadership, or of the server if its disk has failed.
func (s *clusterServer) reason(err error) error {
	if s.failed != nil {
		return storageError(s.failed)
	}
	return err
}

// commitUntilDone is Server.commitUntilDone.
func (s *clusterServer) commitUntilDone(r *reign) (done bool, err error) {
	c := s.c
	for {
		if done, _ := r.committer.Exit().Verdict(c.now); done && len(r.committer.Wake()) == 0 {
			return true, nil
		}
		switch n := c.rng.IntN(100); {
		case n < 20:
			r.front.Tick()
		case n < 40:
			if s.isLost(r) {
				return false, commit.ErrNotLeader
			}
		default:
			select {
			case <-r.committer.Wake():
				if err := s.commit(r); err != nil {
					return false, err
				}
			default:
			}
		}
		s.pause()
	}
}

// isLost reports whether the leadership is lost, or handed over because the server was told to stop.
func (s *clusterServer) isLost(r *reign) bool {
	select {
	case <-r.lost:
		return true
	default:
	}
	if s.stopping && s.handsOver.IsZero() {
		s.handsOver = s.c.now // at once, if nobody is there
		for _, id := range s.member.others() {
			if s.c.connected(s.id, id) {
				s.handsOver = s.c.now.Add(handOverMax)
				s.transfer(id)
				break
			}
		}
	}
	return s.stopping && !s.c.now.Before(s.handsOver)
}

// commitRest is Server.commitRest.
func (s *clusterServer) commitRest(r *reign) error {
	r.front.StopReading()
	r.front.Through()
	for !s.serving.handedOver() {
		for _, lp := range s.serving.loops {
			if s.c.ready(lp, 0) {
				s.c.runTasks(lp)
			}
		}
		select {
		case <-r.committer.Wake():
			if err := s.commit(r); err != nil {
				return err
			}
		default:
			s.pause()
		}
	}
	return nil
}

// commit is Server.commit.
func (s *clusterServer) commit(r *reign) error {
	c := s.c
	drawn := r.committer.Lottery().Drawn()
	if err := r.commit(); err != nil {
		if !errors.Is(err, commit.ErrNotLeader) {
			c.failf("server %d: a commit: %v", s.id, err)
		}
		c.noticed[seenGroupUnknown]++
		c.tracef("server %d: a commit: %v", s.id, err)
		return err
	}
	c.noticed[seenGroup]++
	c.checkLeader(s, r.committer.Lottery())
	if !drawn && r.committer.Lottery().Drawn() {
		c.onDraw(r.committer.Lottery())
	}
	return nil
}

// goOn lets the server's goroutine go on, unless it waits for the log.
func (s *clusterServer) goOn() {
	if s.member == nil || s.frozen() || s.op != nil && !s.op.done {
		return
	}
	s.resume()
	if !s.over {
		return
	}
	s.c.tracef("server %d ends: %v", s.id, s.outcome)
	var unfinished *UnfinishedError
	switch {
	case s.failed != nil:
		s.c.noticed[seenDiskFailed]++
	case s.stopping:
		s.c.noticed[seenStopped]++
	case s.outcome == nil:
		s.c.noticed[seenGoal]++
	case errors.As(s.outcome, &unfinished):
		s.c.noticed[seenUnfinishedEnd]++
	default:
		s.c.failf("server %d ends with %v", s.id, s.outcome)
	}
	if s.outcome == nil && !s.stopping {
		s.export()
	}
	if err := s.member.ledger.Close(); err != nil && s.failed == nil && s.disk.Broken() == 0 {
		s.c.failf("server %d: closing the ledger: %v", s.id, err)
	}
	s.over = s.failed == nil && !s.stopping // the others are down
	s.gone()
	s.diskCrashes()
	if leaders := s.c.leaders(); s.over && s.c.beheads && len(leaders) > 0 {
		s.c.beheads = false
		s.c.noticed[seenBeheaded]++
		leaders[0].kill()
	}
}

// gone ends the process: its connections break, and its memory is gone.
func (s *clusterServer) gone() {
	s.halt()
	if s.serving != nil {
		s.c.breakLinks(s.serving)
	}
	s.member, s.replica, s.serving, s.follows, s.leading, s.op, s.saving = nil, nil, nil, false, nil, nil, nil
	for _, other := range s.c.servers { // their connections to this one end, unless nobody says so
		if other.works() && !other.frozen() && s.c.chance(70) {
			other.check(other.replica.Lost(s.id))
			other.work()
		}
	}
}

// diskCrashes is what becomes of the disk when the process that used it is gone. Sometimes the
// machine is, too.
func (s *clusterServer) diskCrashes() {
	if s.c.chance(40) {
		s.disk.Kill()
		return
	}
	s.c.noticed[seenMachineCrashed]++
	s.disk.Crash()
}

// kill ends the process, perhaps in the middle of a save.
func (s *clusterServer) kill() {
	c := s.c
	if s.member == nil {
		return
	}
	c.noticed[seenKill]++
	c.tracef("server %d is killed", s.id)
	if s.leading != nil {
		c.noticed[seenLeaderKilled]++
	}
	if s.saving != nil && s.failed == nil && c.chance(70) {
		c.noticed[seenKilledSaving]++
		s.disk.Break(ledgertest.Fault{N: c.between(1, 8), Dead: true})
		_ = s.store.Save(s.saving.State, s.saving.Entries) // nobody learns how it went
	}
	s.gone()
	s.diskCrashes()
}

func (s *clusterServer) tick() {
	if !s.works() || s.frozen() || !s.c.chance(s.clock) || s.c.chaos() && s.c.step < s.stoppedUntil {
		return
	}
	s.check(s.replica.Tick())
	s.progress = s.replica.Progress()
	for to, m := range s.later {
		if m != nil {
			s.c.send(m)
			s.later[to] = nil
		}
	}
	s.work()
}

func (s *clusterServer) receive(m *raftpb.Message) {
	switch err := s.replica.Receive(m); {
	case errors.Is(err, replica.ErrBusy):
		s.c.noticed[seenMessageRefused]++
	default:
		s.check(err)
	}
	s.work()
}

func (s *clusterServer) check(err error) {
	if err != nil {
		s.c.failf("server %d: %v", s.id, err)
	}
}

// work is member.Member.work.
func (s *clusterServer) work() {
	c := s.c
	for more := true; more; {
		w, err := s.replica.Work()
		s.check(err)
		for _, m := range w.Messages {
			s.send(m)
		}
		if w.Save != nil {
			s.beginSave(w.Save)
		}
		if w.Status != s.status {
			c.tracef("server %d: %+v", s.id, w.Status)
			s.status = w.Status
			c.checkTerm(s)
		}
		c.checkCommitted(s)
		if op := s.op; op != nil {
			if done, err := op.log.Poll(); done {
				op.done, op.err = true, err
				s.op = nil
			}
		}
		if l := s.leading; l != nil && (w.Status.Role != replica.Leading || w.Status.Term != l.Term()) {
			c.tracef("server %d leads no more", s.id)
			close(l.lost)
			s.leading = nil
		}
		if w.Begun != nil {
			s.leading = &clusterLog{Leadership: w.Begun, server: s, lost: make(chan struct{})}
			c.checkBegun(s)
			s.member.begin(s.leading)
		}
		more = w.More
	}
	s.member.worked(s.status)
}

// send is member.Member.send.
func (s *clusterServer) send(m *raftpb.Message) {
	if m.GetType() == raftpb.MsgApp {
		if len(m.GetEntries()) == 0 {
			s.later[m.GetTo()-1] = m
			return
		}
		s.later[m.GetTo()-1] = nil
	}
	s.c.send(m)
}

func (s *clusterServer) beginSave(save *replica.Save) {
	c := s.c
	if len(save.Entries) > 0 && save.Entries[0].Index <= s.member.ledger.LastIndex() {
		c.noticed[seenEntriesReplaced]++
	}
	s.saving, s.saveDue = save, c.step+1+c.rng.IntN(s.slow)
	if c.chaos() && c.step < s.slowUntil {
		s.saveDue = c.step + c.rng.IntN(2000)
	}
}

// save does a save that is due.
func (s *clusterServer) save() {
	c := s.c
	if !s.works() || s.frozen() || s.saving == nil || c.chaos() && c.step < s.saveDue {
		return
	}
	save := s.saving
	s.saving = nil
	if err := s.store.Save(save.State, save.Entries); err != nil {
		if s.disk.Broken() == 0 {
			c.failf("server %d: a save: %v", s.id, err)
		}
		c.tracef("server %d: a save: %v", s.id, err)
		s.fail(err)
		return
	}
	s.check(s.replica.Saved())
	s.work()
}

// fail is how a member ends whose disk has failed. Its server notices by and by.
func (s *clusterServer) fail(err error) {
	s.failed = err
	if s.leading != nil {
		close(s.leading.lost)
		s.leading = nil
	}
	if s.op != nil {
		s.op.done, s.op.err = true, err
		s.op = nil
	}
}

// transfer asks the leader to hand over.
func (s *clusterServer) transfer(to uint64) {
	if s.leading == nil {
		return
	}
	s.c.tracef("server %d is to hand over to %d", s.id, to)
	s.c.transferTerm, s.c.transferTo = s.status.Term, to
	s.check(s.replica.Transfer(to))
	s.work()
}
