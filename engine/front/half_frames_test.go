package front

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"loteria/codec"
	"loteria/engine/commit"
)

// checkPartials checks the half frames of loops that are at rest: their lists, the numbers that
// they publish, the sum of their buffers and its bound.
func checkPartials(limit *partialLimit, readers ...*reader) error {
	var held, largest int64
	for i, rd := range readers {
		ps := &rd.partials
		if got, want := ps.oldest.Load(), ps.first.age(); got != want {
			return fmt.Errorf("loop %d: %d is published as the oldest, it is %d", i, got, want)
		}
		prev := (*partial)(nil)
		for p := ps.first; p != nil; p = p.next {
			held, largest = held+int64(cap(p.bytes)), max(largest, int64(cap(p.bytes)))
			switch {
			case p.prev != prev || p.number <= prev.age() || p.number > limit.begun.Load():
				return fmt.Errorf("loop %d: half frame %d is linked after %d", i, p.number, prev.age())
			case p.session.partial != p || !p.session.phase.hears() || len(p.bytes) == 0:
				return fmt.Errorf("loop %d: half frame %d is nobody's: %+v", i, p.number, p.session)
			}
			prev = p
		}
		if ps.last != prev {
			return fmt.Errorf("loop %d: the last half frame is %d, not %d", i, ps.last.age(), prev.age())
		}
		for _, p := range ps.spare {
			if p.session != nil || p.prev != nil || p.next != nil {
				return fmt.Errorf("loop %d: a spare buffer belongs to a half frame", i)
			}
		}
	}
	if got := limit.bytes.Load(); got != held {
		return fmt.Errorf("%d bytes are counted, %d are held", got, held)
	}
	if held > max(limit.bytesTop, largest) {
		return fmt.Errorf("%d bytes are held, the limit is %d", held, limit.bytesTop)
	}
	return nil
}

// checkPartials checks the half frames of all loops.
func (f *Front) checkPartials() error {
	var readers []*reader
	for _, lp := range f.loops {
		readers = append(readers, &lp.rd)
	}
	return checkPartials(f.partialLimit(), readers...)
}

func (f *Front) partialLimit() *partialLimit { return f.loops[0].rd.partials.limit }

// refused returns the indexes of the sessions that were refused since the last call. It fails
// unless each is told ERROR_TIMEOUT.
func refused(t *testing.T, rd *reader, sessions []*Session) (who []int) {
	t.Helper()
	taken := rd.stage.(*spy).take()
	for i := range taken.requests {
		r := &taken.requests[i]
		if r.Kind != commit.Answer || r.Code != codec.CodeTimeout {
			t.Errorf("a session is refused with %v", r.Code)
		}
		who = append(who, slices.IndexFunc(sessions, func(s *Session) bool { return &s.Peer == r.Peer }))
	}
	return who
}

// Whatever ends half frames, in whatever order: the counted bytes are those of the buffers, and 0
// when all are gone.
func TestPartialAccounting(t *testing.T) {
	ends := []struct {
		name string
		end  func(s *Session, rd *reader)
	}{
		{"completed", func(s *Session, rd *reader) {
			_, total, err := codec.FrameLen(s.partial.bytes, rd.cfg.FrameBytesMax)
			if err != nil {
				t.Fatal(err)
			}
			s.receive(make([]byte, total-len(s.partial.bytes)), rd)
		}},
		{"refused", func(s *Session, rd *reader) { s.refuse(codec.CodeTimeout, rd) }},
		{"timed out", func(s *Session, rd *reader) { s.tick(-1, rd) }},
		{"closed", func(s *Session, rd *reader) { s.become(silenced, rd) }},
		{"shed", func(s *Session, rd *reader) {
			limit := rd.partials.limit
			defer func(bytesMax int64) { limit.bytesMax = bytesMax }(limit.bytesMax)
			limit.bytesMax = limit.bytes.Load() - 1
			rd.shed() // the oldest goes, which may be s
			s.become(silenced, rd)
		}},
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 200 {
		rd := newTestReader()
		rd.cfg.FrameBytesMax = codec.FrameBytesMaxLimit
		sessions := make([]*Session, 1+rng.IntN(8))
		for i := range sessions {
			sessions[i] = new(Session)
			header := []byte(fmt.Sprintf("%d\n", 1+rng.IntN(300_000)))
			sessions[i].receive(header, rd)
			for sessions[i].partial != nil && rng.IntN(3) > 0 { // the buffer grows
				_, total, _ := codec.FrameLen(sessions[i].partial.bytes, rd.cfg.FrameBytesMax)
				if left := total - len(sessions[i].partial.bytes); left > 1 {
					sessions[i].receive(make([]byte, 1+rng.IntN(left-1)), rd)
				} else {
					break
				}
			}
			if err := checkPartials(rd.partials.limit, rd); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		rng.Shuffle(len(sessions), func(i, j int) { sessions[i], sessions[j] = sessions[j], sessions[i] })
		for _, s := range sessions {
			how := ends[rng.IntN(len(ends))]
			if s.partial != nil {
				how.end(s, rd)
			}
			if err := checkPartials(rd.partials.limit, rd); err != nil || s.partial != nil {
				t.Fatalf("round %d, %s: %v, left: %v", round, how.name, err, s.partial)
			}
		}
		if held := rd.partials.limit.bytes.Load(); held != 0 || rd.partials.first != nil {
			t.Fatalf("round %d: all half frames are gone, and %d bytes are held", round, held)
		}
	}
}

// Over the bound the oldest half frames go, as many as necessary. Each is counted under the limit
// that was broken.
func TestPartialShedsOldest(t *testing.T) {
	rd := newTestReader()
	const fit = 5
	rd.partials.limit = newPartialLimit(fit * partialBytesMin)
	rd.cfg.FrameBytesMax = 4 * partialBytesMin
	var sessions []*Session
	begin := func(in string) {
		sessions = append(sessions, new(Session))
		sessions[len(sessions)-1].receive([]byte(in), rd)
		rd.shed()
	}
	for range fit {
		begin("7\nx")
	}
	sessions[0].receive([]byte("y"), rd)            // more bytes make it no younger
	sessions[1].receive([]byte("ELLO|17\nHEL"), rd) // a new half frame is young
	if n := len(heard(rd)); n != 1 {
		t.Fatalf("%d messages, want the one that is whole", n)
	}
	begin("9000\nx")
	if got := refused(t, rd, sessions); !slices.Equal(got, []int{0}) {
		t.Fatalf("refused are %v, want the oldest", got)
	}
	// A half frame that grows counts with what its buffer takes: two more of the least.
	last := sessions[len(sessions)-1]
	last.receive(make([]byte, 2*partialBytesMin), rd)
	rd.shed()
	if got := refused(t, rd, sessions); !slices.Equal(got, []int{2, 3}) {
		t.Fatalf("refused are %v, want the two that are the oldest now", got)
	}
	n, timeouts := rd.counters[LimitPartialBytes].Load(), rd.counters[LimitReadTime].Load()
	if n != 3 || timeouts != 0 {
		t.Errorf("counted %d times, and %d as time-outs", n, timeouts)
	}
	if held := rd.partials.limit.bytes.Load(); held > fit*partialBytesMin {
		t.Errorf("%d bytes are held, want at most %d", held, fit*partialBytesMin)
	}
	if err := checkPartials(rd.partials.limit, rd); err != nil {
		t.Error(err)
	}
	for i, s := range sessions {
		if want := i == 0 || i == 2 || i == 3; s.phase.hears() == want || s.unanswered > 1 {
			t.Errorf("session %d: phase %v, %d unanswered", i, s.phase, s.unanswered)
		}
	}
}

// The oldest half frame may be the one that has just grown.
func TestPartialShedsWhoGrows(t *testing.T) {
	rd := newTestReader()
	rd.partials.limit = newPartialLimit(2 * partialBytesMin)
	rd.cfg.FrameBytesMax = 4 * partialBytesMin
	sessions := []*Session{new(Session), new(Session)}
	for _, s := range sessions {
		s.receive([]byte("9000\nx"), rd)
		rd.shed()
	}
	sessions[0].receive(make([]byte, partialBytesMin), rd)
	rd.shed()
	if got := refused(t, rd, sessions); !slices.Equal(got, []int{0}) {
		t.Errorf("refused are %v, want the one that began first", got)
	}
}

// With the smallest legal bound, a frame of the largest size still fits, whatever its header and
// the allocator add.
func TestPartialLargestFrameFits(t *testing.T) {
	for _, frameBytes := range []int{64 << 10, codec.FrameBytesMaxDefault + 1, codec.FrameBytesMaxLimit} {
		rd := newTestReader()
		rd.cfg.FrameBytesMax = frameBytes
		rd.partials.limit = newPartialLimit(int64(frameBytes))
		s := new(Session)
		for part := range slices.Chunk(frames(strings.Repeat("\n", frameBytes)), frameBytes/3) {
			s.receive(part, rd)
			rd.shed()
		}
		if got := heard(rd); len(got) != 1 || !strings.HasPrefix(got[0], "refuse ERROR_EMPTY_BATCH") {
			t.Errorf("a frame of %d bytes is heard as %q", frameBytes, got)
		}
	}
}

// newPartialSchedule makes a server of two loops that run when the test says so. There is room for
// fit half frames, and with the slack for top.
func newPartialSchedule(t *testing.T, fit, top int) *schedule {
	t.Helper()
	s := newSchedule(t, []byte{scriptTwoLoops})
	s.setPartials(fit, top)
	return s
}

// halfFrame begins a half frame of a peer, and returns the peer's loop.
func (s *schedule) halfFrame(at int) int {
	p := s.peer(at)
	p.pending = append(p.pending, "9\nHEL"...)
	s.deliver(p, len(p.pending))
	return slices.Index(s.server.front.loops, p.session.loop)
}

// wantRefused checks that this peer is told ERROR_TIMEOUT, and the others nothing.
func (s *schedule) wantRefused(peer int) {
	s.t.Helper()
	for i, p := range s.peers {
		want := ""
		if i == peer {
			want = string(frames(codec.CodeTimeout.String()))
		}
		if string(p.told) != want {
			s.t.Errorf("peer %d is told %q, want %q", i, p.told, want)
		}
	}
}

// The oldest half frame of all loops goes: its own loop is asked to end it, and the other loop ends
// none of its own.
func TestPartialShedsOldestOfAllLoops(t *testing.T) {
	s := newPartialSchedule(t, 3, 4)
	loops := []int{s.halfFrame(0), s.halfFrame(1), s.halfFrame(2), s.halfFrame(3)}
	if !slices.Equal(loops, []int{0, 1, 0, 1}) {
		t.Fatalf("the peers are on loops %v", loops)
	}
	s.drain()
	s.wantRefused(0)
	if held := s.server.front.partialLimit().bytes.Load(); held != 3*partialBytesMin {
		t.Errorf("%d bytes are held, want three buffers", held)
	}
	s.end()
}

// A loop that is asked may not come to it, for example because it waits for the disk. Even so the
// half frames don't exceed the bound by more than the slack.
func TestPartialLoopIsNotWaitedFor(t *testing.T) {
	s := newPartialSchedule(t, 2, 2)
	s.halfFrame(0)
	s.halfFrame(1)
	s.peer(2)
	if loop := s.halfFrame(3); loop != 1 {
		t.Fatalf("the last peer is on loop %d", loop)
	}
	if held := s.server.front.partialLimit().bytes.Load(); held != 2*partialBytesMin {
		t.Errorf("%d bytes are held while the other loop does nothing, want two buffers", held)
	}
	s.drain()
	s.wantRefused(1)
	s.end()
}

// discard is a stage that keeps nothing.
type discard struct{}

func (discard) Add(commit.Request, []byte, []byte) bool { return true }
func (discard) Hold()                                   {}
func (discard) Release()                                {}
func (discard) Waits() int64                            { return 0 }

// Once warm, half frames cost no allocation.
func TestPartialDoesNotAllocate(t *testing.T) {
	rd := newTestReader()
	rd.stage = discard{}
	rd.cfg.FrameBytesMax = codec.FrameBytesMaxDefault
	s := new(Session)
	frame := frames(strings.Repeat(betMaria+"\n", 1000))
	pass := func() {
		s.receive(frame[:100], rd)
		rd.shed()
		s.receive(frame[100:30_000], rd)
		rd.shed()
		s.receive(frame[30_000:], rd)
		rd.shed()
		s.unanswered = 0 // as when the loop answers
	}
	pass()
	if n := testing.AllocsPerRun(100, pass); n != 0 {
		t.Errorf("%v allocations for a frame in three pieces, want none", n)
	}
}
