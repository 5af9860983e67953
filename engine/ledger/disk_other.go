//go:build unix && !linux

package ledger

// SyncData implements [File]. Sync is all that is portable; on macOS it asks the drive to empty its cache.
func (f diskFile) SyncData() error { return f.Sync() }

// Allocate implements [File]. Space is not reserved.
func (f diskFile) Allocate(size int64) error { return f.extend(size) }

// Direct implements [File]. Nothing that is portable goes past the operating system's cache.
func (f diskFile) Direct() error { return nil }
