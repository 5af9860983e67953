package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"loteria/codec"
)

// checkPartials looks at the half frames of loops that are at rest: their lists,
// what they share, the sum of their buffers and its bound.
func checkPartials(limit *partialLimit, boxes ...*inbox) error {
	var held, largest int64
	for i, box := range boxes {
		ps := &box.partials
		if got, want := ps.oldest.Load(), ps.first.age(); got != want {
			return fmt.Errorf("loop %d: %d is published as the oldest, it is %d", i, got, want)
		}
		prev := (*partial)(nil)
		for p := ps.first; p != nil; p = p.next {
			held, largest = held+int64(cap(p.bytes)), max(largest, int64(cap(p.bytes)))
			switch {
			case p.prev != prev || p.number <= prev.age() || p.number > limit.begun.Load():
				return fmt.Errorf("loop %d: half frame %d stands behind %d", i, p.number, prev.age())
			case p.session.partial != p || p.session.deaf || p.session.closed || len(p.bytes) == 0:
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

func (s *Server) partialLimit() *partialLimit { return s.loops[0].box.partials.limit }

// inboxes are those of a server's loops.
func (s *Server) inboxes() (boxes []*inbox) {
	for _, lp := range s.loops {
		boxes = append(boxes, &lp.box)
	}
	return boxes
}

// refused tells which of the sessions have been refused since the last call, and
// fails unless each is told ERROR_TIMEOUT.
func refused(t *testing.T, box *inbox, sessions []*session) (who []int) {
	t.Helper()
	b := box.stage.take(new(batch))
	for i := range b.requests {
		if r := &b.requests[i]; r.kind != requestRefuse || r.code != codec.CodeTimeout {
			t.Errorf("a session is refused with %v", r.code)
		}
		who = append(who, slices.Index(sessions, b.requests[i].session))
	}
	return who
}

// Whatever ends half frames, in whatever order: the sum is that of the buffers,
// and nothing when all are gone.
func TestPartialAccounting(t *testing.T) {
	ends := []struct {
		name string
		end  func(s *session, box *inbox)
	}{
		{"completed", func(s *session, box *inbox) {
			_, total, err := codec.FrameLen(s.partial.bytes, box.frameBytesMax)
			if err != nil {
				t.Fatal(err)
			}
			s.receive(make([]byte, total-len(s.partial.bytes)), box)
		}},
		{"refused", func(s *session, box *inbox) { s.refuse(codec.CodeTimeout, box) }},
		{"timed out", func(s *session, box *inbox) { s.tick(-1, box) }},
		{"closed", func(s *session, box *inbox) { s.dropPartial(box) }},
		{"shed", func(s *session, box *inbox) {
			limit := box.partials.limit
			defer func(bytesMax int64) { limit.bytesMax = bytesMax }(limit.bytesMax)
			limit.bytesMax = limit.bytes.Load() - 1
			box.shed() // s is one of them, and goes if it is the oldest
			s.dropPartial(box)
		}},
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 200 {
		box := newTestInbox()
		box.frameBytesMax = codec.FrameBytesMaxLimit
		sessions := make([]*session, 1+rng.IntN(8))
		for i := range sessions {
			sessions[i] = new(session)
			header := []byte(fmt.Sprintf("%d\n", 1+rng.IntN(300_000)))
			sessions[i].receive(header, box)
			for sessions[i].partial != nil && rng.IntN(3) > 0 { // the buffer grows
				_, total, _ := codec.FrameLen(sessions[i].partial.bytes, box.frameBytesMax)
				if left := total - len(sessions[i].partial.bytes); left > 1 {
					sessions[i].receive(make([]byte, 1+rng.IntN(left-1)), box)
				} else {
					break
				}
			}
			if err := checkPartials(box.partials.limit, box); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		rng.Shuffle(len(sessions), func(i, j int) { sessions[i], sessions[j] = sessions[j], sessions[i] })
		for _, s := range sessions {
			how := ends[rng.IntN(len(ends))]
			if s.partial != nil {
				how.end(s, box)
			}
			if err := checkPartials(box.partials.limit, box); err != nil || s.partial != nil {
				t.Fatalf("round %d, %s: %v, left: %v", round, how.name, err, s.partial)
			}
		}
		if held := box.partials.limit.bytes.Load(); held != 0 || box.partials.first != nil {
			t.Fatalf("round %d: all half frames are gone, and %d bytes are held", round, held)
		}
	}
}

// Over the bound, those go that have been half sent longest, as many as it takes,
// and each is counted under the limit that was broken.
func TestPartialShedsOldest(t *testing.T) {
	box := newTestInbox()
	const fit = 5
	box.partials.limit = newPartialLimit(fit * partialBytesMin)
	box.frameBytesMax = 4 * partialBytesMin
	var sessions []*session
	begin := func(in string) {
		sessions = append(sessions, new(session))
		sessions[len(sessions)-1].receive([]byte(in), box)
		box.shed()
	}
	for range fit {
		begin("7\nx")
	}
	sessions[0].receive([]byte("y"), box)            // what comes later makes it no younger
	sessions[1].receive([]byte("ELLO|17\nHEL"), box) // a new frame is young, whoever's it is
	if n := len(heard(box)); n != 1 {
		t.Fatalf("%d messages, want the one that is whole", n)
	}
	begin("9000\nx")
	if got := refused(t, box, sessions); !slices.Equal(got, []int{0}) {
		t.Fatalf("refused are %v, want the oldest", got)
	}
	// A frame that grows counts as what it takes: two more buffers.
	last := sessions[len(sessions)-1]
	last.receive(make([]byte, 2*partialBytesMin), box)
	box.shed()
	if got := refused(t, box, sessions); !slices.Equal(got, []int{2, 3}) {
		t.Fatalf("refused are %v, want the two that are the oldest now", got)
	}
	n, timeouts := box.counters[limitPartialBytes].Load(), box.counters[limitReadTime].Load()
	if n != 3 || timeouts != 0 {
		t.Errorf("counted %d times, and %d as time-outs", n, timeouts)
	}
	if held := box.partials.limit.bytes.Load(); held > fit*partialBytesMin {
		t.Errorf("%d bytes are held, want at most %d", held, fit*partialBytesMin)
	}
	if err := checkPartials(box.partials.limit, box); err != nil {
		t.Error(err)
	}
	for i, s := range sessions {
		if want := i == 0 || i == 2 || i == 3; s.deaf != want || s.unanswered > 1 {
			t.Errorf("session %d: deaf %v, %d unanswered", i, s.deaf, s.unanswered)
		}
	}
}

// The one that has been half sent longest may be the one that has just grown.
func TestPartialShedsWhoGrows(t *testing.T) {
	box := newTestInbox()
	box.partials.limit = newPartialLimit(2 * partialBytesMin)
	box.frameBytesMax = 4 * partialBytesMin
	sessions := []*session{new(session), new(session)}
	for _, s := range sessions {
		s.receive([]byte("9000\nx"), box)
		box.shed()
	}
	sessions[0].receive(make([]byte, partialBytesMin), box)
	box.shed()
	if got := refused(t, box, sessions); !slices.Equal(got, []int{0}) {
		t.Errorf("refused are %v, want the one that began first", got)
	}
}

// With the least that is legal, a frame of the largest size still fits, whatever
// its header and the allocator add.
func TestPartialLargestFrameFits(t *testing.T) {
	for _, frameBytes := range []int{partialBytesLow, codec.FrameBytesMaxDefault + 1, codec.FrameBytesMaxLimit} {
		box := newTestInbox()
		box.frameBytesMax = frameBytes
		box.partials.limit = newPartialLimit(int64(frameBytes))
		s := new(session)
		for part := range slices.Chunk(frames(strings.Repeat("\n", frameBytes)), frameBytes/3) {
			s.receive(part, box)
			box.shed()
		}
		if got := heard(box); len(got) != 1 || !strings.HasPrefix(got[0], "refuse ERROR_EMPTY_BATCH") {
			t.Errorf("a frame of %d bytes becomes %q", frameBytes, got)
		}
	}
}

// newPartialSchedule is a server of two loops that run when the test says so.
// There is room for fit half frames, and with the slack for top.
func newPartialSchedule(t *testing.T, fit, top int) *schedule {
	t.Helper()
	s := newSchedule(t, []byte{scriptTwoLoops})
	s.setPartials(fit, top)
	return s
}

// halfFrame lets a peer's half frame begin, and tells on which loop that is.
func (s *schedule) halfFrame(at int) int {
	p := s.peer(at)
	p.pending = append(p.pending, "9\nHEL"...)
	s.deliver(p, len(p.pending))
	return slices.Index(s.server.loops, p.session.loop)
}

// wantRefused checks that this peer is told ERROR_TIMEOUT and no other is told
// anything.
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

// The oldest half frame of all loops goes, and its own loop is asked to do it;
// meanwhile nobody else does.
func TestPartialShedsOldestOfAllLoops(t *testing.T) {
	s := newPartialSchedule(t, 3, 4)
	loops := []int{s.halfFrame(0), s.halfFrame(1), s.halfFrame(2), s.halfFrame(3)}
	if !slices.Equal(loops, []int{0, 1, 0, 1}) {
		t.Fatalf("the peers are on loops %v", loops)
	}
	s.drain()
	s.wantRefused(0)
	if held := s.server.partialLimit().bytes.Load(); held != 3*partialBytesMin {
		t.Errorf("%d bytes are held, want three buffers", held)
	}
	s.end()
}

// A loop that is asked and does not come to it, because it waits for the disk,
// say, doesn't make the half frames exceed the bound by more than the slack.
func TestPartialLoopIsNotWaitedFor(t *testing.T) {
	s := newPartialSchedule(t, 2, 2)
	s.halfFrame(0)
	s.halfFrame(1)
	s.peer(2)
	if loop := s.halfFrame(3); loop != 1 {
		t.Fatalf("the last peer is on loop %d", loop)
	}
	if held := s.server.partialLimit().bytes.Load(); held != 2*partialBytesMin {
		t.Errorf("%d bytes are held while the other loop does nothing, want two buffers", held)
	}
	s.drain()
	s.wantRefused(1)
	s.end()
}

// Once warm, half frames cost no allocation.
func TestPartialDoesNotAllocate(t *testing.T) {
	box := newTestInbox()
	box.frameBytesMax = codec.FrameBytesMaxDefault
	s := new(session)
	frame := frames(strings.Repeat(betMaria+"\n", 1000))
	pass := func() {
		s.receive(frame[:100], box)
		box.shed()
		s.receive(frame[100:30_000], box)
		box.shed()
		s.receive(frame[30_000:], box)
		box.shed()
		s.unanswered = 0 // as the loop says when it answers
		box.stage.filling.reset()
	}
	pass()
	if n := testing.AllocsPerRun(100, pass); n != 0 {
		t.Errorf("%v allocations for a frame in three pieces, want none", n)
	}
}

// Of peers that keep back the last byte of their frames, the first ones are told
// ERROR_TIMEOUT, behind what else they are owed. The last ones may finish theirs.
// Nobody who is honest notices, and the log counts them under their own limit.
func TestPartialBytesOverSockets(t *testing.T) {
	const (
		frameBytes = 16 << 10
		peers      = 12
		fit        = 3 // the allocator adds 2 kB to each
	)
	cfg := liveConfig(t)
	cfg.FrameBytesMax, cfg.PartialBytesMax, cfg.EventLoops = frameBytes, partialBytesLow, 2
	cfg.NoExport = true
	s := serveLive(t, cfg)
	honest := s.dial(t).say(betCarlos).hears("ACK")
	late := s.dial(t)
	said := frames("", strings.Repeat("\n", frameBytes))
	last := len(said) - 1
	var all []*wire
	for range peers {
		all = append(all, s.dial(t).raw(said[:last]))
		if err := s.AwaitRead(t.Context()); err != nil {
			t.Fatal(err)
		}
		honest.say(betCarlos).hears("ACK")
	}
	empty, timeout := codec.CodeEmptyBatch.String(), codec.CodeTimeout.String()
	for i, w := range all {
		w.hears(empty)
		if i < peers-fit {
			w.hears(timeout).hearsEnd()
		} else {
			w.raw(said[last:]).hears(empty)
		}
		w.close()
	}
	late.say(betCarlos).hears("ACK").close()
	honest.close()
	awaitThat(t, "the half frames to be gone", func() bool {
		return s.partialLimit().bytes.Load() == 0
	})
	s.stop()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
	counts := s.logs.FilterMessage("limites").All()[0].ContextMap()
	if counts["parciales_bytes"] != int64(peers-fit) || counts["espera"] != int64(0) {
		t.Errorf("the log says %v", counts)
	}
}
