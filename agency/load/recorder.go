package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	latencyMin    = time.Microsecond // the finest resolution
	latencyMax    = 10 * time.Minute // longer latencies are recorded as this
	latencyDigits = 3
	// recorderParts is how many histograms share the work, so that lanes seldom wait for each
	// other.
	recorderParts = 8
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(latencyMin), int64(latencyMax), latencyDigits)
}

// recorder collects latencies from many goroutines.
type recorder struct {
	parts [recorderParts]struct {
		sync.Mutex
		histogram *hdrhistogram.Histogram
	}
}

func newRecorder() *recorder {
	r := new(recorder)
	for i := range r.parts {
		r.parts[i].histogram = newHistogram()
	}
	return r
}

// record records latencies of a lane, in nanoseconds.
func (r *recorder) record(lane int, latencies []int64) {
	part := &r.parts[lane%recorderParts]
	part.Lock()
	defer part.Unlock()
	for _, latency := range latencies {
		recordInto(part.histogram, latency)
	}
}

func recordInto(h *hdrhistogram.Histogram, nanoseconds int64) {
	// The only error is a value out of range, which min and max prevent.
	_ = h.RecordValue(min(max(nanoseconds, 0), int64(latencyMax)))
}

// latency summarizes everything that was recorded.
func (r *recorder) latency() Latency {
	all := newHistogram()
	for i := range r.parts {
		r.parts[i].Lock()
		all.Merge(r.parts[i].histogram)
		r.parts[i].Unlock()
	}
	return latencyOf(all)
}

// Latency summarizes a distribution of times, in microseconds.
type Latency struct {
	Count  int64   `json:"count"`
	MeanUS float64 `json:"mean_us"`
	MinUS  float64 `json:"min_us"`
	P50US  float64 `json:"p50_us"`
	P90US  float64 `json:"p90_us"`
	P99US  float64 `json:"p99_us"`
	P999US float64 `json:"p999_us"`
	MaxUS  float64 `json:"max_us"`
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	us := func(nanoseconds int64) float64 { return float64(nanoseconds) / 1e3 }
	return Latency{
		Count:  h.TotalCount(),
		MeanUS: h.Mean() / 1e3,
		MinUS:  us(h.Min()),
		P50US:  us(h.ValueAtQuantile(50)),
		P90US:  us(h.ValueAtQuantile(90)),
		P99US:  us(h.ValueAtQuantile(99)),
		P999US: us(h.ValueAtQuantile(99.9)),
		MaxUS:  us(h.Max()),
	}
}
