package ledgertest

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// ErrInjected is matched by every error that [FS.Break] arranged.
var ErrInjected = errors.New("injected failure")

// Op is a set of kinds of operations.
type Op uint

// The kinds of operations. All are counted and can fail.
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
	OpenOld // OpenFile without os.O_CREATE
	List    // ReadDir
	Direct  // changes nothing, but may fail
	Rename

	// Changes are the operations that change something.
	Changes = Mkdir | Create | Remove | Rename | Write | Truncate | Allocate | AnySync
	// AnySync are the operations that make something durable.
	AnySync = SyncData | Sync | SyncDir
)

var opNames = [...]string{
	"mkdir", "create", "remove", "write", "truncate", "allocate", "sync data", "sync",
	"sync directory", "read", "open", "list", "direct", "rename",
}

func (o Op) String() string {
	var names []string
	for i, name := range opNames {
		if o&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// Fault is an arranged failure.
type Fault struct {
	Op   Op    // which operations count; 0 stands for Changes
	N    int   // which of them fails, from 1; 0: none
	Err  error // the error, for example syscall.ENOSPC; nil stands for syscall.EIO
	Dead bool  // the process ends there: all later operations fail without an effect
}

// Break arranges a failure, and replaces the one before. N counts from now on. Later operations
// don't fail, unless Dead is set.
func (m *FS) Break(f Fault) {
	if f.Op == 0 {
		f.Op = Changes
	}
	if f.Err == nil {
		f.Err = syscall.EIO
	}
	m.fault, m.broken = f, 0
}

// Broken returns the kind of the operation that failed. It is 0 before the failure, and if none was
// arranged.
func (m *FS) Broken() Op { return m.broken }

// Count returns how many operations of these kinds there were, including those that failed.
func (m *FS) Count(ops Op) int {
	n := 0
	for i := range opNames {
		if ops&(1<<i) != 0 {
			n += m.counts[i]
		}
	}
	return n
}

// op counts an operation and returns the error that it fails with. effective says whether the
// operation has an effect, at least in part: always without an error, otherwise by chance.
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
