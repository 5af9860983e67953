package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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
	synced  []string // directories given to SyncDir, in order

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

func sortedKeys(inodes ...map[string]*memInode) []string {
	var keys []string
	for _, m := range inodes {
		keys = slices.AppendSeq(keys, maps.Keys(m))
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
		inode = newMemInode(nil)
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
	m.synced = append(m.synced, dir)
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
	cut     map[int]bool // sectors truncated since the last Sync, and not written since
}

func newMemInode(data []byte) *memInode {
	return &memInode{data: slices.Clone(data), durable: slices.Clone(data), dirty: map[int]bool{}, cut: map[int]bool{}}
}

func (n *memInode) resize(size int) {
	for i := size / sectorBytes; i*sectorBytes < len(n.data); i++ {
		if !n.dirty[i] || i*sectorBytes >= size {
			delete(n.dirty, i)
			n.cut[i] = true
		}
	}
	n.data = resized(n.data, size)
}

func resized(b []byte, size int) []byte {
	if size <= len(b) {
		return slices.Clone(b[:size])
	}
	return append(slices.Clone(b), make([]byte, size-len(b))...)
}

// persist makes a size durable, and those of some sectors that pick chooses.
func (n *memInode) persist(size int, sectors map[int]bool, pick func() bool) {
	n.durable = resized(n.durable, size)
	for _, i := range slices.Sorted(maps.Keys(sectors)) {
		from, to := i*sectorBytes, min((i+1)*sectorBytes, size)
		if pick() && from < to {
			clear(n.durable[from:to])
			copy(n.durable[from:to], n.data[min(from, len(n.data)):])
		}
	}
	clear(sectors)
}

func always() bool { return true }

func (n *memInode) sync() {
	n.persist(len(n.data), n.cut, always)
	n.persist(len(n.data), n.dirty, always)
}

// syncData makes the file longer where that is needed, but not shorter.
func (n *memInode) syncData() {
	n.persist(max(len(n.data), len(n.durable)), n.dirty, always)
}

func (n *memInode) crash(rng *rand.Rand) {
	size := len(n.durable)
	if rng.IntN(2) == 0 {
		size = len(n.data)
	}
	pick := func() bool { return rng.IntN(2) == 0 }
	n.persist(size, n.cut, pick)
	n.persist(size, n.dirty, pick)
	n.data = slices.Clone(n.durable)
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
		delete(f.inode.cut, i)
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

func (f *memFile) SyncData() error { return f.sync("sync data", f.inode.syncData) }

func (f *memFile) Sync() error { return f.sync("sync", f.inode.sync) }

func (f *memFile) sync(what string, do func()) error {
	if err := f.fs.op(what); err != nil {
		clear(f.inode.dirty)
		return err
	}
	do()
	return nil
}

func (f *memFile) Size() (int64, error) { return int64(len(f.inode.data)), nil }

func (f *memFile) Close() error { return nil }
