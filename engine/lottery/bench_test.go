package lottery_test

import (
	"testing"

	"loteria/codec"
	"loteria/engine/lottery"
)

const (
	benchAgencies  = 50
	benchBatchBets = 200 // about 8 kB of lines
	benchWaiting   = 10_000
)

// Apply takes a batch without winners without an allocation, as long as effects has room: the
// committer calls it for every batch.
func TestApplyBetsDoesNotAllocate(t *testing.T) {
	for _, rules := range []lottery.Rules{push, pushAll} {
		l := lottery.New(rules)
		s := session("A1")
		effects := make([]lottery.Effect, 0, 1)
		req := bets(s, 1, benchBatchBets)
		taken := 0
		if allocs := testing.AllocsPerRun(1000, func() {
			if entry, _ := l.Apply(req, effects); entry == lottery.BetsEntry {
				taken++
			}
		}); allocs != 0 {
			t.Errorf("%+v: %v allocations a batch, want 0", rules, allocs)
		}
		if want := int64(taken) * benchBatchBets; taken == 0 || l.Stored(1) != want {
			t.Errorf("%d batches taken, %d bets stored, want %d", taken, l.Stored(1), want)
		}
	}
}

// BenchmarkApplyBets applies a batch of one agency after the other.
func BenchmarkApplyBets(b *testing.B) {
	l := lottery.New(lottery.Rules{Agencies: benchAgencies})
	requests := make([]lottery.Request, benchAgencies)
	for i := range requests {
		requests[i] = bets(session("A"), codec.Agency(i+1), benchBatchBets)
	}
	effects := make([]lottery.Effect, 0, 1)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if entry, _ := l.Apply(requests[i], effects); entry != lottery.BetsEntry {
			b.Fatal("rejected")
		}
		if i++; i == len(requests) {
			i = 0
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchBatchBets, "ns/bet")
}

// BenchmarkDraw applies the last report while all other agencies wait.
func BenchmarkDraw(b *testing.B) {
	effects := make([]lottery.Effect, 0, benchWaiting+2)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		l := lottery.New(lottery.Rules{Agencies: benchWaiting + 1})
		for id := range codec.Agency(benchWaiting) {
			s := new(lottery.Session)
			l.Apply(bets(s, id+1, benchBatchBets, juan), effects)
			l.Apply(getWinners(s, id+1), effects)
		}
		last := getWinners(new(lottery.Session), benchWaiting+1)
		b.StartTimer()
		if _, pushes := l.Apply(last, effects); len(pushes) != benchWaiting+2 {
			b.Fatalf("%d effects, want the draw and %d answers", len(pushes), benchWaiting+1)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(benchWaiting+1), "ns/agency")
}
