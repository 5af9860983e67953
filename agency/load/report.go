package load

import (
	"cmp"
	"encoding/json"
	"io"
	"runtime"
	"slices"
)

// Version is the version of a Report's JSON. It changes when a field changes its meaning or is
// removed.
const Version = 1

// Report is the result of a bench. Optional parts are nil if they were not asked for or can't be
// known.
type Report struct {
	Version int     `json:"version"`
	Date    string  `json:"date"` // RFC 3339
	Machine Machine `json:"machine"`
	Options Options `json:"options"`
	// Servers is how many servers hold the draw together.
	Servers int `json:"servers"`
	// TLS is the side that has certificates: server, mutual for both, or empty if nothing is encrypted.
	TLS string `json:"tls,omitempty"`
	// PeerTLS is whether the servers encrypt what they say to each other.
	PeerTLS bool `json:"peer_tls,omitempty"`
	// Durability is what an ACK promised: fsync, os, or unknown.
	Durability string `json:"durability"`
	// Result is the run with the median throughput.
	Result Result `json:"result"`
	// Runs are the results of all runs, in order, if there were several.
	Runs []Result `json:"runs,omitempty"`
	// Limit is the yardstick's result with the same load, and with as many copies as there are
	// servers.
	Limit *Limit `json:"limit,omitempty"`
	// DiskSync is the disk's latency for groups of the mean size.
	DiskSync *DiskSync `json:"disk_sync,omitempty"`
	// Sweep has one result for each point of the plot.
	Sweep []Point `json:"sweep,omitempty"`
}

// Machine describes the machine of the measurement.
type Machine struct {
	OS        string `json:"os"`
	Arch      string `json:"arch"`
	CPUs      int    `json:"cpus"`
	GoVersion string `json:"go_version"`
}

// ThisMachine describes the machine of this process.
func ThisMachine() Machine {
	return Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), GoVersion: runtime.Version()}
}

// Result is what one load measured.
type Result struct {
	Bets          int64   `json:"bets"` // acknowledged; all bets that were sent are
	Batches       int64   `json:"batches"`
	Bytes         int64   `json:"bytes"`   // of batches, with their frame headers
	Seconds       float64 `json:"seconds"` // from the start to the last ACK
	BetsPerSecond float64 `json:"bets_per_second"`
	ACK           Latency `json:"ack_latency"`
	Client        Cost    `json:"client"`
	Server        *Server `json:"server,omitempty"`
	// Groups summarizes the server's commits.
	Groups  *Groups  `json:"groups,omitempty"`
	Draw    *Draw    `json:"draw,omitempty"`
	Waiting *Waiting `json:"waiting,omitempty"`
	// StoredBets is how many bets the ledger of each server holds at the end.
	StoredBets *int64 `json:"stored_bets,omitempty"`
}

// Cost is the client's processor time while bets were sent.
type Cost struct {
	CPUSeconds     float64 `json:"cpu_seconds"`
	PerMillionBets float64 `json:"cpu_seconds_per_million_bets"`
}

// Server is what the servers' processes used while bets were sent.
type Server struct {
	CPUSeconds      float64 `json:"cpu_seconds"` // of all servers
	PerMillionBets  float64 `json:"cpu_seconds_per_million_bets"`
	MemoryPeakBytes int64   `json:"memory_peak_bytes"` // of the server that has used most
}

// Groups summarizes the group commits of the server that leads. Each has one sync there.
type Groups struct {
	Count    int64   `json:"count"`
	Bytes    int64   `json:"bytes_synced"`
	BytesMax int64   `json:"group_bytes_max"`
	Mean     float64 `json:"group_bytes_mean"`
}

// NewGroups summarizes count commits of bytes bytes in all; the largest has bytesMax.
func NewGroups(count, bytes, bytesMax int64) *Groups {
	g := &Groups{Count: count, Bytes: bytes, BytesMax: bytesMax}
	if count > 0 {
		g.Mean = float64(bytes) / float64(count)
	}
	return g
}

// Draw is what the load measured at the draw.
type Draw struct {
	Winners int64 `json:"winners"` // all were checked
	// Seconds is the time from the last report until the last agency had its winners.
	Seconds float64 `json:"last_report_to_last_winners_seconds"`
}

// Waiting is the cost of agencies that only wait.
type Waiting struct {
	Agencies       int     `json:"agencies"`
	BytesPerAgency float64 `json:"server_bytes_per_agency"`
	// ThroughputRatio is the other agencies' bets per second, divided by those of a run without
	// waiting agencies; 0 if there was no such run.
	ThroughputRatio float64 `json:"throughput_ratio,omitempty"`
}

// Limit is a yardstick's result.
type Limit struct {
	Result Result `json:"result"`
	// Ratio is the server's bets per second divided by the yardstick's.
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

// Median returns the result with the median throughput; of an even number, the lower one of the two
// in the middle. There must be at least one.
func Median(results []Result) Result {
	sorted := slices.Clone(results)
	slices.SortStableFunc(sorted, func(a, b Result) int {
		return cmp.Compare(a.BetsPerSecond, b.BetsPerSecond)
	})
	return sorted[(len(sorted)-1)/2]
}

// WriteJSON writes the report for programs.
func (r Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}
