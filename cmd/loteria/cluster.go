package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"loteria/engine"
	"loteria/engine/settings"
)

const clusterHelp = `Ask about the servers that hold one draw together. Run it where one of them runs,
with the same SERVER_DATA_DIR; any of them will do.`

const clusterStatusHelp = clusterHelp + `

It prints who leads, in which term, how many entries of the log are committed, and
how far every server is: "has" is the last entry that it has on its disk, as the
leader knows, and "behind" how many committed ones it lacks. If no leader is known,
it prints what the server that was asked knows.

Exit codes: 0 there is a leader; 1 no server runs here; 3 no leader is known.`

// clusterConfig is the part of the server's configuration that `loteria cluster` needs.
type clusterConfig struct {
	DataDir string `env:"SERVER_DATA_DIR" envDefault:"data" help:"directory that the server was started with" legal:"a directory"`
}

func newClusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Tell which servers hold the draw together, and how far each is",
		Long:  clusterHelp,
	}
	cmd.AddCommand(newClusterStatusCommand())
	return cmd
}

func newClusterStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Print the servers, the leader, its term, and how far each server is",
		Long:    clusterStatusHelp + "\n\n" + environmentHelp(clusterConfig{}),
		Example: "  SERVER_DATA_DIR=data loteria cluster status\n  docker compose exec server1 /loteria cluster status --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			endAtSignal()
			var cfg clusterConfig
			if err := loadEnvironment(&cfg); err != nil {
				return err
			}
			if cfg.DataDir == "" {
				return settings.Illegal("SERVER_DATA_DIR", cfg.DataDir, "a directory")
			}
			status, err := engine.AskStatus(cfg.DataDir)
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
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one line of JSON")
	return cmd
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
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "server\taddress\tconnected\thas\tbehind") // Flush has the errors
	for _, s := range status.Servers {
		has, behind, connected := "?", "?", "no"
		if s.Has != nil {
			has, behind = fmt.Sprint(*s.Has), fmt.Sprint(status.Behind(s))
		}
		if s.Connected {
			connected = "yes"
		}
		_, _ = fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", s.ID, s.Addr, connected, has, behind)
	}
	return table.Flush()
}
