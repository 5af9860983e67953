package replica

import (
	"errors"
	"fmt"
	"slices"

	"loteria/engine/commit"
)

// change is a change of the members that a leadership makes.
type change struct {
	stage   stage
	what    Change
	members Membership // behind it
	place   uint64     // index of its entry, once it is asked for
	applied bool
	err     error // once done

	// A learner that is to be promoted has to acknowledge target before ElectionTicks are over.
	target, since uint64
}

// BeginChange begins to change the members by one server. It is independent of the other
// operations: PollChange reports how it went, and AbandonChange ends the wait. An error says that
// nothing was begun: one of [Membership.After], or one that matches commit.ErrNotLeader,
// [ErrChanging], [ErrLeading] or [ErrQuorum].
//
// A server is added as a learner, which changes nothing about what is needed for a majority. It is
// promoted once it has caught up: within ElectionTicks it has acknowledged all that was committed
// when these began. Until then the change waits. A majority that needs it then waits no longer for
// it than for an election.
//
// A change counts for a server as soon as that server knows that its entry is committed. All agree
// about the order, and majorities of neighbours have a server in common. The leader then appends
// the membership once more. The change is done when that is committed, too: then a majority of the
// voters knows, and another server may be lost.
func (l *Leadership) BeginChange(c Change) error {
	n := l.replica.node
	switch {
	case l.lost:
		return commit.ErrNotLeader
	case l.change.stage != idle || n.changing != 0 || !n.confirmed:
		return ErrChanging
	}
	members, err := n.members.After(c)
	if err != nil {
		return err
	}
	if c.Kind == Remove && c.ID == n.cfg.ID {
		return ErrLeading
	}
	voters, there := members.Voters(), 0
	for _, id := range voters {
		if n.active(id) {
			there++
		}
	}
	if c.Kind != Add && there <= len(voters)/2 {
		return fmt.Errorf("%w: %d of %d", ErrQuorum, there, len(voters))
	}
	l.change = change{stage: waiting, what: c, members: members, target: n.raw.BasicStatus().GetCommit(), since: n.ticks}
	l.askChange()
	return nil
}

// PollChange reports whether the change that was begun is done, and how it went, as Poll does. An
// error that matches commit.ErrNotLeader says that nobody knows: who wants to know looks at the
// members that a later leader has.
func (l *Leadership) PollChange() (ended bool, err error) {
	if l.change.stage == waiting && !l.lost {
		l.askChange()
	}
	switch {
	case l.change.stage == done:
		err = l.change.err
	case l.change.applied && l.replica.node.confirmed:
	case l.change.stage != idle && l.lost:
		err = commit.ErrNotLeader
	default:
		return false, nil
	}
	l.change = change{}
	return true, err
}

// AbandonChange ends the wait for the change that was begun. It may take place nonetheless: until
// that is decided, no other one can begin.
func (l *Leadership) AbandonChange() { l.change = change{} }

// askChange proposes the membership, once it may be.
func (l *Leadership) askChange() {
	c, n := &l.change, l.replica.node
	if c.what.Kind == Promote && !c.caughtUp(n) {
		return
	}
	var err error
	c.place, err = n.ProposeMembers(c.members)
	switch {
	case err == nil:
		c.stage = asked
	case !errors.Is(err, ErrBusy):
		c.stage, c.err = done, err
	}
}

// caughtUp reports whether the learner has caught up. If it took too long, the next round begins:
// it has to acknowledge what is committed by now.
func (c *change) caughtUp(n *Node) bool {
	all := n.Progress()
	i := slices.IndexFunc(all, func(p Progress) bool { return p.ID == c.what.ID })
	if i < 0 || all[i].Match < c.target || !all[i].Active {
		return false
	}
	if n.ticks-c.since < uint64(n.cfg.ElectionTicks) {
		return true
	}
	c.target, c.since = n.raw.BasicStatus().GetCommit(), n.ticks
	return all[i].Match >= c.target
}

// committed takes an entry that is committed and on this server's disk.
func (c *change) committed(e Entry, term uint64) {
	if c.stage == asked && c.place == e.Index {
		c.applied = true
		if e.Term != term {
			c.stage, c.err = done, commit.ErrNotLeader
		}
	}
}
