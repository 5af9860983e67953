package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"loteria/engine"
	"loteria/engine/settings"
)

const clusterHelp = `Look after the servers that hold one draw together. Run it where one of them runs,
with the same SERVER_DATA_DIR; any of them will do.`

const clusterStatusHelp = clusterHelp + `

It prints who leads, in which term, how many entries of the log are committed, and
how far every server is: "has" is the last entry that it has on its disk, as the
leader knows, and "behind" how many committed ones it lacks. A server that doesn't
vote was added and has not caught up yet. If no leader is known, it prints what the
server that was asked knows.

Exit codes: 0 there is a leader; 1 no server runs here; 3 no leader is known.`

const clusterAddHelp = clusterHelp + `

It adds a server, given as SERVER_PEERS has it, in the place of one that was lost, or
beside the others. Its id must be new: the id of a server that is lost, or whose disk
is, never comes back. Start the new server with

  SERVER_ID      the new id
  SERVER_PEERS   the others that are there, and the new one
  SERVER_JOIN    on
  SERVER_DATA_DIR  an empty directory

before or after this. It gets the log from the others, while bets keep coming, and
votes once it has caught up. The command waits for that. Then remove the lost one:
with more servers, more have to be there for a majority.

Exit codes: 0 it votes; 1 it can't be added, and the message says why.`

const clusterRemoveHelp = clusterHelp + `

It removes a server, which ends if it runs. Its id never comes back. The others go on
with a majority of those that are left. To remove the leader, another server leads
first.

Exit codes: 0 it is removed; 1 it can't be, and the message says why.`

// clusterConfig is the part of the server's configuration that `loteria cluster` needs.
type clusterConfig struct {
	DataDir string `env:"SERVER_DATA_DIR" envDefault:"data" help:"directory that the server was started with" legal:"a directory"`
}

func newClusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Look after several servers: who leads, how far each is, add one, remove one",
		Long:  clusterHelp,
	}
	status := newClusterStep(cobra.Command{
		Use:     "status",
		Short:   "Print the servers, the leader, its term, and how far each server is",
		Long:    clusterStatusHelp,
		Example: "  SERVER_DATA_DIR=data loteria cluster status\n  docker compose exec server1 /loteria cluster status --json",
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, dataDir string, _ []string) (engine.ClusterStatus, error) {
		return engine.AskStatus(ctx, dataDir)
	})
	add := newClusterStep(cobra.Command{
		Use:     "add ID=HOST:PORT",
		Short:   "Add a server, and wait until it votes",
		Long:    clusterAddHelp,
		Example: "  SERVER_DATA_DIR=data loteria cluster add 4=server4:12346",
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, dataDir string, args []string) (engine.ClusterStatus, error) {
		peer, err := engine.ParsePeer(args[0])
		if err != nil {
			return engine.ClusterStatus{}, err
		}
		return engine.AddServer(ctx, dataDir, peer)
	})
	remove := newClusterStep(cobra.Command{
		Use:     "remove ID",
		Short:   "Remove a server for good",
		Long:    clusterRemoveHelp,
		Example: "  SERVER_DATA_DIR=data loteria cluster remove 2",
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, dataDir string, args []string) (engine.ClusterStatus, error) {
		id, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil || id == 0 {
			return engine.ClusterStatus{}, settings.Illegal("ID", args[0], "the number of a server")
		}
		return engine.RemoveServer(ctx, dataDir, id)
	})
	cmd.AddCommand(status, add, remove)
	return cmd
}

// newClusterStep completes a command that does one thing and prints the status afterwards.
func newClusterStep(
	cmd cobra.Command, step func(ctx context.Context, dataDir string, args []string) (engine.ClusterStatus, error),
) *cobra.Command {
	var asJSON bool
	cmd.Long += "\n\n" + environmentHelp(clusterConfig{})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var cfg clusterConfig
		if err := loadEnvironment(&cfg); err != nil {
			return err
		}
		if cfg.DataDir == "" {
			return settings.Illegal("SERVER_DATA_DIR", cfg.DataDir, "a directory")
		}
		status, err := step(cmd.Context(), cfg.DataDir, args)
		if err != nil {
			return err
		}
		if asJSON {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(status)
		} else {
			err = printStatus(cmd.OutOrStdout(), status)
		}
		if err == nil && status.Leader == 0 {
			err = fmt.Errorf("%w: no leader is known: a majority of the servers has to run, and to reach each other",
				engine.ErrUnfinished)
		}
		return err
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one line of JSON")
	return &cmd
}

func printStatus(w io.Writer, status engine.ClusterStatus) error {
	leader := "none is known"
	if status.Leader != 0 {
		leader = fmt.Sprintf("server %d", status.Leader)
	}
	if _, err := fmt.Fprintf(w, "leader     %s, term %d\ncommitted  %d entries, as server %d knows\n\n",
		leader, status.Term, status.Committed, status.Server); err != nil {
		return err
	}
	word := map[bool]string{true: "yes", false: "no"}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "server\taddress\tconnected\tvotes\thas\tbehind") // Flush has the errors
	for _, s := range status.Servers {
		has, behind := "?", "?"
		if s.Has != nil {
			has, behind = fmt.Sprint(*s.Has), fmt.Sprint(status.Behind(s))
		}
		_, _ = fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Addr, word[s.Connected], word[s.Votes], has, behind)
	}
	return table.Flush()
}
