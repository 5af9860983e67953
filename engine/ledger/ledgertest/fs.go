package ledgertest

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"loteria/engine/ledger"
)

// FS is a file system in memory that can fail, fill up and crash. It belongs to one goroutine. Make
// one with [NewFS].
type FS struct {
	names   map[string]*inode // all names, as a process sees them
	durable map[string]*inode // all names, as they were when their directory was last synced

	rng    *rand.Rand
	fault  Fault // the arranged failure
	broken Op    // the operation that failed; 0: none
	counts [len(opNames)]int

	spaceBytes int64 // how many bytes all files together may have; negative: no limit
	life       int   // how many processes have ended; files that an earlier one opened are closed
	open       int   // how many files this process has open
	locked     map[string]*lock
}

// NewFS makes an empty file system. All chance comes from the seed.
func NewFS(seed uint64) *FS {
	return &FS{
		names:      map[string]*inode{},
		durable:    map[string]*inode{},
		locked:     map[string]*lock{},
		rng:        rand.New(rand.NewPCG(seed, 0)),
		spaceBytes: -1,
	}
}

// Kill ends the process: its files and locks are closed, and all that it wrote stays. An arranged
// failure ends, too, but a limit of space stays.
func (m *FS) Kill() {
	clear(m.locked)
	m.life++
	m.open = 0
	m.fault, m.broken = Fault{}, 0
}

// Crash ends the machine, and the process with it. Chance decides for each name, size and sector
// that was not synced whether it is kept.
func (m *FS) Crash() {
	m.Kill()
	keep := m.share()
	for _, name := range sortedKeys(m.names, m.durable) {
		if keep() {
			m.persistName(name)
		}
	}
	m.names = map[string]*inode{}
	for _, name := range sortedKeys(m.durable) { // parents come before what is in them
		if parent := filepath.Dir(name); !isRoot(parent) && m.names[parent] == nil {
			delete(m.durable, name)
			continue
		}
		m.durable[name].crash(m.share())
		m.names[name] = m.durable[name]
	}
}

// share draws how much of something survives: all or nothing in half of the cases. The function
// that it returns decides for each part.
func (m *FS) share() func() bool {
	percent := min(max(m.rng.IntN(200)-50, 0), 100)
	return func() bool { return m.rng.IntN(100) < percent }
}

// persistName makes the current state of a name durable, whether it exists or not.
func (m *FS) persistName(name string) {
	if node, ok := m.names[name]; ok {
		m.durable[name] = node
	} else {
		delete(m.durable, name)
	}
}

// LimitSpace limits how many bytes all files together may have, including reserved ones. Operations
// that need more fail with ENOSPC. If the files are larger already, they keep what they have. A
// negative limit stands for none.
func (m *FS) LimitSpace(bytes int64) { m.spaceBytes = bytes }

// UsedBytes returns how many bytes all files together have, including reserved ones.
func (m *FS) UsedBytes() int64 {
	var sum int64
	for _, node := range m.names {
		sum += int64(len(node.data))
	}
	return sum
}

// room returns an error if the disk has no room for more bytes. op and name go into the error.
func (m *FS) room(op Op, name string, more int64) error {
	if m.spaceBytes >= 0 && more > 0 && m.UsedBytes()+more > m.spaceBytes {
		return &fs.PathError{Op: op.String(), Path: name, Err: syscall.ENOSPC}
	}
	return nil
}

// OpenFiles returns how many files the process has open.
func (m *FS) OpenFiles() int { return m.open }

// Files returns the files as a process sees them, by path. The contents are copies.
func (m *FS) Files() map[string][]byte {
	files := map[string][]byte{}
	for name, node := range m.names {
		if !node.dir {
			files[name] = slices.Clone(node.data)
		}
	}
	return files
}

// Install creates or replaces a file with that content, and makes it and its directories durable.
// It neither counts as an operation nor fails. It copies data.
func (m *FS) Install(name string, data []byte) {
	m.makeDurableDirs(filepath.Dir(name))
	node := newInode(data)
	m.names[name], m.durable[name] = node, node
}

func (m *FS) makeDurableDirs(dir string) {
	for ; !isRoot(dir); dir = filepath.Dir(dir) {
		if m.names[dir] == nil {
			m.names[dir] = &inode{dir: true}
		}
		m.durable[dir] = m.names[dir]
	}
}

// MkdirAll implements ledger.FS.
func (m *FS) MkdirAll(dir string) error {
	effective, err := m.op(Mkdir, dir)
	switch node := m.names[dir]; {
	case err == nil && node != nil && !node.dir:
		return &fs.PathError{Op: Mkdir.String(), Path: dir, Err: syscall.ENOTDIR}
	case err == nil && node == nil:
		m.makeDurableDirs(dir)
	case effective && node == nil: // it is created, but the parent's sync failed
		if parent := filepath.Dir(dir); !isRoot(parent) {
			m.makeDurableDirs(parent)
		}
		m.names[dir] = &inode{dir: true}
	}
	return err
}

// ReadDir implements ledger.FS.
func (m *FS) ReadDir(dir string) ([]string, error) {
	if _, err := m.op(List, dir); err != nil {
		return nil, err
	}
	if !m.isDir(dir) {
		return nil, &fs.PathError{Op: List.String(), Path: dir, Err: fs.ErrNotExist}
	}
	var names []string
	for name := range m.names {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	m.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names, nil
}

// OpenFile implements ledger.FS.
func (m *FS) OpenFile(name string, flag int) (ledger.File, error) {
	node, exists := m.names[name]
	if flag&os.O_CREATE != 0 {
		if exists {
			return nil, &fs.PathError{Op: Create.String(), Path: name, Err: fs.ErrExist}
		}
		effective, err := m.op(Create, name)
		if effective && m.isDir(filepath.Dir(name)) {
			node = newInode(nil)
			m.names[name] = node
			exists = true
		}
		if err != nil {
			return nil, err
		}
	} else if _, err := m.op(OpenOld, name); err != nil {
		return nil, err
	}
	if !exists {
		return nil, &fs.PathError{Op: OpenOld.String(), Path: name, Err: fs.ErrNotExist}
	}
	if node.dir {
		return nil, &fs.PathError{Op: OpenOld.String(), Path: name, Err: syscall.EISDIR}
	}
	m.open++
	return &file{fs: m, node: node, name: name, life: m.life, writable: flag&os.O_RDWR != 0}, nil
}

// Remove implements ledger.FS.
func (m *FS) Remove(name string) error {
	if node := m.names[name]; node == nil || node.dir {
		return &fs.PathError{Op: Remove.String(), Path: name, Err: fs.ErrNotExist}
	}
	effective, err := m.op(Remove, name)
	if effective {
		delete(m.names, name)
	}
	return err
}

// Rename implements ledger.FS. A crash may keep both names, or lose the old one only.
func (m *FS) Rename(name, to string) error {
	node := m.names[name]
	if node == nil || node.dir {
		return &fs.PathError{Op: Rename.String(), Path: name, Err: fs.ErrNotExist}
	}
	effective, err := m.op(Rename, name)
	if effective {
		delete(m.names, name)
		m.names[to] = node
	}
	return err
}

// RemoveAll removes a directory and all that is in it, as somebody else may do at any time. The
// process's open files stay open. RemoveAll neither counts as an operation nor fails.
func (m *FS) RemoveAll(dir string) {
	for name := range m.names {
		if name == dir || strings.HasPrefix(name, dir+string(filepath.Separator)) {
			delete(m.names, name)
		}
	}
}

// SyncDir implements ledger.FS.
func (m *FS) SyncDir(dir string) error {
	effective, err := m.op(SyncDir, dir)
	if !m.isDir(dir) {
		return &fs.PathError{Op: SyncDir.String(), Path: dir, Err: fs.ErrNotExist}
	}
	for _, name := range sortedKeys(m.names, m.durable) {
		if filepath.Dir(name) == dir && (err == nil || effective && m.coin()) {
			m.persistName(name)
		}
	}
	return err
}

func (m *FS) isDir(dir string) bool { return isRoot(dir) || m.names[dir] != nil && m.names[dir].dir }

// isRoot reports whether dir always exists.
func isRoot(dir string) bool { return dir == "." || dir == string(filepath.Separator) }

// Lock implements ledger.FS. It creates no file.
func (m *FS) Lock(name string) (io.Closer, error) {
	if m.locked[name] != nil {
		return nil, ledger.ErrLocked
	}
	l := &lock{m, name}
	m.locked[name] = l
	return l, nil
}

type lock struct {
	fs   *FS
	name string
}

// Close releases the lock, unless its process has ended: then another may hold it.
func (l *lock) Close() error {
	if l.fs.locked[l.name] == l {
		delete(l.fs.locked, l.name)
	}
	return nil
}

func sortedKeys(nodes ...map[string]*inode) []string {
	var keys []string
	for _, m := range nodes {
		keys = slices.AppendSeq(keys, maps.Keys(m))
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
