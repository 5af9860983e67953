package commit

import (
	"sync"
	"sync/atomic"
	"time"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

const (
	// intakes is how many intakes a loop has: one fills while the other is committed.
	intakes = 2
	// RequestsMax is how many requests of one loop may wait for the committer.
	RequestsMax = 16 << 10
)

// intake is what one loop has handed over: requests in order, and the bytes that their spans refer
// to.
type intake struct {
	requests []Request
	records  []byte // packed, unsealed ledger records, back to back
	winners  []byte
	since    time.Time // when the first request came; zero without a clock
}

func (in *intake) reset() {
	clear(in.requests) // let sessions and details go
	in.requests = in.requests[:0]
	in.records = in.records[:0]
	in.winners = in.winners[:0]
	in.since = time.Time{}
}

// Stage is the bounded queue from one loop to the committer. The loop fills one intake while the
// committer has the other. When the intake is full, the loop waits in Add. This is the backpressure
// on the loop's peers. It can't deadlock, because the committer never waits for a loop.
//
// Only the stage's loop may call Add, Hold, Release and HasRoom.
type Stage struct {
	wake chan<- struct{} // the committer's; holds one
	// bytesMax and requestsMax bound the intake, which may hold one record in any case.
	bytesMax, requestsMax int
	// held is the loop's: while it is true, Add doesn't wake the committer.
	held  bool
	clock func() time.Time // nil: nobody asks how long requests wait
	waits atomic.Int64

	mu      sync.Mutex
	room    sync.Cond
	filling *intake
	closed  bool
}

func newStage(wake chan<- struct{}, bytesMax, requestsMax int) *Stage {
	s := &Stage{wake: wake, bytesMax: bytesMax, requestsMax: requestsMax, filling: new(intake)}
	s.room.L = &s.mu
	return s
}

// Add hands r over. Bets come with their payload and their winning lines, which Add copies. Add
// waits while the intake is full. It returns false if the stage is closed: r will not be answered.
func (s *Stage) Add(r Request, payload, winners []byte) bool {
	need := 0
	if r.Kind == lottery.Bets {
		need = ledger.RecordBytes(len(payload))
	}
	s.mu.Lock()
	if !s.closed && s.full(1, need) {
		s.waits.Add(1)
		s.wakeCommitter()
	}
	for !s.closed && s.full(1, need) {
		s.room.Wait()
	}
	if s.closed {
		s.mu.Unlock()
		return false
	}
	in := s.filling
	if r.Kind == lottery.Bets {
		in.records = s.grow(in.records, need)
		r.open = codec.StretchOf(payload, 0, 0).Open
		r.records.start = uint32(len(in.records))
		in.records = ledger.AppendRecord(in.records, ledger.Bets,
			uint32(r.Agency), uint32(r.Count), payload)
		r.records.end = uint32(len(in.records))
		packed, _ := ledger.Unpack(r.records.of(in.records)) // its checksum, while the record is in this cache
		r.bytes, r.checksum = uint32(len(payload)), packed.Checksum
		r.winners.start = uint32(len(in.winners))
		in.winners = append(in.winners, winners...)
		r.winners.end = uint32(len(in.winners))
	}
	first := len(in.requests) == 0
	in.requests = append(in.requests, r)
	if first && s.clock != nil {
		in.since = s.clock()
	}
	s.mu.Unlock()
	if first && !s.held {
		s.wakeCommitter()
	}
	return true
}

// Hold lets the committer sleep until Release, whatever is added, unless the stage gets full.
func (s *Stage) Hold() { s.held = true }

// Release ends Hold.
func (s *Stage) Release() {
	s.held = false
	s.mu.Lock()
	some := len(s.filling.requests) > 0
	s.mu.Unlock()
	if some {
		s.wakeCommitter()
	}
}

func (s *Stage) wakeCommitter() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// growBytesMax is up to what size append grows the records step by step. A loop that needs more is
// busy, and gets all that its intake may have at once.
const growBytesMax = 512 << 10

// grow makes room for need more bytes if append should not do it: above growBytesMax, and up to
// bytesMax.
func (s *Stage) grow(records []byte, need int) []byte {
	if want := len(records) + need; want <= cap(records) || want <= growBytesMax || want > s.bytesMax {
		return records
	}
	grown := ledger.Buffer(s.bytesMax)[:len(records)]
	copy(grown, records)
	return grown
}

// full reports whether the intake lacks room for so many more requests and bytes of records.
func (s *Stage) full(requests, bytes int) bool {
	in := s.filling
	return len(in.requests)+requests > s.requestsMax ||
		len(in.records) > 0 && len(in.records)+bytes > s.bytesMax
}

// HasRoom reports whether Add would take so many requests without waiting, if their records have so
// many bytes in all.
func (s *Stage) HasRoom(requests, bytes int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.full(requests, bytes)
}

// Waits counts how often the loop had to wait for room. Any goroutine may ask.
func (s *Stage) Waits() int64 { return s.waits.Load() }

// bytes is how many bytes of records wait to be taken. Any goroutine may ask.
func (s *Stage) bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.filling.records))
}

// take swaps the filling intake for empty. The committer alone may call it.
func (s *Stage) take(empty *intake) *intake {
	s.mu.Lock()
	in := s.filling
	s.filling = empty
	s.mu.Unlock()
	s.room.Signal()
	return in
}

// Close makes Add return false from now on, also a call that waits. Any goroutine may call it.
func (s *Stage) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.room.Broadcast()
}
