package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleep blocks its thread for about d. It may return early.
func sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &t, nil) // EINTR only means an early return
}
