package engine

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"loteria/codec"
	"loteria/engine/ledger"
)

// Names of the exports in SERVER_DATA_DIR.
const (
	BetsFile    = "bets.csv"
	WinnersFile = "winners.csv"
)

// ErrNoLedger says that a directory holds no ledger to export.
var ErrNoLedger = errors.New("no ledger here")

// LedgerDir is where the ledger of a server's SERVER_DATA_DIR is.
func LedgerDir(dataDir string) string { return filepath.Join(dataDir, ledgerDir) }

// Exported counts what an export has written.
type Exported struct {
	Bets    int64
	Winners int64
	Drawn   bool // the log holds the draw
}

// Export writes the ledger in dataDir as CSV: every bet to bets and the
// winning ones to winners, each in ledger order, with the columns agency, first
// name, last name, document, birthdate, number, CRLF line ends and no header.
// Either writer may be nil.
//
// It only reads, so it may run beside a server, and then writes what was
// complete when it came by. Memory is constant. Errors wrap ErrNoLedger,
// ledger.ErrCorrupt, or are the file system's or the writers'.
func Export(dataDir string, bets, winners io.Writer) (Exported, error) {
	dir := LedgerDir(dataDir)
	if _, err := os.Stat(dir); err != nil {
		return Exported{}, fmt.Errorf("%w: %w: SERVER_DATA_DIR is the directory that the server was started with", ErrNoLedger, err)
	}
	betsCSV, winnersCSV := newCSVWriter(bets), newCSVWriter(winners)
	var (
		done     Exported
		reported int
		lines    []byte
	)
	hist := &history{}
	hist.onBets = func(_ codec.Agency, _ int, payload []byte) error {
		batch, wins, err := codec.ReplayBatch(payload, hist.settings.winningNumber, lines[:0])
		lines = wins
		if err != nil {
			return err
		}
		done.Bets += int64(batch.Count)
		done.Winners += int64(batch.Winners)
		return errors.Join(betsCSV.lines(payload), winnersCSV.lines(wins))
	}
	hist.onReported = func(codec.Agency) error {
		reported++
		return nil
	}
	if _, err := ledger.Scan(dir, ledger.Options{}, hist.visit); err != nil {
		return done, err
	}
	if !hist.opened {
		return done, fmt.Errorf("%w: %s is empty: SERVER_DATA_DIR is the directory that the server was started with", ErrNoLedger, dir)
	}
	done.Drawn = reported == hist.settings.agencies
	return done, errors.Join(betsCSV.flush(), winnersCSV.flush())
}

// csvWriter writes lines of bets as CSV; nil writes nothing.
type csvWriter struct {
	csv    *csv.Writer
	fields [6]string
}

func newCSVWriter(w io.Writer) *csvWriter {
	if w == nil {
		return nil
	}
	c := &csvWriter{csv: csv.NewWriter(w)}
	c.csv.UseCRLF = true
	return c
}

func (w *csvWriter) lines(b []byte) error {
	if w == nil {
		return nil
	}
	for line := range bytes.Lines(b) {
		bet, err := codec.SplitBet(bytes.TrimSuffix(line, []byte{'\n'}))
		if err != nil {
			return err
		}
		w.fields = [...]string{
			strconv.Itoa(int(bet.Agency)), string(bet.FirstName), string(bet.LastName),
			string(bet.Document), string(bet.Birthdate), string(bet.Number),
		}
		if err := w.csv.Write(w.fields[:]); err != nil {
			return err
		}
	}
	return nil
}

func (w *csvWriter) flush() error {
	if w == nil {
		return nil
	}
	w.csv.Flush()
	return w.csv.Error()
}

// exportFiles writes both exports beside the ledger. Each appears under its
// name only when it is whole and on disk.
func exportFiles(dataDir string) error {
	bets, err := newExportFile(filepath.Join(dataDir, BetsFile))
	if err != nil {
		return err
	}
	winners, err := newExportFile(filepath.Join(dataDir, WinnersFile))
	if err != nil {
		return errors.Join(err, bets.abandon())
	}
	if _, err := Export(dataDir, bets, winners); err != nil {
		return errors.Join(err, bets.abandon(), winners.abandon())
	}
	return errors.Join(bets.publish(), winners.publish())
}

// exportFile is a file that is written under a temporary name.
type exportFile struct {
	*bufio.Writer
	file *os.File
	path string
}

const exportBufferBytes = 256 << 10

func newExportFile(path string) (*exportFile, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, err
	}
	return &exportFile{Writer: bufio.NewWriterSize(f, exportBufferBytes), file: f, path: path}, nil
}

func (e *exportFile) publish() error {
	const readable = 0o644
	err := errors.Join(e.Flush(), e.file.Chmod(readable), e.file.Sync())
	if err != nil {
		return errors.Join(err, e.abandon())
	}
	if err := e.file.Close(); err != nil {
		return err
	}
	return os.Rename(e.file.Name(), e.path)
}

func (e *exportFile) abandon() error {
	return errors.Join(e.file.Close(), os.Remove(e.file.Name()))
}
