//go:build !linux

package agency

import (
	"syscall"
	"time"
)

// limitUnacknowledged does nothing: it is implemented for Linux only.
func limitUnacknowledged(time.Duration) func(network, address string, c syscall.RawConn) error {
	return nil
}
