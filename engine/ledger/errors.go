package ledger

import (
	"errors"
	"fmt"
)

var (
	// ErrLocked says that another Ledger, of this process or of another one, has the directory open.
	ErrLocked = errors.New("ledger: directory is in use by another server: stop it, or use another directory")

	// ErrCorrupt says that bytes that were promised to be durable are damaged or missing.
	// Every error that matches it is a [*CorruptError].
	ErrCorrupt = errors.New("ledger: corrupt")

	// ErrVersion says that the ledger was written in a format that this package doesn't read.
	ErrVersion = errors.New("ledger: unknown format version: use the program that wrote it")

	// ErrGone says that the directory, or the newest segment in it, is no longer where the ledger was
	// opened. If it was moved, everything is where it is now; otherwise everything is lost, what was
	// committed afterwards included.
	ErrGone = errors.New("ledger: its directory was removed, moved or replaced while it was open, " +
		"and with it all that was stored: move it back, or restore it from a backup, before you open it anew")

	// ErrFailed says that a write or a sync failed, or the ledger was closed. It is final: what reached the
	// disk is unknown until the directory is opened anew.
	ErrFailed = errors.New("ledger: failed for good, nothing more is durable: open the directory anew")
)

// CorruptError says where a ledger is damaged. It matches [ErrCorrupt].
type CorruptError struct {
	File   string // path of the damaged segment or seal, or of what is missing
	Offset int64  // of the damage, in bytes from the start of File
	Seq    uint64 // the record expected at Offset
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v: %s, offset %d, record %d: %s (nothing was changed; inspect with `loteria ledger verify`)",
		ErrCorrupt, e.File, e.Offset, e.Seq, e.Reason)
}

// Unwrap makes every CorruptError match [ErrCorrupt].
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

// joinInto adds the error of cleaning up to *err. Without one it leaves *err as it is, which errors.Join would not.
func joinInto(err *error, cleanup error) {
	if cleanup != nil {
		*err = errors.Join(*err, cleanup)
	}
}
