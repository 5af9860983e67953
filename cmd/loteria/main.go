// Command loteria is the server of a national lottery, its agencies, and the tools around them.
// `loteria help` lists the subcommands.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes of every subcommand.
const (
	exitDone       = 0 // done, or stopped by a signal
	exitInput      = 1 // configuration or input
	exitUnfinished = 3 // ended without its goal
	exitStorage    = 4
	exitRejected   = 5 // by the server
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run runs one command line and returns its exit code.
func run(args []string, stdout, stderr io.Writer) int {
	// The first signal asks the command to end. After it, signals have their default effect again,
	// so a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if !reported(err) {
		_, _ = fmt.Fprintln(stderr, "loteria:", err) // a failure to write can't be reported
	}
	return exitCode(err)
}

// endAtSignal makes a signal end the process at once, as it does by default. Commands that only
// read call it.
func endAtSignal() { signal.Reset(os.Interrupt, syscall.SIGTERM) }

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "loteria",
		Short: "A lottery: agencies upload bets, one draw, every agency gets its winners",
		Long: "A lottery takes bets from its agencies, holds one draw, and tells each agency\n" +
			"its winners. Try it: loteria demo",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServerCommand(), newAgencyCommand(), newDemoCommand(), newExportCommand(),
		newLedgerCommand(), newDatasetCommand(), newCertsCommand(), newBenchCommand(),
		newYardstickCommand(), newHealthCommand(), newClusterCommand(), newTopCommand(), newBoardCommand(),
		newVersionCommand())
	return root
}
