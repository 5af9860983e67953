package ledgertest

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"

	"loteria/engine/ledger"
)

// Memory is a log in memory, and a [Store]: for the tests of who commits, which need no disk. It
// stays when whoever had it open is gone, so that the next one finds what was committed. It loses
// nothing, but it fails on demand. Every Open begins a new term, from 1.
//
// Any goroutine may call its methods, and those of a log that it opened are as [ledger.Ledger]
// says. Use [NewMemory].
type Memory struct {
	mu      sync.Mutex
	rng     *rand.Rand
	records []ledger.Record // with payloads of their own; only ever appended to
	sealed  uint64          // the last record that the seal covers; 0 without a seal
	term    uint64          // of the newest holder
	holder  *memoryLog      // nil while nobody has it open

	failIn int   // how many operations there are to the one that fails; 0: none fails
	cause  error // what it fails with
	failed bool  // it has failed
}

// NewMemory makes an empty log. All chance comes from the seed.
func NewMemory(seed uint64) *Memory { return &Memory{rng: rand.New(rand.NewPCG(seed, 0))} }

// Fail arranges that the n-th Commit or Seal from now on fails, from 1, in place of a failure that
// was arranged before. It returns err as it is, and so do all that follow it from the same holder,
// as from one that doesn't lead any more. A Commit without records doesn't count. What the failed
// one leaves is chance: the next Open finds all of its group, a beginning, or nothing.
func (m *Memory) Fail(n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failIn, m.cause, m.failed = n, err, false
}

// BreakNext implements [Store]. After a failure nothing works anyway, dead or not.
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

// operation counts one that changes something, and returns the error that it fails with.
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

// memoryLog is a Memory as the one who opened it has it. The memory's mu guards all but the term.
type memoryLog struct {
	memory    *Memory
	term      uint64
	committed int // how many of the memory's records
	err       error
	closed    bool
}

// Commit is as [ledger.Ledger] has it, but leaves the runs as they are.
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

// sealMore has the seal cover what was committed, if there is one.
func (l *memoryLog) sealMore() {
	if l.memory.sealed > 0 {
		l.memory.sealed = uint64(l.committed)
	}
}

func (l *memoryLog) Term() uint64 { return l.term }

// Scan is as [ledger.Ledger] has it. It visits each payload in memory of its own, and spoils that
// afterwards, so that who keeps one notices.
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

// end makes the log free for the next holder.
func (l *memoryLog) end() {
	l.closed, l.err = true, errMemoryClosed
	if l.memory.holder == l {
		l.memory.holder = nil
	}
}

var errMemoryClosed = fmt.Errorf("ledgertest: the log in memory: %w", fs.ErrClosed)
