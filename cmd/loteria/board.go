package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"loteria/engine"
	"loteria/engine/admin"
	"loteria/engine/admin/board"
	"loteria/engine/history"
	"loteria/engine/mesh"
	"loteria/engine/settings"
)

const boardHelp = `Show the draw that a ledger holds, on the same page on which it is watched live.
DIR is the SERVER_DATA_DIR of its server, or of one of several. A ledger has no
times, so there are no bets a second and no events.

The page is served until Ctrl-C. With --out it is written into one file, which a
browser opens without a server.

The command only reads the ledger, and may run beside the server. The page has
counts, and nothing of any person.

With --servers it shows a running draw instead, to browsers that can't reach its
servers: all that they serve on SERVER_HTTP_ADDR, from the first one that answers.
If that one goes, it turns to the next, and when the servers end, it ends, too.

Exit codes: 0 done, or stopped by a signal; 1 no ledger, or the address is taken;
3 no server was there for --retry-for; 4 the ledger is damaged.`

// boardAddrDefault is reached from this machine only.
const boardAddrDefault = "127.0.0.1:8080"

func newBoardCommand() *cobra.Command {
	var (
		addr, out, servers string
		retryFor           time.Duration
	)
	cmd := &cobra.Command{
		Use:   "board DIR",
		Short: "Show a ledger's draw in the browser, or write it as one page",
		Long:  boardHelp,
		Example: "  loteria board data\n  loteria board data --out board.html\n" +
			"  loteria board --servers server1:8080,server2:8080",
		Args: func(cmd *cobra.Command, args []string) error {
			if servers != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if servers != "" {
				return forwardBoard(cmd.Context(), addr, servers, retryFor, cmd.OutOrStdout())
			}
			past, err := engine.OpenPast(history.In(args[0]))
			if err != nil {
				return err
			}
			if out != "" {
				return writeBoard(out, past.State())
			}
			server, err := admin.Open(admin.Settings{Addr: addr}, zap.NewNop())
			if err != nil {
				return fmt.Errorf("%w: choose another address with --addr", err)
			}
			return serveBoard(cmd.Context(), server, past, "", cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&addr, "addr", boardAddrDefault, "address to serve the page on; port 0 is a free one")
	cmd.Flags().StringVar(&out, "out", "", "write the page into this file instead")
	cmd.Flags().StringVar(&servers, "servers", "", "show the draw of the servers with these SERVER_HTTP_ADDRs")
	cmd.Flags().DurationVar(&retryFor, "retry-for", forwardRetryDefault, "how long to look for one of the servers")
	cmd.MarkFlagsMutuallyExclusive("servers", "out")
	return cmd
}

// forwardBoard shows the draw of servers until they end, or ctx is done.
func forwardBoard(ctx context.Context, addr, servers string, retryFor time.Duration, stdout io.Writer) error {
	if err := settings.CheckAddrs("--servers", servers, mesh.ServersMax, "HOST:PORT, or some with commas between them"); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w: %w: choose another address with --addr", admin.ErrListen, err)
	}
	if _, err := fmt.Fprintf(stdout, "board    http://%v/board/ (Ctrl-C ends it)\n", listener.Addr()); err != nil {
		return errors.Join(err, listener.Close())
	}
	return newForward(strings.Split(servers, ","), retryFor).serve(ctx, listener)
}

// writeBoard writes the page of a state as one file, which appears complete or not at all.
func writeBoard(name string, s *board.State) error {
	return history.WriteFile(name, func(w io.Writer) error { return board.Write(w, s) })
}

// serveBoard serves a source until ctx is done, and closes the server. what is said of it, "" for
// nothing, follows the address.
func serveBoard(ctx context.Context, server *admin.Server, src admin.Source, what string, stdout io.Writer) error {
	server.Show(src)
	_, err := fmt.Fprintf(stdout, "board    http://%v/board/ %s(Ctrl-C ends it)\n", server.Addr(), what)
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, server.Close(src.State()))
}
