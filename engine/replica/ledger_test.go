package replica_test

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"

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

// A server that is behind has far fewer syncs than it gets entries: what comes during a save is one
// save, and its entries share one sync.
func TestCatchingUpTakesFewSyncs(t *testing.T) {
	const messages, each, rounds = 10, 8, 5
	fsys := ledgertest.NewFS(1)
	store, err := openLedger("data", fsys)
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, store, replica.Config{})
	index := uint64(0)
	syncs := 0
	for range rounds {
		for range messages {
			var entries []*raftpb.Entry
			before := index
			for range each {
				index++
				entries = append(entries, raftEntry(index, ledger.AppendRecord(nil, ledger.Bets, 1, 1, []byte("bet"))))
			}
			if err := n.Receive(appendMessage(1, before, entries...)); err != nil {
				t.Fatal(err)
			}
		}
		r, err := n.Ready()
		if err != nil {
			t.Fatal(err)
		}
		if r.Save == nil {
			t.Fatal("there is nothing to save")
		}
		before := fsys.Count(ledgertest.AnySync)
		if err := store.Save(r.Save.State, r.Save.Entries); err != nil {
			t.Fatal(err)
		}
		syncs += fsys.Count(ledgertest.AnySync) - before
		if err := n.Saved(); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Ready(); err != nil {
			t.Fatal(err)
		}
	}
	last, err := store.LastIndex()
	if err != nil || last != rounds*messages*each {
		t.Fatalf("%d entries are saved, %v", last, err)
	}
	if syncs > int(last)/4 { // small segments take some, too
		t.Errorf("%d entries took %d syncs", last, syncs)
	}
	t.Logf("%d entries took %d syncs", last, syncs)
}
