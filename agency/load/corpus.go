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
	// corpusBytes is about the size of all agencies' frames together. Like real bets, it is more
	// than a processor caches, and more than its branch predictor remembers.
	corpusBytes = 32 << 20
	// ringFramesMax limits one agency's frames.
	ringFramesMax = 4096
	// winnersOneIn: about one bet in so many wins.
	winnersOneIn = 5000
	// lineBytesMin is shorter than any line of a dataset. It limits how many bets fit into a number
	// of bytes.
	lineBytesMin = 24
	// lineBytesTypical is a little longer than most lines.
	lineBytesTypical = 64
)

// ring holds one agency's frames, which the agency sends in order, again and again. It doesn't
// change once it is made.
type ring struct {
	stream  []byte // the frames, back to back
	ends    []int  // where each frame ends in stream
	bets    []int  // how many bets each frame has
	winners [][]byte
}

func (r *ring) frames() int { return len(r.ends) }

// betsOf is how many bets the n-th frame that is sent has, from 0.
func (r *ring) betsOf(n int) int { return r.bets[n%len(r.bets)] }

// span returns the bytes of frames i to j-1.
func (r *ring) span(i, j int) []byte {
	start := 0
	if i > 0 {
		start = r.ends[i-1]
	}
	return r.stream[start:r.ends[j-1]]
}

// ringBytes is how much of the corpus one agency has. If it is known how much the agency sends, it
// is not more than that.
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

// newRing makes the frames of one agency: as many as fit into bytesMax, but at least one. Equal
// arguments make equal frames.
func newRing(id codec.Agency, o Options, bytesMax int) (*ring, error) {
	frames := min(max(bytesMax/o.BatchBytes, 1), ringFramesMax)
	betsPerFrame := o.BatchBytes/lineBytesMin + 1
	if o.BatchBets > 0 {
		betsPerFrame = min(betsPerFrame, o.BatchBets)
	}
	bets := min(frames*betsPerFrame, dataset.BetsMax)
	// The id is the seed, so a spec of one agency gives each agency different bets.
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

// winningField is the end of a winner's line, before its agency. The numbers of a dataset have no
// leading zeros.
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

// cut ends the batch and turns it into a frame.
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

// share is what one agency sends: a number of its ring's frames. The last one may be shorter.
type share struct {
	ring *ring
	// frames is how many frames are sent; never if the load ends by time.
	frames int
	// last, if not nil, is sent as the last frame. It has only the first lines of the ring's frame,
	// so that the number of bets is exact.
	last        []byte
	lastBets    int
	lastWinners []byte
}

// never is a number of frames that no agency reaches.
const never = math.MaxInt

// endless returns a share without an end.
func endless(r *ring) share { return share{ring: r, frames: never} }

// exactly returns a share of that many bets, at least 1.
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

// next returns the bytes of at most count frames, from frame first on, and how many frames they
// are. It returns fewer than count if the others don't follow in memory.
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

// winningLines returns the winners of an agency that has sent the first count frames, joined by
// '\n', as the server has to answer them.
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
