package replica_test

import (
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
	"loteria/engine/replica"
	"loteria/engine/replica/replicatest"
)

// openLedger opens a ledger that several servers keep, or makes it.
func openLedger(dir string, fsys ledger.FS) (replica.Store, error) {
	log, err := ledger.OpenEntryLog(dir, ledger.EntryOptions{
		FS: fsys, SegmentBytes: ledger.SegmentBytesMin, ID: [16]byte{1}, Create: true,
		First: ledger.AppendRecord(nil, ledger.Opened, 0, 5, []byte("first")),
	}, nil)
	return replica.Ledger{EntryLog: log}, err
}

// A ledger is a store, also after crashes.
func TestLedgerIsAStore(t *testing.T) {
	t.Run("disk", func(t *testing.T) {
		replicatest.Conform(t, func(t testing.TB) replicatest.Open {
			dir := t.TempDir()
			return func() (replica.Store, error) { return openLedger(dir, ledger.Disk{}) }
		})
	})
	t.Run("crashes", func(t *testing.T) {
		replicatest.CheckCrashes(t, func(seed uint64) replicatest.Disk {
			fsys := ledgertest.NewFS(seed)
			return replicatest.Disk{
				Open: func() (replica.Store, error) { return openLedger("data", fsys) },
				Crash: func() {
					fsys.Crash()
					fsys.Break(ledgertest.Fault{})
				},
				BreakNext: func(n int) { fsys.Break(ledgertest.Fault{N: n, Dead: true}) },
			}
		})
	})
}
