package commit

import (
	"errors"

	"loteria/engine/ledger"
)

// ErrNotLeader says that the log's holder may not append to it any more, because another holder
// leads. The holder can't know whether the group that met the error is in the log. So it tells
// nobody anything about that group: the sessions end, the agencies come again, and what the log
// holds decides. The process may go on and hold the log again. A log of one server never returns
// ErrNotLeader.
var ErrNotLeader = errors.New("no longer the holder of the log")

// Log is the durable, ordered log of records: today the ledger of one server. One goroutine calls
// Commit, Seal, Read and Close. Opening a log replays it: its opener calls back for every record in it.
type Log interface {
	// Commit appends the packed records in runs, in order, as one group, and returns when they are
	// durable wherever they have to be. The runs are the caller's again afterwards. An error that
	// matches ErrNotLeader ends the caller's leadership. Any other error ends the process. Either
	// way the log takes no more from this holder.
	Commit(runs [][]byte) error
	// Seal makes every later opening refuse the log if it lacks anything that was committed so far.
	// Its errors mean what those of Commit do.
	Seal() error
	// Read returns when the holder is known to have led at a moment after the call, so that replies
	// that were decided before it, and need no record, may leave. A Commit says the same of its
	// group. Its errors mean what those of Commit do.
	Read() error
	// Term numbers the leadership under which the holder writes. Each leadership of a log has a
	// higher term than those before it; a log of one server has one term only. Session numbers begin
	// with it, so that those of a later leader are higher.
	Term() uint64
	// Scan visits all records that are committed when it is called, in order, and returns where they
	// end. Any goroutine may call it, also while more is committed. An error of visit ends the scan
	// and is returned as it is. It is what history.Log wants, for export and verification by whoever
	// holds the log.
	Scan(visit func(ledger.Record) error) (ledger.Tail, error)
	// Close releases the log. Its error may match ledger.ErrGone.
	Close() error
}
