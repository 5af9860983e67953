package ledger

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/v1 anew: only for a new version of the format")

// A ledger that an earlier build wrote is read, and the same records are still written as the same bytes.
func TestFormatIsStable(t *testing.T) {
	golden := filepath.Join("testdata", "v1", segmentName(1))
	want := []entry{
		{Opened, 0, 5, "7574"},
		{Bets, 1, 2, "Juan|Pérez|12345678|1990-05-23|7574|1\nMaría|Gómez|87654321|1985-07-10|2311|1"},
		{Bets, 2, 1, "Carlos|López|99887766|1982-02-17|7574|2\n"},
		{Reported, 1, 0, ""},
	}
	id := ledgerID([]byte("a golden ledger."))
	h := segmentHeader{version: formatVersion, id: id, first: 1, chain: id.chainStart()}
	fsys := image{segmentName(1): h.encode()}.fs()
	l, _ := mustOpen(t, testDir, Options{FS: fsys, SegmentBytes: SegmentBytesMin})
	mustCommit(t, l, want[0])
	mustCommit(t, l, want[1:]...)
	mustClose(t, l)
	got := fsys.image()[segmentName(1)][:l.offset]
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, written) {
		t.Errorf("wrote\n%x\nwant\n%x", got, written)
	}
	var found []entry
	if _, err := Scan(filepath.Dir(golden), Options{}, collect(t, &found)); err != nil {
		t.Fatal(err)
	}
	wantEntries(t, found, want)
}

func TestUnknownVersion(t *testing.T) {
	h := segmentHeader{version: formatVersion + 1, first: 1}
	fsys := image{segmentName(1): h.encode()}.fs()
	_, err := Open(testDir, Options{FS: fsys}, nil)
	if !errors.Is(err, ErrVersion) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "version 2, this one reads 1") {
		t.Fatalf("Open returned %v", err)
	}
}

// AppendRecord keeps what dst holds, takes as much as RecordBytes says, and needs no clean memory.
func TestAppendRecord(t *testing.T) {
	for n := range 50 {
		e := bets(n, n)
		clean := e.appendTo(nil)
		if len(clean) != RecordBytes(n) || len(clean)%recordAlignBytes != 0 {
			t.Fatalf("payload of %d: %d bytes, RecordBytes says %d", n, len(clean), RecordBytes(n))
		}
		dirty := bytes.Repeat([]byte{0xff}, 300)
		run := e.appendTo(e.appendTo(dirty[:0]))
		if !slices.Equal(run, slices.Concat(clean, clean)) || &run[0] != &dirty[0] {
			t.Fatalf("payload of %d: packed twice into a used buffer, it is not the same twice", n)
		}
	}
}

// The format promises that every 8 bytes of a record, so every part in a sector, hold something.
func TestNoZeroWords(t *testing.T) {
	entries := []entry{{Opened, 0, 1, "x"}, bets(1, 1), bets(8, 2), bets(9, 3), {Reported, 1, 0, ""}, {255, 0, 1 << 31, ""}}
	files := written(t, entries, entries)
	name := segmentName(1)
	for at := segmentHeaderBytes; at < files.end(name); at += recordAlignBytes {
		if allZero(files[name][at : at+recordAlignBytes]) {
			t.Errorf("the 8 bytes at %d are zero", at)
		}
	}
}

func TestSegmentNames(t *testing.T) {
	for _, first := range []uint64{1, 42, 1<<64 - 1} {
		if got, ok := segmentFirst(segmentName(first)); !ok || got != first {
			t.Errorf("%s was read as %d, %v", segmentName(first), got, ok)
		}
	}
	for _, name := range []string{"", ".ledger", "LOCK", "1.ledger", "99999999999999999999.ledger", "+0000000000000000001.ledger", "00000000000000000001.ledger~"} {
		if first, ok := segmentFirst(name); ok {
			t.Errorf("%q was read as segment %d", name, first)
		}
	}
}
