package ledger

import "golang.org/x/sys/unix"

// requestHugePages may be refused: by a kernel that has none, or is told not to give any.
func requestHugePages(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
