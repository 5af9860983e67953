//go:build !linux

package agency

import (
	"syscall"
	"time"
)

// limitUnacknowledged changes nothing where there is no such option.
func limitUnacknowledged(time.Duration) func(network, address string, c syscall.RawConn) error {
	return nil
}
