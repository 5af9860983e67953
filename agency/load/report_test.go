package load

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fullReport returns a report with every field set, most to different values.
func fullReport() Report {
	stored := int64(20_000_000)
	latency := func(base float64) Latency {
		return Latency{Count: 111_111, MeanUS: base, MinUS: base / 10, P50US: base * 0.9, P90US: base * 2, P99US: base * 3, P999US: base * 400, MaxUS: base * 5000}
	}
	result := Result{
		Bets: 20_000_000, Batches: 111_111, Bytes: 900_000_000, Seconds: 1.25, BetsPerSecond: 16_000_000,
		ACK:        latency(900),
		Client:     Cost{CPUSeconds: 0.4, PerMillionBets: 0.02},
		Server:     &Server{CPUSeconds: 1, PerMillionBets: 0.05, MemoryPeakBytes: 41_000_000},
		Groups:     NewGroups(1000, 905_000_000, 4_100_000),
		Draw:       &Draw{Winners: 4_000, Seconds: 0.0042},
		Waiting:    &Waiting{Agencies: 10_000, BytesPerAgency: 987.5, ThroughputRatio: 0.83},
		StoredBets: &stored,
	}
	slower, limit := result, result
	slower.BetsPerSecond = 15_000_000
	limit.BetsPerSecond = 20_000_000
	limit.Server, limit.Draw, limit.Waiting, limit.StoredBets = nil, nil, nil, nil
	o := DefaultOptions()
	o.Rate, o.Waiting, o.BatchBets = 16_000_000, 10_000, 180
	r := Report{
		Version: Version, Date: "2026-11-23T10:00:00Z",
		Machine: Machine{OS: "linux", Arch: "amd64", CPUs: 2, GoVersion: "go1.26.8"},
		Options: o, Servers: 1, Durability: "fsync",
		Result: result, Runs: []Result{slower, result, result},
		Limit:    &Limit{Result: limit, Ratio: 0.8},
		DiskSync: &DiskSync{GroupBytes: 905_000, Sync: latency(300)},
	}
	for _, window := range []int{1, 8, 32} {
		p := result
		p.BetsPerSecond = float64(window) * 500_000
		r.Sweep = append(r.Sweep, Point{Agencies: 50, Window: window, Result: p})
	}
	for _, agencies := range []int{1, 1000} {
		r.Sweep = append(r.Sweep, Point{Agencies: agencies, Window: 32, Result: slower})
	}
	return r
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; if you meant the change, run go test -update and read the diff. Now:\n%s",
			path, got)
	}
}

// Other programs read the JSON's fields. A change of the golden file that removes a field or
// changes its meaning needs a new Version.
func TestReportJSON(t *testing.T) {
	var full, least bytes.Buffer
	if err := errors.Join(fullReport().WriteJSON(&full), Report{}.WriteJSON(&least)); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", full.Bytes())
	golden(t, "report-least.json", least.Bytes())
}

func TestReportSummary(t *testing.T) {
	several := fullReport()
	several.Servers = 3
	var full, least, three bytes.Buffer
	if err := several.WriteSummary(&three); err != nil {
		t.Fatal(err)
	}
	golden(t, "summary-servers.txt", three.Bytes())
	if err := errors.Join(fullReport().WriteSummary(&full), Report{}.WriteSummary(&least)); err != nil {
		t.Fatal(err)
	}
	golden(t, "summary.txt", full.Bytes())
	golden(t, "summary-least.txt", least.Bytes())
}

// The first two lines are bets per second and ACK latency p99.
func TestSummaryBegins(t *testing.T) {
	for durability, first := range map[string]string{
		"fsync":   "16,000,000 durable bets/s",
		"os":      "16,000,000 bets/s, not durable (os)",
		"unknown": "16,000,000 acknowledged bets/s",
	} {
		r := fullReport()
		r.Durability = durability
		var b bytes.Buffer
		if err := r.WriteSummary(&b); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(b.String(), "\n")
		if lines[0] != first || lines[1] != "ACK latency p99 2.70 ms" {
			t.Errorf("%q", lines[:2])
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		speeds []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{3, 1}, 1},
		{[]float64{3, 1, 2}, 2},
		{[]float64{5, 3, 1, 2, 4}, 3},
	} {
		var results []Result
		for _, s := range c.speeds {
			results = append(results, Result{BetsPerSecond: s})
		}
		if got := Median(results).BetsPerSecond; got != c.want {
			t.Errorf("median of %v is %v", c.speeds, got)
		}
		if results[0].BetsPerSecond != c.speeds[0] {
			t.Error("Median changed the order of the runs")
		}
	}
}

func TestUnits(t *testing.T) {
	for _, c := range [][2]string{
		{grouped(0), "0"}, {grouped(999), "999"}, {grouped(1000), "1,000"}, {grouped(123456), "123,456"},
		{grouped(1234567), "1,234,567"}, {grouped(-123456), "-123,456"},
		{microseconds(0), "0 µs"}, {microseconds(999), "999 µs"}, {microseconds(1500), "1.50 ms"}, {microseconds(2.5e6), "2.50 s"},
		{bytesText(9999), "9999 B"}, {bytesText(10_000), "10.0 kB"}, {bytesText(2.5e6), "2.5 MB"}, {bytesText(3e9), "3.00 GB"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
}

func TestPlots(t *testing.T) {
	var svg, page bytes.Buffer
	r := fullReport()
	if err := errors.Join(r.WriteSVG(&svg), r.WriteHTML(&page, "body { margin: 1% }")); err != nil {
		t.Fatal(err)
	}
	decoder := xml.NewDecoder(bytes.NewReader(svg.Bytes()))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the SVG is not XML: %v", err)
		}
	}
	for _, text := range []string{"Throughput", "ACK latency", "window (batches)", "agencies", "p50", "p99.9", ">1000<", ">32<"} {
		if !strings.Contains(svg.String(), text) {
			t.Errorf("the SVG has no %q", text)
		}
	}
	for _, text := range []string{"16,000,000 durable bets/s", "<svg", "<style>body { margin: 1% }\n", "<td>1000<td>32<td>15,000,000"} {
		if !strings.Contains(page.String(), text) {
			t.Errorf("the page has no %q", text)
		}
	}
	if strings.Contains(page.String(), "<?xml") {
		t.Error("the page has an XML declaration inside")
	}
}

func TestPlotNeedsPoints(t *testing.T) {
	if err := (Report{}).WriteSVG(io.Discard); !errors.Is(err, errNoPoints) {
		t.Error(err)
	}
}

// A single point is drawn, even if its values are 0 and have no logarithm.
func TestPlotOfOnePoint(t *testing.T) {
	r := Report{Options: Options{Agencies: 1, Window: 1}, Sweep: []Point{{Agencies: 1, Window: 1}}}
	if err := r.WriteSVG(io.Discard); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	if err := DefaultOptions().Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Options){
		"--agencies 0":                        func(o *Options) { o.Agencies = 0 },
		"--waiting -1":                        func(o *Options) { o.Waiting = -1 },
		"--bets -1":                           func(o *Options) { o.Bets = -1 },
		"--bets 49":                           func(o *Options) { o.Bets = 49 },
		"--duration 0s":                       func(o *Options) { o.Duration = 0 },
		"--duration 2h":                       func(o *Options) { o.Duration = 2 * time.Hour },
		"--window 0":                          func(o *Options) { o.Window = 0 },
		"--batch-bets -1":                     func(o *Options) { o.BatchBets = -1 },
		"--batch-bytes 100":                   func(o *Options) { o.BatchBytes = 100 },
		"--rate -1":                           func(o *Options) { o.Rate = -1 },
		"--window 32: agencies that stop":     func(o *Options) { o.StopAndWait = true },
		"--rate with --connection-per-messag": func(o *Options) { o.Rate, o.ConnectionPerMessage, o.Window = 1, true, 1 },
	} {
		o := DefaultOptions()
		change(&o)
		if err := o.Validate(); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
