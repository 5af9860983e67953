package admin

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// What a scrape of the fake source shows.
const scraped = `
loteria_bets_stored_total 30
loteria_requests_rejected_total{code="ERROR_TIMEOUT"} 2
loteria_ledger_commits_total 5
loteria_ledger_written_bytes_total 1234
loteria_ledger_commit_duration_seconds_sum 0.25
loteria_ledger_commit_duration_seconds_count 1
loteria_ledger_commit_duration_seconds_bucket{le="0.1"} 0
loteria_ledger_commit_duration_seconds_bucket{le="0.25"} 1
loteria_ack_duration_seconds_sum 0.5
loteria_ack_duration_seconds_count 1
loteria_connections{kind="agency"} 3
loteria_connections_refused_total{limit="conexiones"} 1
loteria_agencies{state="waiting"} 1
loteria_agencies{state="uploading"} 1
loteria_agencies{state="reported"} 1
loteria_agencies{state="served"} 1
loteria_queue_bytes 77
loteria_queue_limit_bytes 4096
loteria_draw_timestamp_seconds 1.7000000005e+09
loteria_winners 7
loteria_log_lines_suppressed_total 6
loteria_raft_term 4
loteria_raft_leader 2
loteria_raft_commit_index 9
loteria_raft_lag_records{server="1"} 3
`

func TestScrape(t *testing.T) {
	a, _ := openServer(t, Settings{})
	src := newFakeSource()
	a.Show(src)
	a.Committed(250 * time.Millisecond)
	a.Acked(500 * time.Millisecond)
	status, text, _ := get(t, a, "/metrics")
	if status != 200 {
		t.Fatal(status, text)
	}
	for line := range strings.Lines(strings.TrimSpace(scraped)) {
		if !strings.Contains(text, "\n"+strings.TrimSpace(line)+"\n") {
			t.Errorf("not exported: %s", line)
		}
	}
	if !strings.Contains(text, "\nloteria_build_info{goversion=\"go") {
		t.Error("not exported: loteria_build_info")
	}
	if n := src.reads.Load(); n != 1 {
		t.Errorf("the counters were read %d times", n)
	}

	names, err := MetricNames()
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string]bool{}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			exported[line[:strings.IndexAny(line, "{ ")]] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(exported)) {
		if !slices.Contains(names, name) {
			t.Errorf("%s is exported, and no name", name)
		}
	}
	for _, name := range names {
		// Of a summary without observations only its sum and count are exported.
		if !exported[name] && !exported[name+"_count"] {
			t.Errorf("%s is a name, and not exported", name)
		}
	}
}

func TestLint(t *testing.T) {
	a, _ := openServer(t, Settings{})
	a.Show(newFakeSource())
	problems, err := testutil.GatherAndLint(a.metrics.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// A server alone, before the draw, has no raft and no time of the draw.
func TestScrapeWithoutCluster(t *testing.T) {
	a, _ := openServer(t, Settings{})
	if status, text, _ := get(t, a, "/metrics"); status != 200 || strings.Contains(text, "loteria_bets") {
		t.Errorf("before Show: %d %s", status, text)
	}
	src := newFakeSource()
	state := *src.State()
	state.Cluster, state.DrawnAt = nil, nil
	src.state.Store(&state)
	a.Show(src)
	_, text, _ := get(t, a, "/metrics")
	if !strings.Contains(text, "\nloteria_bets_stored_total 30\n") ||
		strings.Contains(text, "loteria_raft") || strings.Contains(text, "loteria_draw_timestamp") {
		t.Error(text)
	}
}
