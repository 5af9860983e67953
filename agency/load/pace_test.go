package load

import (
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	s := schedule{rate: 1000}
	for i, c := range []struct {
		bets int
		due  time.Duration
	}{
		{100, 0},
		{50, 100 * time.Millisecond},
		{1, 150 * time.Millisecond},
		{1000, 151 * time.Millisecond},
		{1, 1151 * time.Millisecond},
	} {
		if due := s.due(c.bets); due != c.due {
			t.Errorf("batch %d of %d bets is due after %v, want %v", i, c.bets, due, c.due)
		}
	}
}

// The schedule doesn't drift from its rate, however long it lasts.
func TestScheduleKeepsItsRate(t *testing.T) {
	const rate = 999_983.
	s := schedule{rate: rate}
	bets := 0
	for i := range 1_000_000 {
		due := s.due(100 + i%150)
		if want := float64(bets) / rate; due.Seconds() < want-1e-6 || due.Seconds() > want+1e-6 {
			t.Fatalf("batch %d is due after %v, want %.9f s", i, due, want)
		}
		bets += 100 + i%150
	}
}

func TestScheduleUntil(t *testing.T) {
	r := &ring{ends: []int{1, 2}, bets: []int{10, 20}}
	for _, c := range []struct {
		end  time.Duration
		want [3]int
	}{
		{1, [3]int{1, 0, 0}},
		{10 * time.Millisecond, [3]int{1, 0, 0}},
		{11 * time.Millisecond, [3]int{1, 1, 0}},
		{30 * time.Millisecond, [3]int{1, 1, 1}},
		{31 * time.Millisecond, [3]int{2, 1, 1}},
		{90 * time.Millisecond, [3]int{2, 2, 2}}, // 10, 10, 10, 20, 20, 20
		{91 * time.Millisecond, [3]int{3, 2, 2}},
	} {
		shares := []share{endless(r), endless(r), endless(r)}
		schedule{rate: 1000}.until(c.end, shares)
		for i := range shares {
			if shares[i].frames != c.want[i] {
				t.Errorf("until %v: share %d has %d frames, want %d", c.end, i, shares[i].frames, c.want[i])
			}
		}
	}
}

func TestSleepLastsAtLeast(t *testing.T) {
	// A sleep may return early when a signal comes, so the test checks the sum.
	const d, times = 2 * time.Millisecond, 20
	started := time.Now()
	for range times {
		sleep(d)
	}
	if took := time.Since(started); took < d*times/2 {
		t.Errorf("%d sleeps of %v took %v", times, d, took)
	}
}
