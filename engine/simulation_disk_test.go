package engine

import (
	"bytes"
	"io"
	"os"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// simDisk is the disk of a run. While the committer writes to it, the rest of the world goes on. It
// notes where records are written.
type simDisk struct {
	*ledgertest.FS
	world *world
	dead  bool // the failure that breakAt chose ends the process
	// written are the stretches of this life's groups, in order of their commits. The last group
	// may still be being written.
	written []stretch
	commit  int
}

// stretch is a place where records were written.
type stretch struct {
	commit     int
	name       string
	start, end int64
}

func newSimDisk(w *world) *simDisk { return &simDisk{FS: ledgertest.NewFS(w.rng.Uint64()), world: w} }

// breakAt makes the n-th operation from now on fail. If dead, the process ends there, and every
// later operation fails, too.
func (d *simDisk) breakAt(n int, dead bool) {
	d.dead = dead
	d.Break(ledgertest.Fault{N: n, Dead: dead})
}

// broken reports whether the operation that breakAt chose has come.
func (d *simDisk) broken() bool { return d.Broken() != 0 }

// died reports whether the process ended in an operation.
func (d *simDisk) died() bool { return d.broken() && d.dead }

func (d *simDisk) OpenFile(name string, flag int) (ledger.File, error) {
	if flag&os.O_CREATE != 0 {
		d.world.meanwhile()
	}
	f, err := d.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &simFile{File: f, disk: d, name: name}, nil
}

func (d *simDisk) SyncDir(dir string) error {
	d.world.meanwhile()
	return d.FS.SyncDir(dir)
}

func (d *simDisk) Lock(name string) (io.Closer, error) {
	d.written, d.commit = nil, 0
	return d.FS.Lock(name)
}

type simFile struct {
	ledger.File
	disk *simDisk
	name string
}

func (f *simFile) WriteAt(p []byte, offset int64) (int, error) {
	f.disk.world.meanwhile()
	n, err := f.File.WriteAt(p, offset)
	if err == nil && f.disk.world.committing {
		f.disk.note(f.name, p, offset)
	}
	return n, err
}

// segmentHeaderBytes is the length of a segment's header. See package ledger.
const segmentHeaderBytes = 64

// note notes the records of a write. A write is of whole blocks, so older records may come before
// the new ones, and zeros after them.
func (d *simDisk) note(name string, p []byte, offset int64) {
	records := len(bytes.TrimRight(p, "\x00"))
	s := stretch{d.commit, name, max(offset, segmentHeaderBytes), offset + int64(ledger.RecordBytes(records)-ledger.RecordBytes(0))}
	for _, old := range d.written {
		if old.name == name {
			s.start = max(s.start, old.end)
		}
	}
	if s.start < s.end {
		d.written = append(d.written, s)
	}
}

func (f *simFile) SyncData() error {
	f.disk.world.meanwhile()
	err := f.File.SyncData()
	f.disk.world.meanwhile()
	return err
}

func (f *simFile) Sync() error {
	f.disk.world.meanwhile()
	return f.File.Sync()
}
