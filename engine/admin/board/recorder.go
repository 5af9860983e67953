package board

import (
	"slices"
	"time"
)

// stepMin is a series' first step.
const stepMin = 10 * time.Millisecond

// Recorder keeps a draw's [Series] and its last events. It has no clock: whoever calls it says what
// time it is. One goroutine at a time may use it.
type Recorder struct {
	start  time.Time // of the series: when the first bets came
	empty  bool      // none have come
	step   time.Duration
	bets   []int64
	events []Event // oldest first
}

// NewRecorder makes a recorder of nothing so far. The series begins at start, and anew with the first
// bets.
func NewRecorder(start time.Time) *Recorder {
	return &Recorder{start: start, step: stepMin, empty: true}
}

// Count notes that so many more bets are stored since at. Times before those of earlier calls count
// for the first step at the earliest.
func (r *Recorder) Count(at time.Time, bets int64) {
	if bets == 0 {
		return
	}
	if r.empty {
		r.start, r.empty = at, false
	}
	for r.at(at) >= PointsMax {
		for i := range (len(r.bets) + 1) / 2 {
			r.bets[i] = r.bets[2*i]
			if 2*i+1 < len(r.bets) {
				r.bets[i] += r.bets[2*i+1]
			}
		}
		r.bets = r.bets[:(len(r.bets)+1)/2]
		r.step *= 2
	}
	for len(r.bets) <= r.at(at) {
		r.bets = append(r.bets, 0)
	}
	r.bets[r.at(at)] += bets
}

// at is the index of the step that holds a time.
func (r *Recorder) at(t time.Time) int { return int(max(t.Sub(r.start), 0) / r.step) }

// Series is what was counted until now. Steps without bets behind the last bets are zeros, as far as
// there is room for them. The series is the caller's.
func (r *Recorder) Series(now time.Time) Series {
	steps := 0
	if !r.empty {
		steps = max(len(r.bets), min(r.at(now)+1, PointsMax))
	}
	bets := make([]int64, steps)
	copy(bets, r.bets)
	return Series{Start: r.start, Step: r.step.Milliseconds(), Bets: bets}
}

// Note notes an event. If there are more than EventsMax, it forgets the oldest one of an agency, or the
// oldest one if there is none, so that the reports of a thousand agencies don't displace the draw.
func (r *Recorder) Note(e Event) {
	if len(r.events) == EventsMax {
		first := max(slices.IndexFunc(r.events, func(e Event) bool { return e.Agency != 0 }), 0)
		r.events = slices.Delete(r.events, first, first+1)
	}
	r.events = append(r.events, e)
}

// Events are those that aren't forgotten, oldest first. The slice is the caller's.
func (r *Recorder) Events() []Event { return append([]Event{}, r.events...) }
