package board

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var noon = time.Date(2026, 12, 24, 12, 0, 0, 0, time.UTC)

// stored are bets that were stored at a time.
type stored struct {
	at   time.Time
	bets int64
}

// obvious is the series of all that was stored, made at once: with the smallest step with which it has
// room.
func obvious(all []stored, now time.Time) Series {
	all = slices.DeleteFunc(slices.Clone(all), func(s stored) bool { return s.bets == 0 })
	if len(all) == 0 {
		return Series{Start: noon, Step: 10, Bets: []int64{}}
	}
	start, last := all[0].at, time.Duration(0)
	for _, s := range all {
		last = max(last, s.at.Sub(start))
	}
	step := 10 * time.Millisecond
	for last/step >= PointsMax {
		step *= 2
	}
	steps := max(last/step, min(max(now.Sub(start), 0)/step, PointsMax-1)) + 1
	series := Series{Start: start, Step: step.Milliseconds(), Bets: make([]int64, steps)}
	for _, s := range all {
		series.Bets[max(s.at.Sub(start), 0)/step] += s.bets
	}
	return series
}

func wantSeries(t *testing.T, got, want Series) {
	t.Helper()
	if !got.Start.Equal(want.Start) || got.Step != want.Step || !slices.Equal(got.Bets, want.Bets) {
		t.Fatalf("series from %v in steps of %d ms: %v\nwant from %v in steps of %d ms: %v",
			got.Start, got.Step, got.Bets, want.Start, want.Step, want.Bets)
	}
}

func TestSeries(t *testing.T) {
	at := func(ms int, bets int64) stored { return stored{noon.Add(time.Duration(ms) * time.Millisecond), bets} }
	for _, test := range []struct {
		name  string
		all   []stored
		now   int // ms
		step  int64
		bets  []int64 // the first ones
		steps int
	}{
		{"nothing", nil, 0, 10, nil, 0},
		{"no bets", []stored{at(0, 0)}, 100, 10, nil, 0},
		{"one group", []stored{at(0, 7)}, 0, 10, []int64{7}, 1},
		{"the edges of a step", []stored{at(0, 1), at(9, 2), at(10, 4), at(19, 8)}, 19, 10, []int64{3, 12}, 2},
		{"a pause", []stored{at(0, 1), at(30, 2)}, 30, 10, []int64{1, 0, 0, 2}, 4},
		{"quiet since", []stored{at(0, 1)}, 35, 10, []int64{1, 0, 0, 0}, 4},
		{"quiet for long", []stored{at(0, 1)}, 1 << 30, 10, []int64{1, 0}, PointsMax},
		{"the last one that has room", []stored{at(0, 1), at(10*PointsMax-1, 2)}, 0, 10, []int64{1}, PointsMax},
		{"the first one that hasn't", []stored{at(0, 1), at(10, 2), at(20, 4), at(10*PointsMax, 8)}, 0, 20,
			[]int64{3, 4}, PointsMax/2 + 1},
		{"much later", []stored{at(0, 1), at(10, 2), at(1000*10*PointsMax, 8)}, 0, 10 * 1024,
			[]int64{3}, 1000*PointsMax/1024 + 1},
		{"a clock that was set back", []stored{at(100, 1), at(0, 2)}, 0, 10, []int64{3}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := NewRecorder(noon)
			for _, s := range test.all {
				r.Count(s.at, s.bets)
			}
			now := noon.Add(time.Duration(test.now) * time.Millisecond)
			got := r.Series(now)
			wantSeries(t, got, obvious(test.all, now))
			if got.Step != test.step || len(got.Bets) != test.steps || !slices.Equal(got.Bets[:len(test.bets)], test.bets) {
				t.Errorf("%d steps of %d ms: %v", len(got.Bets), got.Step, got.Bets)
			}
		})
	}
}

// Whatever comes when, a series is what the obvious way makes of all of it, and loses no bet.
func TestSeriesIsTheObvious(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			r := NewRecorder(noon)
			var all []stored
			now, total := noon, int64(0)
			for range 300 {
				pause := time.Duration(1) << rng.IntN(38) // up to 137 s
				now = now.Add(time.Duration(rng.Int64N(int64(pause))))
				s := stored{now, rng.Int64N(5)}
				all, total = append(all, s), total+s.bets
				r.Count(s.at, s.bets)
				got := r.Series(now)
				wantSeries(t, got, obvious(all, now))
				sum := int64(0)
				for _, n := range got.Bets {
					sum += n
				}
				if sum != total || len(got.Bets) > PointsMax {
					t.Fatalf("%d steps hold %d bets of %d", len(got.Bets), sum, total)
				}
			}
		})
	}
}

func TestEvents(t *testing.T) {
	r := NewRecorder(noon)
	var all []Event
	for i := range 3*EventsMax + 1 {
		want := all[max(len(all)-EventsMax, 0):]
		if got := r.Events(); !slices.Equal(got, want) || got == nil {
			t.Fatalf("after %d events: %v, want %v", i, got, want)
		}
		e := Event{Time: noon.Add(time.Duration(i)), Kind: EventReported, Agency: uint32(i + 1)}
		all = append(all, e)
		r.Note(e)
	}
}

// A thousand reports don't displace what happened once.
func TestEventsOfAgenciesAreForgottenFirst(t *testing.T) {
	r := NewRecorder(noon)
	want := []EventKind{EventStarted, EventLeader, EventDraw}
	for _, kind := range want {
		r.Note(Event{Time: noon, Kind: kind})
		for i := range 1000 {
			r.Note(Event{Time: noon, Kind: EventReported, Agency: uint32(i + 1)})
		}
	}
	var kinds []EventKind
	for i, e := range r.Events() {
		if e.Agency == 0 {
			kinds = append(kinds, e.Kind)
		} else if id := uint32(1000 - EventsMax + i + 1); e.Agency != id {
			t.Errorf("event %d is of agency %d, want %d", i, e.Agency, id)
		}
	}
	if !slices.Equal(kinds, want) {
		t.Errorf("events %q, want %q", kinds, want)
	}
	for range EventsMax {
		r.Note(Event{Kind: EventLost})
	}
	if all := r.Events(); len(all) != EventsMax || all[0].Kind != EventLost {
		t.Errorf("%d events, first %+v", len(all), all[0])
	}
}
