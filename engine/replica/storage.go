package replica

import (
	"fmt"
	"math"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// storage is a Store as raft wants to read it. It has all entries from 1 on, and no snapshot.
//
// Raft has no way to go on after an error of its storage. So storage panics with a failure, which
// Node.guard turns into an error.
//
// Raft asks for nearly every entry again soon after it was saved: when it is committed, and for
// followers that are a little behind. So storage keeps the newest entries in memory, up to a limit.
type storage struct {
	store       Store
	state       State // at the start
	conf        *raftpb.ConfState
	recent      []Entry // saved, in order, without gaps; the last one is the last that is saved
	recentBytes int     // of their data
	bytesMax    int
}

// keep takes entries that are saved. They replace those from the first one's index on.
func (s *storage) keep(entries []Entry) {
	if len(entries) == 0 {
		return
	}
	for n := len(s.recent); n > 0 && s.recent[n-1].Index >= entries[0].Index; n-- {
		s.recentBytes -= len(s.recent[n-1].Records)
		s.recent = s.recent[:n-1]
	}
	s.recent = append(s.recent, entries...)
	s.recentBytes += dataBytes(entries)
	old := 0
	for old < len(s.recent)-1 && s.recentBytes > s.bytesMax {
		s.recentBytes -= len(s.recent[old].Records)
		s.recent[old].Records = nil
		old++
	}
	s.recent = s.recent[old:]
}

// remembers reports whether the entry is in memory.
func (s *storage) remembers(index uint64) bool {
	return len(s.recent) > 0 && index >= s.recent[0].Index && index <= s.recent[len(s.recent)-1].Index
}

// failure is the value of a panic that ends a Node with an error.
type failure struct{ error }

func fail(err error) { panic(failure{err}) }

// InitialState implements raft.Storage.
func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return &raftpb.HardState{Term: &s.state.Term, Vote: &s.state.Vote, Commit: &s.state.Commit}, s.conf, nil
}

// Entries implements raft.Storage.
func (s *storage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	bytesMax := int(min(maxSize, math.MaxInt))
	var (
		entries []Entry
		err     error
	)
	if s.remembers(lo) && s.remembers(hi-1) {
		entries = upTo(s.recent[lo-s.recent[0].Index:hi-s.recent[0].Index], bytesMax)
	} else {
		if entries, err = s.store.Entries(lo, hi-1, bytesMax); err != nil {
			fail(fmt.Errorf("reading entries %d to %d back: %w", lo, hi-1, err))
		}
	}
	read := make([]raftpb.Entry, len(entries))
	pointers := make([]*raftpb.Entry, len(entries))
	for i, e := range entries {
		read[i].Index, read[i].Term, read[i].Data = &e.Index, &e.Term, e.Records
		if isMembers(e.Records) {
			read[i].Type = raftpb.EntryConfChange.Enum()
			if read[i].Data, err = proto.Marshal(confChange(e.Records)); err != nil {
				fail(err)
			}
		}
		pointers[i] = &read[i]
	}
	return pointers, nil
}

// Term implements raft.Storage.
func (s *storage) Term(index uint64) (uint64, error) {
	if index == 0 {
		return 0, nil
	}
	if s.remembers(index) {
		return s.recent[index-s.recent[0].Index].Term, nil
	}
	if last, _ := s.LastIndex(); index > last {
		return 0, raft.ErrUnavailable
	}
	term, err := s.store.Term(index)
	if err != nil {
		fail(fmt.Errorf("reading the term of entry %d: %w", index, err))
	}
	return term, nil
}

// LastIndex implements raft.Storage.
func (s *storage) LastIndex() (uint64, error) {
	last, err := s.store.LastIndex()
	if err != nil {
		fail(err)
	}
	return last, nil
}

// FirstIndex implements raft.Storage.
func (s *storage) FirstIndex() (uint64, error) { return 1, nil }

// Snapshot implements raft.Storage. Raft asks for one when an entry isn't there any more, and all
// entries are always there.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

// upTo is the longest beginning of entries with at most bytesMax of data, and at least one.
func upTo(entries []Entry, bytesMax int) []Entry {
	bytes := 0
	for i, e := range entries {
		if bytes += len(e.Records); bytes > bytesMax && i > 0 {
			return entries[:i]
		}
	}
	return entries
}

func fromRaft(entries []*raftpb.Entry) []Entry {
	own := make([]Entry, len(entries))
	for i, e := range entries {
		own[i] = Entry{Index: e.GetIndex(), Term: e.GetTerm(), Records: e.GetData()}
		if e.GetType() != raftpb.EntryNormal {
			records, err := unwrap(e)
			if err != nil {
				fail(err)
			}
			own[i].Records = records
		}
	}
	return own
}

// confChange is what raft has of a membership before it is applied. It looks only at the kind of
// such an entry until then, so that a change of nothing will do. Data of an entry are only the
// records'.
func confChange(records []byte) *raftpb.ConfChange { return &raftpb.ConfChange{Context: records} }

// unwrap is the record in an entry that isn't a normal one.
func unwrap(e *raftpb.Entry) ([]byte, error) {
	var c raftpb.ConfChange
	if err := proto.Unmarshal(e.GetData(), &c); err != nil {
		return nil, fmt.Errorf("entry %d: %w", e.GetIndex(), err)
	}
	return c.GetContext(), nil
}

// checkEntry refuses an entry that another server of this program wouldn't send.
func checkEntry(e *raftpb.Entry) error {
	if e.GetType() == raftpb.EntryNormal {
		if isMembers(e.GetData()) {
			return fmt.Errorf("%w: entry %d", ErrMembership, e.GetIndex())
		}
		return nil
	}
	records, err := unwrap(e)
	if err != nil {
		return err
	}
	if e.GetType() != raftpb.EntryConfChange || !isMembers(records) {
		return fmt.Errorf("%w: entry %d is a %v", ErrMembership, e.GetIndex(), e.GetType())
	}
	return nil
}

// logger silences raft, whose lines are for those who debug raft. Where raft finds that the log
// can't be true, it calls Panicf.
type logger struct{}

func (logger) Debug(...any)            {}
func (logger) Debugf(string, ...any)   {}
func (logger) Info(...any)             {}
func (logger) Infof(string, ...any)    {}
func (logger) Warning(...any)          {}
func (logger) Warningf(string, ...any) {}
func (logger) Error(...any)            {}
func (logger) Errorf(string, ...any)   {}

func (logger) Fatal(v ...any) { fail(fmt.Errorf("%w: %s", ErrDiverged, fmt.Sprint(v...))) }
func (logger) Fatalf(f string, v ...any) {
	fail(fmt.Errorf("%w: "+f, append([]any{ErrDiverged}, v...)...))
}
func (logger) Panic(v ...any) { fail(fmt.Errorf("%w: %s", ErrDiverged, fmt.Sprint(v...))) }
func (logger) Panicf(f string, v ...any) {
	fail(fmt.Errorf("%w: "+f, append([]any{ErrDiverged}, v...)...))
}
