package ledger_test

import (
	"slices"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// writesFS records the sizes of the writes to its files.
type writesFS struct {
	*ledgertest.FS
	writes []int
}

func (w *writesFS) OpenFile(name string, flag int) (ledger.File, error) {
	f, err := w.FS.OpenFile(name, flag)
	return writesFile{f, w}, err
}

type writesFile struct {
	ledger.File
	fs *writesFS
}

func (f writesFile) WriteAt(p []byte, offset int64) (int, error) {
	f.fs.writes = append(f.fs.writes, len(p))
	return f.File.WriteAt(p, offset)
}

// A small write also writes zeros for the writes after it, which then write only their blocks.
// Large writes and writes without a sync add no zeros. No zeros go beyond the segment.
func TestZerosAhead(t *testing.T) {
	const block, ahead = ledger.BlockBytes, ledger.ZeroAheadBytes
	few := func(n int) []entry { return slices.Repeat([]entry{bets(block-100, 1)}, n) }
	for _, c := range []struct {
		name         string
		durability   ledger.Durability
		segmentBytes int64
		groups       [][]entry
		want         []int
	}{
		// The first write is the segment's header.
		{"small", ledger.Fsync, 1 << 20, [][]entry{few(1), few(1), few(3)},
			[]int{block + ahead, block, block, 4 * block}},
		{"large", ledger.Fsync, 1 << 20, [][]entry{few(80), few(1)},
			[]int{block + ahead, 79 * block, 2*block + ahead}},
		{"without a sync", ledger.OS, 1 << 20, [][]entry{few(1), few(1)}, []int{block, block, block}},
		{"segment", ledger.Fsync, 4 * block, [][]entry{few(1), few(1)}, []int{4 * block, block, block}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := &writesFS{FS: ledgertest.NewFS(1)}
			o := ledger.Options{FS: fsys, SegmentBytes: c.segmentBytes, Durability: c.durability}
			l, _ := mustOpen(t, testDir, o)
			defer mustClose(t, l)
			for _, group := range c.groups {
				mustCommit(t, l, group...)
			}
			if !slices.Equal(fsys.writes, c.want) {
				t.Errorf("writes of %d bytes, want %d", fsys.writes, c.want)
			}
		})
	}
}
