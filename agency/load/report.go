package load

import (
	"encoding/json"
	"io"
	"runtime"
	"slices"
)

// Version is the version of the JSON of a Report. It changes when a field
// changes its meaning or goes.
const Version = 1

// Report is all that a bench found out. Optional parts are nil if they were not
// asked for or can't be known.
type Report struct {
	Version int     `json:"version"`
	Date    string  `json:"date"` // RFC 3339
	Machine Machine `json:"machine"`
	Options Options `json:"options"`
	// Durability is what an ACK stood for: fsync, os, or unknown.
	Durability string `json:"durability"`
	// Result is the run with the median throughput.
	Result Result `json:"result"`
	// Runs are all runs' results, in order, if there were several.
	Runs []Result `json:"runs,omitempty"`
	// Limit is the yardstick's result with the same load.
	Limit *Limit `json:"limit,omitempty"`
	// DiskSync is what the disk alone takes for groups of the mean size.
	DiskSync *DiskSync `json:"disk_sync,omitempty"`
	// Sweep is one result for each point of the plot.
	Sweep []Point `json:"sweep,omitempty"`
}

// Machine is where it was measured.
type Machine struct {
	OS        string `json:"os"`
	Arch      string `json:"arch"`
	CPUs      int    `json:"cpus"`
	GoVersion string `json:"go_version"`
}

// ThisMachine is where this process runs.
func ThisMachine() Machine {
	return Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), GoVersion: runtime.Version()}
}

// Result is what one load measured.
type Result struct {
	Bets          int64   `json:"bets"` // acknowledged, which are all that were sent
	Batches       int64   `json:"batches"`
	Bytes         int64   `json:"bytes"`   // of batches, frame headers included
	Seconds       float64 `json:"seconds"` // from the start to the last ACK
	BetsPerSecond float64 `json:"bets_per_second"`
	ACK           Latency `json:"ack_latency"`
	Client        Cost    `json:"client"`
	Server        *Server `json:"server,omitempty"`
	// Groups are the server's commits.
	Groups  *Groups  `json:"groups,omitempty"`
	Draw    *Draw    `json:"draw,omitempty"`
	Waiting *Waiting `json:"waiting,omitempty"`
	// StoredBets is how many bets the server's ledger holds at the end.
	StoredBets *int64 `json:"stored_bets,omitempty"`
}

// Cost is processor time while bets were sent.
type Cost struct {
	CPUSeconds     float64 `json:"cpu_seconds"`
	PerMillionBets float64 `json:"cpu_seconds_per_million_bets"`
}

// Server is what the server's process used while bets were sent.
type Server struct {
	CPUSeconds      float64 `json:"cpu_seconds"`
	PerMillionBets  float64 `json:"cpu_seconds_per_million_bets"`
	MemoryPeakBytes int64   `json:"memory_peak_bytes"`
}

// Groups are the commits of one server, each with one sync.
type Groups struct {
	Count    int64   `json:"count"`
	Bytes    int64   `json:"bytes_synced"`
	BytesMax int64   `json:"group_bytes_max"`
	Mean     float64 `json:"group_bytes_mean"`
}

// NewGroups sums up commits.
func NewGroups(count, bytes, bytesMax int64) *Groups {
	g := &Groups{Count: count, Bytes: bytes, BytesMax: bytesMax}
	if count > 0 {
		g.Mean = float64(bytes) / float64(count)
	}
	return g
}

// Draw is the end of the load.
type Draw struct {
	Winners int64 `json:"winners"` // all as expected
	// Seconds is from the last report to the last winners received.
	Seconds float64 `json:"last_report_to_last_winners_seconds"`
}

// Waiting is what agencies cost that only wait.
type Waiting struct {
	Agencies       int     `json:"agencies"`
	BytesPerAgency float64 `json:"server_bytes_per_agency"`
	// ThroughputRatio is what was left of the others' bets per second, compared with a
	// run without anyone who waits; 0 if there was none.
	ThroughputRatio float64 `json:"throughput_ratio,omitempty"`
}

// Limit is a yardstick's result.
type Limit struct {
	Result Result `json:"result"`
	// Ratio is the server's bets per second as a part of the yardstick's.
	Ratio float64 `json:"server_to_limit_ratio"`
}

// DiskSync is the disk's own latency.
type DiskSync struct {
	GroupBytes int     `json:"group_bytes"`
	Sync       Latency `json:"sync_latency"`
}

// Point is one run of a plot.
type Point struct {
	Agencies int    `json:"agencies"`
	Window   int    `json:"window"`
	Result   Result `json:"result"`
}

// Median is the result with the median throughput; of an even number, the
// lower of the two. There must be one at least.
func Median(results []Result) Result {
	sorted := slices.Clone(results)
	slices.SortStableFunc(sorted, func(a, b Result) int {
		switch {
		case a.BetsPerSecond < b.BetsPerSecond:
			return -1
		case a.BetsPerSecond > b.BetsPerSecond:
			return 1
		}
		return 0
	})
	return sorted[(len(sorted)-1)/2]
}

// WriteJSON writes the report for programs.
func (r Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}
