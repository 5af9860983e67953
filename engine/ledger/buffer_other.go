//go:build !linux

package ledger

// requestHugePages does nothing: there is no portable way to ask for them.
func requestHugePages([]byte) {}
