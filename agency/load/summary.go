package load

import (
	"fmt"
	"io"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// WriteSummary writes the report for people. The first two lines are the bets per second and the
// 99th percentile of the ACK latency.
func (r Report) WriteSummary(w io.Writer) error {
	what := "acknowledged bets/s"
	switch r.Durability {
	case "fsync":
		what = "durable bets/s"
	case "os":
		what = "bets/s, not durable (os)"
	}
	head := fmt.Sprintf("%s %s\nACK latency p99 %s\n", grouped(int64(r.Result.BetsPerSecond)), what, microseconds(r.Result.ACK.P99US))
	_, err := fmt.Fprintf(w, "%s\n%s\n", head, r.table().Render())
	return err
}

func (r Report) table() table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Options.DrawBorder = false
	t.Style().Options.SeparateColumns = false
	t.SuppressTrailingSpaces()
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, Align: text.AlignLeft}})
	row := func(name, format string, values ...any) {
		t.AppendRow(table.Row{name, fmt.Sprintf(format, values...)})
	}
	o, res := r.Options, r.Result
	load := fmt.Sprintf("%d agencies, window %d, batches of at most %s", o.Agencies, o.Window, bytesText(float64(o.BatchBytes)))
	if o.BatchBets > 0 {
		load += fmt.Sprintf(" and %d bets", o.BatchBets)
	}
	if o.Rate > 0 {
		load += fmt.Sprintf(", paced at %s bets/s", grouped(int64(o.Rate)))
	}
	switch r.TLS {
	case "server":
		load += ", over TLS"
	case "mutual":
		load += ", over TLS with certificates on both sides"
	}
	if r.PeerTLS {
		load += "; TLS between the servers"
	}
	row("load", "%s", load)
	if n := len(r.Runs); n > 1 {
		least, most := r.Runs[0].BetsPerSecond, r.Runs[0].BetsPerSecond
		for _, one := range r.Runs {
			least, most = min(least, one.BetsPerSecond), max(most, one.BetsPerSecond)
		}
		row("runs", "%d, median shown; %s to %s bets/s", n, grouped(int64(least)), grouped(int64(most)))
	}
	row("bets", "%s in %s batches, %.2f s", grouped(res.Bets), grouped(res.Batches), res.Seconds)
	latencyRow(row, "ACK latency", res.ACK)
	if s := res.Server; s != nil {
		name, all := "server", ""
		if r.Servers > 1 {
			name, all = fmt.Sprintf("%d servers", r.Servers), " of the largest"
		}
		row(name, "%.4f CPU s per million bets (%.2f s), peak memory%s %s", s.PerMillionBets, s.CPUSeconds, all, bytesText(float64(s.MemoryPeakBytes)))
	}
	row("client", "%.4f CPU s per million bets (%.2f s)", res.Client.PerMillionBets, res.Client.CPUSeconds)
	if g := res.Groups; g != nil {
		row("ledger", "%s in %s groups, mean %s, largest %s", bytesText(float64(g.Bytes)), grouped(g.Count), bytesText(g.Mean), bytesText(float64(g.BytesMax)))
	}
	if d := r.DiskSync; d != nil {
		latencyRow(row, "disk alone, "+bytesText(float64(d.GroupBytes)), d.Sync)
	}
	if d := res.Draw; d != nil {
		row("draw", "%s winners, all in hand %s after the last report", grouped(d.Winners), microseconds(d.Seconds*1e6))
	}
	if x := res.Waiting; x != nil {
		row("waiting", "%s agencies, %s of server memory each", grouped(int64(x.Agencies)), bytesText(x.BytesPerAgency))
		if x.ThroughputRatio > 0 {
			row("", "the others' throughput is %.0f %% of what it is without them", 100*x.ThroughputRatio)
		}
	}
	if n := res.StoredBets; n != nil {
		ledger := "the ledger"
		if r.Servers > 1 {
			ledger = "each ledger"
		}
		row("stored", "%s bets in %s, as many as were acknowledged", grouped(*n), ledger)
	}
	if l := r.Limit; l != nil {
		synced := "synced without a look at them"
		if r.Servers > 1 {
			synced = fmt.Sprintf("synced in %d copies without consensus or a look at them", r.Servers)
		}
		row("limit", "%s bets/s received and %s: ratio %.2f", grouped(int64(l.Result.BetsPerSecond)), synced, l.Ratio)
		if g := l.Result.Groups; g != nil {
			row("", "in %s groups, mean %s", grouped(g.Count), bytesText(g.Mean))
		}
	}
	m := r.Machine
	row("machine", "%d CPUs, %s/%s, %s, %s", m.CPUs, m.OS, m.Arch, m.GoVersion, r.Date)
	return t
}

func latencyRow(row func(string, string, ...any), name string, l Latency) {
	row(name, "p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", microseconds(l.P50US), microseconds(l.P90US), microseconds(l.P99US), microseconds(l.P999US), microseconds(l.MaxUS))
}

// microseconds formats a time of us microseconds with about three digits.
func microseconds(us float64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%.0f µs", us)
	case us < 1e6:
		return fmt.Sprintf("%.2f ms", us/1e3)
	}
	return fmt.Sprintf("%.2f s", us/1e6)
}

func bytesText(n float64) string {
	switch {
	case n < 1e4:
		return fmt.Sprintf("%.0f B", n)
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", n/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", n/1e6)
	}
	return fmt.Sprintf("%.2f GB", n/1e9)
}

// grouped formats a number with commas.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
