package ledger

import (
	"sync/atomic"
	"testing"
)

// Scans beside a writer see what was durable when they began, and never take what is being written for damage.
func TestScanBesideWriter(t *testing.T) {
	dir := t.TempDir()
	o := Options{SegmentBytes: 64 << 10, Durability: OS}
	l, _ := mustOpen(t, dir, o)
	const groups = 400
	var durable atomic.Uint64
	done := make(chan error, 1)
	go func() {
		for i := range groups {
			if err := commit(l, bets(i*7%3000, i), bets(i*13%9000, i), bets(0, i)); err != nil {
				done <- err
				return
			}
			durable.Store(l.Stats().Seq)
		}
		done <- nil
	}()
	for scans, running := 0, true; running || scans == 0; scans++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		before := durable.Load()
		var seq uint64
		tail, err := Scan(dir, o, func(r Record) error {
			seq++
			i := int(r.Seq-1) / 3
			want := []entry{bets(i*7%3000, i), bets(i*13%9000, i), bets(0, i)}[(r.Seq-1)%3]
			if got := (entry{r.Kind, r.Agency, r.Count, string(r.Payload)}); got != want || r.Seq != seq {
				t.Errorf("record %d, expected number %d, is wrong", r.Seq, seq)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("scan %d: %v", scans, err)
		}
		if seq < before || tail.Seq != seq {
			t.Fatalf("scan %d: %d records, tail %+v; %d were durable before", scans, seq, tail, before)
		}
	}
	mustClose(t, l)
	if tail, err := Scan(dir, o, nil); err != nil || tail.Seq != 3*groups || tail.Torn {
		t.Fatalf("at the end: %+v, %v", tail, err)
	}
}
