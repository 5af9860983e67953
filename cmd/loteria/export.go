package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"loteria/engine/history"
)

const exportHelp = `Print a ledger's bets, or with --winners only the winning ones, as CSV: agency,
first name, last name, document, birthdate, number; no header; CRLF line ends;
in the order in which they were stored.

It only reads, in constant memory, and may run beside the server at any time.
The counts go to standard error.`

func newExportCommand() *cobra.Command {
	var winners bool
	cmd := &cobra.Command{
		Use:     "export",
		Short:   "Print the stored bets or the winners as CSV",
		Long:    exportHelp + "\n\n" + environmentHelp(ledgerConfig{}),
		Example: "  SERVER_DATA_DIR=data loteria export > bets.csv\n  SERVER_DATA_DIR=data loteria export --winners",
		Args:    cobra.NoArgs,
		RunE: onLedger(func(cfg ledgerConfig, cmd *cobra.Command) error {
			return runExport(cfg, winners, cmd.OutOrStdout(), cmd.ErrOrStderr())
		}),
	}
	cmd.Flags().BoolVar(&winners, "winners", false, "only the winning bets")
	return cmd
}

func runExport(cfg ledgerConfig, winners bool, stdout, stderr io.Writer) error {
	bets, wins := stdout, io.Writer(nil)
	if winners {
		bets, wins = nil, stdout
	}
	done, err := history.Export(history.In(cfg.DataDir), bets, wins)
	if err != nil {
		return err
	}
	state := "before the draw"
	if done.Drawn {
		state = "after the draw"
	}
	_, err = fmt.Fprintf(stderr, "%d bets, %d winners, %s\n", done.Bets, done.Winners, state)
	return err
}
