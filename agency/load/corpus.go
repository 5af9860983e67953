package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"loteria/agency/dataset"
	"loteria/codec"
)

const (
	// corpusBytes is about how much all agencies' frames take together. It is
	// more than a processor caches, as real bets would be, and more than its
	// branch predictor remembers.
	corpusBytes = 32 << 20
	// ringFramesMax bounds one agency's frames.
	ringFramesMax = 4096
	// winnersOneIn is how many bets have one winner among them, about.
	winnersOneIn = 5000
	// lineBytesMin is less than any line of a dataset has: it bounds how many
	// bets fill a number of bytes.
	lineBytesMin = 24
	// lineBytesTypical is a little more than most lines have.
	lineBytesTypical = 64
)

// ring is one agency's frames, which it sends in order, again and again. It is
// not changed once it is made.
type ring struct {
	stream  []byte // the frames, back to back
	ends    []int  // where each frame ends in stream
	bets    []int  // in each frame
	winners [][]byte
}

func (r *ring) frames() int { return len(r.ends) }

// betsOf is how many bets frame n has, counted from the first that is sent.
func (r *ring) betsOf(n int) int { return r.bets[n%len(r.bets)] }

// span is where in stream frame i begins and where frame j-1 ends.
func (r *ring) span(i, j int) []byte {
	start := 0
	if i > 0 {
		start = r.ends[i-1]
	}
	return r.stream[start:r.ends[j-1]]
}

// ringBytes is how much of the corpus one agency has: no more than it sends, if
// that is known.
func (o Options) ringBytes() int {
	bytes := int64(corpusBytes)
	switch {
	case o.Bets > 0:
		bytes = min(bytes, o.Bets*lineBytesTypical)
	case o.Rate > 0:
		bytes = int64(min(float64(bytes), o.Rate*o.Duration.Seconds()*lineBytesTypical))
	}
	return int(bytes / int64(o.Agencies))
}

// newRing makes the frames of one agency, as many as fit into bytesMax but at
// least one. Equal arguments make equal frames.
func newRing(id codec.Agency, o Options, bytesMax int) (*ring, error) {
	frames := min(max(bytesMax/o.BatchBytes, 1), ringFramesMax)
	betsPerFrame := o.BatchBytes/lineBytesMin + 1
	if o.BatchBets > 0 {
		betsPerFrame = min(betsPerFrame, o.BatchBets)
	}
	bets := min(frames*betsPerFrame, dataset.BetsMax)
	// The seed is the id, so that a spec of one agency does for all of them.
	spec := dataset.Spec{
		Seed:          uint64(id),
		WinningNumber: WinningNumber,
		Agencies:      []dataset.Share{{Bets: bets, Winners: (bets + winnersOneIn - 1) / winnersOneIn}},
	}
	w := &ringWriter{ring: new(ring), frames: frames, options: o, suffix: codec.AppendAgency([]byte{'|'}, id)}
	err := spec.WriteAgency(context.Background(), w, 1)
	if err != nil && !errors.Is(err, errRingFull) {
		return nil, err
	}
	w.cut()
	if w.ring.frames() == 0 {
		return nil, fmt.Errorf("%w: no bet fits into a batch of %d bytes", ErrOptions, o.BatchBytes)
	}
	return w.ring, nil
}

var errRingFull = errors.New("ring full")

// ringWriter makes frames of the CSV that is written to it.
type ringWriter struct {
	ring    *ring
	frames  int
	options Options
	suffix  []byte // "|<agency>"

	batch   []byte // payload of the next frame
	bets    int    // in batch
	winners []byte // of batch
}

// winningField is how a winner's line ends, before its agency. Dataset's
// numbers have no leading zeros.
var winningField = fmt.Appendf(nil, "|%d", WinningNumber)

func (w *ringWriter) Write(rows []byte) (int, error) {
	n := len(rows)
	for len(rows) > 0 {
		row, rest, _ := bytes.Cut(rows, []byte("\r\n"))
		rows = rest
		need := len(row) + len(w.suffix)
		if w.bets > 0 {
			need++ // the '\n' before it
		}
		if len(w.batch)+need > w.options.BatchBytes || w.bets == w.options.BatchBets && w.bets > 0 {
			w.cut()
			if w.ring.frames() == w.frames {
				return 0, errRingFull
			}
		}
		w.add(row)
	}
	return n, nil
}

func (w *ringWriter) add(row []byte) {
	if w.bets > 0 {
		w.batch = append(w.batch, '\n')
	}
	start := len(w.batch)
	w.batch = append(w.batch, row...)
	for i, c := range w.batch[start:] {
		if c == ',' {
			w.batch[start+i] = '|'
		}
	}
	wins := bytes.HasSuffix(w.batch, winningField)
	w.batch = append(w.batch, w.suffix...)
	if wins {
		w.winners = append(append(w.winners, w.batch[start:]...), '\n')
	}
	w.bets++
}

// cut ends the batch and makes it a frame.
func (w *ringWriter) cut() {
	if w.bets == 0 {
		return
	}
	r := w.ring
	r.stream = codec.AppendFrame(r.stream, w.batch)
	r.ends = append(r.ends, len(r.stream))
	r.bets = append(r.bets, w.bets)
	r.winners = append(r.winners, w.winners)
	w.batch, w.bets, w.winners = w.batch[:0], 0, nil
}

// share is what one agency sends: so many frames of its ring, the last of
// which may be another one.
type share struct {
	ring *ring
	// frames is how many are sent; never if the load ends by time.
	frames int
	// last, if not nil, is the last of the frames: the first lines of the
	// ring's, so that the number of bets is met exactly.
	last        []byte
	lastBets    int
	lastWinners []byte
}

// never is a number of frames that is not reached.
const never = math.MaxInt

// endless is a share that has no end by itself.
func endless(r *ring) share { return share{ring: r, frames: never} }

// exactly is a share of that many bets, at least 1.
func exactly(r *ring, bets int64) (share, error) {
	s := share{ring: r}
	var round int64
	for _, n := range r.bets {
		round += int64(n)
	}
	s.frames = int(bets/round) * r.frames()
	left := int(bets % round)
	for left > 0 && left >= r.betsOf(s.frames) {
		left -= r.betsOf(s.frames)
		s.frames++
	}
	if left == 0 {
		return s, nil
	}
	i := s.frames % r.frames()
	payload, _, ok, err := codec.SplitFrame(r.span(i, i+1), codec.FrameBytesMaxLimit)
	if err != nil || !ok {
		return share{}, fmt.Errorf("load: a frame that was made is none: %w", err)
	}
	lines := bytes.SplitN(payload, []byte{'\n'}, left+1)[:left]
	for _, line := range lines {
		if bytes.HasSuffix(line[:bytes.LastIndexByte(line, '|')], winningField) {
			s.lastWinners = append(append(s.lastWinners, line...), '\n')
		}
	}
	s.last, s.lastBets = codec.AppendFrame(nil, bytes.Join(lines, []byte{'\n'})), left
	s.frames++
	return s, nil
}

// betsOf is how many bets frame n has.
func (s *share) betsOf(n int) int {
	if s.last != nil && n == s.frames-1 {
		return s.lastBets
	}
	return s.ring.betsOf(n)
}

// next is the bytes of frames from first, at most count of them, as far as
// they lie behind one another, and how many those are.
func (s *share) next(first, count int) (stream []byte, frames int) {
	if s.last != nil && first == s.frames-1 {
		return s.last, 1
	}
	if s.last != nil {
		count = min(count, s.frames-1-first)
	}
	i := first % s.ring.frames()
	count = min(count, s.ring.frames()-i)
	return s.ring.span(i, i+count), count
}

// winningLines is what the server has to answer to an agency that has sent
// the first count frames: its winners, joined by '\n'.
func (s *share) winningLines(count int) []byte {
	var lines []byte
	for n := range count {
		if s.last != nil && n == s.frames-1 {
			lines = append(lines, s.lastWinners...)
		} else {
			lines = append(lines, s.ring.winners[n%s.ring.frames()]...)
		}
	}
	return bytes.TrimSuffix(lines, []byte{'\n'})
}
