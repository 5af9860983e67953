//go:build !race

// The race detector makes sync.Pool forget at random, so allocations can't be counted under it.

package front

import (
	"testing"

	"loteria/engine/ledger"
)

// A valid batch costs no allocation from the socket to the ledger and back, including its log line.
func TestValidBatchDoesNotAllocate(t *testing.T) {
	p := newPath(t, ledger.Fsync)
	for range 4 { // let buffers grow to what they need
		p.pass(t)
	}
	if n := testing.AllocsPerRun(50, func() { p.pass(t) }); n != 0 {
		t.Errorf("%v allocations for %d batches, want none", n, p.front.cfg.Window)
	}
	if stored, want := p.committer.Lottery().Bets(), int64(p.bets*(4+50+1)); stored != want {
		t.Errorf("%d bets are stored, want %d", stored, want)
	}
}
