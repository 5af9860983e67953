//go:build unix && !linux

package ledger

// SyncData implements [File] with Sync, because fdatasync isn't portable. On macOS, Sync makes the
// drive empty its cache, too.
func (f diskFile) SyncData() error { return f.Sync() }

// Allocate implements [File]. It reserves no space.
func (f diskFile) Allocate(size int64) error { return f.extend(size) }

// Direct implements [File]. It does nothing: there is no portable way to bypass the cache.
func (f diskFile) Direct() error { return nil }
