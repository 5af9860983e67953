package load

import (
	"runtime"
	"time"
)

// sleepMax limits how late the pacer notices that the load has failed.
const sleepMax = 50 * time.Millisecond

// schedule says when batches are due. The bets that are due at any time follow the rate.
type schedule struct {
	rate float64 // bets per second
	bets int64   // due so far
}

// due returns when the next batch is due, counted from the start. bets is how many bets it has.
func (s *schedule) due(bets int) time.Duration {
	at := time.Duration(float64(s.bets) / s.rate * float64(time.Second))
	s.bets += int64(bets)
	return at
}

// until cuts the shares of all agencies to the frames that are due before end.
func (s schedule) until(end time.Duration, shares []share) {
	for round := 0; ; round++ {
		for i := range shares {
			if s.due(shares[i].ring.betsOf(round)) >= end {
				for j := range shares {
					shares[j].frames = round
					if j < i {
						shares[j].frames++
					}
				}
				return
			}
		}
	}
}

// pace offers the lanes their batches when they are due, one lane after the other. It returns when
// it has offered all batches, when the load has failed, or with a lane's error.
//
// It sleeps in the kernel, on its own thread: the runtime's timers are up to a millisecond late
// when the process is idle, and a delay here would count as the server's latency.
func (r *run) pace() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	plan := schedule{rate: r.options.Rate}
	for round, left := 0, true; left; round++ {
		left = false
		for _, l := range r.lanes {
			if round >= l.share.frames {
				continue
			}
			left = true
			due := plan.due(l.share.betsOf(round))
			for {
				wait := due - r.sinceStart()
				if wait <= 0 {
					break
				}
				if err := r.ctx.Err(); err != nil {
					return err
				}
				sleep(min(wait, sleepMax))
			}
			if err := l.offer(due); err != nil {
				return err
			}
		}
	}
	return nil
}
