package admin

import (
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"loteria/engine/admin/board"
)

// scrapesMax is how many scrapes are served at once.
const scrapesMax = 4

// sample is what a scrape shows. Everything in it was read once.
type sample struct {
	state    *board.State
	counters Counters
}

// metric is one of those that are read at a scrape.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	label      string // "" if there is none
	// read calls put with each value, and with its label's if there is a label.
	read func(s sample, put func(value float64, label string))
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// sampled are the metrics that are read at a scrape. None has an agency as label: with a thousand
// of them it would be a thousand series.
var sampled = []metric{
	{"loteria_bets_stored_total", "Bets stored since the server started.", counter, "",
		one(func(s sample) float64 { return float64(s.counters.BetsStored) })},
	{"loteria_requests_rejected_total", "Requests answered with an error, by its code.", counter, "code",
		each(func(s sample) map[string]int64 { return s.counters.Rejected })},
	{"loteria_ledger_commits_total", "Groups of batches stored.", counter, "",
		one(func(s sample) float64 { return float64(s.counters.Commits) })},
	{"loteria_ledger_written_bytes_total", "Bytes written to the ledger.", counter, "",
		one(func(s sample) float64 { return float64(s.counters.WrittenBytes) })},
	{"loteria_connections", "Open connections, by kind.", gauge, "kind",
		each(func(s sample) map[string]int64 { return s.counters.Connections })},
	{"loteria_connections_refused_total", "Connections refused, by the limit that refused them.", counter, "limit",
		each(func(s sample) map[string]int64 { return s.counters.ConnectionsRefused })},
	{"loteria_agencies", "Expected agencies, by how far they are.", gauge, "state",
		func(s sample, put func(float64, string)) {
			put(float64(s.state.Waiting), "waiting")
			put(float64(s.state.Uploading), "uploading")
			put(float64(s.state.Reported), "reported")
			put(float64(s.state.Served), "served")
		}},
	{"loteria_queue_bytes", "Bytes of bets that wait for the disk.", gauge, "",
		one(func(s sample) float64 { return float64(s.counters.QueueBytes) })},
	{"loteria_queue_limit_bytes", "Bytes of bets that wait for the disk at which nothing more is read.", gauge, "",
		one(func(s sample) float64 { return float64(s.state.QueueLimitBytes) })},
	{"loteria_draw_timestamp_seconds", "When the draw took place. Missing before it.", gauge, "",
		func(s sample, put func(float64, string)) {
			if s.state.DrawnAt != nil {
				put(float64(s.state.DrawnAt.UnixNano())/float64(time.Second), "")
			}
		}},
	{"loteria_winners", "Winning bets. Zero before the draw.", gauge, "",
		one(func(s sample) float64 { return float64(s.state.Winners) })},
	{"loteria_log_lines_suppressed_total", "Log lines that were left out because there were too many of them.", counter, "",
		one(func(s sample) float64 { return float64(s.counters.LinesSuppressed) })},
	{"loteria_tls_handshakes_total", "TLS handshakes with agencies, by result.", counter, "result",
		each(func(s sample) map[string]int64 { return s.counters.Handshakes })},
	{"loteria_tls_certificate_expiry_timestamp_seconds", "When the server's certificate expires. Missing without TLS.", gauge, "",
		func(s sample, put func(float64, string)) {
			if !s.counters.CertificateExpires.IsZero() {
				put(float64(s.counters.CertificateExpires.Unix()), "")
			}
		}},
	{"loteria_raft_term", "Term of the servers that hold the draw together.", gauge, "",
		cluster(func(c *board.Cluster) float64 { return float64(c.Term) })},
	{"loteria_raft_leader", "Id of the server that leads, zero if none is known.", gauge, "",
		cluster(func(c *board.Cluster) float64 { return float64(c.Leader) })},
	{"loteria_raft_commit_index", "Index of the last committed entry.", gauge, "",
		cluster(func(c *board.Cluster) float64 { return float64(c.Committed) })},
	{"loteria_raft_lag_records", "Committed entries that a server isn't known to have. Only the leader knows.", gauge, "server",
		func(s sample, put func(float64, string)) {
			if s.state.Cluster == nil {
				return
			}
			for _, server := range s.state.Cluster.Servers {
				if server.Behind != nil {
					put(float64(*server.Behind), strconv.FormatUint(server.ID, 10))
				}
			}
		}},
}

// The metrics that aren't read at a scrape.
const (
	commitName = "loteria_ledger_commit_duration_seconds"
	ackName    = "loteria_ack_duration_seconds"
	buildName  = "loteria_build_info"
)

// durations are the bounds of the histograms' buckets in seconds: from a sync of a fast SSD to a
// time-out.
var durations = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
}

func one(read func(sample) float64) func(sample, func(float64, string)) {
	return func(s sample, put func(float64, string)) { put(read(s), "") }
}

func each(read func(sample) map[string]int64) func(sample, func(float64, string)) {
	return func(s sample, put func(float64, string)) {
		for label, value := range read(s) {
			put(float64(value), label)
		}
	}
}

func cluster(read func(*board.Cluster) float64) func(sample, func(float64, string)) {
	return func(s sample, put func(float64, string)) {
		if s.state.Cluster != nil {
			put(read(s.state.Cluster), "")
		}
	}
}

// metrics is the collector of /metrics. It reads the Source once for each scrape.
type metrics struct {
	registry    *prometheus.Registry
	commit, ack prometheus.Histogram
	sample      func() (sample, bool) // false: there is nothing to show yet
	descs       []*prometheus.Desc    // of sampled
}

func newMetrics(read func() (sample, bool)) *metrics {
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: durations})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		commit:   histogram(commitName, "How long the ledger took to store a group of batches."),
		ack:      histogram(ackName, "How long a group of batches waited for its answers."),
		sample:   read,
	}
	for _, metric := range sampled {
		var labels []string
		if metric.label != "" {
			labels = []string{metric.label}
		}
		m.descs = append(m.descs, prometheus.NewDesc(metric.name, metric.help, labels, nil))
	}
	m.registry.MustRegister(m, m.commit, m.ack, buildInfo())
	registerRuntime(m.registry)
	return m
}

// handler serves /metrics.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: scrapesMax, DisableCompression: true, ErrorHandling: promhttp.ContinueOnError,
	})
}

// registerRuntime adds what is known of the process.
func registerRuntime(r *prometheus.Registry) {
	r.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

func buildInfo() prometheus.Collector {
	labels := prometheus.Labels{"version": "unknown", "revision": "unknown", "goversion": "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		labels["version"], labels["goversion"] = info.Main.Version, info.GoVersion
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				labels["revision"] = setting.Value
			}
		}
	}
	built := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: buildName, Help: "What the server was built from. Always 1.", ConstLabels: labels,
	})
	built.Set(1)
	return built
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range m.descs {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	s, ok := m.sample()
	if !ok {
		return
	}
	for i, metric := range sampled {
		metric.read(s, func(value float64, label string) {
			var labels []string
			if metric.label != "" {
				labels = []string{label}
			}
			to <- prometheus.MustNewConstMetric(m.descs[i], metric.kind, value, labels...)
		})
	}
}

// MetricNames are the names of all metrics that /metrics may have, those of Go and of the process
// included. A histogram has three. Expressions about a server may use no others. It fails if what is
// known of the process can't be read.
func MetricNames() ([]string, error) {
	var names []string
	for _, metric := range sampled {
		names = append(names, metric.name)
	}
	for _, histogram := range []string{commitName, ackName} {
		names = append(names, histogram+"_bucket", histogram+"_sum", histogram+"_count")
	}
	names = append(names, buildName)
	process := prometheus.NewRegistry()
	registerRuntime(process)
	families, err := process.Gather()
	if err != nil {
		return nil, err
	}
	for _, family := range families {
		names = append(names, family.GetName())
		if family.GetType() == dto.MetricType_SUMMARY {
			names = append(names, family.GetName()+"_sum", family.GetName()+"_count")
		}
	}
	return names, nil
}
