package engine

import (
	"errors"
	"fmt"
	"os"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// Verified is what a ledger holds, up to the first damage if there is one.
type Verified struct {
	ledger.Tail

	Agencies      int // expected ones; 0 if the first record is not readable
	WinningNumber uint32
	Bets          int64
	Winners       int
	Reported      []codec.Agency // in order of their ids
	Drawn         bool
	Served        []codec.Agency // that are known to have their winners, in order of their ids
}

// Verify walks every record of the ledger in dataDir, as a restart of the
// server would, and says what it holds. It only reads, so it may run beside a
// server. Memory is constant but for the winning bets.
//
// Errors wrap ErrNoLedger, ErrDamaged, ledger.ErrVersion, or are the file
// system's. With ErrDamaged, Verified tells what stands before the damage.
func Verify(dataDir string) (Verified, error) {
	var (
		hist  *history
		state *lottery.Lottery
		done  Verified
	)
	tail, err := scan(dataDir, func(r ledger.Record) error {
		if hist == nil {
			var first history
			if err := first.visit(r); err != nil {
				return err
			}
			done.Agencies, done.WinningNumber = first.settings.agencies, first.settings.winningNumber
			state = lottery.New(lottery.Rules{Agencies: done.Agencies})
			hist = replayInto(state, first.settings)
		}
		return hist.visit(r)
	})
	done.Tail = tail
	if state != nil {
		done.Bets, done.Winners, done.Drawn = state.Bets(), state.Won(), state.Drawn()
		for id := codec.Agency(1); int(id) <= done.Agencies; id++ {
			if state.Reported(id) {
				done.Reported = append(done.Reported, id)
			}
			if state.Served(id) {
				done.Served = append(done.Served, id)
			}
		}
	}
	if err == nil && tail.Sealed && !done.Drawn {
		err = errDrawLost
	}
	return done, damaged(err)
}

// damaged wraps what is wrong with a ledger in ErrDamaged; other errors are
// nobody's damage.
func damaged(err error) error {
	if errors.Is(err, ledger.ErrCorrupt) || errors.Is(err, lottery.ErrReplay) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// ErrDamaged says that a ledger is corrupt, or holds records that no server
// would have written in this order.
var ErrDamaged = errors.New("the ledger is damaged: keep a copy of it, then restore the directory from a backup")

// Dump calls visit with the records from, to and those between, by their
// sequence numbers, in order. A to of 0 is the last one. It only reads, so it
// may run beside a server. Memory is constant.
//
// Errors wrap ErrNoLedger, ledger.ErrCorrupt, ledger.ErrVersion, or are visit's
// or the file system's. Records before a damage are visited.
func Dump(dataDir string, from, to uint64, visit func(ledger.Record) error) error {
	_, err := scan(dataDir, func(r ledger.Record) error {
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

// errEnough ends a scan that has seen all it wanted.
var errEnough = errors.New("enough")

// scan replays the ledger of dataDir, of which there has to be one.
func scan(dataDir string, visit func(ledger.Record) error) (ledger.Tail, error) {
	dir := LedgerDir(dataDir)
	if _, err := os.Stat(dir); err != nil {
		return ledger.Tail{}, fmt.Errorf("%w: %w: %s", ErrNoLedger, err, dataDirAdvice)
	}
	tail, err := ledger.Scan(dir, ledger.Options{}, visit)
	if err == nil && tail.Seq == 0 {
		err = fmt.Errorf("%w: %s is empty: %s", ErrNoLedger, dir, dataDirAdvice)
	}
	return tail, err
}

const dataDirAdvice = "SERVER_DATA_DIR is the directory that the server was started with"
