package load

import "time"

// Log is a file that grows by appended groups. The caller provides it, so that it is written like
// the server's own log. One goroutine uses it.
type Log interface {
	// Commit appends the pieces, and returns when they are as durable as an ACK promises. The
	// pieces belong to the caller again afterwards.
	Commit(pieces [][]byte) error
}

// ProbeSync commits groups of groupBytes bytes and returns how long a commit takes. It makes at
// most count commits, and begins none after budget. The error is log's.
func ProbeSync(log Log, groupBytes, count int, budget time.Duration) (*DiskSync, error) {
	group := make([]byte, max(groupBytes, 1))
	for i := range group {
		group[i] = byte('0' + i%10)
	}
	pieces := [][]byte{group}
	h := newHistogram()
	for started := time.Now(); count > 0 && time.Since(started) < budget; count-- {
		begun := time.Now()
		if err := log.Commit(pieces); err != nil {
			return nil, err
		}
		recordInto(h, int64(time.Since(begun)))
	}
	return &DiskSync{GroupBytes: len(group), Sync: latencyOf(h)}, nil
}
