package front

import (
	"math"

	"golang.org/x/sys/unix"
)

// descriptorLimit is how many descriptors this process may have open. It is the hard limit: Go's
// runtime has raised the soft one to it by now.
func descriptorLimit() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return int(min(limit.Cur, math.MaxInt32)), nil
}
