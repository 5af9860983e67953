package engine

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"loteria/engine/lottery"
)

// diskErrors are what a file system says when it can't do what is legal. Other
// errors of a start, of permissions for one, are those of the configuration.
var diskErrors = []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EROFS}

// startError says what an error of ledger.Open means to who starts a server.
func startError(dataDir string, err error) error {
	err = fmt.Errorf("ledger in %s: %w", dataDir, err)
	failed := func(errno syscall.Errno) bool { return errors.Is(err, errno) }
	switch {
	case errors.Is(err, lottery.ErrReplay):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case slices.ContainsFunc(diskErrors, failed):
		return fmt.Errorf("%w: %w: what was acknowledged is kept; make room or repair the disk, then start again", ErrStorage, err)
	}
	return err
}
