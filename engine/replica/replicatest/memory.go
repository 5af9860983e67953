package replicatest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"loteria/engine/ledger"
	"loteria/engine/replica"
)

// ErrInjected is the failure that [Memory.Fail] arranges.
var ErrInjected = errors.New("replicatest: injected failure")

var errDead = errors.New("replicatest: the store was closed, has failed or has crashed: open it anew")

// Memory is a disk in memory that holds one server's store. It crashes as a disk does: what is
// written but not synced may be lost, or torn where an entry ends. Use [NewMemory].
//
// Any goroutine may call its methods.
type Memory struct {
	mu      sync.Mutex
	rng     *rand.Rand
	durable kept
	sure    uint64   // what a crash can't take away of durable's Commit
	written kept     // what a reader sees: durable, and the writes that are not synced
	writes  []change // not synced yet, in order
	opened  int      // how often
	failed  bool     // a sync has failed: reads go on, and nothing else
	failIn  int      // how many saves there are to the one that fails; 0: none fails
	torn    int      // how many crashes and failures have left a part of a save
}

// kept is what a store holds. The entries are never changed, but their slice is.
type kept struct {
	state   replica.State
	entries []replica.Entry
}

type change struct {
	state   replica.State
	entries []replica.Entry
}

// apply makes a change, with the first n of its entries.
func (c *kept) apply(ch change, n int) {
	c.state = ch.state
	if len(ch.entries) > 0 {
		keep := ch.entries[0].Index - 1
		c.entries = append(c.entries[:keep:keep], ch.entries[:n]...)
	}
}

// NewMemory makes an empty disk. All chance comes from the seed.
func NewMemory(seed uint64) *Memory { return &Memory{rng: rand.New(rand.NewPCG(seed, 0))} }

// Open opens the store. One that was opened before is dead from then on. What is written counts as
// synced, because opening syncs it.
func (m *Memory) Open() *Store {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sync()
	m.sure = m.durable.state.Commit
	m.opened++
	m.failed = false
	return &Store{m: m, opening: m.opened}
}

// Disk is the memory as [CheckCrashes] wants it.
func (m *Memory) Disk() Disk {
	return Disk{
		Open:      func() (replica.Store, error) { return m.Open(), nil },
		Crash:     m.Crash,
		BreakNext: m.Fail,
	}
}

// Crash ends the machine: of the writes that are not synced, a beginning is left, and of the next
// one perhaps a part. Nothing works until the next Open.
func (m *Memory) Crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened++
	m.tear()
	m.durable.state.Commit -= m.rng.Uint64N(m.durable.state.Commit - m.sure + 1)
	m.sure = m.durable.state.Commit
	m.written = kept{m.durable.state, slices.Clone(m.durable.entries)}
}

// Kill ends the process: what is written stays. Nothing works until the next Open.
func (m *Memory) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened++
}

// Fail arranges that the n-th sync from now on fails with [ErrInjected], from 1, and leaves what a
// crash might; 0 arranges none. Afterwards one can still read what was written, but write nothing
// more.
func (m *Memory) Fail(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failIn = n
}

// Failed reports whether a sync has failed since the last Open.
func (m *Memory) Failed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// Torn is how many crashes and failures have left a part of what a save had to change.
func (m *Memory) Torn() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.torn
}

// Durable is what a crash can't take away. The entries are shared, and nobody may change them.
func (m *Memory) Durable() (replica.State, []replica.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.durable.state, m.durable.entries[:len(m.durable.entries):len(m.durable.entries)]
}

func (m *Memory) sync() {
	if m.failed {
		m.written = kept{m.durable.state, slices.Clone(m.durable.entries)}
	}
	for _, c := range m.writes {
		m.keep(c, len(c.entries))
	}
	m.writes = nil
}

// keep makes a change durable, with the first n of its entries.
func (m *Memory) keep(c change, n int) {
	if len(c.entries) == 0 || c.state.Term != m.durable.state.Term {
		m.sure = c.state.Commit
	}
	m.durable.apply(c, n)
}

func (m *Memory) tear() {
	whole := m.rng.IntN(len(m.writes) + 1)
	for i, c := range m.writes {
		if i < whole {
			m.keep(c, len(c.entries))
			continue
		}
		if part := m.rng.IntN(len(c.entries) + 3); part > 0 { // 0: nothing of it
			m.torn++
			if part == 1 { // its state
				c.entries = nil
			}
			m.keep(c, min(max(part-2, 0), len(c.entries)))
		}
		break
	}
	m.writes = nil
}

// Store is a [Memory] as one who has opened it has it: a replica.Store. Save is Write and Sync; a
// simulation calls these two, and lets something happen in between.
type Store struct {
	m       *Memory
	opening int
}

// with calls f while nobody else uses the memory.
func (s *Store) with(f func(m *Memory) error) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.opening != s.m.opened {
		return errDead
	}
	return f(s.m)
}

// Write writes the change that Save makes. It panics where [replica.Store] doesn't allow one.
func (s *Store) Write(state replica.State, entries []replica.Entry) error {
	return s.with(func(m *Memory) error {
		if m.failed {
			return errDead
		}
		known := uint64(len(m.written.entries))
		if len(entries) > 0 {
			first, last := entries[0].Index, known
			known = first - 1
			if first == 0 || first > last+1 || first <= m.written.state.Commit {
				panic(fmt.Sprintf("replicatest: entries from %d on, of %d, of which %d are committed", first, last, m.written.state.Commit))
			}
			for i, e := range entries {
				if e.Index != first+uint64(i) || e.Term > state.Term || i > 0 && e.Term < entries[i-1].Term {
					panic(fmt.Sprintf("replicatest: entry %d of term %d, behind %d, in %+v", e.Index, e.Term, first, state))
				}
			}
		}
		if before := m.written.state; state.Commit > known || state.Term < before.Term || state.Commit < before.Commit ||
			state.Term == before.Term && before.Vote != 0 && state.Vote != before.Vote {
			panic(fmt.Sprintf("replicatest: %+v after %+v", state, before))
		}
		c := change{state, slices.Clone(entries)}
		m.writes = append(m.writes, c)
		m.written.apply(c, len(c.entries))
		return nil
	})
}

// Sync makes durable what was written.
func (s *Store) Sync() error {
	return s.with(func(m *Memory) error {
		if m.failed {
			return errDead
		}
		if m.failIn > 0 {
			if m.failIn--; m.failIn == 0 {
				m.failed = true
				m.tear()
				return ErrInjected
			}
		}
		m.sync()
		return nil
	})
}

// Save implements replica.Store.
func (s *Store) Save(state replica.State, entries []replica.Entry) error {
	if err := s.Write(state, entries); err != nil {
		return err
	}
	return s.Sync()
}

// State implements replica.Store.
func (s *Store) State() (state replica.State, err error) {
	err = s.with(func(m *Memory) error {
		state = m.written.state
		return nil
	})
	return state, err
}

// LastIndex implements replica.Store.
func (s *Store) LastIndex() (last uint64, err error) {
	err = s.with(func(m *Memory) error {
		last = uint64(len(m.written.entries))
		return nil
	})
	return last, err
}

// Term implements replica.Store.
func (s *Store) Term(index uint64) (term uint64, err error) {
	err = s.with(func(m *Memory) error {
		term = m.written.entries[index-1].Term
		return nil
	})
	return term, err
}

// LastMembers implements replica.Store.
func (s *Store) LastMembers(last uint64) (index uint64, err error) {
	err = s.with(func(m *Memory) error {
		for index = last; index > 0; index-- {
			if ledger.FirstKind(m.written.entries[index-1].Records) == ledger.Members {
				break
			}
		}
		return nil
	})
	return index, err
}

// Entries implements replica.Store.
func (s *Store) Entries(first, last uint64, bytesMax int) (entries []replica.Entry, err error) {
	err = s.with(func(m *Memory) error {
		bytes := 0
		for _, e := range m.written.entries[first-1 : last] {
			if bytes += len(e.Records); bytes > bytesMax && len(entries) > 0 {
				break
			}
			entries = append(entries, e)
		}
		return nil
	})
	return entries, err
}

var _ replica.Store = (*Store)(nil)
