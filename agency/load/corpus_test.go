package load

import (
	"bytes"
	"fmt"
	"testing"

	"loteria/codec"
)

var testRules = codec.Rules{Today: 20261123, WinningNumber: WinningNumber}

// parsed is what a server finds in frames.
type parsed struct {
	frames, bets int
	winners      []byte
}

// parse reads frames as a server does.
func parse(t *testing.T, id codec.Agency, o Options, stream []byte) (p parsed) {
	t.Helper()
	for len(stream) > 0 {
		payload, rest, ok, err := codec.SplitFrame(stream, o.BatchBytes)
		if err != nil || !ok {
			t.Fatalf("frame %d: ok %t, %v", p.frames, ok, err)
		}
		var request codec.Request
		if request, p.winners, err = codec.ParseRequest(payload, testRules, p.winners); err != nil {
			t.Fatalf("frame %d: %v", p.frames, err)
		}
		if request.Agency != id || o.BatchBets > 0 && request.Batch.Count > o.BatchBets {
			t.Fatalf("frame %d: %+v", p.frames, request)
		}
		p.frames++
		p.bets += request.Batch.Count
		stream = rest
	}
	p.winners = bytes.TrimSuffix(p.winners, []byte{'\n'})
	return p
}

func TestRing(t *testing.T) {
	for _, o := range []Options{
		{BatchBytes: 8192},
		{BatchBytes: 8192, BatchBets: 150},
		{BatchBytes: 8192, BatchBets: 1},
		{BatchBytes: BatchBytesMin},
		{BatchBytes: 1 << 20},
	} {
		t.Run(fmt.Sprintf("%d bets, %d bytes", o.BatchBets, o.BatchBytes), func(t *testing.T) {
			const id = 7
			r, err := newRing(id, o, 256<<10)
			if err != nil {
				t.Fatal(err)
			}
			bets := 0
			for _, n := range r.bets {
				bets += n
			}
			whole := share{ring: r, frames: never}
			got := parse(t, id, o, r.stream)
			if got.frames != r.frames() || got.bets != bets || bets == 0 {
				t.Errorf("%d frames with %d bets, want %d with %d", got.frames, got.bets, r.frames(), bets)
			}
			if want := whole.winningLines(r.frames()); !bytes.Equal(got.winners, want) {
				t.Errorf("winners %q, want %q", got.winners, want)
			}
		})
	}
}

func TestRingsDiffer(t *testing.T) {
	o := Options{BatchBytes: 8192}
	first, err1 := newRing(1, o, 1<<20)
	again, err2 := newRing(1, o, 1<<20)
	second, err3 := newRing(2, o, 1<<20)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	if !bytes.Equal(first.stream, again.stream) {
		t.Error("one agency's frames differ from one time to the next")
	}
	if bytes.Equal(first.stream[:1000], second.stream[:1000]) {
		t.Error("two agencies have the same bets")
	}
}

// A share of exactly n bets has n bets, even if n falls inside a frame. Its winners are those of
// its bets.
func TestExactly(t *testing.T) {
	o := Options{BatchBytes: 400, BatchBets: 6}
	const id = 3
	r, err := newRing(id, o, 4000)
	if err != nil {
		t.Fatal(err)
	}
	for bets := int64(1); bets <= 150; bets++ {
		s, err := exactly(r, bets)
		if err != nil {
			t.Fatal(err)
		}
		var (
			stream []byte
			sum    int
		)
		for n := 0; n < s.frames; {
			part, frames := s.next(n, s.frames-n)
			stream = append(stream, part...)
			n += frames
		}
		for n := range s.frames {
			sum += s.betsOf(n)
		}
		got := parse(t, id, o, stream)
		if int64(got.bets) != bets || int64(sum) != bets || got.frames != s.frames {
			t.Errorf("share of %d bets: %d in %d frames, says %d in %d", bets, got.bets, got.frames, sum, s.frames)
		}
		if want := s.winningLines(s.frames); !bytes.Equal(got.winners, want) {
			t.Errorf("share of %d bets: winners %q, want %q", bets, got.winners, want)
		}
	}
}
