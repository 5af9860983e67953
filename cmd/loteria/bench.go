package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"loteria/agency/load"
	"loteria/engine"
	"loteria/engine/admin/board"
	"loteria/engine/mesh"
)

const benchHelp = `Measure a server: many agencies send bets as fast as their windows allow, or at
a given rate, then report and get their winners.

Without --addr the bench starts this program as the server, in a process of its
own and durable, on a new directory that it removes at the end. The server gets
the SERVER_ and LOG_ variables, except those that the bench sets itself. At the
end the bench checks that the ledger holds exactly the bets that were
acknowledged, that every agency got its winners, and that the server exited with
0. --servers starts several that hold one draw together, all on this machine;
the check is for the ledger of each.

The first two lines are bets per second and the 99th percentile of the ACK
latency. With --rate a batch's latency begins when it is due, so that stalls
count; without it, when the batch is handed to the socket.

--tls and --peer-tls make an authority and certificates for the run. The
connections are made, and the certificates checked, before anything is measured.

--limit also measures a yardstick: a server that receives the same frames,
appends and syncs the same bytes, and never looks at them. With --servers it
sends them to as many processes, and a majority has to have synced them: copies
without consensus. It has no TLS. --plot measures once
for every window and every number of agencies, and draws the results.`

const benchExample = `  loteria bench
  loteria bench --repeat 5 --limit
  loteria bench --servers 3 --limit
  loteria bench --rate 1000000 --duration 10s
  loteria bench --agencies 5 --window 1 --batch-bets 150
  loteria bench --waiting 10000
  loteria bench --tls mutual
  loteria bench --plot bench.svg
  loteria bench --addr localhost:12345 --agencies 5 --bets 100000 --stop-and-wait`

// repeatMax bounds --repeat.
const repeatMax = 1000

// serversMin is how few servers can lose one and go on; see SERVER_PEERS.
const serversMin = 3

// The points of a plot, unless flags set others.
var (
	plotWindows  = []int{1, 2, 4, 8, 16, 32, 64}
	plotAgencies = []int{1, 5, 10, 50, 200, 1000}
)

// plotDuration is how long each point is measured, unless --duration is set.
const plotDuration = time.Second

type benchOptions struct {
	load       load.Options
	durability string
	addr       string
	servers    int
	tls        string
	peerTLS    bool
	dir        string
	repeat     int
	limit      bool
	json       bool
	plot       string
	windows    []int
	agencies   []int
}

func newBenchCommand() *cobra.Command {
	options := benchOptions{load: load.DefaultOptions()}
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "Measure how many bets a second a server takes, and how soon it answers",
		Long:    benchHelp,
		Example: benchExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			changed := cmd.Flags().Changed
			if !changed("window") && (options.load.StopAndWait || options.load.ConnectionPerMessage) {
				options.load.Window = 1
			}
			if changed("bets") && changed("duration") {
				return errors.New("--bets and --duration: choose one of them")
			}
			if options.plot != "" && !changed("duration") {
				options.load.Duration = plotDuration
			}
			if options.load.Bets > 0 {
				options.load.Duration = 0
			}
			if err := options.validate(); err != nil {
				return err
			}
			return runBench(cmd.Context(), options, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	o := &options.load
	flags.IntVar(&o.Agencies, "agencies", o.Agencies, "agencies that send, each on a connection")
	flags.Int64Var(&o.Bets, "bets", o.Bets, "total number of bets, instead of --duration")
	flags.DurationVar(&o.Duration, "duration", o.Duration, "how long to send")
	flags.IntVar(&o.Window, "window", o.Window, "batches of an agency that may be unanswered")
	flags.IntVar(&o.BatchBets, "batch-bets", o.BatchBets, "most bets in a batch (default as many as fit)")
	flags.IntVar(&o.BatchBytes, "batch-bytes", o.BatchBytes, "most bytes in a batch")
	flags.Float64Var(&o.Rate, "rate", o.Rate,
		"bets a second of all agencies together (default as fast as it goes)")
	flags.IntVar(&o.Waiting, "waiting", o.Waiting,
		"additional agencies that only wait for the draw, to measure what they cost")
	flags.BoolVar(&o.StopAndWait, "stop-and-wait", false,
		"agencies say no HELLO and wait for every answer")
	flags.BoolVar(&o.ConnectionPerMessage, "connection-per-message", false,
		"as --stop-and-wait, with a new connection for every message")
	flags.StringVar(&options.durability, "durability", engine.DurabilityFsync,
		"what an ACK waits for: fsync or os")
	flags.StringVar(&options.addr, "addr", "",
		"measure the server at this address; it has to expect exactly these agencies; the addresses of "+
			"all servers of a draw, with commas")
	flags.IntVar(&options.servers, "servers", 1,
		"servers that hold the draw together: 1, or 3 to 9, all on this machine")
	flags.StringVar(&options.tls, "tls", benchTLSOff,
		"connect over TLS: off, server, or mutual: the agencies have certificates, too")
	flags.BoolVar(&options.peerTLS, "peer-tls", false,
		"the servers of --servers connect to each other over TLS, as servers on different machines do")
	flags.StringVar(&options.dir, "dir", "",
		"folder for the server's directory, on the disk to measure (default the temporary directory)")
	flags.IntVar(&options.repeat, "repeat", 1, "how often to measure; the report shows the median")
	flags.BoolVar(&options.limit, "limit", false, "also measure the yardstick")
	flags.BoolVar(&options.json, "json", false, "write the report as JSON")
	flags.StringVar(&options.plot, "plot", "",
		"measure over window and agencies, and draw into this .svg or .html")
	flags.IntSliceVar(&options.windows, "plot-windows", plotWindows, "windows of the plot")
	flags.IntSliceVar(&options.agencies, "plot-agencies", plotAgencies,
		"numbers of agencies of the plot")
	return cmd
}

func (o benchOptions) validate() error {
	if err := o.load.Validate(); err != nil {
		return err
	}
	switch {
	case o.durability != engine.DurabilityFsync && o.durability != engine.DurabilityOS:
		return fmt.Errorf("--durability %s is not legal: want %s or %s",
			o.durability, engine.DurabilityFsync, engine.DurabilityOS)
	case o.repeat < 1 || o.repeat > repeatMax:
		return fmt.Errorf("--repeat %d is not legal: want 1 to %d", o.repeat, repeatMax)
	case o.servers != 1 && (o.servers < serversMin || o.servers > mesh.ServersMax):
		return fmt.Errorf("--servers %d is not legal: want 1, or %d to %d", o.servers, serversMin, mesh.ServersMax)
	case o.servers > 1 && o.durability != engine.DurabilityFsync:
		return fmt.Errorf("--durability %s with --servers: several servers count on what the others have saved",
			o.durability)
	case o.servers > 1 && o.addr != "":
		return errors.New("--addr and --servers: choose one of them")
	case o.tls != benchTLSOff && o.tls != benchTLSServer && o.tls != benchTLSMutual:
		return fmt.Errorf("--tls %s is not legal: want %s, %s or %s", o.tls, benchTLSOff, benchTLSServer, benchTLSMutual)
	case o.addr != "" && (o.tls != benchTLSOff || o.peerTLS):
		return errors.New("--addr with --tls or --peer-tls: the bench makes the certificates, so it has to start the server")
	case o.peerTLS && o.servers == 1:
		return errors.New("--peer-tls without --servers: there is no other server")
	case o.addr != "" && (o.repeat > 1 || o.plot != ""):
		return errors.New("--addr with --repeat or --plot: a server holds one draw, and these need many")
	case o.plot != "" && plotWriter(o.plot) == nil:
		return fmt.Errorf("--plot %s: name a file that ends in .svg or .html", o.plot)
	case o.plot != "" && o.load.Waiting > 0:
		return errors.New("--plot and --waiting: choose one of them")
	}
	for _, p := range o.points() {
		if err := p.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// plotWriter writes a plot in the format of the name's ending; nil if the ending is unknown.
func plotWriter(name string) func(load.Report, io.Writer) error {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".svg":
		return load.Report.WriteSVG
	case ".html":
		return func(r load.Report, w io.Writer) error { return r.WriteHTML(w, board.Style()) }
	}
	return nil
}

// points are the loads of the plot: every window with the given agencies, and every number of
// agencies with the given window.
func (o benchOptions) points() []load.Options {
	if o.plot == "" {
		return nil
	}
	var points []load.Options
	for _, window := range withValue(o.windows, o.load.Window) {
		p := o.load
		p.Window = window
		points = append(points, p)
	}
	for _, agencies := range withValue(o.agencies, o.load.Agencies) {
		if agencies != o.load.Agencies { // that point is among the windows
			p := o.load
			p.Agencies = agencies
			points = append(points, p)
		}
	}
	return points
}

// withValue is the list with v, sorted and without repetitions.
func withValue(list []int, v int) []int {
	list = append(slices.Clone(list), v)
	slices.Sort(list)
	return slices.Compact(list)
}

func runBench(ctx context.Context, o benchOptions, stdout, stderr io.Writer) (err error) {
	b := &bench{options: o, show: newBenchDisplay(stderr)}
	defer b.show.stop()
	report := load.Report{
		Version:    load.Version,
		Date:       time.Now().UTC().Format(time.RFC3339),
		Machine:    load.ThisMachine(),
		Options:    o.load,
		Servers:    o.servers,
		Durability: o.durability,
	}
	if o.tls != benchTLSOff {
		report.TLS = o.tls
	}
	report.PeerTLS = o.peerTLS
	if o.addr != "" {
		report.Servers = len(strings.Split(o.addr, ","))
		report.Durability = "unknown"
	}
	if err := b.measureAll(ctx, &report); err != nil {
		return err
	}
	if o.plot != "" {
		if err := b.sweep(ctx, &report); err != nil {
			return err
		}
	}
	b.show.stop()
	if o.json {
		return report.WriteJSON(stdout)
	}
	return report.WriteSummary(stdout)
}

type bench struct {
	options benchOptions
	show    *benchDisplay
}

// measureAll measures --repeat times, the server and the yardstick in turn.
func (b *bench) measureAll(ctx context.Context, report *load.Report) error {
	var results, limits []load.Result
	for n := range b.options.repeat {
		b.show.run = fmt.Sprintf("run %d of %d", n+1, b.options.repeat)
		result, err := b.measure(ctx, b.options.load)
		if err != nil {
			return err
		}
		if result.Waiting != nil && b.options.addr == "" {
			alone := b.options.load
			alone.Waiting = 0
			reference, err := b.measure(ctx, alone)
			if err != nil {
				return err
			}
			result.Waiting.ThroughputRatio = result.BetsPerSecond / reference.BetsPerSecond
		}
		results = append(results, result)
		if b.options.limit {
			result, err := b.measureLimit(ctx, result.Groups)
			if err != nil {
				return fmt.Errorf("yardstick: %w", err)
			}
			limits = append(limits, result)
		}
	}
	report.Result = load.Median(results)
	if len(results) > 1 {
		report.Runs = results
	}
	if limits != nil {
		limit := load.Median(limits)
		report.Limit = &load.Limit{
			Result: limit, Ratio: report.Result.BetsPerSecond / limit.BetsPerSecond,
		}
	}
	if g := report.Result.Groups; g != nil && report.Durability == engine.DurabilityFsync {
		return b.probe(report, int(math.Round(g.Mean)))
	}
	return nil
}

const (
	probeSyncs  = 2000
	probeBudget = time.Second
)

// probe measures how long the disk alone takes to sync groups of the server's mean size.
func (b *bench) probe(report *load.Report, groupBytes int) (err error) {
	dir, err := os.MkdirTemp(b.options.dir, "loteria-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	log, err := newBenchLog(dir, true)
	if err != nil {
		return err
	}
	report.DiskSync, err = load.ProbeSync(log, groupBytes, probeSyncs, probeBudget)
	return errors.Join(err, log.Remove())
}

// sweep measures every point of the plot and draws it.
func (b *bench) sweep(ctx context.Context, report *load.Report) (err error) {
	points := b.options.points()
	for n, p := range points {
		b.show.run = fmt.Sprintf("point %d of %d", n+1, len(points))
		result, err := b.measure(ctx, p)
		if err != nil {
			return fmt.Errorf("%d agencies, window %d: %w", p.Agencies, p.Window, err)
		}
		report.Sweep = append(report.Sweep, load.Point{
			Agencies: p.Agencies, Window: p.Window, Result: result,
		})
	}
	file, err := os.Create(b.options.plot)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return plotWriter(b.options.plot)(*report, file)
}
