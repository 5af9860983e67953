package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"loteria/engine/commit"
	"loteria/engine/ledger"
)

var (
	errOperation = errors.New("replica: one operation at a time: poll the one before until it is done")
	errClosed    = fmt.Errorf("replica: %w: %w", commit.ErrNotLeader, fs.ErrClosed)
)

// scanBytes is how much data a scan reads at a time, if it is more than one entry.
const scanBytes = 1 << 20

// Leadership is what a server may do while it leads: append groups, seal, and prove that it still
// leads. It is a commit.Log cut in two. What waits there is begun here, and polled until it is
// done:
//
//	err := l.BeginCommit(runs)                  // or BeginSeal, or BeginRead
//	for err == nil {
//		w, err = replica.Work()                 // does what it says, and waits for an event
//		if done, err := l.Poll(); done { ... }
//	}
//
// So a simulation drives it in one goroutine, and a server in the goroutine that owns its Replica,
// with another one that waits in Commit for the outcome.
//
// One operation is under way at a time, and beside it one change of the members, which has methods
// of its own ([Leadership.BeginChange]). The outcome is one of these:
//
//   - nil: the group, or seal, is in the log for ever: on the disks of a quorum and on this
//     server's. Or, for a read: this server has led at a moment after BeginRead, so nobody else
//     before.
//   - an error that matches commit.ErrNotLeader: the leadership has ended. A group may be in the
//     log or not, and nobody knows. It must not be proposed again, here or anywhere else: who sent
//     it has to ask a later leader what the log holds.
//
// The owner of the Replica calls all methods but Term, Scan and Close, which any goroutine may
// call.
type Leadership struct {
	replica *Replica
	term    uint64
	lost    bool
	closed  atomic.Bool
	pending operation
	group   []byte // of a commit; reused
	change  change
}

type stage uint8

const (
	idle    stage = iota
	waiting       // not proposed or asked yet: the node is busy
	asked         // proposed, or asked for
	done          // and nobody has polled it yet
)

type operation struct {
	stage stage
	read  bool
	place uint64 // index of the entry, or the number of the read barrier
	need  uint64 // index that has to be committed here for a barrier that was passed; 0: it wasn't
	err   error  // once done
}

// Term numbers the leadership. No other one, of any server, has the same; a later one has a higher
// one.
func (l *Leadership) Term() uint64 { return l.term }

// BeginCommit begins to append the packed records in runs as one group. The runs are the caller's
// again when it returns. It panics if the runs are not packed records. Without a record it is done
// at once. An error says that nothing was begun.
func (l *Leadership) BeginCommit(runs [][]byte) error {
	if err := l.free(); err != nil {
		return err
	}
	l.group = l.group[:0]
	for _, run := range runs {
		if containsMembers(run) {
			panic("replica: a membership is no group: use BeginChange")
		}
		l.group = append(l.group, run...)
	}
	if len(l.group) == 0 {
		l.pending = operation{stage: done}
		return nil
	}
	l.begin(false)
	return nil
}

// BeginSeal begins to seal what is committed. Once it is done, this server refuses to start if its
// store lacks any of it, and so does every other one as soon as it knows of the seal. Where no
// record is committed, there is nothing to seal.
//
// A seal is an empty entry that isn't the first of its term. A leader that saves it saves with it
// that all before is committed. A follower may learn that later, and saves it then.
func (l *Leadership) BeginSeal() error {
	if err := l.free(); err != nil {
		return err
	}
	l.group = l.group[:0]
	if l.replica.seq == 0 {
		l.pending = operation{stage: done}
		return nil
	}
	l.begin(false)
	return nil
}

// BeginRead begins to prove that this server still leads, so that answers that need no record may
// leave. They may if they were made before BeginRead. A commit of a record proves it as well.
func (l *Leadership) BeginRead() error {
	if err := l.free(); err != nil {
		return err
	}
	l.begin(true)
	return nil
}

// Poll reports whether the operation that was begun is done, and how it went. It does so once.
// After that, or if none was begun, it returns false.
func (l *Leadership) Poll() (ended bool, err error) {
	if l.pending.stage == waiting && !l.lost {
		l.ask()
	}
	switch {
	case l.pending.stage == done:
		err = l.pending.err
	case l.pending.stage != idle && l.lost:
		err = commit.ErrNotLeader
	default:
		return false, nil
	}
	l.pending = operation{}
	return true, err
}

// Scan is as commit.Log has it. Any goroutine may call it, also after the leadership has ended:
// then it sees what is committed now.
func (l *Leadership) Scan(visit func(ledger.Record) error) (ledger.Tail, error) {
	if l.closed.Load() {
		return ledger.Tail{}, errClosed
	}
	return Scan(l.replica.store, l.replica.Committed(), visit)
}

// Close ends the use of the leadership, but not the leadership: the server leads until another one
// takes over.
func (l *Leadership) Close() { l.closed.Store(true) }

// free returns an error unless an operation may begin.
func (l *Leadership) free() error {
	switch {
	case l.closed.Load():
		return errClosed
	case l.lost:
		return commit.ErrNotLeader
	case l.pending.stage != idle:
		return errOperation
	}
	return nil
}

func (l *Leadership) begin(read bool) {
	l.pending = operation{stage: waiting, read: read}
	l.ask()
}

// ask proposes the group or asks for the barrier. What the node is too busy for was not taken at
// all, so Poll asks again. Nothing else is ever asked twice.
func (l *Leadership) ask() {
	p, r := &l.pending, l.replica
	var err error
	if p.read {
		r.reads++
		p.place = r.reads
		err = r.node.Read(p.place)
	} else {
		p.place, err = r.node.Propose(l.group)
	}
	switch {
	case err == nil:
		p.stage = asked
	case !errors.Is(err, ErrBusy):
		p.stage, p.err = done, err
	}
}

// committed takes an entry that is committed and on this server's disk.
func (l *Leadership) committed(e Entry) {
	if p := &l.pending; p.stage == asked && !p.read && p.place == e.Index {
		p.stage = done
		if e.Term != l.term { // the node says first that it leads no more; so this is a second lock
			p.err = commit.ErrNotLeader
		}
	}
	l.change.committed(e, l.term)
	l.settle()
}

// passed takes a read barrier that was passed.
func (l *Leadership) passed(b Read) {
	if p := &l.pending; p.stage == asked && p.read && p.place == b.Number {
		p.need = b.Index
	}
	l.settle()
}

// settle ends a read whose barrier was passed, once all that it needs is committed here.
func (l *Leadership) settle() {
	if p := &l.pending; p.stage == asked && p.read && p.need != 0 && l.replica.committed.Load() >= p.need {
		p.stage = done
	}
}

// Scan visits the records of the entries 1 to committed of a store, in order, and returns where
// they end. An error of visit, which may be nil, ends the scan and is returned as it is. Any
// goroutine may call it while no later entry than these is replaced: so committed has to be.
func Scan(s Store, committed uint64, visit func(ledger.Record) error) (ledger.Tail, error) {
	var (
		tail ledger.Tail
		term uint64 // of the entry before
	)
	for next := uint64(1); next <= committed; {
		entries, err := s.Entries(next, committed, scanBytes)
		if err != nil {
			return tail, fmt.Errorf("reading entries from %d on back: %w", next, err)
		}
		for _, e := range entries {
			if len(e.Records) == 0 && e.Term == term {
				tail.Sealed, tail.SealedSeq = true, tail.Seq
			}
			term = e.Term
			for rest := e.Records; len(rest) > 0; {
				var r ledger.Record
				r, rest = ledger.Unpack(rest)
				tail.Seq++
				r.Seq = tail.Seq
				tail.Bytes += int64(ledger.RecordBytes(len(r.Payload)))
				if visit == nil {
					continue
				}
				if err := visit(r); err != nil {
					return tail, err
				}
			}
			next = e.Index + 1
		}
	}
	return tail, nil
}
