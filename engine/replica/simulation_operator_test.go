package replica_test

import (
	"errors"
	"fmt"
	"slices"

	"loteria/engine/commit"
	"loteria/engine/replica"
)

// simPlansMax is how many servers an operator replaces or removes in a run.
const simPlansMax = 4

// operator changes the members: it replaces servers whose disks are lost, and healthy ones. It has
// one plan at a time, of changes that are made one behind the other, however often each has to be
// asked for.
type operator struct {
	plans int              // how many may still begin
	plan  []replica.Change // what is left to do
}

// operate is a step of the operator.
func (w *world) operate() {
	for len(w.plan) > 0 && w.confirmed && w.isDone(w.plan[0]) {
		w.plan = w.plan[1:]
	}
	if len(w.plan) == 0 {
		if w.plans > 0 && w.chaos() && w.chance(30) {
			w.plans--
			w.newPlan()
		}
		return
	}
	leaders := w.leaders()
	if len(leaders) == 0 {
		return
	}
	s := pick(w, leaders)
	if s.paused() {
		return
	}
	if s.change != nil {
		if w.chance(2) {
			w.seen[seenAbandoned]++
			s.leadership.AbandonChange()
			s.change = nil
		}
		return
	}
	if w.chance(20) {
		w.changeWrongly(s)
		return
	}
	s.beginChange(w.plan[0])
}

// isDone reports whether the members are as they are behind a change.
func (w *world) isDone(c replica.Change) bool {
	m, known := w.members.Server(c.ID)
	switch c.Kind {
	case replica.Add:
		return known
	case replica.Promote:
		return known && !m.Learner
	default:
		return slices.Contains(w.members.Gone, c.ID)
	}
}

// newPlan decides about a server to go, and perhaps one to come.
func (w *world) newPlan() {
	old := w.server(pick(w, w.members.Servers).ID)
	if leaders := w.leaders(); len(leaders) > 0 && w.chance(40) {
		if s := pick(w, leaders); w.isMember(s.id) {
			old = s
		}
	}
	learner := slices.Contains(w.members.Learners(), old.id)
	if w.chance(60) {
		w.wipe(old)
	}
	var add []replica.Change
	if learner || len(w.members.Servers) < 5 || w.chance(70) {
		id := uint64(len(w.servers)) + 1
		add = append(add, replica.Change{Kind: replica.Add, ID: id, Addr: fmt.Sprintf("server%d:4118", id)})
		if !learner || w.chance(30) {
			add = append(add, replica.Change{Kind: replica.Promote, ID: id})
		}
		s := newSimServer(w, id, w.seed)
		s.voters, s.learners = w.members.Voters(), w.members.Learners()
		if w.chance(30) {
			s.voters, s.learners = w.servers[0].voters, w.servers[0].learners // as the log began
		}
		w.servers = append(w.servers, s)
		s.start()
	}
	remove := replica.Change{Kind: replica.Remove, ID: old.id}
	if w.chance(50) {
		w.plan = append([]replica.Change{remove}, add...)
	} else {
		w.plan = append(add, remove)
	}
	w.tracef("the operator plans %+v", w.plan)
}

// wipe takes a server's disk. What was on it still counts as a copy of what it held then, for those
// who check that there were enough.
func (w *world) wipe(s *simServer) {
	w.seen[seenWiped]++
	w.tracef("the disk of server %d is lost", s.id)
	if s.replica != nil {
		s.crash()
	}
	s.gone = true
}

func (w *world) isMember(id uint64) bool {
	_, known := w.members.Server(id)
	return known
}

// changeWrongly asks for what has to be refused.
func (w *world) changeWrongly(s *simServer) {
	m := s.replica.Members()
	voters := m.Voters()
	wrong := []struct {
		change replica.Change
		want   error
	}{
		{replica.Change{Kind: replica.Add, ID: s.id, Addr: "a:1"}, replica.ErrTaken},
		{replica.Change{Kind: replica.Add, ID: 1000, Addr: "nowhere"}, replica.ErrAddr},
		{replica.Change{Kind: replica.Promote, ID: pick(w, voters)}, replica.ErrUnknown},
		{replica.Change{Kind: replica.Promote, ID: 1000}, replica.ErrUnknown},
		{replica.Change{Kind: replica.Remove, ID: 1000}, replica.ErrUnknown},
		{replica.Change{Kind: replica.Remove, ID: s.id}, replica.ErrLeading},
	}
	for _, id := range m.Gone {
		wrong = append(wrong, wrong[0])
		wrong[len(wrong)-1].change.ID = id
	}
	one := pick(w, wrong)
	err := s.leadership.BeginChange(one.change)
	if !errors.Is(err, one.want) && !errors.Is(err, replica.ErrChanging) {
		w.failf("server %d: %+v: %v, want %v", s.id, one.change, err, one.want)
	}
	w.seen[seenRefused]++
	s.work()
}

// simChange is a change that an operator waits for.
type simChange struct {
	replica.Change
	committed uint64 // index that was committed when it began
}

func (s *simServer) beginChange(c replica.Change) {
	w := s.w
	change := &simChange{c, s.replica.Committed()}
	err := s.leadership.BeginChange(c)
	w.tracef("server %d begins to %+v: %v", s.id, c, err)
	switch {
	case err == nil:
		s.change = change
	case errors.Is(err, replica.ErrLeading):
		w.seen[seenLeaderToGo]++
		s.transfer(pick(w, w.members.Voters()))
	case errors.Is(err, replica.ErrQuorum):
		w.seen[seenNoQuorum]++
	case errors.Is(err, replica.ErrChanging), errors.Is(err, commit.ErrNotLeader):
	case errors.Is(err, replica.ErrUnknown) && !sameMembers(s.replica.Members(), w.members):
		// It was done in a term of which this one doesn't know, or the server isn't added as far as
		// this one knows.
	default:
		w.failf("server %d: %+v: %v", s.id, c, err)
	}
	s.work()
}

func (s *simServer) pollChange() {
	if s.leadership == nil || s.change == nil {
		return
	}
	done, err := s.leadership.PollChange()
	if !done {
		return
	}
	w, c := s.w, s.change
	s.change = nil
	w.tracef("server %d ends %+v: %v", s.id, *c, err)
	switch {
	case errors.Is(err, commit.ErrNotLeader):
		w.seen[seenChangeUnknown]++
		return
	case err != nil:
		w.failf("server %d: %v", s.id, err)
	case !w.isDone(c.Change) || !w.confirmed:
		w.failf("server %d says that %+v is done, and the members are %v", s.id, c.Change, w.members)
	}
	switch c.Kind {
	case replica.Add:
		w.seen[seenAdded]++
	case replica.Promote:
		w.seen[seenPromoted]++
		if _, entries := w.server(c.ID).disk.Durable(); uint64(len(entries)) < c.committed {
			w.failf("server %d is promoted with %d entries, and %d were committed before", c.ID, len(entries), c.committed)
		}
	default:
		w.seen[seenGone]++
	}
}

// isRemoved ends a server that was told that it was removed.
func (s *simServer) isRemoved() {
	w := s.w
	if !slices.Contains(w.members.Gone, s.id) {
		w.failf("server %d was told that it was removed, and the members are %v", s.id, w.members)
	}
	w.seen[seenTold]++
	w.tracef("server %d was removed", s.id)
	s.disk.Kill()
	s.ended()
	s.gone = true
}
