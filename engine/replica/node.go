package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"loteria/engine/commit"
	"loteria/engine/ledger"
)

// Role is what a node does in its term.
type Role uint8

const (
	// Following says that the node doesn't lead. It follows a leader, waits for one, or asks for
	// votes.
	Following Role = iota
	// Elected says that the node has won its term. It serves nothing yet, because it may not know of
	// all that is committed.
	Elected
	// Leading says that the entry that the node began its term with is committed and handed out, and
	// so is all that was committed under earlier leaders.
	Leading
)

func (r Role) String() string { return [...]string{"following", "elected", "leading"}[r] }

// Status is where a node stands.
type Status struct {
	Role   Role
	Term   uint64
	Leader uint64 // of the term; 0 if the node knows none
}

// Progress is how far another server is, as the leader knows it.
type Progress struct {
	ID      uint64
	Match   uint64 // the last entry that it has acknowledged in this term; 0 if none
	Active  bool   // it was heard of within the last ElectionTicks
	Learner bool
}

// Save is what the caller has to save in its [Store], in the background if it likes. Its entries
// are the store's and the caller's to read, and nobody's to change.
type Save struct {
	State   State
	Entries []Entry
}

// Read is a read barrier that was passed: this node led when somebody called [Node.Read] with that
// number. Whoever has applied all entries up to Index knows all that was acknowledged until then.
type Read struct {
	Number uint64
	Index  uint64
}

// Ready is what the caller of a [Node] has to do.
type Ready struct {
	// Save has to be saved, and [Node.Saved] called afterwards. Nil if there is nothing, or another
	// Save isn't saved yet.
	Save *Save
	// Messages may leave at once, also before Save is saved. The network may lose, repeat, delay and
	// reorder them. Nobody may change them.
	Messages []*raftpb.Message
	// Committed are the next committed entries. All of them are in the store. They count as applied
	// at the next call of Ready.
	Committed []Entry
	// Reads are barriers that were passed.
	Reads []Read
	// Status is where the node stands once Committed is applied.
	Status Status
	// Members are those once Committed is applied, in the first Ready and whenever they have changed;
	// else nil. See [Work].
	Members *Membership
}

// Node is one server's share in the replicated log. It is a state machine: without a goroutine,
// clock, socket or file. What happens is told it, and [Node.Ready] says what has to be done. The
// one thing in it that is left to chance is how long it waits for a leader; raft takes that from
// crypto/rand.
//
// One goroutine owns a Node. An error of a method is final if it isn't ErrBusy, ErrMessage or
// commit.ErrNotLeader: then the server has to end. Use [New].
type Node struct {
	cfg     Config
	raw     *raft.RawNode
	storage *storage
	err     error // final

	members   Membership // as far as it is handed out as committed
	confirmed bool       // whether the log has it twice, as far as it is handed out
	told      bool       // whether the caller knows members
	changing  uint64     // index of a membership of this leader's that isn't committed; 0: none

	status  Status
	ticks   uint64            // so far
	heard   map[uint64]uint64 // member: the value of ticks when it was last heard of
	led     uint64            // the value of ticks when a leader was last heard of
	untaken int               // data of entries that raft was given since the last Ready, at most
	last    uint64            // index of the last entry of the log, saved or not
	reading uint64            // number of the read barrier that was asked for; 0: none
	lost    lostLeader

	applying []*raftpb.Message // tell raft that what the last Ready handed out is applied
	outgoing []*raftpb.Message // may leave
	saving   *save             // handed out, and not saved yet; nil: none
	next     save              // what comes after it
	state    State             // that the store has once it is idle
	saved    uint64            // index of the last entry that is saved and in the log
	known    uint64            // index of an entry that the store has to know as committed
	sure     uint64            // the Commit that no crash sets back
	ends     []uint64          // indices of the ends behind it in the log, in order
}

// New makes the node of a server that has what is in the store. What the store's State calls
// committed, the caller reads from the store: Ready hands out what comes behind it. Errors are the
// store's, wrap [ErrLost], or say what is wrong with the configuration.
func New(c Config, s Store) (n *Node, err error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	state, err := s.State()
	if err != nil {
		return nil, err
	}
	last, err := s.LastIndex()
	if err != nil {
		return nil, err
	}
	sure := state.Commit
	if sure > last {
		return nil, fmt.Errorf("%w: it has %d entries, of which %d were committed", ErrLost, last, state.Commit)
	}
	members, confirmed, err := openMembers(c, s, &state, last)
	if err != nil {
		return nil, err
	}
	ends, err := endsBehind(s, sure, last, c.ApplyBytesMax)
	if err != nil {
		return nil, err
	}
	n = &Node{
		cfg: c, members: members, confirmed: confirmed, sure: sure, ends: ends, known: state.Commit,
		storage: &storage{
			store: s, state: state, bytesMax: c.RecentBytesMax,
			conf: &raftpb.ConfState{Voters: members.Voters(), Learners: members.Learners()},
		},
		heard: map[uint64]uint64{}, last: last, state: state, saved: last,
	}
	n.next.state = state
	err = n.guard(func() (err error) {
		n.raw, err = raft.NewRawNode(&raft.Config{
			ID:                        c.ID,
			ElectionTick:              c.ElectionTicks,
			HeartbeatTick:             c.HeartbeatTicks,
			Storage:                   n.storage,
			Applied:                   state.Commit,
			AsyncStorageWrites:        true,
			MaxSizePerMsg:             uint64(c.MessageBytesMax),
			MaxCommittedSizePerReady:  uint64(c.ApplyBytesMax),
			MaxUncommittedEntriesSize: uint64(c.UncommittedBytesMax),
			MaxInflightMsgs:           c.InflightMax,
			MaxInflightBytes:          uint64(c.InflightBytesMax),
			CheckQuorum:               true,
			PreVote:                   true,
			ReadOnlyOption:            raft.ReadOnlySafe,
			DisableProposalForwarding: true,
			// Raft would append an empty entry in place of a change that comes too early, and that is a
			// seal. ProposeMembers refuses such a change.
			DisableConfChangeValidation: true,
			Logger:                      logger{},
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	n.status.Term = state.Term
	return n, nil
}

// openMembers finds the membership behind what a store knows to be committed, and whether it is
// confirmed.
//
// A leader proposes a membership only when it has applied the one before. So of two in the log the
// first is committed, though a crash may have left a state that doesn't say so. The state has to be
// set right: a server that goes back by two memberships could win an election with a majority that
// has no server in common with that of the newest one.
func openMembers(c Config, s Store, state *State, last uint64) (m Membership, confirmed bool, err error) {
	newest, _, err := membersBefore(s, last+1)
	if err != nil {
		return m, false, err
	}
	before, _, err := membersBefore(s, newest)
	if err != nil {
		return m, false, err
	}
	state.Commit = max(state.Commit, before)
	newest, m, err = membersBefore(s, state.Commit+1)
	if newest == 0 || err != nil {
		return c.membership(), true, err
	}
	_, previous, err := membersBefore(s, newest)
	return m, m.equal(previous), err
}

// membersBefore reads the last membership before an entry, with its index; 0 if there is none.
func membersBefore(s Store, before uint64) (index uint64, m Membership, err error) {
	if before == 0 {
		return 0, m, nil
	}
	index, err = s.LastMembers(before - 1)
	if index == 0 || err != nil {
		return 0, m, err
	}
	entries, err := s.Entries(index, index, 1)
	if err != nil {
		return 0, m, err
	}
	m, err = unpackMembers(entries[0].Records)
	return index, m, err
}

// endsBehind finds the ends in the log behind an entry, up to the last one. It reads that much data at
// a time.
func endsBehind(s Store, behind, last uint64, bytesMax int) (ends []uint64, err error) {
	for behind < last {
		entries, err := s.Entries(behind+1, last, bytesMax)
		if err != nil {
			return nil, err
		}
		ends = appendEnds(ends, entries)
		behind = entries[len(entries)-1].Index
	}
	return ends, nil
}

func appendEnds(ends []uint64, entries []Entry) []uint64 {
	for _, e := range entries {
		if isEnd(e) {
			ends = append(ends, e.Index)
		}
	}
	return ends
}

func isEnd(e Entry) bool { return ledger.FirstKind(e.Records) == ledger.Ended }

// guard calls f, unless the node has failed, and remembers a failure.
func (n *Node) guard(f func() error) (err error) {
	if n.err != nil {
		return n.err
	}
	defer func() {
		if p := recover(); p != nil {
			failed, ours := p.(failure)
			if !ours {
				panic(p)
			}
			n.err = failed.error
			err = n.err
		}
	}()
	return f()
}

// Tick tells the node that a tick of time has passed.
func (n *Node) Tick() error {
	return n.guard(func() error {
		n.ticks++
		n.raw.Tick()
		n.askIfRemoved()
		if n.lost.server != 0 && n.ticks >= n.lost.until {
			return n.succeed()
		}
		return nil
	})
}

// lostLeader is a leader that can't be reached.
type lostLeader struct {
	server uint64 // 0: none
	term   uint64
	until  uint64 // the value of ticks at which this server wants to lead
}

// turnTicks is for how many ticks a server that wants to lead is left alone by the next one.
const turnTicks = 2

// Lost tells the node that a server can't be reached any more: its process has ended, or the
// connection to it. If it is the leader, the voters don't wait for ElectionTicks. They want to lead
// one after the other, ordered by id, until there is a leader. If the leader is there still, it
// goes on: its next message takes all back, and the others who hear it vote for nobody.
func (n *Node) Lost(server uint64) error {
	return n.guard(func() error {
		now := n.raw.BasicStatus()
		if server != now.Lead || server == n.cfg.ID {
			return nil
		}
		// Otherwise it would take another voter's wish to lead for that of one who is cut off.
		if err := n.raw.ForgetLeader(); err != nil {
			return err
		}
		turn := 0
		for _, id := range n.members.Voters() {
			if id < n.cfg.ID && id != server {
				turn++
			}
		}
		n.lost = lostLeader{server, now.GetTerm(), n.ticks + 1 + uint64(turn*turnTicks)}
		return nil
	})
}

// succeed wants to lead, and again when all others have had their turn: they may not have known of
// the loss. It doesn't if there is a leader again, or another server is about to lead.
func (n *Node) succeed() error {
	lost := n.lost
	n.lost = lostLeader{}
	now := n.raw.BasicStatus()
	if now.Lead != 0 || now.GetTerm() != lost.term || !n.members.votes(n.cfg.ID) {
		return nil
	}
	lost.until = n.ticks + uint64(turnTicks*len(n.members.Voters()))
	n.lost = lost
	return n.raw.Campaign()
}

// Receive tells the node of a message from another server. Nobody may change it afterwards. An
// error that matches [ErrMessage] says that no server sends such a message to this one. One that
// matches [ErrBusy] says that the message was dropped, as the network might have, because too much
// waits for the disk. One that matches [ErrRemoved] is final.
//
// A server that isn't a member as far as this one knows is heard nonetheless: this one may be
// behind. But one that was removed is only told so.
func (n *Node) Receive(m *raftpb.Message) error {
	return n.guard(func() error {
		from := m.GetFrom()
		if m.GetTo() != n.cfg.ID || from == n.cfg.ID || from == 0 || raft.IsLocalMsgTarget(from) {
			return fmt.Errorf("%w: from %d to %d", ErrMessage, from, m.GetTo())
		}
		if saysRemoved(m) {
			fail(ErrRemoved)
		}
		if n.members.removed(from) {
			n.sayRemoved(from)
			return nil
		}
		if _, known := n.members.Server(from); known {
			n.heard[from] = n.ticks
		}
		for _, e := range m.GetEntries() {
			if err := checkEntry(e); err != nil {
				return fmt.Errorf("%w: %w", ErrMessage, err)
			}
		}
		if m.GetType() == raftpb.MsgApp || m.GetType() == raftpb.MsgHeartbeat {
			n.led = n.ticks
		}
		switch m.GetType() {
		case raftpb.MsgApp, raftpb.MsgVote, raftpb.MsgPreVote:
			size := dataBytes(fromRaft(m.GetEntries()))
			if n.full(size) {
				return fmt.Errorf("%w for the disk: a message from %d is dropped", ErrBusy, m.GetFrom())
			}
			n.untaken += size
		case raftpb.MsgHeartbeat:
			// What a leader calls committed in a heartbeat, this server has acknowledged to it.
			if m.GetTerm() >= n.raw.BasicStatus().GetTerm() && m.GetCommit() > n.last {
				fail(fmt.Errorf("%w: it has %d entries, and has acknowledged %d", ErrLost, n.last, m.GetCommit()))
			}
		case raftpb.MsgAppResp, raftpb.MsgVoteResp, raftpb.MsgPreVoteResp, raftpb.MsgHeartbeatResp,
			raftpb.MsgTimeoutNow:
		default:
			// No server forwards proposals or reads, or sends snapshots; the rest is never sent.
			return fmt.Errorf("%w: a %v from %d", ErrMessage, m.GetType(), m.GetFrom())
		}
		if err := n.step(m); err != nil && !errors.Is(err, raft.ErrProposalDropped) {
			return fmt.Errorf("%w: %w", ErrMessage, err)
		}
		return nil
	})
}

// step gives raft a message. An answer from a server that is not a member is of no use to it: one
// that was removed in the meantime, or this one.
func (n *Node) step(m *raftpb.Message) error {
	if err := n.raw.Step(m); !errors.Is(err, raft.ErrStepPeerNotFound) {
		return err
	}
	return nil
}

// removedContext is what a rejection says that tells a server that it was removed.
const removedContext = "removed"

func saysRemoved(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgPreVoteResp && m.GetReject() && string(m.GetContext()) == removedContext
}

// sayRemoved answers whatever a server has said that was removed. That one ends when it is told,
// and may be the only other one that knows. So this one saves first that it knows.
func (n *Node) sayRemoved(to uint64) {
	n.next.promise(&raftpb.Message{
		Type: raftpb.MsgPreVoteResp.Enum(), From: &n.cfg.ID, To: &to, Term: new(n.raw.BasicStatus().GetTerm()),
		Reject: new(true), Context: []byte(removedContext),
	}, n.cfg.ID)
}

// askIfRemoved says something to the voters, now and then while no leader is heard of. If this
// server was removed, they say so. A voter asks for votes then, and so says enough.
func (n *Node) askIfRemoved() {
	ticks, silent := uint64(n.cfg.ElectionTicks), n.ticks-n.led
	status := n.raw.BasicStatus()
	if n.members.votes(n.cfg.ID) || status.RaftState == raft.StateLeader || silent < 2*ticks || silent%ticks != 0 {
		return
	}
	for _, to := range n.members.Voters() {
		n.outgoing = append(n.outgoing, &raftpb.Message{
			Type: raftpb.MsgHeartbeatResp.Enum(), From: &n.cfg.ID, To: &to, Term: new(status.GetTerm()),
		})
	}
}

// full reports whether there is no room for a message with so much data, which will wait for the disk.
func (n *Node) full(size int) bool {
	if len(n.next.promises) >= promisesMax {
		return true
	}
	unsaved := n.untaken + dataBytes(n.next.entries)
	if n.saving != nil {
		unsaved += dataBytes(n.saving.entries)
	}
	return unsaved > 0 && unsaved+size > n.cfg.UnsavedBytesMax
}

// Propose appends an entry with a group to the log, and returns the entry's index; an empty group
// makes a seal. A membership is no group. The group is the caller's again afterwards. The node has
// to be Leading.
//
// The entry is committed when Ready hands out one with that index and this node's term. If another
// one is there, or the node's term ends before, the caller can't know whether the entry is in the
// log, and must not propose the group again.
//
// An error says that nothing was appended. It matches commit.ErrNotLeader, or [ErrBusy] while too
// much is not committed, or another server is about to take over.
func (n *Node) Propose(group []byte) (index uint64, err error) {
	return n.propose(func() error { return n.raw.Propose(group) })
}

// ProposeMembers appends an entry with a membership that is one change away from the node's. It is
// otherwise as Propose. An error may also match [ErrChanging]: the one before isn't confirmed yet.
func (n *Node) ProposeMembers(m Membership) (index uint64, err error) {
	if !n.confirmed || n.changing != 0 {
		return 0, ErrChanging
	}
	return n.proposeMembers(m)
}

// confirm appends the membership once more that the node, which leads, has applied: whoever has
// both knows that the first is committed. A majority must know that before anybody relies on it.
// Otherwise the only server that knows may be lost, and the rest may be no majority of the members
// before.
func (n *Node) confirm() {
	if !n.confirmed && n.changing == 0 && n.status.Role == Leading {
		_, _ = n.proposeMembers(n.members) // an error says: not now
	}
}

func (n *Node) proposeMembers(m Membership) (index uint64, err error) {
	index, err = n.propose(func() error { return n.raw.ProposeConfChange(confChange(m.appendRecord(nil))) })
	if err == nil {
		n.changing = index
	}
	return index, err
}

func (n *Node) propose(propose func() error) (index uint64, err error) {
	err = n.guard(func() error {
		if n.status.Role != Leading {
			return commit.ErrNotLeader
		}
		switch err := propose(); {
		case errors.Is(err, raft.ErrProposalDropped) && n.raw.BasicStatus().RaftState == raft.StateLeader:
			return fmt.Errorf("%w to be committed", ErrBusy)
		case err != nil:
			return fmt.Errorf("%w: %w", commit.ErrNotLeader, err)
		}
		n.last++
		index = n.last
		return nil
	})
	return index, err
}

// Read asks for a read barrier: for a proof that no other server has led until now. The number is
// the caller's, not 0; [Ready.Reads] has it once a quorum has answered. If the node's term ends, it
// never does. The node has to be Leading.
//
// There is one barrier at a time. An error says that nothing was asked for. It matches
// commit.ErrNotLeader or [ErrBusy].
func (n *Node) Read(number uint64) error {
	return n.guard(func() error {
		if n.status.Role != Leading || n.raw.BasicStatus().RaftState != raft.StateLeader {
			return commit.ErrNotLeader
		}
		if n.reading != 0 {
			return fmt.Errorf("%w: another read barrier", ErrBusy)
		}
		n.reading = number
		n.raw.ReadIndex(binary.LittleEndian.AppendUint64(nil, number))
		return nil
	})
}

// Transfer asks a leader to hand over to another voter, as soon as that has all of the log. Until
// then, for ElectionTicks at most, Propose returns ErrBusy. On a node that doesn't lead it does
// nothing.
func (n *Node) Transfer(to uint64) error {
	return n.guard(func() error {
		if n.raw.BasicStatus().RaftState == raft.StateLeader && n.members.votes(to) {
			n.raw.TransferLeader(to)
		}
		return nil
	})
}

// Progress is how far the other servers are, ordered by id. It is nil on a node that doesn't lead.
func (n *Node) Progress() (all []Progress) {
	if n.err != nil || n.raw.BasicStatus().RaftState != raft.StateLeader || !n.members.votes(n.cfg.ID) {
		return nil
	}
	n.raw.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		if id == n.cfg.ID {
			return
		}
		all = append(all, Progress{ID: id, Match: p.Match, Active: n.active(id), Learner: p.IsLearner})
	})
	return all
}

// active reports whether a server is there, as far as this one knows. Raft's own RecentActive is
// false for a moment after each time that it was looked at.
func (n *Node) active(id uint64) bool {
	at, known := n.heard[id]
	return id == n.cfg.ID || known && n.ticks-at < uint64(n.cfg.ElectionTicks)
}

// Saved tells the node that the [Save] that Ready handed out last is saved. It panics if there is
// none.
func (n *Node) Saved() error {
	return n.guard(func() error {
		if n.saving == nil {
			panic("replica: nothing is being saved")
		}
		s := n.saving
		n.saving = nil
		n.storage.keep(s.entries)
		if len(s.entries) > 0 {
			n.saved = s.entries[len(s.entries)-1].Index
		} else {
			n.sure = s.state.Commit
			n.ends = slices.DeleteFunc(n.ends, func(end uint64) bool { return end <= n.sure })
		}
		return n.keep(s.promises)
	})
}

// keep sends the messages of promises that are kept, and tells raft of those that it made itself.
func (n *Node) keep(promises []*raftpb.Message) error {
	for _, m := range promises {
		if m.GetTo() != n.cfg.ID {
			n.outgoing = append(n.outgoing, m)
		} else if err := n.step(m); err != nil {
			return err
		}
	}
	return nil
}

// Ready returns what has to be done now. The caller does all of it, in any order, and applies what
// is committed before it calls Ready again. It calls Ready after every other method, and again after
// a Ready that has handed out committed entries. It need not wait for the save.
func (n *Node) Ready() (r Ready, err error) {
	err = n.guard(func() error {
		n.confirm()
		applied := n.applying
		n.applying = nil
		for _, m := range applied {
			if err := n.raw.Step(m); err != nil {
				return err
			}
		}
		n.untaken = 0
		for n.raw.HasReady() || n.idle() {
			if n.raw.HasReady() {
				n.take(n.raw.Ready(), &r)
				continue
			}
			promises := n.next.promises
			n.next.promises = nil
			if err := n.keep(promises); err != nil {
				return err
			}
		}
		if n.saving == nil && n.mustSave() {
			n.beginSave(&r)
		}
		r.Messages, n.outgoing = n.understated(n.outgoing), nil
		n.status = n.standing(r.Committed)
		r.Status = n.status
		if !n.told {
			n.told = true
			r.Members = new(n.members)
		}
		return nil
	})
	return r, err
}

// take sorts what raft wants done. Raft addresses what is for the disk to a thread that saves, and
// what is to be applied to one that applies; each with the messages that wait for it.
func (n *Node) take(rd raft.Ready, r *Ready) {
	for _, m := range rd.Messages {
		switch {
		case m.GetTo() == raft.LocalAppendThread:
			n.takeSave(m)
		case m.GetTo() == raft.LocalApplyThread:
			n.takeCommitted(m, r)
		case m.GetType() == raftpb.MsgVote:
			// Raft would send it at once. But then a candidate that is killed forgets that it has asked
			// for votes in this term, and with which log. It may ask again, with a log that has lost what
			// was not saved, and win with the votes that were given to the longer one.
			n.next.promise(m, n.cfg.ID)
		default:
			n.outgoing = append(n.outgoing, m)
		}
	}
	for _, s := range rd.ReadStates {
		if number := binary.LittleEndian.Uint64(s.RequestCtx); number == n.reading {
			r.Reads = append(r.Reads, Read{Number: number, Index: s.Index})
			n.reading = 0
		}
	}
}

// idle reports whether promises wait although nothing has to be saved for them.
func (n *Node) idle() bool { return len(n.next.promises) > 0 && n.saving == nil && !n.mustSave() }

func (n *Node) takeSave(m *raftpb.Message) {
	if m.Term != nil && m.GetTerm() != 0 {
		n.next.state = State{Term: m.GetTerm(), Vote: m.GetVote(), Commit: m.GetCommit()}
	}
	if entries := fromRaft(m.GetEntries()); len(entries) > 0 {
		n.next.append(entries)
		n.last = entries[len(entries)-1].Index
		n.ends = slices.DeleteFunc(n.ends, func(end uint64) bool { return end >= entries[0].Index })
		n.ends = appendEnds(n.ends, entries)
	}
	for _, p := range m.GetResponses() {
		n.next.promise(p, n.cfg.ID)
	}
}

func (n *Node) takeCommitted(m *raftpb.Message, r *Ready) {
	for _, e := range fromRaft(m.GetEntries()) {
		if isMembers(e.Records) {
			n.change(e)
		}
		if len(e.Records) == 0 || isMembers(e.Records) || isEnd(e) {
			n.known = e.Index
		}
		if n.changing <= e.Index {
			n.changing = 0
		}
		r.Committed = append(r.Committed, e)
	}
	n.applying = append(n.applying, m.GetResponses()...)
}

// change makes a membership the node's.
//
// A leader that was removed goes on leading as far as raft is concerned, without anything new: the
// others have to hear that its removal is committed. The first one that has heard tells it.
func (n *Node) change(e Entry) {
	members, err := unpackMembers(e.Records)
	if err != nil {
		fail(fmt.Errorf("entry %d: %w", e.Index, err))
	}
	if n.confirmed = members.equal(n.members); n.confirmed {
		return
	}
	for _, step := range steps(n.members, members) {
		n.raw.ApplyConfChange(step)
	}
	n.members, n.told = members, false
	for id := range n.heard {
		if _, stays := members.Server(id); !stays {
			delete(n.heard, id)
		}
	}
}

// mustSave reports whether the next save can't wait. To know what is committed can: the others know
// it, too. But an empty entry can't: it is a seal, or the beginning of a term. Nor can a
// membership: it is what the server begins its next life with. Nor can an end: the others may be gone
// then. A save that has entries may lose it again, so there is another one behind it.
func (n *Node) mustSave() bool {
	return len(n.next.entries) > 0 || n.next.state.Term != n.state.Term || n.next.state.Vote != n.state.Vote ||
		n.known > n.sure
}

// understated is what of a leader's messages may leave: none says that an end is committed before the
// leader's own store knows. The others go when they hear of it, and a leader that was killed then and
// had forgotten it would wait for them for ever.
//
// Of entries that say too much nothing leaves: with what comes behind a membership, a server has to
// hear that the membership is committed. The network might have lost them, too: the answer to a later
// heartbeat has raft send them again.
func (n *Node) understated(messages []*raftpb.Message) []*raftpb.Message {
	if len(n.ends) == 0 {
		return messages
	}
	return slices.DeleteFunc(messages, func(m *raftpb.Message) bool {
		tooMuch := m.GetCommit() >= n.ends[0]
		if tooMuch && m.GetType() == raftpb.MsgHeartbeat {
			m.Commit = new(n.sure)
			return false
		}
		return tooMuch
	})
}

// beginSave hands out the next save, and begins the one after it.
func (n *Node) beginSave(r *Ready) {
	s := n.next
	// A save may be torn behind its state. So the state must not count on the entries.
	known := n.saved
	if len(s.entries) > 0 {
		known = min(known, s.entries[0].Index-1)
	}
	n.next = save{state: s.state}
	s.state.Commit = max(n.state.Commit, min(s.state.Commit, known))
	n.saved = known
	n.state = s.state
	n.saving = &s
	r.Save = &Save{State: s.state, Entries: s.entries}
}

// standing is the status once what r hands out is applied.
func (n *Node) standing(committed []Entry) Status {
	now := n.raw.BasicStatus()
	s := Status{Term: now.GetTerm(), Leader: now.Lead}
	leads := now.RaftState == raft.StateLeader
	if leads && !n.members.votes(n.cfg.ID) {
		leads, s.Leader = false, 0 // it was removed
	}
	if s.Term != n.status.Term || !leads {
		n.reading, n.changing = 0, 0
	}
	if leads {
		s.Role = Elected
		if s.Term == n.status.Term && n.status.Role == Leading ||
			len(committed) > 0 && committed[len(committed)-1].Term == s.Term {
			s.Role = Leading
		}
	}
	return s
}
