package ledgertest

import (
	"maps"
	"slices"
)

// SectorBytes is the size of a sector. A crash keeps or loses a sector as a whole.
const SectorBytes = 512

// inode is a directory, or the content of a file: data is what a process sees, and durable what a
// crash surely keeps. A failed sync keeps written sectors in data, but forgets that they are dirty.
type inode struct {
	dir     bool
	data    []byte
	durable []byte
	dirty   map[int]bool // sectors written since the last sync, failed or not
	cut     map[int]bool // sectors truncated since the last Sync, and not written since
}

func newInode(data []byte) *inode {
	return &inode{
		data: slices.Clone(data), durable: slices.Clone(data),
		dirty: map[int]bool{}, cut: map[int]bool{},
	}
}

func (n *inode) resize(size int) {
	for i := size / SectorBytes; i*SectorBytes < len(n.data); i++ {
		if !n.dirty[i] || i*SectorBytes >= size {
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

func (n *inode) write(b []byte, offset int) {
	end := offset + len(b)
	if end > len(n.data) {
		n.resize(end)
	}
	copy(n.data[offset:], b)
	for i := offset / SectorBytes; i*SectorBytes < end; i++ {
		n.dirty[i] = true
		delete(n.cut, i)
	}
}

// persist makes a size durable, and those of the sectors that keep chooses. It empties sectors, so
// that the others count as clean, too.
func (n *inode) persist(size int, sectors map[int]bool, keep func() bool) {
	n.durable = resized(n.durable, size)
	for _, i := range slices.Sorted(maps.Keys(sectors)) {
		from, to := i*SectorBytes, min((i+1)*SectorBytes, size)
		if keep() && from < to {
			clear(n.durable[from:to])
			copy(n.durable[from:to], n.data[min(from, len(n.data)):])
		}
	}
	clear(sectors)
}

func always() bool { return true }

func (n *inode) sync() {
	n.persist(len(n.data), n.cut, always)
	n.persist(len(n.data), n.dirty, always)
}

// syncData makes written sectors durable, and a larger size, but not a smaller one.
func (n *inode) syncData() {
	n.persist(max(len(n.data), len(n.durable)), n.dirty, always)
}

// syncFailed is a sync that fails after a part of the data reached the disk.
func (n *inode) syncFailed(keep func() bool) {
	size := len(n.durable)
	if keep() {
		size = max(size, len(n.data))
	}
	n.persist(size, n.dirty, keep)
}

func (n *inode) crash(keep func() bool) {
	if n.dir {
		return
	}
	size := len(n.durable)
	if keep() {
		size = len(n.data)
	}
	n.persist(size, n.cut, keep)
	n.persist(size, n.dirty, keep)
	n.data = slices.Clone(n.durable)
}
