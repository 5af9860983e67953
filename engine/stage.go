package engine

import (
	"sync"
	"sync/atomic"

	"loteria/codec"
	"loteria/engine/ledger"
)

// Bounds of what one loop may have handed over and the committer not taken, in
// each of its batches. How many bytes, SERVER_QUEUE_BYTES_MAX says for all.
const (
	stageBatches     = 2 // one fills while the other is committed
	stageRequestsMax = 16 << 10
)

// batch is what one loop has handed over: requests in their order, and the
// bytes that they point to.
type batch struct {
	requests []request
	records  []byte // packed, unsealed ledger records, back to back
	winners  []byte
}

func (b *batch) reset() {
	clear(b.requests) // let sessions and details go
	b.requests = b.requests[:0]
	b.records = b.records[:0]
	b.winners = b.winners[:0]
}

// stage is the bounded queue from one loop to the committer. The loop fills
// one batch while the committer has the other. When the batch is full the loop
// waits in add: that is the backpressure on everything behind that loop. It
// can't deadlock, since the committer never waits for a loop.
type stage struct {
	wake chan<- struct{} // the committer's; holds one
	// bytesMax and requestsMax bound the batch, which may hold one record in any case.
	bytesMax, requestsMax int
	// held is the loop's: the committer is not woken yet.
	held bool
	// waits counts how often the loop had to wait for room.
	waits *atomic.Int64

	mu      sync.Mutex
	room    sync.Cond
	filling *batch
	closed  bool
}

func newStage(wake chan<- struct{}, bytesMax int, waits *atomic.Int64) *stage {
	s := &stage{wake: wake, waits: waits, bytesMax: bytesMax, requestsMax: stageRequestsMax, filling: new(batch)}
	s.room.L = &s.mu
	return s
}

// add hands r over, with the payload and winning lines of its bets, which are
// copied. It waits while the batch is full. It returns false when the stage is
// closed: nothing more will be answered. Only the stage's loop may call it.
func (s *stage) add(r request, payload, winners []byte) bool {
	need := 0
	if r.kind == requestBets {
		need = ledger.RecordBytes(len(payload))
	}
	s.mu.Lock()
	if !s.closed && s.full(need) {
		s.waits.Add(1)
		s.wakeCommitter()
	}
	for !s.closed && s.full(need) {
		s.room.Wait()
	}
	if s.closed {
		s.mu.Unlock()
		return false
	}
	b := s.filling
	if r.kind == requestBets {
		b.records = s.grow(b.records, need)
		r.open = codec.StretchOf(payload, 0, 0).Open
		r.records.start = uint32(len(b.records))
		b.records = ledger.AppendRecord(b.records, ledger.Bets, uint32(r.agency), uint32(r.count), payload)
		r.records.end = uint32(len(b.records))
		packed, _ := ledger.Unpack(r.records.of(b.records)) // its header is in this cache
		r.bytes, r.checksum = uint32(len(payload)), packed.Checksum
		r.winners.start = uint32(len(b.winners))
		b.winners = append(b.winners, winners...)
		r.winners.end = uint32(len(b.winners))
	}
	first := len(b.requests) == 0
	b.requests = append(b.requests, r)
	s.mu.Unlock()
	if first && !s.held {
		s.wakeCommitter()
	}
	return true
}

// hold lets the committer sleep until release, whatever is added, unless there
// is no room left. Only the stage's loop may call it.
func (s *stage) hold() { s.held = true }

// release ends hold. Only the stage's loop may call it.
func (s *stage) release() {
	s.held = false
	s.mu.Lock()
	some := len(s.filling.requests) > 0
	s.mu.Unlock()
	if some {
		s.wakeCommitter()
	}
}

func (s *stage) wakeCommitter() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// growBytesMax is up to where records are grown step by step. A loop that needs
// more is busy, and gets all that its batch may have.
const growBytesMax = 512 << 10

// grow makes room for need bytes more, unless that is little or more than the
// batch should have.
func (s *stage) grow(records []byte, need int) []byte {
	if want := len(records) + need; want <= cap(records) || want <= growBytesMax || want > s.bytesMax {
		return records
	}
	grown := ledger.Buffer(s.bytesMax)[:len(records)]
	copy(grown, records)
	return grown
}

func (s *stage) full(need int) bool {
	b := s.filling
	return len(b.requests) >= s.requestsMax || len(b.records) > 0 && len(b.records)+need > s.bytesMax
}

// take swaps the filling batch for empty. The committer alone may call it.
func (s *stage) take(empty *batch) *batch {
	s.mu.Lock()
	b := s.filling
	s.filling = empty
	s.mu.Unlock()
	s.room.Signal()
	return b
}

// close makes add return false from now on, also where it waits.
func (s *stage) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.room.Broadcast()
}

// refusal is the request that answers code, in its place among the answers.
func refusal(s *session, code codec.Code, detail string) request {
	return request{session: s, kind: requestRefuse, code: code, detail: detail}
}
