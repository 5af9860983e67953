package ledgertest

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// ErrInjected matches every error that was asked for with [FS.Break].
var ErrInjected = errors.New("injected failure")

// Op is a set of kinds of operations.
type Op uint

// The kinds of operations that are counted and can fail.
const (
	Mkdir Op = 1 << iota
	Create
	Remove
	Write
	Truncate
	Allocate
	SyncData
	Sync
	SyncDir
	Read    // one ReadAt of a file
	OpenOld // of a file that exists
	List    // the names in a directory
	Direct  // no change, but it is where the file system may say no

	// Changes are the operations that change something.
	Changes = Mkdir | Create | Remove | Write | Truncate | Allocate | AnySync
	// AnySync are the operations that make something durable.
	AnySync = SyncData | Sync | SyncDir
)

var opNames = [...]string{"mkdir", "create", "remove", "write", "truncate", "allocate", "sync data", "sync", "sync directory", "read", "open", "list", "direct"}

func (o Op) String() string {
	var names []string
	for i, name := range opNames {
		if o&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// Fault is a failure to come.
type Fault struct {
	Op   Op    // which operations count; 0 stands for Changes
	N    int   // which of them fails, from 1
	Err  error // what it fails with, e.g. syscall.ENOSPC; nil stands for syscall.EIO
	Dead bool  // the process ends there: every operation fails from then on, without doing anything
}

// Break arranges a failure, in place of the one before. N counts from now on. Nothing else fails after it, unless it is Dead.
func (m *FS) Break(f Fault) {
	if f.Op == 0 {
		f.Op = Changes
	}
	if f.Err == nil {
		f.Err = syscall.EIO
	}
	m.fault, m.broken = f, 0
}

// Broken is the operation that failed, or 0 if the failure is still to come or none was arranged.
func (m *FS) Broken() Op { return m.broken }

// Count is how many operations of these kinds there have been, those that failed included.
func (m *FS) Count(ops Op) int {
	n := 0
	for i := range opNames {
		if ops&(1<<i) != 0 {
			n += m.counts[i]
		}
	}
	return n
}

// op counts an operation and returns the error that it fails with. effective tells
// whether it takes effect, at least in part: without an error always, otherwise by chance.
func (m *FS) op(op Op, name string) (effective bool, err error) {
	for i := range opNames {
		if op == 1<<i {
			m.counts[i]++
		}
	}
	switch {
	case m.broken != 0 && m.fault.Dead:
		return false, m.injected(op, name)
	case m.broken != 0 || m.fault.N == 0 || op&m.fault.Op == 0:
		return true, nil
	}
	if m.fault.N--; m.fault.N > 0 {
		return true, nil
	}
	m.broken = op
	return m.coin(), m.injected(op, name)
}

func (m *FS) injected(op Op, name string) error {
	return fmt.Errorf("%w: %w", ErrInjected, &fs.PathError{Op: op.String(), Path: name, Err: m.fault.Err})
}

func (m *FS) coin() bool { return m.rng.IntN(2) == 0 }
