package replica_test

import (
	"bytes"
	"slices"

	"loteria/engine/ledger"
	"loteria/engine/replica"
)

// checks is what a run has seen, and compares with.
type checks struct {
	log     []replica.Entry // what is committed, as the first server that knew it had it
	records []uint64        // how many records there are up to each entry of log
	digests []digest        // of a state machine with that many records of the draw

	members   replica.Membership // the newest that are committed
	confirmed bool               // whether log has them twice
	changed   []memberChange     // by index
	model     *simMachine        // a state machine with all of log
	at        map[int]uint64     // group: index of its entry in log

	number   int          // of the newest group
	acked    []int        // groups that were acknowledged, in order
	isAcked  map[int]bool // the same
	unknowns []int        // groups of unknown outcome
	ended    bool         // the draw has taken place, and is sealed

	leaderOf     map[uint64]uint64    // term: server
	checkedUp    map[uint64]uint64    // server: index up to which its log was compared
	sessionTerms map[uint64][2]uint64 // term: its first session number and its last
	transferTerm uint64
	transferTo   uint64
}

func newChecks() checks {
	model := newSimMachine()
	return checks{
		model: model, digests: []digest{model.digest()}, at: map[int]uint64{}, isAcked: map[int]bool{},
		leaderOf: map[uint64]uint64{}, checkedUp: map[uint64]uint64{},
		sessionTerms: map[uint64][2]uint64{},
	}
}

// checkStatus is called when a server's status changes. A term has one leader.
func (w *world) checkStatus(s *simServer) {
	if s.status.Role == replica.Following {
		return
	}
	if !slices.Contains(s.replica.Members().Voters(), s.id) {
		w.failf("server %d leads, and is no voter in %v", s.id, s.replica.Members())
	}
	if other, known := w.leaderOf[s.status.Term]; known && other != s.id {
		w.failf("servers %d and %d both lead term %d", other, s.id, s.status.Term)
	}
	w.leaderOf[s.status.Term] = s.id
	if s.status.Role == replica.Elected {
		s.electedAt = len(w.log)
	}
}

// checkBegun is called when a leadership begins: it knows all that earlier ones have acknowledged.
// There may be a later one already, of which it hasn't heard.
func (w *world) checkBegun(s *simServer) {
	term := s.leadership.Term()
	w.seen[seenBegun]++
	if w.transferTo == s.id && term == w.transferTerm+1 {
		w.seen[seenTransfer]++
	}
	if term != s.status.Term || s.status.Role != replica.Leading || s.status.Leader != s.id {
		w.failf("server %d: a leadership of term %d begins in %+v", s.id, term, s.status)
	}
	if _, known := w.sessionTerms[term]; known {
		w.failf("server %d: a leadership of term %d begins, and there was one", s.id, term)
	}
	for _, number := range w.acked {
		if w.log[w.at[number]-1].Term < term && !s.machine.numbers[number] {
			w.failf("server %d begins to lead without group %d, which was acknowledged", s.id, number)
		}
	}
	if index := s.replica.Committed(); index == 0 || w.log[index-1].Term != term {
		w.failf("server %d begins to lead term %d, and knows of no committed entry of it", s.id, term)
	} else {
		for index > 1 && w.log[index-2].Term == term {
			index--
		}
		if index-1 > uint64(s.electedAt) {
			w.seen[seenInherited]++
		}
	}
	if len(w.leaders()) > 1 {
		w.seen[seenTwoLeaders]++
	}
	if got, want := s.machine.digest(), w.digests[s.machine.count]; got != want {
		w.failf("server %d begins to lead with %+v, want %+v", s.id, got, want)
	}
}

// checkBounds is called after everything that a server does.
func (w *world) checkBounds(s *simServer) {
	c := s.config()
	promises, unsaved, recent := s.replica.Waiting()
	// Behind the limits there may be one message, or one group, and what a server promises itself.
	if others := len(w.servers); promises > replica.PromisesMax+4*others {
		w.failf("server %d: %d messages wait for the disk", s.id, promises)
	}
	if limit := max(c.UnsavedBytesMax, c.UncommittedBytesMax+simGroupBytesMax); unsaved > limit {
		w.failf("server %d: %d bytes wait for the disk, at most %d may", s.id, unsaved, limit)
	}
	if recent > c.RecentBytesMax {
		w.failf("server %d: %d bytes are kept in memory, at most %d may", s.id, recent, c.RecentBytesMax)
	}
}

// checkSession numbers a session of a leadership. Numbers grow from term to term.
func (w *world) checkSession(s *simServer) {
	term := s.leadership.Term()
	s.sessions++
	number := term<<40 + s.sessions
	for other, numbers := range w.sessionTerms {
		if other < term && numbers[1] >= number || other > term && numbers[0] <= number {
			w.failf("session %d of term %d, and term %d has %v", number, term, other, numbers)
		}
	}
	numbers, known := w.sessionTerms[term]
	if !known {
		numbers[0] = number
	} else if numbers[1] >= number {
		w.failf("session %d of term %d comes after %d", number, term, numbers[1])
	}
	numbers[1] = number
	w.sessionTerms[term] = numbers
}

// checkCommitted compares what a server calls committed with what others did, and its state with
// the log.
func (w *world) checkCommitted(s *simServer) {
	committed := s.replica.Committed()
	first := w.checkedUp[s.id] + 1
	if first <= committed {
		entries, err := s.store.Entries(first, committed, 1<<30)
		if err != nil || len(entries) != int(committed-first+1) {
			w.failf("server %d: %d entries from %d to %d: %v", s.id, len(entries), first, committed, err)
		}
		for _, e := range entries {
			w.checkEntry(s, e)
		}
		w.checkedUp[s.id] = committed
	}
	w.checkSameMembers(s)
	if s.leadership == nil {
		index, seq := s.replica.Applied()
		if index > 0 && w.records[index-1] != seq || seq != s.machine.seq {
			w.failf("server %d has applied entry %d: %d records, and %d in the state machine", s.id, index, seq, s.machine.seq)
		}
		if got := s.machine.digest(); got != w.digests[s.machine.count] {
			w.failf("server %d has the state %+v, want %+v", s.id, got, w.digests[s.machine.count])
		}
	}
}

func (w *world) checkEntry(s *simServer, e replica.Entry) {
	if e.Index <= uint64(len(w.log)) {
		if want := w.log[e.Index-1]; want.Term != e.Term || !bytes.Equal(want.Records, e.Records) {
			w.failf("server %d has committed entry %d of term %d, others have committed one of term %d", s.id, e.Index, e.Term, want.Term)
		}
		return
	}
	if e.Index != uint64(len(w.log))+1 {
		w.failf("server %d commits entry %d behind %d", s.id, e.Index, len(w.log))
	}
	w.log = append(w.log, e)
	w.checkQuorum(e)
	w.changeMembers(e)
	for rest := e.Records; len(rest) > 0; {
		var r ledger.Record
		r, rest = ledger.Unpack(rest)
		if r.Kind == ledger.Bets {
			if number, err := numberOf(r.Payload); err == nil {
				w.at[number] = e.Index // twice is an error of the model
			}
		}
		r.Seq = w.model.seq + 1
		if err := w.model.visit(r); err != nil {
			w.failf("the log can't be replayed at entry %d: %v", e.Index, err)
		}
		if r.Kind != ledger.Members {
			w.digests = append(w.digests, w.model.digest())
		}
	}
	w.records = append(w.records, w.model.seq)
}

// checkQuorum refuses an entry that is not on the disks of a quorum: of the members before it, or
// of those before these, if the leader hadn't applied the newest ones yet.
func (w *world) checkQuorum(e replica.Entry) {
	before := slices.IndexFunc(w.changed, func(c memberChange) bool { return c.index >= e.Index })
	if before < 0 {
		before = len(w.changed)
	}
	for _, c := range w.changed[max(before-2, 0):before] {
		holders, voters := 0, c.members.Voters()
		for _, id := range voters {
			_, entries := w.server(id).disk.Durable()
			if e.Index <= uint64(len(entries)) && entries[e.Index-1].Term == e.Term {
				holders++
			}
		}
		if holders > len(voters)/2 {
			return
		}
	}
	w.failf("entry %d of term %d counts as committed, and is not on the disks of a quorum", e.Index, e.Term)
}

// memberChange is an entry with a membership, or at index 0 the first one.
type memberChange struct {
	index   uint64
	members replica.Membership
}

// changeMembers takes a membership that is committed. It is one step from the one before.
func (w *world) changeMembers(e replica.Entry) {
	if ledger.FirstKind(e.Records) != ledger.Members {
		return
	}
	r, _ := ledger.Unpack(e.Records)
	next, err := replica.ParseMembership(string(r.Payload))
	if err != nil {
		w.failf("entry %d: %v", e.Index, err)
	}
	steps := 0
	for id := uint64(1); id <= uint64(len(w.servers)); id++ {
		before, was := w.members.Server(id)
		now, is := next.Server(id)
		if was != is || before.Learner != now.Learner {
			steps++
		}
		if is && slices.Contains(w.members.Gone, id) {
			w.failf("server %d comes back with %v", id, next)
		}
		if was && !is && !slices.Contains(next.Gone, id) {
			w.failf("server %d is forgotten by %v", id, next)
		}
	}
	same := sameMembers(next, w.members)
	if steps > 1 || same == w.confirmed || len(next.Gone) < len(w.members.Gone) {
		w.failf("%v comes behind %v, confirmed: %v", next, w.members, w.confirmed)
	}
	w.tracef("the members are %v", next)
	w.confirmed = same
	w.members = next
	w.changed = append(w.changed, memberChange{e.Index, next})
}

// checkMembers compares the members that a server has with the log, once it has any of them from
// there.
func (w *world) checkMembers(s *simServer, told *replica.Membership) {
	has := s.replica.Members()
	if told != nil {
		s.told = *told
	}
	if !sameMembers(s.told, has) {
		w.failf("server %d said that the members are %v, and has %v", s.id, s.told, has)
	}
	if told != nil && s.status.Role == replica.Elected && slices.Contains(has.Gone, s.id) {
		w.seen[seenGoneElected]++
	}
}

func sameMembers(a, b replica.Membership) bool {
	return slices.Equal(a.Servers, b.Servers) && slices.Equal(a.Gone, b.Gone)
}

// checkSameMembers is called when the log has all that a server calls committed.
func (w *world) checkSameMembers(s *simServer) {
	for _, c := range slices.Backward(w.changed) {
		if c.index == 0 {
			return // its configuration counts
		}
		if c.index <= s.replica.Committed() {
			if has := s.replica.Members(); !sameMembers(has, c.members) {
				w.failf("server %d has the members %v, want %v", s.id, has, c.members)
			}
			return
		}
	}
}

// checkDone is called when an operation has succeeded.
func (w *world) checkDone(s *simServer, op *simOperation) {
	if op.waits && op.kind == simCommit {
		w.seen[seenWaited]++
	}
	switch op.kind {
	case simCommit:
		if op.number == 0 {
			return
		}
		index, committed := w.at[op.number]
		if !committed {
			w.failf("group %d is acknowledged by server %d, and no server has committed it", op.number, s.id)
		}
		w.checkQuorum(w.log[index-1])
		if w.isAcked[op.number] {
			w.failf("group %d is acknowledged twice", op.number)
		}
		w.seen[seenAcknowledged]++
		w.acked, w.isAcked[op.number] = append(w.acked, op.number), true
	case simRead:
		// The answer was what the server had applied when the read began.
		w.seen[seenRead]++
		for _, number := range w.acked[:op.acked] {
			if w.at[number] > op.applied {
				w.failf("server %d answers without group %d, which was acknowledged before it was asked", s.id, number)
			}
		}
	case simSeal:
		if s.machine.seq == 0 {
			return
		}
		w.seen[seenSealed]++
		w.ended = s.machine.lottery.Drawn()
		if state, _ := s.disk.Durable(); state.Commit < op.applied {
			w.failf("server %d has sealed entry %d, and its disk knows %+v", s.id, op.applied, state)
		}
	}
}

// askedToRead notes a read that would be stale without a barrier.
func (w *world) askedToRead(s *simServer) {
	for _, number := range w.acked {
		if !s.machine.numbers[number] {
			w.seen[seenReadDeposed]++
			return
		}
	}
}

// unknown is called when an operation has ended and nobody knows how.
func (w *world) unknown(op *simOperation) {
	if op.kind == simRead {
		w.seen[seenReadRefused]++
	}
	if op.kind == simCommit && op.number != 0 {
		w.unknowns = append(w.unknowns, op.number)
	}
}

// rebuilt is called when a server drops its state machine for a new one.
func (w *world) rebuilt(s *simServer) {
	w.seen[seenRebuilt]++
	if s.op != nil && s.op.kind == simCommit {
		w.seen[seenRebuiltAhead]++
	}
}

// checkEnd is called when all is done.
func (w *world) checkEnd() {
	for _, s := range w.servers {
		if s.gone {
			continue
		}
		state, entries := s.disk.Durable()
		if last := w.log[len(w.log)-1]; len(last.Records) > 0 || state.Commit != last.Index {
			w.failf("server %d ends with %+v, want a seal at %d", s.id, state, last.Index)
		}
		if len(entries) != len(w.log) {
			w.failf("server %d ends with %d entries of %d", s.id, len(entries), len(w.log))
		}
		for i, e := range entries {
			if want := w.log[i]; e.Index != want.Index || e.Term != want.Term || !bytes.Equal(e.Records, want.Records) {
				w.failf("server %d ends with another entry %d", s.id, e.Index)
			}
		}
		if got, want := s.machine.digest(), w.model.digest(); got != want {
			w.failf("server %d ends with %+v, want %+v", s.id, got, want)
		}
		w.checkScan(s, entries)
	}
	for _, number := range w.acked {
		if w.at[number] == 0 {
			w.failf("group %d was acknowledged, and is lost", number)
		}
	}
	for _, number := range w.unknowns {
		if w.at[number] != 0 {
			w.seen[seenUnknownKept]++
		} else {
			w.seen[seenUnknownLost]++
		}
	}
	if !w.model.lottery.Drawn() || w.model.lottery.Unserved() != 0 {
		w.failf("the draw has not taken place")
	}
}

// checkScan reads the log as an export does.
func (w *world) checkScan(s *simServer, entries []replica.Entry) {
	m := newSimMachine()
	tail, err := replica.Scan(s.store, uint64(len(entries)), m.visit)
	if err != nil || !tail.Sealed || tail.Seq != w.model.seq || m.digest() != w.model.digest() {
		w.failf("a scan of server %d finds %+v, %v", s.id, tail, err)
	}
}
