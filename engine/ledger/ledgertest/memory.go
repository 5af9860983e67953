package ledgertest

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"

	"loteria/engine/ledger"
)

// Memory is a log in memory, and a [Store], for tests of a committer that need no disk. It outlives
// the Logs that it opens, one at a time: the next Open finds what was committed. It loses nothing,
// but fails on demand. Terms start at 1, and every Open takes the next one.
//
// Any goroutine may call Memory's methods. For the methods of a Log that it opened, see
// [ledger.Ledger]. Make a Memory with [NewMemory].
type Memory struct {
	mu      sync.Mutex
	rng     *rand.Rand
	records []ledger.Record // with payloads of their own; records are only appended
	sealed  uint64          // the last record that the seal covers; 0 without a seal
	term    uint64          // of the newest holder
	holder  *memoryLog      // the open log, or nil

	failIn int   // the failIn-th operation from now on fails; 0: none
	cause  error // the error it fails with
	failed bool  // whether it has failed
}

// NewMemory makes an empty log. All chance comes from the seed.
func NewMemory(seed uint64) *Memory { return &Memory{rng: rand.New(rand.NewPCG(seed, 0))} }

// Fail makes the n-th Commit or Seal from now on fail, counted from 1. It replaces a failure that
// was arranged before. The failed call returns err as it is, and so do all later Commits and Seals
// of the same holder, as if it had lost its leadership. A Commit without records isn't counted.
// Chance decides what a failed call leaves: the next Open finds all, some first ones or none of a
// group's records, and the old or the new seal.
func (m *Memory) Fail(n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failIn, m.cause, m.failed = n, err, false
}

// BreakNext implements [Store]. It ignores dead: after a failure the holder can't change anything
// anyway.
func (m *Memory) BreakNext(n int, _ bool) { m.Fail(n, ErrInjected) }

// Failed implements [Store].
func (m *Memory) Failed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// Kill implements [Store].
func (m *Memory) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holder != nil {
		m.holder.end()
	}
	m.failIn, m.failed = 0, false
}

// Crash implements [Store]. What was committed is never lost.
func (m *Memory) Crash() { m.Kill() }

// Open implements [Store].
func (m *Memory) Open(visit func(ledger.Record) error) (Log, error) {
	m.mu.Lock()
	if m.holder != nil {
		m.mu.Unlock()
		return nil, ledger.ErrLocked
	}
	m.term++
	l := &memoryLog{memory: m, term: m.term, committed: len(m.records)}
	m.holder = l
	m.mu.Unlock()
	_, err := l.Scan(visit)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		l.end()
		return nil, err
	}
	l.sealMore()
	return l, nil
}

// operation counts a Commit or a Seal, and returns the error that it fails with.
func (m *Memory) operation() error {
	if m.failIn == 0 {
		return nil
	}
	if m.failIn--; m.failIn > 0 {
		return nil
	}
	m.failed = true
	return m.cause
}

// memoryLog is the Log of one holder of a Memory. The memory's mu guards committed, err and closed.
type memoryLog struct {
	memory    *Memory
	term      uint64
	committed int   // how many of the memory's records are committed
	err       error // what Commit and Seal return, after a failure or Close
	closed    bool
}

// Commit works as that of [ledger.Ledger], but doesn't write to the runs.
func (l *memoryLog) Commit(runs [][]byte) error {
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	var group []ledger.Record
	for _, run := range runs {
		for len(run) > 0 {
			var r ledger.Record
			r, run = ledger.Unpack(run)
			r.Seq = uint64(l.committed + len(group) + 1)
			r.Payload = bytes.Clone(r.Payload)
			group = append(group, r)
		}
	}
	if len(group) == 0 {
		return nil
	}
	if l.err = l.memory.operation(); l.err != nil {
		l.memory.records = append(l.memory.records, group[:l.memory.rng.IntN(len(group)+1)]...)
		return l.err
	}
	l.memory.records = append(l.memory.records, group...)
	l.committed = len(l.memory.records)
	return nil
}

func (l *memoryLog) Seal() error {
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if l.err = l.memory.operation(); l.err == nil || l.memory.rng.IntN(2) == 0 {
		l.memory.sealed = uint64(l.committed)
	}
	return l.err
}

func (l *memoryLog) Read() error {
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	return l.err
}

// sealMore extends the seal, if there is one, to all that was committed.
func (l *memoryLog) sealMore() {
	if l.memory.sealed > 0 {
		l.memory.sealed = uint64(l.committed)
	}
}

func (l *memoryLog) Term() uint64 { return l.term }

// Scan works as that of [ledger.Ledger]. It passes a copy of each payload to visit, and overwrites
// the copy afterwards, so that tests notice a visit that keeps the payload.
func (l *memoryLog) Scan(visit func(ledger.Record) error) (ledger.Tail, error) {
	l.memory.mu.Lock()
	records := l.memory.records[:l.committed]
	tail := ledger.Tail{Sealed: l.memory.sealed > 0, SealedSeq: l.memory.sealed}
	closed := l.closed
	l.memory.mu.Unlock()
	if closed {
		return ledger.Tail{}, errMemoryClosed
	}
	var payload []byte
	for _, r := range records {
		if visit != nil {
			payload = append(payload[:0], r.Payload...)
			visited := r
			visited.Payload = payload
			if err := visit(visited); err != nil {
				return tail, err
			}
			copy(payload, bytes.Repeat([]byte{'?'}, len(payload)))
		}
		tail.Seq = r.Seq
		tail.Bytes += int64(ledger.RecordBytes(len(r.Payload)))
	}
	return tail, nil
}

func (l *memoryLog) Close() error {
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	if l.closed {
		return nil
	}
	if l.err == nil {
		l.sealMore()
	}
	l.end()
	return nil
}

// end closes the log, and frees the memory for the next holder.
func (l *memoryLog) end() {
	l.closed, l.err = true, errMemoryClosed
	if l.memory.holder == l {
		l.memory.holder = nil
	}
}

var errMemoryClosed = fmt.Errorf("ledgertest: the log in memory: %w", fs.ErrClosed)
