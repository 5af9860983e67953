//go:build !linux

package engine

import "time"

// unacknowledged can't be told here: what was written passes for delivered.
func unacknowledged(int) (int, error) { return 0, nil }

// limitUnacknowledged does nothing here: the system's own limit counts.
func limitUnacknowledged(int, time.Duration) {}
