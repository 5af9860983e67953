package replicatest

import (
	"fmt"
	"runtime"
	"testing"

	"loteria/engine/replica"
)

// lyingStore is a store that doesn't do all it says.
type lyingStore struct {
	*Store
	unsynced    bool // Save only writes
	appends     bool // Save appends to the old entries instead of replacing them
	torn        bool // Save forgets the state
	limitless   bool // Entries ignores its limit
	stingy      bool // Entries returns nothing if nothing fits
	keeps       bool // Save keeps the caller's slice, and Entries returns it
	kept        []replica.Entry
	hidesErrors bool // Save hides its errors
}

func (s *lyingStore) Save(state replica.State, entries []replica.Entry) error {
	if s.torn {
		old, err := s.State()
		if err != nil {
			return err
		}
		state.Vote = old.Vote
		if old.Vote == 0 || old.Term != state.Term {
			state.Vote = 0
		}
	}
	if last, err := s.LastIndex(); s.appends && err == nil && len(entries) > 0 && entries[0].Index <= last {
		entries = entries[:0]
	}
	if s.keeps && len(entries) > 0 && entries[0].Index == 1 {
		s.kept = entries
	}
	if s.unsynced {
		return s.Write(state, entries)
	}
	err := s.Store.Save(state, entries)
	if s.hidesErrors {
		return nil
	}
	return err
}

func (s *lyingStore) Entries(first, last uint64, bytesMax int) ([]replica.Entry, error) {
	switch {
	case s.limitless:
		bytesMax = 1 << 40
	case s.keeps && int(last) <= len(s.kept):
		return s.kept[first-1 : last], nil
	}
	entries, err := s.Store.Entries(first, last, bytesMax)
	if s.stingy && err == nil && len(entries[0].Records) > bytesMax {
		return nil, nil
	}
	return entries, err
}

// recorder is a testing.TB that notes the first fatal failure.
type recorder struct {
	testing.TB
	failure error
}

func (r *recorder) Helper() {}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Errorf(format, args...)
	runtime.Goexit()
}

// failure runs a check and returns how it failed.
func failure(t *testing.T, check func(t testing.TB)) error {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		check(r)
	}()
	<-done
	return r.failure
}

// The checks notice a store that breaks its promises, and nothing in one that doesn't.
func TestChecksNotice(t *testing.T) {
	conform := func(name string) func(testing.TB, func(seed uint64) Disk) {
		for _, c := range conformance {
			if c.name == name {
				return func(t testing.TB, newDisk func(seed uint64) Disk) { c.check(t, newDisk(1).Open) }
			}
		}
		t.Fatalf("there is no check %q", name)
		return nil
	}
	crashes := func(t testing.TB, newDisk func(seed uint64) Disk) { CheckCrashes(t, newDisk) }
	for _, test := range []struct {
		name  string
		spoil func(*lyingStore)
		check func(t testing.TB, newDisk func(seed uint64) Disk)
	}{
		{"no sync", func(s *lyingStore) { s.unsynced = true }, crashes},
		{"errors hidden", func(s *lyingStore) { s.hidesErrors = true }, crashes},
		{"vote forgotten", func(s *lyingStore) { s.torn = true }, conform("state")},
		{"vote forgotten beside entries", func(s *lyingStore) { s.torn = true }, conform("entries")},
		{"old entries kept", func(s *lyingStore) { s.appends = true }, conform("replaced entries")},
		{"old entries kept for long", func(s *lyingStore) { s.appends = true }, conform("a long life")},
		{"no limit", func(s *lyingStore) { s.limitless = true }, conform("limit of bytes")},
		{"nothing where nothing fits", func(s *lyingStore) { s.stingy = true }, conform("limit of bytes")},
		{"a slice shared", func(s *lyingStore) { s.keeps = true }, conform("slices")},
	} {
		t.Run(test.name, func(t *testing.T) {
			newDisk := func(broken bool) func(seed uint64) Disk {
				return func(seed uint64) Disk {
					m := NewMemory(seed)
					d := m.Disk()
					d.Open = func() (replica.Store, error) {
						s := &lyingStore{Store: m.Open()}
						if broken {
							test.spoil(s)
						}
						return s, nil
					}
					return d
				}
			}
			if err := failure(t, func(t testing.TB) { test.check(t, newDisk(false)) }); err != nil {
				t.Errorf("an honest store fails: %v", err)
			}
			err := failure(t, func(t testing.TB) { test.check(t, newDisk(true)) })
			if err == nil {
				t.Error("it isn't noticed")
			}
			t.Log(err)
		})
	}
}
