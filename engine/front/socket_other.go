//go:build !linux

package front

import (
	"time"

	"golang.org/x/sys/unix"
)

// unacknowledged is always 0 here: what was written passes for acknowledged.
func unacknowledged(int) (int, error) { return 0, nil }

// limitUnacknowledged does nothing here: the system's own limit applies.
func limitUnacknowledged(int, time.Duration) {}

// probeSoon does nothing here: the system's own settings apply.
func probeSoon(int) {}

// send writes as much of p as the socket takes now. p is not empty.
func send(fd int, p []byte) (int, error) { return unix.Write(fd, p) }
