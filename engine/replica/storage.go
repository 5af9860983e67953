package replica

import (
	"fmt"
	"math"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// storage is a Store as raft wants to read it. It has all entries from 1 on, and no snapshot.
//
// Raft has no way to go on after an error of its storage. So storage panics with a failure, which
// Node.guard turns into an error.
type storage struct {
	store Store
	conf  *raftpb.ConfState
}

// failure is the value of a panic that ends a Node with an error.
type failure struct{ error }

func fail(err error) { panic(failure{err}) }

// InitialState implements raft.Storage.
func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	state, err := s.store.State()
	if err != nil {
		fail(err)
	}
	return &raftpb.HardState{Term: &state.Term, Vote: &state.Vote, Commit: &state.Commit}, s.conf, nil
}

// Entries implements raft.Storage.
func (s *storage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	entries, err := s.store.Entries(lo, hi-1, int(min(maxSize, math.MaxInt)))
	if err != nil {
		fail(fmt.Errorf("reading entries %d to %d back: %w", lo, hi-1, err))
	}
	read := make([]raftpb.Entry, len(entries))
	pointers := make([]*raftpb.Entry, len(entries))
	for i := range entries {
		read[i].Index, read[i].Term, read[i].Data = &entries[i].Index, &entries[i].Term, entries[i].Data
		pointers[i] = &read[i]
	}
	return pointers, nil
}

// Term implements raft.Storage.
func (s *storage) Term(index uint64) (uint64, error) {
	if index == 0 {
		return 0, nil
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

func fromRaft(entries []*raftpb.Entry) []Entry {
	own := make([]Entry, len(entries))
	for i, e := range entries {
		own[i] = Entry{Index: e.GetIndex(), Term: e.GetTerm(), Data: e.GetData()}
	}
	return own
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
