package ledger

import "golang.org/x/sys/unix"

// requestHugePages ignores errors: a kernel may have no huge pages, or be told not to give any.
func requestHugePages(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
