package replica_test

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"loteria/engine/commit"
	"loteria/engine/ledger"
	"loteria/engine/replica"
	"loteria/engine/replica/replicatest"
)

// simServer is one server, in all its lives.
type simServer struct {
	w    *world
	id   uint64
	disk *replicatest.Memory
	gone bool // it has no disk any more, or was told that it was removed

	voters, learners []uint64           // of its configuration
	told             replica.Membership // as it said last

	store       *replicatest.Store
	replica     *replica.Replica // nil while it is down
	startedAt   int
	pausedUntil int // it does nothing before this step
	clock       int // how many of its ticks it notices, in percent
	stoppedTill int // its clock stands still before this step
	quietUntil  int // clients ask nothing of it before this step
	handsOver   int // ticks until it gives up to hand over
	slow        int // how long a save takes at most
	slowUntil   int // its saves take long before this step
	saveDue     int // step at which the save is synced; 0: nothing is being saved
	status      replica.Status
	machine     *simMachine
	more        bool // it has more to do
	machines    int  // how many state machines this life has had

	electedAt  int                 // how long the log was when it was elected
	leadership *replica.Leadership // nil: it doesn't lead
	sessions   uint64              // that this leadership has numbered
	op         *simOperation       // under way; nil: none
	change     *simChange          // under way; nil: none
}

// simOperation is something that a leadership does for a client.
type simOperation struct {
	kind    simKind
	number  int    // of a group of bets; 0: of none
	acked   int    // how many groups were acknowledged when it began
	applied uint64 // index that the state machine had then
	waits   bool   // it began while the leader was about to hand over
}

type simKind uint8

const (
	simCommit simKind = iota
	simSeal
	simRead
)

func newSimServer(w *world, id, seed uint64) *simServer {
	slow := w.slow
	if w.chance(15) {
		slow *= 10
	}
	return &simServer{w: w, id: id, slow: slow, clock: 60 + w.rng.IntN(41), disk: replicatest.NewMemory(seed*16 + id)}
}

func (s *simServer) String() string {
	if s.replica == nil {
		return fmt.Sprintf("%d down", s.id)
	}
	index, seq := s.replica.Applied()
	return fmt.Sprintf("%d %v, committed %d, applied %d (record %d)", s.id, s.status, s.replica.Committed(), index, seq)
}

func (s *simServer) paused() bool { return s.w.step < s.pausedUntil && s.w.chaos() }

// config makes every limit so small that the simulation meets it.
func (s *simServer) config() replica.Config {
	applyBytesMax := 600
	if s.w.lazy {
		applyBytesMax = 1
	}
	return replica.Config{
		ID: s.id, Voters: s.voters, Learners: s.learners,
		ElectionTicks: 8, HeartbeatTicks: 1,
		MessageBytesMax: 500, InflightMax: 4, InflightBytesMax: 1000,
		UncommittedBytesMax: 600, UnsavedBytesMax: 900, RecentBytesMax: 700, ApplyBytesMax: applyBytesMax,
	}
}

func (s *simServer) start() {
	w := s.w
	s.store = s.disk.Open()
	s.startedAt, s.saveDue, s.status, s.machines = w.step, 0, replica.Status{}, 0
	s.more = false
	r, err := replica.Open(s.config(), watchedStore{s.store, s}, func() func(ledger.Record) error {
		if s.machines++; s.machines > 1 {
			w.rebuilt(s)
		}
		s.machine = newSimMachine()
		return s.machine.visit
	})
	if err != nil {
		w.failf("server %d doesn't start: %v", s.id, err)
	}
	s.replica = r
	w.tracef("server %d starts", s.id)
	s.work()
}

// ended forgets what only the process had.
func (s *simServer) ended() {
	if s.op != nil {
		s.w.unknown(s.op)
	}
	s.replica, s.leadership, s.op, s.change, s.saveDue = nil, nil, nil, nil, 0
	for _, other := range s.w.servers {
		other.lose(s.id)
	}
}

// lose tells the server that the connection to another one has ended. What that one has said may be
// on its way still.
func (s *simServer) lose(other uint64) {
	if s.replica == nil || s.paused() || other == s.id {
		return
	}
	if s.status.Leader == other {
		s.w.seen[seenLeaderLost]++
	}
	s.check(s.replica.Lost(other))
	s.work()
}

func (s *simServer) kill() {
	if s.replica == nil {
		return
	}
	s.w.tracef("server %d is killed", s.id)
	s.w.seen[seenKill]++
	s.disk.Kill()
	s.ended()
}

func (s *simServer) crash() {
	if s.replica == nil {
		return
	}
	s.w.tracef("server %d crashes", s.id)
	s.w.seen[seenCrash]++
	if s.saveDue != 0 {
		s.w.seen[seenCrashSaving]++
	}
	torn := s.disk.Torn()
	s.disk.Crash()
	s.w.seen[seenTorn] += s.disk.Torn() - torn
	s.ended()
}

func (s *simServer) tick() {
	if s.replica != nil && !s.paused() && s.w.chance(s.clock) && (s.w.step >= s.stoppedTill || !s.w.chaos()) {
		s.handsOver--
		s.check(s.replica.Tick())
		s.work()
	}
}

func (s *simServer) stopClock(until int) {
	s.stoppedTill = until
	s.w.seen[seenClockStopped]++
	s.w.tracef("the clock of server %d stands still until %d", s.id, until)
}

func (s *simServer) receive(m *raftpb.Message) {
	s.w.tracef("%d receives from %d: %v, term %d, index %d, %d entries, commit %d, reject %v",
		s.id, m.GetFrom(), m.GetType(), m.GetTerm(), m.GetIndex(), len(m.GetEntries()), m.GetCommit(), m.GetReject())
	err := s.replica.Receive(m)
	if errors.Is(err, replica.ErrBusy) {
		s.w.seen[seenFull]++
		return
	}
	if errors.Is(err, replica.ErrRemoved) {
		s.isRemoved()
		return
	}
	if _, known := s.replica.Members().Server(m.GetFrom()); !known && m.GetType() == raftpb.MsgApp {
		s.w.seen[seenStranger]++
	}
	s.check(err)
	s.work()
}

func (s *simServer) transfer(to uint64) {
	s.w.tracef("server %d is to hand over to %d", s.id, to)
	s.w.transferTerm, s.w.transferTo = s.leadership.Term(), to
	if to != s.id {
		s.handsOver = s.config().ElectionTicks
	}
	s.check(s.replica.Transfer(to))
	s.work()
}

// save completes a save that is due.
func (s *simServer) save() {
	if s.replica != nil && !s.paused() && s.more {
		s.work()
		return
	}
	if s.replica == nil || s.paused() || s.saveDue == 0 || s.w.step < s.saveDue {
		return
	}
	s.saveDue = 0
	if err := s.store.Sync(); err != nil {
		s.w.tracef("server %d: %v", s.id, err)
		s.w.seen[seenSaveFailed]++
		s.ended()
		return
	}
	s.w.tracef("server %d has saved", s.id)
	s.check(s.replica.Saved())
	s.work()
}

func (s *simServer) check(err error) {
	if err != nil {
		s.w.failf("server %d: %v", s.id, err)
	}
}

// work does what the replica wants done.
func (s *simServer) work() {
	w := s.w
	for again := true; again; {
		work, err := s.replica.Work()
		s.check(err)
		if work.Save != nil {
			s.beginSave(work.Save)
		}
		w.checkMembers(s, work.Members)
		if work.Status != s.status {
			w.tracef("server %d: %v", s.id, work.Status)
			s.status = work.Status
			w.checkStatus(s)
		}
		w.checkCommitted(s)
		if s.leadership != nil && (s.status.Role != replica.Leading || s.status.Term != s.leadership.Term()) {
			w.seen[seenEnded]++
			w.tracef("server %d leads no more", s.id)
			s.poll()
			s.pollChange()
			if s.change != nil {
				w.failf("server %d: the leadership has ended, and its change has not", s.id)
			}
			if s.op != nil {
				w.failf("server %d: the leadership has ended, and its operation has not", s.id)
			}
			s.leadership = nil
		}
		if work.Begun != nil {
			s.handsOver = 0
			s.leadership, s.sessions = work.Begun, 0
			w.checkBegun(s)
		}
		for _, m := range work.Messages {
			w.send(m)
		}
		s.poll()
		s.pollChange()
		w.checkBounds(s)
		s.more = work.More
		again = s.more && !w.lazy
	}
}

func (s *simServer) beginSave(save *replica.Save) {
	w := s.w
	if last, err := s.store.LastIndex(); err == nil && len(save.Entries) > 0 && save.Entries[0].Index <= last {
		w.seen[seenReplaced]++
	}
	w.tracef("server %d saves %+v, %d entries", s.id, save.State, len(save.Entries))
	s.check(s.store.Write(save.State, save.Entries))
	s.saveDue = w.step + 1 + w.rng.IntN(s.slow)
	if w.step < s.slowUntil && w.chaos() {
		s.saveDue = w.step + w.rng.IntN(2000)
	}
}

// act is what a client does with a server that thinks it leads.
func (s *simServer) act() {
	w := s.w
	if s.leadership == nil || s.op != nil || s.paused() || !w.chance(w.busy) || w.step < s.quietUntil && w.chaos() {
		return
	}
	w.checkSession(s)
	applied, _ := s.replica.Applied()
	op := &simOperation{acked: len(w.acked), applied: applied, waits: s.handsOver > 0}
	var err error
	reads := 30
	if s.quietUntil > 0 && w.step-s.quietUntil < 1000 {
		reads = 80
	}
	switch n := w.rng.IntN(100); {
	case n < reads:
		op.kind = simRead
		w.askedToRead(s)
		err = s.leadership.BeginRead()
	case n < reads+3, s.machine.lottery.Drawn():
		if w.ended {
			return
		}
		op.kind = simSeal
		err = s.leadership.BeginSeal()
	default:
		var group []byte
		if w.step > w.chaosUntil+simLastMax && len(w.plan) == 0 {
			if group = s.machine.lastGroup(); len(group) == 0 {
				return
			}
		} else {
			w.number++
			op.number = w.number
			group = s.machine.group(w, op.number)
		}
		if len(group) > simGroupBytesMax {
			w.failf("a group of %d bytes", len(group))
		}
		s.check(s.machine.take(group)) // from here on it is ahead of the log
		err = s.leadership.BeginCommit([][]byte{group})
		clear(group) // it is ours again
	}
	if err != nil && !errors.Is(err, commit.ErrNotLeader) {
		w.failf("server %d: %v", s.id, err)
	}
	w.tracef("server %d begins %+v: %v", s.id, *op, err)
	s.op = op
	if err != nil {
		s.finish(err)
	}
	s.work()
}

func (s *simServer) poll() {
	if s.leadership == nil || s.op == nil {
		return
	}
	done, err := s.leadership.Poll()
	if done {
		s.finish(err)
	}
}

func (s *simServer) finish(err error) {
	op := s.op
	s.op = nil
	s.w.tracef("server %d ends %+v: %v", s.id, *op, err)
	switch {
	case err == nil:
		s.w.checkDone(s, op)
	case errors.Is(err, commit.ErrNotLeader):
		s.w.unknown(op)
	default:
		s.w.failf("server %d: %v", s.id, err)
	}
}

// settled reports whether the server has nothing left to do.
func (s *simServer) settled() bool {
	if s.replica == nil || s.saveDue != 0 || s.op != nil || s.more {
		return false
	}
	last, err := s.store.LastIndex()
	index, _ := s.replica.Applied()
	return err == nil && last == uint64(len(s.w.log)) && s.replica.Committed() == last && index == last
}
