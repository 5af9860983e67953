package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

var (
	// ErrLocked says that another Ledger, of this process or another, has the directory open.
	ErrLocked = errors.New("ledger: directory is in use by another server: stop it, or use another directory")

	// ErrCorrupt says that bytes that should be durable are damaged or missing. Every error that
	// matches it is or wraps a [*CorruptError].
	ErrCorrupt = errors.New("ledger: corrupt")

	// ErrVersion says that the ledger was written in a format that this package doesn't read.
	ErrVersion = errors.New("ledger: unknown format version: use the program that wrote it")

	// ErrGone says that the directory, or the newest segment in it, is no longer where the ledger
	// was opened. If it was moved, everything is in the new place. Otherwise everything is lost,
	// including what was committed afterwards.
	ErrGone = errors.New("ledger: its directory was removed, moved or replaced while it was open, " +
		"and with it all that was stored: move it back, or restore it from a backup, before you open it anew")

	// ErrFailed says that a Commit or a Seal failed, or that the ledger was closed. It is final:
	// what reached the disk is unknown until the directory is opened again.
	ErrFailed = errors.New("ledger: failed for good, nothing more is durable: open the directory anew")
)

// errClosed is what Commit, Seal and Scan return after Close.
var errClosed = fmt.Errorf("%w: %w", ErrFailed, fs.ErrClosed)

// CorruptError says where a ledger is damaged. It matches [ErrCorrupt].
type CorruptError struct {
	File   string // path of the segment or seal that is damaged or too short, or of what is missing
	Offset int64  // of the damage, in bytes from the start of File
	Seq    uint64 // the record that was expected there
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v: %s, offset %d, record %d: %s "+
		"(nothing was changed; inspect with `loteria ledger verify`)",
		ErrCorrupt, e.File, e.Offset, e.Seq, e.Reason)
}

// Unwrap makes every CorruptError match [ErrCorrupt].
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

// NoSpaceError says that the file system, or a quota, has no room for what a ledger has to reserve
// next. It wraps the cause, ENOSPC or EDQUOT. On a file system that can't reserve space, a write
// fails instead, with the cause alone.
type NoSpaceError struct {
	Dir   string // the ledger's directory
	Needs int64  // how many bytes have to be free in Dir
	Free  int64  // how many bytes are free; negative if unknown, or if a quota is the limit
	Err   error  // the cause
}

func (e *NoSpaceError) Error() string {
	text := fmt.Sprintf("%v: needs %s free in %s", e.Err, byteSize(e.Needs, true), e.Dir)
	if e.Free >= 0 {
		text += fmt.Sprintf(", has %s", byteSize(e.Free, false))
	}
	return text
}

// Unwrap returns the cause.
func (e *NoSpaceError) Unwrap() error { return e.Err }

// IsNoSpace reports whether err says that the file system is full or a quota is used up.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// byteSize formats a number of bytes for people, in whole MiB or KiB, rounded up or down.
func byteSize(n int64, up bool) string {
	const kib, mib = 1 << 10, 1 << 20
	unit, name := int64(mib), "MiB"
	if n < mib {
		unit, name = kib, "KiB"
	}
	if up {
		n += unit - 1
	}
	return fmt.Sprintf("%d %s", n/unit, name)
}

// joinInto joins the error of cleaning up to *err. If cleanup is nil, *err stays as it is:
// errors.Join would wrap it.
func joinInto(err *error, cleanup error) {
	if cleanup != nil {
		*err = errors.Join(*err, cleanup)
	}
}
