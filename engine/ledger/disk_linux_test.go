package ledger_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"loteria/engine/ledger"
)

// For a directory that doesn't exist yet, Free asks the nearest parent that does.
func TestDiskFree(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{dir, filepath.Join(dir, "not", "there"), "not-there"} {
		if free, err := (ledger.Disk{}).Free(name); err != nil || free <= 0 {
			t.Errorf("%s: %d bytes, %v", name, free, err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var wrong *fs.PathError
	free, err := (ledger.Disk{}).Free(filepath.Join(file, "x"))
	if !errors.As(err, &wrong) || wrong.Err != syscall.ENOTDIR {
		t.Errorf("in a file: %d bytes, %v", free, err)
	}
}

// The message rounds what is needed up, and what is free down.
func TestNoSpaceError(t *testing.T) {
	for _, test := range []struct {
		needs, free int64
		cause       error
		want        string
	}{
		{ledger.ReserveBytesDefault, 10<<20 - 1, syscall.ENOSPC, "no space left on device: needs 64 MiB free in data, has 9 MiB"},
		{64<<20 + 1, 1<<20 - 1, syscall.ENOSPC, "no space left on device: needs 65 MiB free in data, has 1023 KiB"},
		{ledger.BlockBytes, 0, syscall.ENOSPC, "no space left on device: needs 4 KiB free in data, has 0 KiB"},
		{1 << 20, -1, syscall.EDQUOT, "disk quota exceeded: needs 1 MiB free in data"},
	} {
		err := error(&ledger.NoSpaceError{Dir: "data", Needs: test.needs, Free: test.free, Err: test.cause})
		if err.Error() != test.want || !errors.Is(err, test.cause) || !ledger.IsNoSpace(err) {
			t.Errorf("it says %q, want %q", err, test.want)
		}
	}
}
