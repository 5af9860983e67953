package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"loteria/agency/dataset"
)

const datasetHelp = `Make bets for agencies: one CSV file per agency, agency-<id>.csv, in a zip
archive or a folder. Columns: first name, last name, document, birthdate,
number; no header; UTF-8; CRLF line ends.

Without size flags it makes the dataset that comes with the program: five
agencies and 78,697 bets; ten of them win, none of agency 5. Other sizes keep
these proportions: every fifth agency is small and has no winners. Only the
planted winners play the winning number; standard error says how many each
agency has.

The same flags make the same bets on every machine. Nothing is kept in memory,
so 100 million bets take disk space (about 4.5 GB as CSV) and nothing else.`

const datasetExample = `  loteria dataset                                        # dataset.zip, as bundled
  loteria dataset --out .data --agencies 40              # .data/agency-1.csv to agency-40.csv
  loteria dataset --out big --agencies 50 --bets 10000000
  loteria dataset --out - --agency 5 | head -3           # look at one agency's bets`

// toStandardOutput is the value of --out for one agency's CSV on standard output.
const toStandardOutput = "-"

// datasetOptions are the values of the flags.
type datasetOptions struct {
	out           string
	agencies      int
	bets          int
	seed          uint64
	winningNumber int
	agency        int // 0: all of them
	force         bool
}

func newDatasetCommand() *cobra.Command {
	var options datasetOptions
	bundled := dataset.Default()
	cmd := &cobra.Command{
		Use:     "dataset",
		Short:   "Make bets for agencies, of any size, the same for the same seed",
		Long:    datasetHelp,
		Example: datasetExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A signal cancels the writing, which then removes its temporary files.
			return runDataset(cmd.Context(), options, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.out, "out", "dataset.zip",
		"where to write: a zip if it ends in .zip, - for standard output, else a folder")
	flags.IntVar(&options.agencies, "agencies", len(bundled.Agencies),
		fmt.Sprintf("number of agencies, 1 to %d", dataset.AgenciesMax))
	flags.IntVar(&options.bets, "bets", bundled.Totals().Bets,
		fmt.Sprintf("total number of bets, 0 to %d", dataset.BetsMax))
	flags.Uint64Var(&options.seed, "seed", bundled.Seed, "other seeds make other bets of the same size")
	flags.IntVar(&options.winningNumber, "winning-number", bundled.WinningNumber,
		fmt.Sprintf("number that the planted winners play, 0 to %d", dataset.NumberMax))
	flags.IntVar(&options.agency, "agency", 0, "with --out -: the agency whose bets to write")
	flags.BoolVar(&options.force, "force", false, "overwrite existing files")
	return cmd
}

// runDataset writes the bets to options.out, and a summary to stderr.
func runDataset(ctx context.Context, options datasetOptions, stdout, stderr io.Writer) error {
	spec, err := dataset.Sized(options.agencies, options.bets)
	if err != nil {
		return err
	}
	spec.Seed = options.seed
	spec.WinningNumber = options.winningNumber

	switch {
	case options.out == "":
		return errors.New("--out is empty: name a zip file or a folder, or - for standard output")
	case options.out == toStandardOutput && options.agency == 0:
		return fmt.Errorf("--out - writes one agency's bets: add --agency 1 to %d", options.agencies)
	case options.out != toStandardOutput && options.agency != 0:
		return errors.New("--agency goes with --out - only: a zip or a folder gets all agencies")
	}

	switch {
	case options.out == toStandardOutput:
		if err := spec.WriteAgency(ctx, stdout, options.agency); err != nil {
			return err
		}
		return summarize(stderr, spec, options.agency, options.agency)
	case strings.EqualFold(filepath.Ext(options.out), ".zip"):
		err = spec.WriteZipFile(ctx, options.out, options.force)
	default:
		err = spec.WriteDir(ctx, options.out, options.force)
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: choose another --out, or overwrite with --force", err)
	}
	if err != nil {
		return err
	}
	return summarize(stderr, spec, 1, len(spec.Agencies))
}

// summaryAgenciesMax bounds the summary: the agencies after these share one line.
const summaryAgenciesMax = 20

// summarize writes a table of the agencies from first to last, and the total if there are several.
func summarize(w io.Writer, spec dataset.Spec, first, last int) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "agency\tbets\twinners of %d\t\n", spec.WinningNumber)
	shown := min(last, first+summaryAgenciesMax-1)
	for agency := first; agency <= shown; agency++ {
		share := spec.Agencies[agency-1]
		fmt.Fprintf(table, "%d\t%d\t%d\t\n", agency, share.Bets, share.Winners)
	}
	if shown < last {
		rest := dataset.Spec{Agencies: spec.Agencies[shown:last]}.Totals()
		fmt.Fprintf(table, "%d to %d\t%d\t%d\t\n", shown+1, last, rest.Bets, rest.Winners)
	}
	if first < last {
		total := spec.Totals()
		fmt.Fprintf(table, "total\t%d\t%d\t\n", total.Bets, total.Winners)
	}
	return table.Flush()
}
