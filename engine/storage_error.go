package engine

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// diskErrors are the file system's own failures, apart from a full disk. Other errors at a start,
// such as missing permissions, are those of the configuration.
var diskErrors = []syscall.Errno{syscall.EIO, syscall.EFBIG, syscall.EROFS}

// startError wraps an error of opening the ledger in what it means for the operator.
func startError(dataDir string, err error) error {
	err = fmt.Errorf("ledger in %s: %w", dataDir, err)
	switch {
	case errors.Is(err, lottery.ErrReplay):
		return fmt.Errorf("%w: %w", history.ErrDamaged, err)
	case ledger.IsNoSpace(err):
		return storageError(err)
	case slices.ContainsFunc(diskErrors, func(e syscall.Errno) bool { return errors.Is(err, e) }):
		return fmt.Errorf("%w: %w: repair the disk, then start again: what was acknowledged is kept",
			ErrStorage, err)
	}
	return err
}

// storageError wraps an error of the ledger in ErrStorage, and says what to do about a full disk.
func storageError(err error) error {
	if ledger.IsNoSpace(err) {
		return fmt.Errorf("%w: %w: make room and start again: what was acknowledged is kept", ErrStorage, err)
	}
	return fmt.Errorf("%w: %w", ErrStorage, err)
}
