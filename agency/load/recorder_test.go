package load

import (
	"math"
	"testing"
	"time"
)

func TestRecorder(t *testing.T) {
	r := newRecorder()
	for us := int64(1); us <= 1000; us++ {
		r.record(int(us), []int64{us * 1000})
	}
	got := r.latency()
	for name, c := range map[string][2]float64{
		"min": {got.MinUS, 1}, "p50": {got.P50US, 500}, "p90": {got.P90US, 900},
		"p99": {got.P99US, 990}, "p99.9": {got.P999US, 999}, "max": {got.MaxUS, 1000}, "mean": {got.MeanUS, 500.5},
	} {
		if math.Abs(c[0]-c[1]) > 0.002*c[1]+0.5 {
			t.Errorf("%s is %.1f µs, want %.1f", name, c[0], c[1])
		}
	}
	if got.Count != 1000 {
		t.Errorf("%d recorded, want 1000", got.Count)
	}
}

// Latencies outside the histogram's range count too.
func TestRecorderTakesEverything(t *testing.T) {
	r := newRecorder()
	r.record(0, []int64{-5, 0, 1, int64(24 * time.Hour)})
	got := r.latency()
	if got.Count != 4 || got.MaxUS < 0.99*float64(latencyMax.Microseconds()) {
		t.Errorf("%+v", got)
	}
}
