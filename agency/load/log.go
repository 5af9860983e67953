package load

import "time"

// Log is a file that grows by appended groups. Whoever measures brings it, so
// that it is written as the server's own log is. One goroutine uses it.
type Log interface {
	// Commit appends the pieces, and returns when they are as durable as an ACK
	// promises. The pieces are the caller's again afterwards.
	Commit(pieces [][]byte) error
}

// ProbeSync commits groups of that many bytes, count times or for as long as the
// budget allows, and tells how long one takes.
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
