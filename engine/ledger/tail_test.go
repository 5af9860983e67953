package ledger_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// reopen opens the files and returns how many records it found, which must be the first of want.
// Scan must agree with Open. If Open refuses, the files must be unchanged. Otherwise the ledger
// must take more records and keep them all, and an intact seal must cover the new ones, too.
func reopen(t testing.TB, files image, want []entry) (int, error) {
	t.Helper()
	fsys := files.fs()
	o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin}
	var scanned, found []entry
	tail, scanErr := ledger.Scan(testDir, o, ledgertest.Collect(&scanned))
	l, err := ledger.Open(testDir, o, ledgertest.Collect(&found))
	if !slices.Equal(scanned, found) || (err == nil) != (scanErr == nil) {
		t.Fatalf("Scan found %d records and %v, Open %d and %v", len(scanned), scanErr, len(found), err)
	}
	if ledgertest.Agreement(found, want) != len(found) {
		t.Fatalf("record %d of %d is not what was written",
			ledgertest.Agreement(found, want)+1, len(found))
	}
	if err != nil {
		if corrupt := (*ledger.CorruptError)(nil); errors.As(err, &corrupt) != errors.Is(err, ledger.ErrCorrupt) {
			t.Fatalf("a CorruptError without ErrCorrupt, or the reverse: %v", err)
		}
		if !maps.EqualFunc(imageOf(fsys), files, slices.Equal[[]byte]) {
			t.Fatalf("Open refused, but changed the files: %v", err)
		}
		return len(found), err
	}
	if l.Recovered() != tail {
		t.Fatalf("Recovered %+v, Scan %+v", l.Recovered(), tail)
	}
	more := []entry{bets(700, 991), bets(0, 992), bets(3000, 993)}
	mustCommit(t, l, more...)
	mustClose(t, l)
	l, again := mustOpen(t, testDir, o)
	mustClose(t, l)
	wantEntries(t, again, slices.Concat(found, more))
	if l.Recovered().Torn {
		t.Fatalf("the repaired tail is torn again: %+v", l.Recovered())
	}
	sealed := uint64(0)
	if tail.SealedSeq > 0 {
		sealed = uint64(len(again))
	}
	if got := l.Recovered(); got.Sealed != tail.Sealed || got.SealedSeq != sealed {
		t.Fatalf("of %d records, the seal should cover %d: %+v, before %+v",
			len(again), sealed, got, tail)
	}
	return len(found), nil
}

// The tail rule: what is written, how it is damaged, and what a replay makes of it.
func TestTail(t *testing.T) {
	const (
		live   = "00000000000000000001.ledger"
		second = "00000000000000000003.ledger"
	)
	one := func(e ...entry) [][]entry { return [][]entry{e} }
	twoGroups := [][]entry{{bets(1000, 1), bets(300, 2)}, {bets(1000, 3)}}
	twoSegments := [][]entry{{bets(1800, 1), bets(1800, 2)}, {bets(1000, 3)}, {bets(1000, 4)}}
	finished, tail := live, second

	// flip and cut damage byte number at of a segment's n-th record.
	flip := func(file string, n, at int) func(image) {
		return func(files image) { files[file][files.place(file, n)+at] ^= 1 }
	}
	cut := func(file string, n, at int) func(image) {
		return func(files image) { files[file] = files[file][:files.place(file, n)+at] }
	}
	zero := func(file string, from, to int) func(image) {
		return func(files image) { clear(files[file][from:to]) }
	}
	replace := func(file string, data []byte) func(image) {
		return func(files image) { files[file] = data }
	}
	remove := func(file string) func(image) {
		return func(files image) { delete(files, file) }
	}

	cases := []struct {
		name    string
		groups  [][]entry
		damage  func(image)
		survive int    // records that must be there if the ledger opens
		refused string // part of the reason, if it must not open
	}{
		{"undamaged", twoGroups, func(image) {}, 3, ""},
		{"undamaged segments", twoSegments, func(image) {}, 4, ""},

		// The last group.
		{"cut before the last record", twoGroups, cut(live, 2, 0), 2, ""},
		{"cut in the last header", twoGroups, cut(live, 2, 5), 2, ""},
		{"cut after the last header", twoGroups, cut(live, 2, 32), 2, ""},
		{"cut in the last payload", twoGroups, cut(live, 2, 999), 2, ""},
		{"a sector of the last payload", twoGroups, zero(live, 2048, 2560), 2, ""},
		{"the sector of the last header", twoGroups, zero(live, 1432, 1536), 2, ""},
		{"the first sector of a group, not its second", one(bets(300, 1), bets(2000, 2)), zero(live, 64, 512), 0, ""},
		{"less than a sector of the last payload", twoGroups, zero(live, 2048, 2456), 2, "payload is damaged"},
		{"half of the last header", twoGroups, zero(live, 1432, 1448), 2, "header is damaged"},
		{"a bit of the last payload", twoGroups, flip(live, 2, 500), 2, "payload is damaged"},
		{"a bit of the last padding", [][]entry{{bets(1001, 1)}}, flip(live, 0, 32+1007), 0, "payload is damaged"},
		{"a bit of the last length", twoGroups, flip(live, 2, 0), 2, "header is damaged"},
		{"a bit of the last chain value", twoGroups, flip(live, 2, 28), 2, "header is damaged"},
		{"a bit after the end", twoGroups, flip(live, 3, 40), 3, ""},
		{"a bit at the end", twoGroups, flip(live, 3, 0), 3, "header is damaged"},

		// A group before the last: it was acknowledged.
		{"a sector of the first payload", twoGroups, zero(live, 512, 1024), 0, "durable before record 3"},
		{"the sector of the first header", twoGroups, zero(live, 64, 512), 0, "durable before record 3"},
		{"all of the first group", twoGroups, zero(live, 64, 1432), 0, "durable before record 3"},
		{"a bit of the first payload", twoGroups, flip(live, 0, 500), 0, "payload is damaged"},
		{"a bit of the first header", twoGroups, flip(live, 0, 9), 0, "header is damaged"},

		// Segment headers.
		{"header of the only segment", twoGroups, zero(live, 0, 64), 0, "segment's header is damaged"},
		{"a bit of the only segment's header", twoGroups, func(files image) {
			files[live][20] ^= 1
		}, 0, "segment's header is damaged"},
		{"header of a segment without records", nil, zero(live, 0, 64), 0, ""},
		{"half a header of a segment without records", nil, zero(live, 32, 64), 0, ""},
		{"header of a finished segment", twoSegments, zero(finished, 0, 64), 0, "segment's header is damaged"},
		{"header of the last segment", twoSegments, zero(tail, 0, 64), 2, "segment's header is damaged"},

		// An interrupted rotation leaves the last segment without records.
		{"last segment empty", twoSegments, replace(tail, nil), 2, ""},
		{"last segment short", twoSegments, cut(tail, 0, -1), 2, ""},
		{"last segment allocated", twoSegments, replace(tail, make([]byte, ledger.SegmentBytesMin)), 2, ""},
		{"last segment not there yet", twoSegments, remove(tail), 2, ""},
		{"last segment without records", twoSegments, cut(tail, 0, 0), 2, ""},
		{"interrupted, and its predecessor damaged", twoSegments, func(files image) {
			files[tail] = nil
			clear(files[finished][len(files[finished])-512:])
		}, 1, "payload is damaged"},
		{"interrupted, and its predecessor not finished", twoSegments, func(files image) {
			files[tail] = nil
			files[finished] = append(files[finished], make([]byte, 512)...)
		}, 2, "header is damaged"},
		{"interrupted with a wrong name", twoSegments, func(files image) {
			cut(tail, 2, 0)(files)
			files["00000000000000000006.ledger"] = nil
		}, 4, "records 5 to 5 are missing"},

		// Any damage to a finished segment is refused.
		{"finished: a sector of the last payload", twoSegments, zero(finished, 3072, 3584), 1, "payload is damaged"},
		{"finished: a bit of the first payload", twoSegments, flip(finished, 0, 100), 0, "payload is damaged"},
		{"finished: cut at a record", twoSegments, cut(finished, 1, 0), 1, "records 2 to 2 are missing"},
		{"finished: cut in a record", twoSegments, cut(finished, 1, 100), 1, "cut off by the end of the file"},
		{"finished: cut in a header", twoSegments, cut(finished, 1, 10), 1, "cut off by the end of the file"},
		{"finished: something after the end", twoSegments, func(files image) {
			files[finished] = append(files[finished], make([]byte, 8)...)
		}, 2, "cut off by the end of the file"},
		{"first segment missing", twoSegments, remove(finished), 0, "first segment, " + live + ", is missing"},
		{"segment renamed", twoSegments, func(files image) {
			files["00000000000000000009.ledger"] = files[tail]
			delete(files, tail)
		}, 2, "records 3 to 8 are missing"},
		{"segment under two names", twoSegments, func(files image) {
			files["00000000000000000002.ledger"] = files[tail]
		}, 2, "was it renamed"},
		{"segment swapped", twoSegments, func(files image) { files[tail] = files[finished] }, 2, "was it renamed"},
		{"segment of another ledger", twoSegments, func(files image) {
			files[tail] = written(t, twoSegments...)[tail]
		}, 2, "belongs to another ledger"},
		{"segment of another copy of the ledger", twoSegments, func(files image) {
			diverged := files.clone()
			delete(diverged, tail)
			diverged[finished] = diverged[finished][:ledger.SegmentHeaderBytes]
			fsys := diverged.fs()
			l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
			mustCommit(t, l, bets(1800, 8), bets(1800, 9))
			mustCommit(t, l, bets(1000, 3))
			mustClose(t, l)
			files[tail] = imageOf(fsys)[tail]
		}, 2, "does not continue the one before"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			files := written(t, c.groups...)
			c.damage(files)
			survived, err := reopen(t, files, slices.Concat(c.groups...))
			if survived != c.survive {
				t.Errorf("%d records survived, want %d", survived, c.survive)
			}
			switch {
			case c.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.refused != "" &&
				(!errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("got %v, want ErrCorrupt because %q", err, c.refused)
			}
		})
	}
}

// Whichever bit of a small log is flipped, no acknowledged record is lost or changed: Open refuses,
// or finds all records.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	groups := [][]entry{
		{opened("7574|1,2,3,4,5")},
		{bets(900, 1), bets(1, 2), reported(2)},
		{bets(2600, 3), reported(3)},
		{bets(444, 4), bets(17, 5), bets(600, 6)},
		{reported(5)},
	}
	want := slices.Concat(groups...)
	files := written(t, groups...)
	if len(files) != 2 {
		t.Fatalf("%d segments, want 2", len(files))
	}
	refused, repaired := 0, 0
	for name, data := range files {
		end := files.end(name)
		for bit := range 8 * len(data) {
			if free := bit/8 - end; free > ledgertest.SectorBytes && bit%61 != 0 {
				continue // far after the end a sample is enough
			}
			damaged := image{}
			for n, d := range files {
				damaged[n] = d
			}
			damaged[name] = slices.Clone(data)
			damaged[name][bit/8] ^= 1 << (bit % 8)
			survived, err := reopen(t, damaged, want)
			switch {
			case errors.Is(err, ledger.ErrCorrupt):
				refused++
			case err != nil:
				t.Fatalf("%s, bit %d: %v", name, bit, err)
			case survived != len(want):
				t.Fatalf("%s, bit %d: %d of %d records", name, bit, survived, len(want))
			default:
				repaired++
			}
		}
	}
	if refused == 0 || repaired == 0 {
		t.Fatalf("%d refused, %d repaired: the test lacks one of the cases", refused, repaired)
	}
}

// A log that is cut anywhere in its last group keeps the groups before, and that group's whole
// records.
func TestTruncationAtEveryByte(t *testing.T) {
	t.Parallel()
	groups := [][]entry{{bets(500, 1), bets(100, 2)}, {bets(700, 3), reported(1), bets(15, 4)}}
	want := slices.Concat(groups...)
	files := written(t, groups...)
	const live = "00000000000000000001.ledger"
	for size := files.place(live, 2); size <= files.place(live, 5); size++ {
		whole := 2
		for whole < 5 && files.place(live, whole+1) <= size {
			whole++
		}
		for _, zeros := range []int{0, 4096 - size} { // the rest is gone, or was never written
			damaged := image{live: append(slices.Clone(files[live][:size]), make([]byte, zeros)...)}
			survived, err := reopen(t, damaged, want)
			if zeros == 0 && (err != nil || survived != whole) {
				t.Fatalf("cut to %d bytes: %d of %d whole records, %v", size, survived, whole, err)
			}
			// Zeros that begin within a sector may be refused: a torn write leaves whole sectors.
			if zeros != 0 && size%ledgertest.SectorBytes == 0 && (err != nil || survived != whole) {
				t.Fatalf("zeros from %d on: %d of %d whole records, %v", size, survived, whole, err)
			}
		}
	}
}

// Whichever sectors of an unsynced group didn't reach the disk, the ledger opens with the groups
// before.
func TestEverySubsetOfSectors(t *testing.T) {
	before := [][]entry{{bets(200, 1)}, {bets(333, 2), bets(50, 3)}}
	for _, last := range [][]entry{
		{bets(2800, 4)},
		{bets(300, 4), bets(1000, 5), bets(1200, 6)},
		{bets(280, 4), bets(480, 5), bets(480, 6), bets(480, 7), bets(480, 8), bets(476, 9)},
		slices.Repeat([]entry{reported(3)}, 90),
		slices.Repeat([]entry{bets(8, 5)}, 70),
	} {
		const live = "00000000000000000001.ledger"
		all := append(slices.Clone(before), last)
		full := written(t, all...)
		// old is the segment as it was before the last group was written.
		from := full.place(live, 3)
		old := slices.Clone(full[live])
		clear(old[from:])
		first := from / ledgertest.SectorBytes
		end := (full.place(live, 3+len(last)) + ledgertest.SectorBytes - 1) / ledgertest.SectorBytes
		for subset := range 1 << (end - first) {
			data := slices.Clone(old)
			for i := first; i < end; i++ {
				if subset>>(i-first)&1 == 1 {
					at := i * ledgertest.SectorBytes
					copy(data[at:at+ledgertest.SectorBytes], full[live][at:])
				}
			}
			survived, err := reopen(t, image{live: data}, slices.Concat(all...))
			if err != nil || survived < 3 {
				t.Fatalf("%d records, subset %b of the sectors from %d to %d: %d survived, %v",
					len(last), subset, first, end, survived, err)
			}
		}
	}
}
