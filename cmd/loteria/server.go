package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"loteria/engine"
)

const serverHelp = `Take bets from the agencies, hold the draw when the last agency has reported,
send each agency its winners, and exit when every agency has them and has closed
its connection.

An ACK means that the bets are on disk. A restart with the same SERVER_DATA_DIR
goes on where the last run stopped: before the draw with the bets, after it with
the winners. After the draw bets.csv and winners.csv are in SERVER_DATA_DIR.

The log lines "espera" and, after the draw, "entrega" name the agencies that the
server waits for. "loteria ledger verify" lists the agencies that have reported
and those that are served.

With SERVER_HTTP_ADDR, http://that address/board/ shows the draw, /metrics is for
Prometheus, and /healthz and /readyz are for whoever runs the server. At its end it
leaves the board as board.html in SERVER_DATA_DIR.

With SERVER_TLS_ADDR it takes agencies over TLS there, too. With
SERVER_TLS_CLIENT_CA_FILE each of them shows a certificate that says who it is. The
files are read again when they change, or at once on SIGHUP; a connection keeps what
it began with.

Exit codes: 0 done, or stopped by a signal; 1 configuration; 3 agencies have not
reported or are not known to have their winners, and the last line names them;
4 storage.`

func newServerCommand() *cobra.Command {
	var noExport bool
	cmd := &cobra.Command{
		Use:     "server",
		Short:   "Run the server of one draw",
		Long:    serverHelp + "\n\n" + environmentHelp(engine.Config{}, logConfig{}),
		Example: "  SERVER_AGENCIES=2 SERVER_DATA_DIR=/tmp/draw loteria server",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withLogger(cmd.OutOrStdout(), nil, func(log *zap.Logger) error {
				var cfg engine.Config
				warnOfUnknown(log, "SERVER_", cfg)
				if err := loadEnvironment(&cfg); err != nil {
					return err
				}
				cfg.NoExport = noExport
				return runServer(cmd.Context(), cfg, log)
			})
		},
	}
	// The server's configuration is its environment. Only `loteria bench` uses this flag.
	cmd.Flags().BoolVar(&noExport, noExportFlag, false, "write no bets.csv and winners.csv")
	_ = cmd.Flags().MarkHidden(noExportFlag) // fails only for a flag that doesn't exist
	return cmd
}

// noExportFlag is the hidden flag that sets engine.Config.NoExport.
const noExportFlag = "no-export"

// withLogger runs a command with a logger to w, and logs how it ended. Every line has the fields.
// If the log can't be written, standard error says so; the command's result stays the same, because
// the draw has taken place all the same.
func withLogger(w io.Writer, fields []zap.Field, command func(*zap.Logger) error) error {
	var cfg logConfig
	if err := loadEnvironment(&cfg); err != nil {
		return err
	}
	log, closeLog, err := newLogger(cfg, w)
	if err != nil {
		return err
	}
	log = log.With(fields...)
	err = logExit(log, command(log))
	if errClose := closeLog(); errClose != nil {
		// A failure to write can't be reported.
		_, _ = fmt.Fprintln(os.Stderr, "loteria: the log is not complete:", errClose)
	}
	return err
}

// server is an engine.Server, or an engine.Member.
type server interface {
	Serve(context.Context) error
	ReloadCertificate()
}

func runServer(ctx context.Context, cfg engine.Config, log *zap.Logger) error {
	tuneServer(len(cfg.Peers) == 0)
	open := func() (server, error) { return engine.Open(cfg, log) }
	if len(cfg.Peers) > 0 {
		open = func() (server, error) { return engine.Join(cfg, log) }
	}
	hangups := make(chan os.Signal, 1)
	if cfg.TLSAddr != "" {
		// From the beginning: a server that replays its ledger must not die of it.
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	s, err := open()
	if err != nil {
		return err
	}
	log.Info("config",
		append([]zap.Field{zap.String("result", "success")}, settingFields(cfg)...)...)
	defer reloadAt(hangups, s)()
	err = s.Serve(ctx)
	if ctx.Err() != nil && err == nil {
		log.Info("shutdown", zap.String("result", "success"))
	}
	return err
}

// reloadAt makes the server read its certificate again at each hangup, until the function that it
// returns is called.
func reloadAt(hangups <-chan os.Signal, s server) (stop func()) {
	over, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-hangups:
				s.ReloadCertificate()
			case <-over:
				return
			}
		}
	}()
	return func() {
		close(over)
		<-stopped
	}
}
