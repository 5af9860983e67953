package ledger_test

import (
	"testing"
	"slices"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

func TestSmoke(t *testing.T) {
	fsys := ledgertest.NewFS(1)
	o := ledger.EntryOptions{FS: fsys, SegmentBytes: 4096, ID: [16]byte{1}, Create: true, First: ledgertest.Run(opened("x"))}
	e, err := ledger.OpenEntryLog(testDir, o, nil)
	if err != nil { t.Fatal(err) }
	var es []ledger.Entry
	for i := range 10 {
		es = append(es, ledger.Entry{Index: uint64(i+1), Term: 1, Records: ledgertest.Run(bets(1000*(i%3), i), bets(700, i+100))})
	}
	if err := e.Save(ledger.State{Term: 1, Vote: 2, Commit: 4}, es); err != nil { t.Fatal(err) }
	got, err := e.Entries(1, 10, 1<<30)
	if err != nil { t.Fatal(err) }
	for i := range es { if !slices.Equal(got[i].Records, es[i].Records) {t.Fatal(i)} }
	if err := e.Save(ledger.State{Term: 2, Vote: 2, Commit: 5}, []ledger.Entry{{Index: 6, Term: 2}}); err != nil { t.Fatal(err) }
	if err := e.Close(); err != nil { t.Fatal(err) }
	var found []entry
	tail, err := ledger.Scan(testDir, ledger.Options{FS: fsys}, ledgertest.Collect(&found))
	t.Logf("%+v %d %v", tail, len(found), err)
	e, err = ledger.OpenEntryLog(testDir, o, nil)
	if err != nil { t.Fatal(err) }
	t.Logf("%+v %d", e.Recovered(), e.LastIndex())
	got, err = e.Entries(1, 6, 1<<30)
	if err != nil { t.Fatal(err) }
	for i := range es[:5] { if !slices.Equal(got[i].Records, es[i].Records) {t.Fatal(i)} }
	var again []entry
	tail, err = e.Scan(ledgertest.Collect(&again))
	t.Logf("%+v %v %v", tail, slices.Equal(again, found), err)
}
