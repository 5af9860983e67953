package engine_test

import (
	"errors"
	"sync/atomic"

	"loteria/engine/ledger"
)

var errBroken = errors.New("the disk is broken")

// testDisk is the real file system with two faults, for tests.
type testDisk struct {
	ledger.Disk
	// volatile: nothing is reserved and nothing is synced. A crash of the
	// machine would show it; the tests here have none, but many servers.
	volatile bool
	// broken: what is written from now on fails. It may be set at any time.
	broken atomic.Bool
}

func (d *testDisk) OpenFile(name string, flag int) (ledger.File, error) {
	f, err := d.Disk.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &testFile{File: f, disk: d}, nil
}

func (d *testDisk) SyncDir(dir string) error {
	if d.volatile {
		return nil
	}
	return d.Disk.SyncDir(dir)
}

type testFile struct {
	ledger.File
	disk *testDisk
}

func (f *testFile) WriteAt(p []byte, offset int64) (int, error) {
	if f.disk.broken.Load() {
		return 0, errBroken
	}
	return f.File.WriteAt(p, offset)
}

func (f *testFile) Allocate(size int64) error {
	if f.disk.volatile {
		return f.Truncate(size)
	}
	return f.File.Allocate(size)
}

func (f *testFile) SyncData() error {
	if f.disk.volatile {
		return nil
	}
	return f.File.SyncData()
}

func (f *testFile) Sync() error {
	if f.disk.volatile {
		return nil
	}
	return f.File.Sync()
}
