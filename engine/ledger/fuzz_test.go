package ledger

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

// fuzzLog is the log that FuzzDamage damages: two segments, groups of one and of several records.
func fuzzLog(t testing.TB) (image, []entry) {
	groups := [][]entry{
		{{Opened, 0, 5, "7574"}, bets(1400, 1)},
		{bets(2500, 2)},
		{bets(700, 3), {Reported, 3, 0, ""}, bets(13, 4)},
		{bets(1100, 5), {Reported, 5, 0, ""}},
	}
	return written(t, groups...), slices.Concat(groups...)
}

// FuzzDamage damages a log as the input says: 5 bytes an edit, of which the first tells the file and what
// to do, two the offset and two the length or the new bytes. Whatever is done, a ledger that
// opens holds a beginning of what was written.
func FuzzDamage(f *testing.F) {
	edit := func(file, what byte, offset, argument uint16) []byte {
		return binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16([]byte{what<<1 | file}, offset), argument)
	}
	f.Add([]byte{})
	f.Add(edit(0, 0, 100, 0x0100))
	f.Add(edit(1, 1, 512, 512))
	f.Add(slices.Concat(edit(1, 1, 64, 8), edit(1, 2, 900, 0)))
	f.Add(edit(1, 3, 64, 1536))
	pristine, want := fuzzLog(f)
	names := []string{segmentName(1), ""}
	for name := range pristine {
		names[1] = max(names[1], name)
	}
	f.Fuzz(func(t *testing.T, edits []byte) {
		files := pristine.clone()
		for ; len(edits) >= 5; edits = edits[5:] {
			name := names[edits[0]&1]
			data := files[name]
			argument := int(binary.LittleEndian.Uint16(edits[3:]))
			offset := min(int(binary.LittleEndian.Uint16(edits[1:])), len(data))
			end := min(offset+argument, len(data))
			switch edits[0] >> 1 & 3 {
			case 0: // change two bytes
				for i, b := range data[offset:min(offset+2, len(data))] {
					data[offset+i] = b ^ edits[3+i]
				}
			case 1: // a stretch of zeros
				clear(data[offset:end])
			case 2: // cut
				files[name] = data[:offset]
			case 3: // a stretch of the other segment
				other := files[names[edits[0]&1^1]]
				copy(data[offset:end], other[min(offset, len(other)):])
			}
		}
		if _, err := reopen(t, files, want); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatal(err)
		}
	})
}

// FuzzSegment replays arbitrary bytes as a ledger's only segment. There is no panic, and what is
// accepted is exactly what AppendRecord and Commit would have written.
func FuzzSegment(f *testing.F) {
	files, _ := fuzzLog(f)
	for _, data := range files {
		f.Add(data)
	}
	f.Add([]byte{})
	f.Add(make([]byte, 600))
	f.Fuzz(func(t *testing.T, data []byte) {
		id := ledgerID([]byte("fuzzed segments."))
		if len(data) >= segmentHeaderBytes { // fuzzing rarely finds a checksum, so give it the header's
			h := segmentHeader{version: formatVersion, id: id, first: 1, chain: id.chainStart()}
			data = append(h.encode(), data[segmentHeaderBytes:]...)
		}
		fsys := image{segmentName(1): data}.fs()
		var again []byte
		at, chain := segmentHeaderBytes, id.chainStart()
		tail, err := Scan(testDir, Options{FS: fsys}, func(r Record) error {
			again = AppendRecord(again[:0], r.Kind, r.Agency, r.Count, r.Payload)
			index := decodeRecordHeader(data[at:]).groupIndex
			chain = seal(again, index, r.Seq, chain)
			if got := data[at : at+len(again)]; !slices.Equal(got, again) {
				t.Fatalf("record %d is accepted, but is written otherwise", r.Seq)
			}
			at += len(again)
			return nil
		})
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatal(err)
		}
		if err == nil && tail.Segments == 1 && tail.Offset != int64(at) {
			t.Fatalf("the tail is at %d, the records end at %d", tail.Offset, at)
		}
	})
}
