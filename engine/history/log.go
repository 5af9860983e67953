package history

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

var (
	// ErrNoLedger says that a directory holds no ledger.
	ErrNoLedger = errors.New("no ledger here")
	// ErrDamaged says that a ledger is corrupt, or that no server would have written its records in
	// this order.
	ErrDamaged = errors.New(
		"the ledger is damaged: keep a copy of it, then restore the directory from a backup")
	// errDrawLost says that a ledger has no draw, although its seal is written only at a draw.
	errDrawLost = fmt.Errorf(
		"%w: it was sealed at the draw, but the records of the draw are gone", ErrDamaged)
)

// Log reads a ledger from its beginning: it calls visit with every record in order, and returns
// where the ledger ends. An error of visit ends the reading and is returned as it is. [In] makes
// the Log of a data directory.
type Log func(visit func(ledger.Record) error) (ledger.Tail, error)

// Dir is the directory of the ledger in a server's SERVER_DATA_DIR.
func Dir(dataDir string) string { return filepath.Join(dataDir, "ledger") }

// In reads the ledger in a server's SERVER_DATA_DIR. It writes nothing, so a server may be running
// there; then it sees the ledger as it was at some moment since the call, and perhaps a part of the
// group that was being written. Its errors wrap ErrNoLedger, ledger.ErrCorrupt or
// ledger.ErrVersion, or are the file system's or visit's.
func In(dataDir string) Log {
	return func(visit func(ledger.Record) error) (ledger.Tail, error) {
		const advice = "SERVER_DATA_DIR is the directory that the server was started with"
		dir := Dir(dataDir)
		if _, err := os.Stat(dir); err != nil {
			return ledger.Tail{}, fmt.Errorf("%w: %w: %s", ErrNoLedger, err, advice)
		}
		tail, err := ledger.Scan(dir, ledger.Options{}, visit)
		if err == nil && tail.Seq == 0 {
			err = fmt.Errorf("%w: %s is empty: %s", ErrNoLedger, dir, advice)
		}
		return tail, err
	}
}

// CheckSealed refuses a ledger that was sealed at the draw but has lost its records of the draw.
// drawn says whether the records hold the draw. The error wraps ErrDamaged.
func CheckSealed(tail ledger.Tail, drawn bool) error {
	if tail.Sealed && !drawn {
		return errDrawLost
	}
	return nil
}

// damaged wraps an error about the ledger's content in ErrDamaged. It returns other errors as they
// are.
func damaged(err error) error {
	if errors.Is(err, ledger.ErrCorrupt) || errors.Is(err, lottery.ErrReplay) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// errEnough ends the reading of a log after the last wanted record.
var errEnough = errors.New("enough")

// Dump calls visit with the records whose sequence numbers are from to to, both included, in order.
// If to is 0, it goes on to the last record. It also visits the records before damage. Memory is
// constant. Errors are the log's or visit's.
func Dump(log Log, from, to uint64, visit func(ledger.Record) error) error {
	_, err := log(func(r ledger.Record) error {
		if to != 0 && r.Seq > to {
			return errEnough
		}
		if r.Seq < from {
			return nil
		}
		return visit(r)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// Verified is what a ledger holds, up to the first damage if there is any.
type Verified struct {
	ledger.Tail

	Settings Settings // zero if the first record is not readable
	Bets     int64
	Winners  int            // winning bets
	Reported []codec.Agency // agencies that have reported, ordered by id
	Drawn    bool
	Served   []codec.Agency // agencies that are recorded to have their winners, ordered by id
}

// Verify reads every record of a log, as a restart of the server would, and returns what it holds.
// Memory is constant, apart from the winning bets.
//
// Errors wrap ErrDamaged, or are the log's. With ErrDamaged, Verified is what the ledger holds
// before the damage.
func Verify(log Log) (Verified, error) {
	state, done, err := rebuild(log)
	if state != nil {
		done.Bets, done.Winners, done.Drawn = state.Bets(), state.Won(), state.Drawn()
		for id := codec.Agency(1); int(id) <= done.Settings.Agencies; id++ {
			if state.Reported(id) {
				done.Reported = append(done.Reported, id)
			}
			if state.Served(id) {
				done.Served = append(done.Served, id)
			}
		}
	}
	return done, err
}

// Rebuild reads every record of a log, as a restart of the server would, and returns the lottery
// that it holds. Memory is constant, apart from the winning bets. Errors are those of [Verify].
func Rebuild(log Log) (*lottery.Lottery, error) {
	state, _, err := rebuild(log)
	if err != nil {
		return nil, err
	}
	return state, nil
}

// rebuild returns the lottery up to the first damage, nil if the first record is not readable. Of
// Verified it sets the tail and the settings.
func rebuild(log Log) (state *lottery.Lottery, done Verified, err error) {
	var reader *Reader
	done.Tail, err = log(func(r ledger.Record) error {
		if reader == nil {
			var first Reader
			if err := first.Visit(r); err != nil {
				return err
			}
			done.Settings = first.Settings
			state = lottery.New(lottery.Rules{Agencies: done.Settings.Agencies})
			reader = Replay(state, done.Settings)
		}
		return reader.Visit(r)
	})
	if err == nil {
		err = CheckSealed(done.Tail, state != nil && state.Drawn())
	}
	return state, done, damaged(err)
}
