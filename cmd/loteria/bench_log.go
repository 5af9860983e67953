package main

import (
	"errors"
	"os"
	"path/filepath"

	"loteria/engine/ledger"
)

// benchLog is the file for measuring the yardstick and the disk alone. It is reserved, written and
// synced like a ledger's segment.
type benchLog struct {
	name     string
	file     ledger.File
	out      *ledger.Appender
	sync     bool
	reserved int64
}

func newBenchLog(dir string, sync bool) (*benchLog, error) {
	name := filepath.Join(dir, "bench.log")
	file, err := ledger.Disk{}.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	l := &benchLog{name: name, file: file, out: ledger.NewAppender(sync), sync: sync}
	l.out.Start(file, 0, 0, nil)
	if sync {
		err = file.Direct()
	}
	if err != nil {
		return nil, errors.Join(err, l.Remove())
	}
	return l, nil
}

// Commit implements load.Log.
func (l *benchLog) Commit(pieces [][]byte) error {
	var size int64
	for _, p := range pieces {
		size += int64(len(p))
	}
	for l.out.Offset()+size > l.reserved {
		l.reserved += ledger.ReserveBytesDefault
		if err := l.out.Reserve(l.reserved); err != nil {
			return err
		}
	}
	for _, p := range pieces {
		if err := l.out.Append(p); err != nil {
			return err
		}
	}
	if err := l.out.Flush(); err != nil || !l.sync {
		return err
	}
	return l.file.SyncData()
}

// Remove implements load.Log.
func (l *benchLog) Remove() error {
	return errors.Join(l.file.Close(), ledger.Disk{}.Remove(l.name))
}
