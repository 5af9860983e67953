package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"loteria/codec"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

const (
	ledgerHelp = `Verify or print the ledger of SERVER_DATA_DIR. These commands only read, take no
lock, and may run beside the server.`

	verifyHelp = `Read every record of the ledger, check its checksums and meaning as a restart of
the server would, and print what the ledger holds: records, bets, the agencies
that have reported, whether the draw was held, the agencies that are served
(known to have their winners), the first damage if there is any, and how far the
ledger is sealed.

A torn write at the very end is no damage: it was never acknowledged, and the
next start of the server cuts it off. The server seals the ledger at the draw. A
ledger that ends before its seal is damaged. An unfinished seal was interrupted
while it was written, or is damaged itself.

Of a ledger that several servers keep, these commands read the records that this
server's state knows to be committed. More may be, and of the entries behind
them, nothing is said. The state stands in place of a seal.

Exit codes: 0 whole; 1 no ledger, or one of another version; 4 damaged.`

	dumpHelp = `Print the ledger's records, one per line: sequence number, kind, agency, count,
bytes of payload, and the payload as a quoted string, cut after --payload bytes.
The count of a batch is its number of bets; that of a report is 1 if the agency
confirms its winners; that of "served" is the number of agencies in the payload.
In a ledger that several servers keep, "entry" has its index and its term, and
counts its records, itself included.
If the ledger is damaged, the records before the damage are printed, and the
exit code is 4.

Bets are personal data: mind where you send them. --payload 0 leaves them out.`
)

// Limits of what is printed.
const (
	agenciesNamedMax     = 40 // by verify
	payloadShownDefault  = 80 // bytes, by dump
	recordsPrintedNoStop = 0  // --limit: all
)

// ledgerConfig is the part of the server's configuration that `loteria ledger` and `loteria export` need.
type ledgerConfig struct {
	DataDir string `env:"SERVER_DATA_DIR" envDefault:"data" help:"directory of the server's ledger" legal:"a directory"`
}

// onLedger makes the RunE of a command that only reads the ledger.
func onLedger(run func(ledgerConfig, *cobra.Command) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		var cfg ledgerConfig
		if err := loadEnvironment(&cfg); err != nil {
			return err
		}
		endAtSignal()
		return run(cfg, cmd)
	}
}

// errLedgerCommand says that `loteria ledger` has no such subcommand.
var errLedgerCommand = errors.New("no such ledger command")

func newLedgerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Verify or print the ledger",
		Long:  ledgerHelp,
		Args:  cobra.ArbitraryArgs, // RunE's error says what is legal
		RunE: func(_ *cobra.Command, args []string) error {
			return fmt.Errorf("%w: %q: name verify or dump", errLedgerCommand, strings.Join(args, " "))
		},
	}
	cmd.AddCommand(newLedgerVerifyCommand(), newLedgerDumpCommand())
	return cmd
}

func newLedgerVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "verify",
		Short:   "Check every record, and print what there is and the first damage",
		Long:    verifyHelp + "\n\n" + environmentHelp(ledgerConfig{}),
		Example: "  SERVER_DATA_DIR=data loteria ledger verify",
		Args:    cobra.NoArgs,
		RunE: onLedger(func(cfg ledgerConfig, cmd *cobra.Command) error {
			found, err := history.Verify(history.In(cfg.DataDir))
			if err != nil && !errors.Is(err, history.ErrDamaged) {
				return err
			}
			return errors.Join(err, printVerified(cmd.OutOrStdout(), found, err))
		}),
	}
}

// printVerified prints what a ledger holds, or if there is damage, what it holds before it.
func printVerified(w io.Writer, v history.Verified, damage error) error {
	settings, draw, end, seal := "not readable", "not held", "whole", "none"
	if v.Settings.Agencies > 0 {
		settings = fmt.Sprintf("%d agencies, winning number %d",
			v.Settings.Agencies, v.Settings.WinningNumber)
	}
	if v.Drawn {
		draw = "held"
	}
	if v.Entries.Shared {
		end = "whole, as far as it is known to be committed"
	}
	if v.Torn {
		end = fmt.Sprintf(
			"torn write in %s at offset %d (%s): never acknowledged, the next start cuts it off",
			v.File, v.Offset, v.Reason)
	}
	if damage != nil {
		end = "DAMAGED: all of the above stands before the damage"
	}
	if v.Sealed {
		seal = "unfinished"
	}
	if v.SealedSeq > 0 {
		seal = fmt.Sprintf("through record %d", v.SealedSeq)
	}
	if v.Entries.Shared { // the state stands in place of a seal
		seal = fmt.Sprintf("the state: promised entries 1 to %d, committed 1 to %d, term %d, vote for server %d",
			v.Entries.LastIndex, v.Entries.Commit, v.Entries.Term, v.Entries.Vote)
		if v.Entries.Vote == 0 {
			seal = strings.TrimSuffix(seal, "vote for server 0") + "no vote"
		}
	}
	_, err := fmt.Fprintf(w, `settings  %s
records   %d in %d segments, %d bytes
bets      %d, %d of them win
reported  %s
draw      %s
served    %s
end       %s
seal      %s
`, settings, v.Seq, v.Segments, v.Bytes, v.Bets, v.Winners,
		agencyList(v.Reported, v.Settings.Agencies), draw,
		agencyList(v.Served, v.Settings.Agencies), end, seal)
	return err
}

// agencyList is "2 of 5: 1, 4". It names at most agenciesNamedMax agencies.
func agencyList(ids []codec.Agency, of int) string {
	if len(ids) == 0 {
		return fmt.Sprintf("0 of %d", of)
	}
	return fmt.Sprintf("%d of %d: %s", len(ids), of, codec.ListAgencies(ids, agenciesNamedMax))
}

// dumpFlags are the flags of `loteria ledger dump`.
type dumpFlags struct {
	from, to, limit uint64
	payloadBytes    int
}

// errDumpFlags says that the flags leave nothing to print, or are not legal.
var errDumpFlags = errors.New("nothing to print")

func newLedgerDumpCommand() *cobra.Command {
	var flags dumpFlags
	cmd := &cobra.Command{
		Use:     "dump",
		Short:   "Print the records as lines",
		Long:    dumpHelp + "\n\n" + environmentHelp(ledgerConfig{}),
		Example: "  loteria ledger dump --from 100 --limit 10\n  loteria ledger dump --to 1 --payload 1000",
		Args:    cobra.NoArgs,
		RunE: onLedger(func(cfg ledgerConfig, cmd *cobra.Command) error {
			return runDump(cfg, flags, cmd.OutOrStdout())
		}),
	}
	cmd.Flags().Uint64Var(&flags.from, "from", 1, "sequence number of the first record")
	cmd.Flags().Uint64Var(&flags.to, "to", 0,
		"sequence number of the last record (default the ledger's last)")
	cmd.Flags().Uint64Var(&flags.limit, "limit", recordsPrintedNoStop,
		"print at most so many records (default all)")
	cmd.Flags().IntVar(&flags.payloadBytes, "payload", payloadShownDefault,
		"print at most so many bytes of each payload")
	return cmd
}

func runDump(cfg ledgerConfig, flags dumpFlags, stdout io.Writer) error {
	if flags.to != 0 && flags.to < flags.from {
		return fmt.Errorf("%w: --from %d is after --to %d", errDumpFlags, flags.from, flags.to)
	}
	if flags.payloadBytes < 0 {
		return fmt.Errorf("%w: --payload %d: use 0 or more", errDumpFlags, flags.payloadBytes)
	}
	to := flags.to
	last := max(flags.from, 1) + flags.limit - 1
	if flags.limit != recordsPrintedNoStop && last >= flags.from && (to == 0 || last < to) {
		to = last
	}
	out := bufio.NewWriter(stdout)
	err := history.Dump(history.In(cfg.DataDir), flags.from, to, func(r ledger.Record) error {
		shown, cut := r.Payload, ""
		if len(shown) > flags.payloadBytes {
			shown, cut = shown[:flags.payloadBytes], "..."
		}
		_, err := fmt.Fprintf(out, "%d %v agency=%d count=%d bytes=%d %q%s\n",
			r.Seq, r.Kind, r.Agency, r.Count, len(r.Payload), shown, cut)
		return err
	})
	return errors.Join(err, out.Flush())
}
