package ledger_test

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// TestMain has garbage collected less often. The tests open thousands of ledgers, each of which has
// large buffers. It halves their time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(300)
	m.Run()
}

// testDir is the directory of a ledger in memory.
const testDir = "data"

type entry = ledgertest.Entry

var (
	bets     = ledgertest.Bets
	opened   = ledgertest.Opened
	reported = ledgertest.Reported
)

func mustOpen(t testing.TB, dir string, o ledger.Options) (*ledger.Ledger, []entry) {
	t.Helper()
	var found []entry
	l, err := ledger.Open(dir, o, ledgertest.Collect(&found))
	if err != nil {
		t.Fatal(err)
	}
	return l, found
}

func mustCommit(t testing.TB, l *ledger.Ledger, entries ...entry) {
	t.Helper()
	if err := commit(l, entries...); err != nil {
		t.Fatal(err)
	}
}

func commit(l *ledger.Ledger, entries ...entry) error {
	return l.Commit([][]byte{ledgertest.Run(entries...)})
}

func mustClose(t testing.TB, l *ledger.Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func wantEntries(t testing.TB, got, want []entry) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("found %d records, want %d; the first %d are equal",
			len(got), len(want), ledgertest.Agreement(got, want))
	}
}

// image holds a ledger's files by name.
type image map[string][]byte

// imageOf copies the files from a file system.
func imageOf(fsys *ledgertest.FS) image {
	files := image{}
	for path, data := range fsys.Files() {
		files[filepath.Base(path)] = data
	}
	return files
}

func (files image) clone() image {
	c := image{}
	for name, data := range files {
		c[name] = slices.Clone(data)
	}
	return c
}

// with is a copy in which a file is another one.
func (files image) with(name string, data []byte) image {
	files = files.clone()
	files[name] = slices.Clone(data)
	return files
}

// fs makes a file system with the files.
func (files image) fs() *ledgertest.FS {
	fsys := ledgertest.NewFS(1)
	if err := fsys.MkdirAll(testDir); err != nil { // Install would make it, but there may be no files
		panic(err)
	}
	for name, data := range files {
		fsys.Install(filepath.Join(testDir, name), data)
	}
	return fsys
}

// written commits the groups to a new ledger, closes it and returns its files.
func written(t testing.TB, groups ...[]entry) image {
	t.Helper()
	fsys := ledgertest.NewFS(1)
	l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
	for _, group := range groups {
		mustCommit(t, l, group...)
	}
	mustClose(t, l)
	return imageOf(fsys)
}

// place returns where a segment's n-th record begins, from 0. If n is the number of records, it is
// where the next one would begin.
func (files image) place(name string, n int) int {
	at := ledger.SegmentHeaderBytes
	for range n {
		at += ledger.RecordBytes(int(binary.LittleEndian.Uint32(files[name][at:])))
	}
	return at
}

// end returns where a segment's records end.
func (files image) end(name string) int {
	none := make([]byte, ledger.RecordHeaderBytes)
	n := 0
	for at := files.place(name, n); at+len(none) <= len(files[name]) &&
		!bytes.Equal(files[name][at:at+len(none)], none); at = files.place(name, n) {
		n++
	}
	return files.place(name, n)
}
