package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"loteria/agency"
	"loteria/agency/dataset"
	"loteria/codec"
	"loteria/engine"
	"loteria/engine/history"
)

const demoHelp = `Run a whole draw in one process: a real server and real agencies, over real
sockets on the loopback interface, with real files. At the end it prints a table
of what every agency uploaded and won, and says where bets.csv, winners.csv and
its log, demo.log, are. If --data-dir already holds a draw, the demo goes on
with it and appends to its log.

With --servers 3 the servers are processes of their own that hold the draw
together, each with its directory: server-1, server-2, server-3. --kill-leader
kills the one that leads, with SIGKILL, when half of the bets are stored. The
other two elect a leader, the agencies go on with that one, and the killed server
is started again. A timeline tells when that happened. At the end all servers have
the same bets.csv and winners.csv, or the demo fails.

With --board the draw is watched in a browser, at the address that the demo prints
first, and takes long enough to be watched: --pace says how long the largest agency
uploads. The other agencies upload as fast, so they are done before it. Several
servers have an address each. At the end the last state is shown until Ctrl-C.

With --tls agencies and servers make certificates, in the folder certs beside the log,
and talk over TLS. Each side proves who it is; servers do so to each other, too.

With --verbose the log goes to standard output instead, and there are no bars.
With LOG_FORMAT=json as well, standard output has only the JSON lines; table and
paths go to standard error.`

const demoExample = `  loteria demo
  loteria demo --agencies 3 --data-dir /tmp/draw
  loteria demo --board
  loteria demo --servers 3 --kill-leader
  loteria demo --tls
  loteria demo --servers 3 --kill-leader --board --pace 1m
  loteria dataset --out big --agencies 50 --bets 10000000 && loteria demo --agencies 50 --dataset big`

// bundledDataset is the dataset's path in a checkout. Elsewhere the demo makes the same bets.
const bundledDataset = "testdata/dataset.zip"

// demoLog is the name of the demo's log, in its data directory.
const demoLog = "demo.log"

type demoOptions struct {
	agencies   int
	dataset    string
	dataDir    string
	servers    int
	killLeader bool
	tls        bool
	verbose    bool // the log goes to standard output
	board      bool
	pace       time.Duration // how long the largest agency uploads; 0: as long as it takes
	boards     []string      // addresses of the servers' boards; nil without board
}

func newDemoCommand() *cobra.Command {
	var options demoOptions
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Run a server and its agencies here and now, and show the draw",
		Long:    demoHelp,
		Example: demoExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if options.board && !cmd.Flags().Changed("pace") {
				options.pace = boardPace
			}
			return runDemo(cmd.Context(), options, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&options.agencies, "agencies", len(dataset.Default().Agencies), "number of agencies")
	flags.StringVar(&options.dataset, "dataset", "",
		"zip or folder with agency-<id>.csv (default the bundled five agencies)")
	flags.StringVar(&options.dataDir, "data-dir", "",
		"directory for the ledger, bets.csv, winners.csv and demo.log; the demo goes on with a draw "+
			"that is there (default a new temporary directory)")
	flags.IntVar(&options.servers, "servers", 1,
		"number of servers that hold the draw together, 3 to 9, or one alone")
	flags.BoolVar(&options.killLeader, "kill-leader", false,
		"kill the leader of several servers when half of the bets are stored")
	flags.BoolVar(&options.board, "board", false,
		"show the draw in the browser, on "+boardAddrDefault+" or a free port, until Ctrl-C")
	flags.BoolVar(&options.tls, "tls", false, "talk over TLS, with certificates on both sides")
	flags.DurationVar(&options.pace, "pace", 0,
		fmt.Sprintf("how long the largest agency uploads (default %v with --board, else as long as it takes)", boardPace))
	flags.BoolVarP(&options.verbose, "verbose", "v", false,
		"log to standard output instead of demo.log")
	return cmd
}

// participant is one agency of a demo.
type participant struct {
	config agencyConfig
	bets   int64                                      // in its file
	bytes  int64                                      // of its file
	pace   func(context.Context, io.Reader) io.Reader // nil: it uploads as fast as it can
	run    agencyRun
	took   time.Duration
}

func runDemo(ctx context.Context, options demoOptions, stdout, stderr io.Writer) (err error) {
	if options.agencies < 1 || options.agencies > dataset.AgenciesMax {
		return fmt.Errorf("--agencies %d is not legal: want 1 to %d",
			options.agencies, dataset.AgenciesMax)
	}
	if options.pace < 0 {
		return fmt.Errorf("--pace %v is not legal: want 0 or more", options.pace)
	}
	if err := options.checkServers(); err != nil {
		return err
	}
	if options.dataDir == "" {
		if options.dataDir, err = os.MkdirTemp("", "loteria-demo-"); err != nil {
			return err
		}
	}
	if options.dataset == "" {
		if options.dataset, err = demoDataset(ctx, options); err != nil {
			return err
		}
	}
	participants, err := demoParticipants(options)
	if err != nil {
		return err
	}
	if options.tls {
		if err := options.makeCerts(ctx); err != nil {
			return err
		}
	}
	pace(participants, options.pace)
	if options.board {
		if options.boards, err = boardAddrs(ctx, options.servers); err != nil {
			return err
		}
	}

	var logged logConfig
	if err := loadEnvironment(&logged); err != nil {
		return err
	}
	log, closeLog, err := demoLogger(logged, options, stdout)
	if err != nil {
		return err
	}
	summary := stdout
	show := &display{}
	if options.verbose && logged.Format == "json" {
		summary = stderr // programs read the JSON lines
	}
	if err := options.sayBoards(summary); err != nil {
		return errors.Join(err, closeLog())
	}
	if terminal, ok := stdout.(*os.File); !options.verbose && ok && term.IsTerminal(int(terminal.Fd())) {
		show = demoBars(participants, terminal)
	}
	started := time.Now()
	var several *demoServers
	if options.servers == 1 {
		err = demoDraw(ctx, options, participants, show, log)
	} else if several, err = newDemoServers(ctx, options, participants, log); err == nil {
		err = several.draw(ctx, show)
	}
	took := time.Since(started)
	show.stop()
	_ = logExit(log, err) // the error is returned below, with the log's name
	if errClose := closeLog(); err == nil {
		err = errClose
	}
	if several != nil { // also if it failed
		if _, errWrite := fmt.Fprintln(summary, &several.timeline); err == nil {
			err = errWrite
		}
	}
	switch {
	case err != nil && !options.verbose:
		return fmt.Errorf("%w; the log is %s", err, filepath.Join(options.dataDir, demoLog))
	case err != nil:
		return err
	}
	if err := demoSummary(summary, options, participants, took); err != nil || !options.board {
		return err
	}
	addr, dir := options.boards[0], options.dataDir
	if several != nil {
		leader := several.lastLeader()
		addr, dir = options.boards[leader-1], options.serverDir(leader)
	}
	return serveLastBoard(ctx, addr, dir, summary)
}

// demoLogger logs to standard output with --verbose, else to demo.log.
func demoLogger(
	cfg logConfig, options demoOptions, stdout io.Writer,
) (*zap.Logger, func() error, error) {
	if options.verbose {
		return newLogger(cfg, stdout)
	}
	if err := os.MkdirAll(options.dataDir, 0o755); err != nil {
		return nil, nil, err
	}
	name := filepath.Join(options.dataDir, demoLog)
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, err
	}
	log, closeLog, err := newLogger(cfg, file)
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return log, func() error { return errors.Join(closeLog(), file.Close()) }, nil
}

// demoDataset is the path of the bundled dataset, if this is a checkout and the dataset has enough
// agencies. Else it makes one in the data directory.
func demoDataset(ctx context.Context, options demoOptions) (string, error) {
	bundled := dataset.Default()
	if options.agencies <= len(bundled.Agencies) {
		if _, err := os.Stat(bundledDataset); err == nil {
			return bundledDataset, nil
		}
	}
	spec := bundled
	if options.agencies > len(bundled.Agencies) {
		// As many bets per agency as in the bundled dataset.
		bets := bundled.Totals().Bets / len(bundled.Agencies) * options.agencies
		var err error
		if spec, err = dataset.Sized(options.agencies, min(bets, dataset.BetsMax)); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(options.dataDir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(options.dataDir, "dataset")
	return path, spec.WriteDir(ctx, path, true)
}

func demoParticipants(options demoOptions) ([]*participant, error) {
	var list []*participant
	for id := 1; id <= options.agencies; id++ {
		p := &participant{}
		if err := loadEnvironment(&p.config); err != nil {
			return nil, err
		}
		p.config.ID, p.config.Bets, p.config.Winners = uint32(id), options.dataset, ""
		p.config.Secret, p.config.SecretFile = codec.Secret{}, "" // the demo's server has none
		p.config.TLSCA, p.config.TLSCert, p.config.TLSKey, p.config.TLSServerName = "", "", "", ""
		if options.tls {
			own := role{codec.IdentityAgency, id}
			p.config.TLSCA = options.cert(certsAuthority)
			p.config.TLSCert, p.config.TLSKey = options.cert(own.name()), options.key(own.name())
		}
		var err error
		if p.bets, p.bytes, err = countRows(options.dataset, id); err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// countRows is the number of lines and bytes in an agency's file. The lines are shown, and say when
// half of the bets are stored.
func countRows(path string, id int) (rows, size int64, err error) {
	file, name, err := dataset.Open(path, id)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	var (
		last byte = '\n'
		buf       = make([]byte, 256<<10)
	)
	for {
		n, err := file.Read(buf)
		if n > 0 {
			rows += int64(bytes.Count(buf[:n], []byte{'\n'}))
			size += int64(n)
			last = buf[n-1]
		}
		switch {
		case errors.Is(err, io.EOF):
			if last != '\n' {
				rows++
			}
			return rows, size, nil
		case err != nil:
			return 0, 0, fmt.Errorf("%s: %w", name, err)
		}
	}
}

// makeCerts makes the certificates that are not there yet.
func (o demoOptions) makeCerts(ctx context.Context) error {
	plan, err := planCerts(certsOptions{
		out: o.certsDir(), servers: o.servers, agencies: o.agencies,
		domain: certsDomainDefault, days: certsDaysDefault,
	}, time.Now())
	if err == nil {
		err = plan.write(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", o.certsDir(), err)
	}
	return nil
}

func (o demoOptions) certsDir() string { return filepath.Join(o.dataDir, "certs") }

// cert and key are the files of the certificate with a name.
func (o demoOptions) cert(name string) string {
	return filepath.Join(o.certsDir(), certificateFile(name))
}

func (o demoOptions) key(name string) string { return filepath.Join(o.certsDir(), keyFile(name)) }

// demoDraw runs the server and the agencies until all have ended.
func demoDraw(
	ctx context.Context, options demoOptions, participants []*participant, show *display,
	log *zap.Logger,
) error {
	cfg := engine.DefaultConfig()
	cfg.Addr = "127.0.0.1:0"
	cfg.Agencies = options.agencies
	cfg.DataDir = options.dataDir
	if options.board {
		cfg.HTTPAddr = options.boards[0]
	}
	if options.tls {
		own := role{codec.IdentityServer, 1}
		cfg.TLSAddr, cfg.TLSClientCA = "127.0.0.1:0", options.cert(certsAuthority)
		cfg.TLSCert, cfg.TLSKey = options.cert(own.name()), options.key(own.name())
	}
	server, err := engine.Open(cfg, log.Named("server"))
	if err != nil {
		return err
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return server.Serve(ctx) })
	select {
	case <-server.Ready():
	case <-ctx.Done():
		return all.Wait()
	}
	addr := server.Addr()
	if options.tls {
		addr = server.SecureAddr()
	}
	for _, p := range participants {
		p.config.Server = addr.String()
		all.Go(func() error {
			return p.play(ctx, log, nil, func(at agency.Progress) { show.set(p, at.Stored) })
		})
	}
	return all.Wait()
}

// play runs the agency to its end. See agencyHooks about hold, which may be nil.
func (p *participant) play(
	ctx context.Context, log *zap.Logger, hold func(context.Context) error, progress func(agency.Progress),
) error {
	started := time.Now()
	run, err := runAgency(ctx, p.config, log.With(p.config.logFields()...), agencyHooks{p.pace, hold}, agency.WithProgress(progress))
	p.run, p.took = run, time.Since(started)
	if err != nil {
		return fmt.Errorf("agency %d: %w", p.config.ID, err)
	}
	return nil
}

// display shows the agencies' progress as bars. The zero value shows nothing.
type display struct {
	bars     progress.Writer
	trackers map[uint32]*progress.Tracker
	rendered chan struct{}
}

// demoBars starts a bar for each agency.
func demoBars(participants []*participant, terminal *os.File) *display {
	d := &display{
		bars:     progress.NewWriter(),
		trackers: map[uint32]*progress.Tracker{},
		rendered: make(chan struct{}),
	}
	d.bars.SetOutputWriter(terminal)
	d.bars.SetAutoStop(false)
	d.bars.SetUpdateFrequency(50 * time.Millisecond)
	d.bars.SetTrackerPosition(progress.PositionRight)
	d.bars.SetSortBy(progress.SortByIndex)
	for _, p := range participants {
		t := &progress.Tracker{
			Message: "agency " + strconv.Itoa(int(p.config.ID)),
			Total:   p.bets,
			Index:   uint64(p.config.ID),
		}
		d.trackers[p.config.ID] = t
		d.bars.AppendTracker(t)
	}
	go func() {
		defer close(d.rendered)
		d.bars.Render()
	}()
	return d
}

func (d *display) set(p *participant, stored int64) {
	if d.bars != nil {
		d.trackers[p.config.ID].SetValue(stored)
	}
}

func (d *display) stop() {
	if d.bars != nil {
		d.bars.Stop()
		<-d.rendered
	}
}

func demoSummary(
	w io.Writer, options demoOptions, participants []*participant, took time.Duration,
) error {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.Style().Format.Footer = text.FormatDefault
	right := []table.ColumnConfig{}
	for n := 1; n <= 4; n++ {
		right = append(right, table.ColumnConfig{
			Number: n, Align: text.AlignRight,
			AlignHeader: text.AlignRight, AlignFooter: text.AlignRight,
		})
	}
	t.SetColumnConfigs(right)
	t.AppendHeader(table.Row{"agency", "bets", "winners", "time"})
	var bets int64
	var winners int
	for _, p := range participants {
		t.AppendRow(table.Row{
			p.config.ID, p.run.uploaded.Stored, p.run.winners.Count(), p.took.Round(time.Millisecond),
		})
		bets += p.run.uploaded.Stored
		winners += p.run.winners.Count()
	}
	t.AppendFooter(table.Row{"total", bets, winners, took.Round(time.Millisecond)})
	files := fmt.Sprintf("bets     %s\nwinners  %s\n",
		filepath.Join(options.dataDir, history.BetsFile),
		filepath.Join(options.dataDir, history.WinnersFile))
	if options.servers > 1 {
		var err error
		if files, err = compareExports(options); err != nil {
			return err
		}
	}
	said := t.Render() + "\n" + files
	if !options.verbose {
		said += fmt.Sprintf("log      %s\n", filepath.Join(options.dataDir, demoLog))
	}
	_, err := io.WriteString(w, said)
	return err
}
