package load

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// appendLog is a file that grows by appended groups, with one sync each. It
// reserves space ahead, as a ledger does.
type appendLog struct {
	file     *os.File
	sync     bool
	offset   int64
	reserved int64
}

// reserveBytes is how much is reserved at once: the size of a ledger's segment.
const reserveBytes = 64 << 20

func newAppendLog(dir string, sync bool) (*appendLog, error) {
	file, err := os.OpenFile(filepath.Join(dir, "yardstick.log"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &appendLog{file: file, sync: sync}, nil
}

// commit appends the pieces and returns when they are durable.
func (l *appendLog) commit(pieces [][]byte) error {
	var size int64
	for _, p := range pieces {
		size += int64(len(p))
	}
	for l.offset+size > l.reserved {
		if err := reserve(l.file, l.reserved, reserveBytes); err != nil {
			return err
		}
		l.reserved += reserveBytes
		if err := l.file.Sync(); err != nil {
			return err
		}
	}
	if err := writeAll(l.file, pieces, l.offset); err != nil {
		return err
	}
	l.offset += size
	if !l.sync {
		return nil
	}
	return syncData(l.file)
}

// remove closes the log and deletes it.
func (l *appendLog) remove() error {
	return errors.Join(l.file.Close(), os.Remove(l.file.Name()))
}

// ProbeSync appends groups of that many bytes to a file in dir and syncs each,
// count times or for as long as the budget allows, and tells how long one takes.
func ProbeSync(dir string, groupBytes, count int, budget time.Duration) (_ *DiskSync, err error) {
	log, err := newAppendLog(dir, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.remove()) }()
	group := make([]byte, max(groupBytes, 1))
	for i := range group {
		group[i] = byte('0' + i%10)
	}
	pieces := [][]byte{group}
	h := newHistogram()
	for started := time.Now(); count > 0 && time.Since(started) < budget; count-- {
		begun := time.Now()
		if err := log.commit(pieces); err != nil {
			return nil, err
		}
		recordInto(h, int64(time.Since(begun)))
	}
	return &DiskSync{GroupBytes: len(group), Sync: latencyOf(h)}, nil
}
