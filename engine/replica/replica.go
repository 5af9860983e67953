package replica

import (
	"fmt"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"

	"loteria/engine/ledger"
)

// Work is what the caller of a [Replica] has to do.
type Work struct {
	// Save, Messages and Status are as in [Ready]. A replica is Leading only with a Leadership.
	Save     *Save
	Messages []*raftpb.Message
	Status   Status
	// Begun is the leadership that begins here; nil if none does.
	Begun *Leadership
	// Members are which servers keep the log, in the first Work and whenever that has changed; else
	// nil. The network has to reach them all. It may drop those that are Gone, and no others: a server
	// that is behind has the members of some time ago.
	Members *Membership
	// More says that there is more to do: call Work again before the next event, or soon.
	More bool
}

// Replica is one server of a replicated draw: a [Node], and the state machine that it feeds. As the
// Node, it has no goroutine, clock, socket or file.
//
// # The state machine
//
// A replica feeds one state machine at a time with the records of committed entries, each once, in
// order. It asks fresh for a new and empty one when it is opened. A leadership takes the state
// machine over when it begins: it has been fed with all that is committed then. From there on the
// leader decides, so its state machine is ahead of the log, and the replica feeds it no more. When
// the leadership ends, what it had decided may not be in the log, and nobody can take it back. So
// the replica drops that state machine, asks for another one, and feeds it from the first record
// on, a bounded part at each Work.
//
// One goroutine owns a Replica and its Leadership, but for [Leadership.Scan]. Use [Open].
type Replica struct {
	node  *Node
	store Store
	fresh func() func(ledger.Record) error
	err   error // of the state machine; final

	visit  func(ledger.Record) error // feeds the state machine; nil while a leadership has it
	fed    uint64                    // index of the last entry that the state machine has
	seq    uint64                    // of the last record that it has
	status Status                    // of the node
	told   Status                    // in the last Work

	due        *Ready        // what the node has committed is still to be fed; nil: nothing is
	committed  atomic.Uint64 // index of the last entry that is committed and in the store
	leadership *Leadership   // nil: none
	reads      uint64        // read barriers so far
}

// Open makes the replica of the server that has the store. It calls fresh for every state machine
// that it needs; what fresh returns is called with every record, as [ledger.Open] does it, and its
// errors end the replica. The caller knows from [Work.Begun] when the newest one is its own.
// Errors are those of [New].
func Open(c Config, s Store, fresh func() func(ledger.Record) error) (*Replica, error) {
	n, err := New(c, s)
	if err != nil {
		return nil, err
	}
	r := &Replica{node: n, store: s, fresh: fresh, visit: fresh()}
	r.committed.Store(n.state.Commit)
	return r, nil
}

// ID is this server's.
func (r *Replica) ID() uint64 { return r.node.cfg.ID }

// Tick is [Node.Tick].
func (r *Replica) Tick() error { return r.node.Tick() }

// Lost is [Node.Lost].
func (r *Replica) Lost(server uint64) error { return r.node.Lost(server) }

// Receive is [Node.Receive].
func (r *Replica) Receive(m *raftpb.Message) error { return r.node.Receive(m) }

// Saved is [Node.Saved].
func (r *Replica) Saved() error { return r.node.Saved() }

// Transfer is [Node.Transfer].
func (r *Replica) Transfer(to uint64) error { return r.node.Transfer(to) }

// Members are which servers keep the log, as far as this one knows.
func (r *Replica) Members() Membership { return r.node.members }

// Progress is [Node.Progress].
func (r *Replica) Progress() []Progress { return r.node.Progress() }

// Committed is the index of the last entry that is committed and in the store. Any goroutine may
// call it.
func (r *Replica) Committed() uint64 { return r.committed.Load() }

// Applied is the index of the last entry that the state machine has, and Seq the number of its last
// record.
func (r *Replica) Applied() (index, seq uint64) { return r.fed, r.seq }

// Work does what the replica can do alone, and returns what the caller has to do, in any order. The
// caller calls it after every other method, also those of its Leadership. An error is final.
func (r *Replica) Work() (w Work, err error) {
	if r.err != nil {
		return Work{}, r.err
	}
	var ready Ready
	if r.due != nil {
		ready, r.due = *r.due, nil
	} else if ready, err = r.node.Ready(); err != nil {
		return Work{}, err
	}
	if n := len(ready.Committed); n > 0 {
		r.committed.Store(ready.Committed[n-1].Index)
	}
	if r.leadership == nil && len(ready.Committed) > 0 && (ready.Save != nil || len(ready.Messages) > 0) {
		// Others wait for the save and the messages, and nobody for the state machine, which takes time.
		w = Work{Save: ready.Save, Messages: ready.Messages, Status: r.told, Members: ready.Members, More: true}
		ready.Save, ready.Messages, ready.Members = nil, nil, nil
		r.due = &ready
		return w, nil
	}
	r.status = ready.Status
	if r.err = r.advance(ready); r.err != nil {
		return Work{}, r.err
	}
	w = Work{Save: ready.Save, Messages: ready.Messages, Status: r.status, Members: ready.Members}
	behind := r.fed < r.committed.Load()
	if r.leadership == nil && w.Status.Role == Leading {
		if behind {
			w.Status.Role = Elected
		} else {
			r.leadership = &Leadership{replica: r, term: w.Status.Term}
			r.visit = nil
			w.Begun = r.leadership
		}
	}
	w.More = behind || len(ready.Committed) > 0
	r.told = w.Status
	return w, nil
}

// advance takes what is committed, and ends a leadership that the node has lost.
func (r *Replica) advance(ready Ready) error {
	l := r.leadership
	if l != nil {
		for _, e := range ready.Committed {
			l.committed(e)
			r.fed = e.Index
			r.seq += countRecords(e.Records)
		}
		for _, read := range ready.Reads {
			l.passed(read)
		}
		if r.status.Role == Leading && r.status.Term == l.term {
			return nil
		}
		l.lost = true
		r.leadership = nil
		r.visit, r.fed, r.seq = r.fresh(), 0, 0
		return nil // the next Work begins to feed it
	}
	if len(ready.Committed) > 0 && ready.Committed[0].Index == r.fed+1 {
		return r.feed(ready.Committed)
	}
	if committed := r.committed.Load(); r.fed < committed {
		entries, err := r.store.Entries(r.fed+1, committed, r.node.cfg.ApplyBytesMax)
		if err != nil {
			return fmt.Errorf("reading entries from %d on back: %w", r.fed+1, err)
		}
		return r.feed(entries)
	}
	return nil
}

func (r *Replica) feed(entries []Entry) error {
	for _, e := range entries {
		for rest := e.Records; len(rest) > 0; {
			var record ledger.Record
			record, rest = ledger.Unpack(rest)
			r.seq++
			record.Seq = r.seq
			if err := r.visit(record); err != nil {
				return err
			}
		}
		r.fed = e.Index
	}
	return nil
}

// countRecords is how many records a group has. It panics if the group isn't packed records.
func countRecords(group []byte) (n uint64) {
	for len(group) > 0 {
		_, group = ledger.Unpack(group)
		n++
	}
	return n
}

// containsMembers reports whether a membership is among the records of a group. It panics as
// countRecords does.
func containsMembers(group []byte) (is bool) {
	for len(group) > 0 {
		var r ledger.Record
		r, group = ledger.Unpack(group)
		is = is || r.Kind == ledger.Members
	}
	return is
}
