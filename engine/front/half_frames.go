package front

import (
	"math"
	"slices"
	"sync/atomic"

	"loteria/codec"
)

// A loop keeps at most spareMax buffers for its next half frames, each of at most spareBytesMax. A
// new buffer has at least partialBytesMin.
const (
	spareMax        = 64
	spareBytesMax   = 128 << 10
	partialBytesMin = 4 << 10
	// strangerBytesMin is the size of the largest frame that a stranger may send.
	strangerBytesMin = codec.AuthenticationBytesMax + len("70\n")
)

// All half frames may exceed SERVER_PARTIAL_BYTES_MAX by 1/partialSlack of it, as long as a loop
// that was asked to end the oldest has not done so.
const partialSlack = 8

// partial is a half frame: the beginning of a frame whose rest has not come.
type partial struct {
	bytes      []byte
	session    *Session
	number     uint64   // in the order in which half frames began, on all loops
	prev, next *partial // of its loop, in that order
}

// partials are a loop's half frames and its spare buffers. Everything except oldest belongs to the
// loop's goroutine.
type partials struct {
	limit       *partialLimit
	first, last *partial
	oldest      atomic.Uint64 // first's number, for the other loops; 0 is none
	spare       []*partial
}

// partialLimit bounds the half frames of all loops together. It never makes a loop wait for
// another.
type partialLimit struct {
	bytesMax int64 // SERVER_PARTIAL_BYTES_MAX
	bytesTop int64 // over it, a loop ends its own half frames instead of asking another
	loops    []*Loop
	bytes    atomic.Int64  // held: the capacities of all half frames' buffers
	begun    atomic.Uint64 // half frames since the start; numbers them
}

func newPartialLimit(bytesMax int64) *partialLimit {
	return &partialLimit{bytesMax: bytesMax, bytesTop: bytesMax + bytesMax/partialSlack}
}

// begin keeps the beginning of a session's frame, which is copied.
func (ps *partials) begin(s *Session, in []byte, rd *reader) {
	var p *partial
	least := partialBytesMin
	switch n := len(ps.spare); {
	case s.stranger(rd): // its buffer is too small to be worth keeping
		p, least = new(partial), strangerBytesMin
	case n > 0:
		p = ps.spare[n-1]
		ps.spare = ps.spare[:n-1]
	default:
		p = new(partial)
	}
	p.bytes = append(slices.Grow(p.bytes[:0], max(len(in), least)), in...)
	p.session, p.number = s, ps.limit.begun.Add(1)
	s.partial = p
	p.prev = ps.last
	if p.prev != nil {
		p.prev.next = p
	} else {
		ps.first = p
		ps.oldest.Store(p.number)
	}
	ps.last = p
	ps.limit.bytes.Add(int64(cap(p.bytes)))
}

// grow makes room for n more bytes of a frame of total bytes. The buffer doubles as bytes come, so
// bytes that a peer only announces cost nothing. It gets no larger than the frame, apart from the
// allocator's rounding.
func (ps *partials) grow(p *partial, n, total int) {
	have, had := len(p.bytes), cap(p.bytes)
	if have+n <= had {
		return
	}
	p.bytes = append(slices.Grow([]byte(nil), max(have+n, min(2*had, total))), p.bytes...)
	ps.limit.bytes.Add(int64(cap(p.bytes) - had))
}

// drop forgets a half frame, and may keep its buffer.
func (ps *partials) drop(p *partial) {
	// Lower the sum before publishing the next oldest: a loop that sees that one must not have it
	// ended for bytes that are gone.
	ps.limit.bytes.Add(-int64(cap(p.bytes)))
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		ps.last = p.prev
	}
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		ps.first = p.next
		ps.oldest.Store(ps.first.age())
	}
	p.session.partial = nil
	p.session, p.prev, p.next = nil, nil, nil
	if len(ps.spare) < spareMax && partialBytesMin <= cap(p.bytes) && cap(p.bytes) <= spareBytesMax {
		ps.spare = append(ps.spare, p)
	}
}

// age is the half frame's number; 0 if p is nil.
func (p *partial) age() uint64 {
	if p == nil {
		return 0
	}
	return p.number
}

// shed brings the half frames of all loops back under their limit: it refuses the peers whose half
// frames are the oldest. If the oldest is another loop's, it asks that loop to shed, and goes on.
// That loop may be waiting for the disk, so over bytesTop shed ends its own instead.
//
// A half frame that is the only one may always stay, because any legal frame has to fit.
func (rd *reader) shed() {
	limit := rd.partials.limit
	for {
		held, own := limit.bytes.Load(), rd.partials.first
		if held <= limit.bytesMax || own != nil && held <= int64(cap(own.bytes)) {
			return
		}
		oldest, least := (*Loop)(nil), uint64(math.MaxUint64)
		for _, lp := range limit.loops {
			if number := lp.rd.partials.oldest.Load(); number != 0 && number < least {
				oldest, least = lp, number
			}
		}
		if own == nil || least < own.number && held <= limit.bytesTop {
			if oldest != nil {
				oldest.post(func(m *mailbox) { m.shed = true })
			}
			return
		}
		own.session.outstay(LimitPartialBytes, rd)
	}
}
