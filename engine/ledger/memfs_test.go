package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

var errInjected = errors.New("injected failure")

// memFS is a file system in memory that can fail and crash. It isn't safe for several goroutines.
type memFS struct {
	names   map[string]*memInode // as a process sees them
	durable map[string]*memInode // as they were at the last SyncDir
	locked  map[string]bool

	ops    int    // operations that change something, so far
	failAt int    // the operation that fails, from 1; 0: none
	failed string // what that operation was
	dead   bool   // every operation fails from failAt on, as if the process had ended there
}

func newMemFS() *memFS {
	return &memFS{names: map[string]*memInode{}, durable: map[string]*memInode{}, locked: map[string]bool{}}
}

// op counts an operation and says whether it fails.
func (m *memFS) op(what string) error {
	m.ops++
	if m.failAt != 0 && (m.ops == m.failAt || m.dead && m.ops > m.failAt) {
		if m.ops == m.failAt {
			m.failed = what
		}
		return fmt.Errorf("%s: %w", what, errInjected)
	}
	return nil
}

// kill ends the process: its locks are gone, all else is as it left it. Failures end, too.
func (m *memFS) kill() {
	clear(m.locked)
	m.failAt, m.dead = 0, false
}

// crash ends the machine: of what was not synced, each name, size and sector is there or not.
func (m *memFS) crash(rng *rand.Rand) {
	m.kill()
	for _, name := range sortedKeys(m.names, m.durable) {
		from := m.durable
		if rng.IntN(2) == 0 {
			from = m.names
		}
		if inode, ok := from[name]; ok {
			m.durable[name] = inode
		} else {
			delete(m.durable, name)
		}
	}
	m.names = map[string]*memInode{}
	for _, name := range sortedKeys(m.durable) {
		m.durable[name].crash(rng)
		m.names[name] = m.durable[name]
	}
}

func sortedKeys(maps ...map[string]*memInode) []string {
	var keys []string
	for _, m := range maps {
		for key := range m {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (m *memFS) MkdirAll(string) error { return m.op("mkdir") }

func (m *memFS) ReadDir(dir string) ([]string, error) {
	var names []string
	for name := range m.names {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	return names, nil
}

func (m *memFS) OpenFile(name string, flag int) (File, error) {
	inode, ok := m.names[name]
	switch {
	case flag&os.O_CREATE == 0 && !ok:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case flag&os.O_CREATE != 0 && ok:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case flag&os.O_CREATE != 0:
		if err := m.op("create"); err != nil {
			return nil, err
		}
		inode = &memInode{dirty: map[int]bool{}}
		m.names[name] = inode
	}
	return &memFile{fs: m, inode: inode, writable: flag&os.O_RDWR != 0}, nil
}

func (m *memFS) Remove(name string) error {
	if err := m.op("remove"); err != nil {
		return err
	}
	delete(m.names, name)
	return nil
}

func (m *memFS) SyncDir(dir string) error {
	if err := m.op("sync directory"); err != nil {
		return err
	}
	for _, name := range sortedKeys(m.names, m.durable) {
		if filepath.Dir(name) != dir {
			continue
		}
		if inode, ok := m.names[name]; ok {
			m.durable[name] = inode
		} else {
			delete(m.durable, name)
		}
	}
	return nil
}

func (m *memFS) Lock(name string) (io.Closer, error) {
	if m.locked[name] {
		return nil, ErrLocked
	}
	m.locked[name] = true
	return &memLock{m, name}, nil
}

type memLock struct {
	fs   *memFS
	name string
}

func (l *memLock) Close() error {
	delete(l.fs.locked, l.name)
	return nil
}

// memInode is a file's content. A failed sync leaves written sectors in data, yet forgets that they
// are dirty: Linux does the same with its page cache.
type memInode struct {
	data    []byte
	durable []byte
	dirty   map[int]bool // sectors written since they were last synced, or since their sync failed
	low     int          // the smallest size since the last successful sync
}

func (n *memInode) resize(size int) {
	n.low = min(n.low, size)
	n.data = resized(n.data, size)
}

func resized(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size:size]
	}
	return append(slices.Clone(b), make([]byte, size-len(b))...)
}

func (n *memInode) sync() {
	n.settle(true, func() bool { return true })
}

func (n *memInode) crash(rng *rand.Rand) {
	n.settle(rng.IntN(2) == 0, func() bool { return rng.IntN(2) == 0 })
	n.data = slices.Clone(n.durable)
}

// settle makes the size and some of the dirty sectors durable.
func (n *memInode) settle(size bool, sector func() bool) {
	if size {
		n.durable = resized(resized(n.durable, min(n.low, len(n.durable))), len(n.data))
	}
	n.durable = slices.Clone(n.durable)
	sectors := make([]int, 0, len(n.dirty))
	for i := range n.dirty {
		sectors = append(sectors, i)
	}
	slices.Sort(sectors)
	for _, i := range sectors {
		start := i * sectorBytes
		if sector() && start < len(n.data) && start < len(n.durable) {
			copy(n.durable[start:], n.data[start:min(start+sectorBytes, len(n.data))])
		}
	}
	clear(n.dirty)
	n.low = len(n.durable)
}

type memFile struct {
	fs       *memFS
	inode    *memInode
	writable bool
}

func (f *memFile) ReadAt(p []byte, offset int64) (int, error) {
	if offset >= int64(len(f.inode.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.inode.data[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, offset int64) (int, error) {
	if !f.writable {
		return 0, fs.ErrPermission
	}
	err := f.fs.op("write")
	if err != nil {
		half := (int(offset) + len(p)/2) / sectorBytes * sectorBytes
		p = p[:max(0, half-int(offset))] // a write that fails may have written some sectors
	}
	start, end := int(offset), int(offset)+len(p)
	if end > len(f.inode.data) {
		f.inode.resize(end)
	}
	copy(f.inode.data[start:], p)
	for i := start / sectorBytes; i*sectorBytes < end; i++ {
		f.inode.dirty[i] = true
	}
	return len(p), err
}

func (f *memFile) Truncate(size int64) error {
	if err := f.fs.op("truncate"); err != nil {
		return err
	}
	f.inode.resize(int(size))
	return nil
}

func (f *memFile) Allocate(size int64) error {
	if err := f.fs.op("allocate"); err != nil {
		return err
	}
	if int(size) > len(f.inode.data) {
		f.inode.resize(int(size))
	}
	return nil
}

func (f *memFile) SyncData() error { return f.sync("sync data") }

func (f *memFile) Sync() error { return f.sync("sync") }

func (f *memFile) sync(what string) error {
	if err := f.fs.op(what); err != nil {
		clear(f.inode.dirty)
		return err
	}
	f.inode.sync()
	return nil
}

func (f *memFile) Size() (int64, error) { return int64(len(f.inode.data)), nil }

func (f *memFile) Close() error { return nil }
