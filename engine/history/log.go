package history

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

var (
	// ErrNoLedger says that a directory holds no ledger.
	ErrNoLedger = errors.New("no ledger here")
	// ErrDamaged says that a ledger is corrupt, or holds records that no server would have written in
	// this order.
	ErrDamaged = errors.New("the ledger is damaged: keep a copy of it, then restore the directory from a backup")
	// errDrawLost says that a ledger has a seal, which only a draw leaves, and no draw.
	errDrawLost = fmt.Errorf("%w: it was sealed at the draw, but the records of the draw are gone", ErrDamaged)
)

// Log reads a log from its beginning: it calls visit with every record in order, and returns where the
// log ends. visit's error ends it, and is returned as it is. Whoever holds a log can give one;
// [In] gives the one of a directory.
type Log func(visit func(ledger.Record) error) (ledger.Tail, error)

// Dir is where the ledger of a server's SERVER_DATA_DIR is.
func Dir(dataDir string) string { return filepath.Join(dataDir, "ledger") }

// In is the ledger in a server's SERVER_DATA_DIR. It is only read, so a server may be running there;
// then the log is what was complete at some moment since the call. Its errors wrap ErrNoLedger,
// ledger.ErrCorrupt, ledger.ErrVersion, or are the file system's.
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

// CheckSealed refuses a log that was sealed at the draw and has lost it. drawn is whether its records
// hold the draw. The error wraps ErrDamaged.
func CheckSealed(tail ledger.Tail, drawn bool) error {
	if tail.Sealed && !drawn {
		return errDrawLost
	}
	return nil
}

// damaged wraps what is wrong with a ledger in ErrDamaged; other errors are nobody's damage.
func damaged(err error) error {
	if errors.Is(err, ledger.ErrCorrupt) || errors.Is(err, lottery.ErrReplay) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// errEnough ends a scan that has seen all it wanted.
var errEnough = errors.New("enough")

// Dump calls visit with the records from, to and those between, by their sequence numbers, in order. A
// to of 0 is the last one. Records before a damage are visited. Memory is constant. Errors are the
// log's or visit's.
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
