package load

import (
	"runtime"
	"time"
)

// sleepMax bounds how late the pacer sees that the load has failed.
const sleepMax = 50 * time.Millisecond

// schedule says when batches are due, so that after any time the bets that
// were due make the rate.
type schedule struct {
	rate float64 // bets per second
	bets int64   // due so far
}

// due is when the next batch is due, after the start; bets are in it.
func (s *schedule) due(bets int) time.Duration {
	at := time.Duration(float64(s.bets) / s.rate * float64(time.Second))
	s.bets += int64(bets)
	return at
}

// until cuts the shares of all agencies to what is due before the end.
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

// pace offers every lane its batches when they are due, the lanes by turns. It
// returns when all are offered, when the load has failed, or with a lane's
// error.
//
// It sleeps in the kernel, on a thread of its own: the runtime's timers are up
// to a millisecond late when the process is idle, and every microsecond that a
// batch is late here is counted as the server's.
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
