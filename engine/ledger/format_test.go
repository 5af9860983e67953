package ledger_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

var update = flag.Bool("update", false,
	"write testdata/ledgers again: only for a new version of the format")

// ledgers is the directory with ledgers of all format versions.
var ledgers = filepath.Join("..", "..", "testdata", "ledgers")

// goldenBets makes a batch of count bets of agency 2.
func goldenBets(count int) entry {
	var lines strings.Builder
	for i := range count {
		fmt.Fprintf(&lines, "Lucía|Martínez|%08d|1995-09-30|%d|2\n", 11223344+i, i)
	}
	return entry{Kind: ledger.Bets, Agency: 2, Count: uint32(count), Payload: lines.String()}
}

// A ledger that an earlier build wrote stays readable for ever, and the same records still give the
// same bytes. The ledger without a seal is from a build that had no seals.
func TestFormatIsStable(t *testing.T) {
	t.Run("v1", func(t *testing.T) { checkGolden(t, "v1", false) })
	t.Run("v1-sealed", func(t *testing.T) { checkGolden(t, "v1-sealed", true) })
}

func checkGolden(t *testing.T, golden string, seal bool) {
	want := []entry{
		opened("version=1 agencies=2 winning_number=7574"),
		{Kind: ledger.Bets, Agency: 1, Count: 2, Payload: "Juan|Pérez|12345678|1990-05-23|7574|1\n" +
			"María|Gómez|87654321|1985-07-10|2311|1"},
		{Kind: ledger.Bets, Agency: 2, Count: 1, Payload: "Carlos|López|99887766|1982-02-17|7574|2\n"},
		reported(1),
		goldenBets(60),
		goldenBets(60), // begins the second segment
		reported(2),
	}
	header := ledger.EncodeSegmentHeader(ledger.FormatVersion, [16]byte([]byte("a golden ledger.")))
	fsys := image{ledger.SegmentName(1): header}.fs()
	l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
	mustCommit(t, l, want[0])
	mustCommit(t, l, want[1:3]...)
	mustCommit(t, l, want[3:6]...)
	mustCommit(t, l, want[6])
	if seal {
		mustSeal(t, l)
	}
	mustClose(t, l)

	dir := filepath.Join(ledgers, golden)
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files, kept := imageOf(fsys), image{}
	if !*update && len(names) != len(files) {
		t.Errorf("%s holds %d files, want %d", dir, len(names), len(files))
	}
	for name, got := range files {
		if name != ledger.SealName {
			got = got[:files.end(name)] // without the live segment's reserved space
		}
		path := filepath.Join(dir, name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		written, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, written) {
			t.Errorf("%s: wrote\n%x\nwant\n%x", name, got, written)
		}
		kept[name] = written
	}
	sealedSeq := uint64(0)
	if seal {
		sealedSeq = uint64(len(want))
	}
	var found []entry
	tail, err := ledger.Scan(dir, ledger.Options{}, ledgertest.Collect(&found))
	if err != nil || tail.Torn || tail.Sealed != seal || tail.SealedSeq != sealedSeq {
		t.Fatalf("%+v, %v", tail, err)
	}
	wantEntries(t, found, want)
	if survived, err := reopen(t, kept, want); err != nil || survived != len(want) {
		t.Fatalf("%d of %d records, %v", survived, len(want), err)
	}
}

// A ledger of an unknown, later version is refused, and isn't taken for a damaged one.
func TestUnknownVersion(t *testing.T) {
	const version = 99
	dir := filepath.Join(ledgers, "v99")
	path := filepath.Join(dir, ledger.SegmentName(1))
	if *update {
		header := ledger.EncodeSegmentHeader(version, [16]byte([]byte("not yet invented")))
		if err := os.WriteFile(path, append(header, "whatever this version has here"...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fsys := image{ledger.SegmentName(1): data}.fs()
	_, openErr := ledger.Open(testDir, ledger.Options{FS: fsys}, nil)
	_, scanErr := ledger.Scan(dir, ledger.Options{}, nil)
	for _, err := range []error{openErr, scanErr} {
		if !errors.Is(err, ledger.ErrVersion) || errors.Is(err, ledger.ErrCorrupt) ||
			!strings.Contains(err.Error(), "version 99, this one reads 1") {
			t.Errorf("got %v, want ErrVersion", err)
		}
	}
	if got := imageOf(fsys)[ledger.SegmentName(1)]; !bytes.Equal(got, data) {
		t.Error("the refused ledger was changed")
	}
}

// AppendRecord keeps the content of dst, takes as many bytes as RecordBytes says, and works in
// memory that isn't zeroed. Unpack returns what was packed.
func TestAppendRecord(t *testing.T) {
	for n := range 50 {
		e := bets(n, n)
		clean := e.AppendTo(nil)
		if len(clean) != ledger.RecordBytes(n) || len(clean)%ledger.RecordAlignBytes != 0 {
			t.Fatalf("payload of %d: %d bytes, RecordBytes says %d", n, len(clean), ledger.RecordBytes(n))
		}
		dirty := bytes.Repeat([]byte{0xff}, 300)
		run := e.AppendTo(e.AppendTo(dirty[:0]))
		if !slices.Equal(run, slices.Concat(clean, clean)) || &run[0] != &dirty[0] {
			t.Fatalf("payload of %d: packing into a used buffer gives other bytes, or moves it", n)
		}
		for rest := run; len(rest) > 0; {
			var r ledger.Record
			r, rest = ledger.Unpack(rest)
			sum, seed := r.Checksum.CRC32C()
			got := entry{Kind: r.Kind, Agency: r.Agency, Count: r.Count, Payload: string(r.Payload)}
			if got != e || r.Seq != 0 || cap(r.Payload) != n ||
				sum != crc32.Update(seed, crc32.MakeTable(crc32.Castagnoli), r.Payload) || sum == 0 {
				t.Fatalf("payload of %d: Unpack returns %+v", n, r)
			}
		}
	}
}

// The format promises that none of a record's 8-byte words is zero, and so no sector's part of it.
func TestNoZeroWords(t *testing.T) {
	entries := []entry{
		opened("x"), bets(1, 1), bets(8, 2), bets(9, 3), reported(1), {Kind: 255, Count: 1 << 31},
	}
	files := written(t, entries, entries)
	name := ledger.SegmentName(1)
	for at := ledger.SegmentHeaderBytes; at < files.end(name); at += ledger.RecordAlignBytes {
		word := files[name][at : at+ledger.RecordAlignBytes]
		if bytes.Equal(word, make([]byte, ledger.RecordAlignBytes)) {
			t.Errorf("the 8 bytes at %d are zero", at)
		}
	}
}

func TestSegmentNames(t *testing.T) {
	for _, first := range []uint64{1, 42, 1<<64 - 1} {
		if got, ok := ledger.SegmentFirst(ledger.SegmentName(first)); !ok || got != first {
			t.Errorf("%s was read as %d, %v", ledger.SegmentName(first), got, ok)
		}
	}
	for _, name := range []string{
		"", ".ledger", "LOCK", "1.ledger", "99999999999999999999.ledger",
		"+0000000000000000001.ledger", "00000000000000000001.ledger~",
	} {
		if first, ok := ledger.SegmentFirst(name); ok {
			t.Errorf("%q was read as segment %d", name, first)
		}
	}
}
