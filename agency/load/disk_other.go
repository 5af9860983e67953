//go:build !linux

package load

import "os"

func reserve(f *os.File, offset, size int64) error { return f.Truncate(offset + size) }

func writeAll(f *os.File, pieces [][]byte, offset int64) error {
	for _, p := range pieces {
		if _, err := f.WriteAt(p, offset); err != nil {
			return err
		}
		offset += int64(len(p))
	}
	return nil
}

func syncData(f *os.File) error { return f.Sync() }
