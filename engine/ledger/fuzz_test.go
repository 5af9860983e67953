package ledger_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// fuzzLog is the log that FuzzDamage damages: two segments, groups of one and of several records, and a seal before the last group.
func fuzzLog(t testing.TB) (files image, want []entry, sealedThrough int) {
	before := [][]entry{
		{opened("7574"), bets(1400, 1)},
		{bets(2500, 2)},
		{bets(700, 3), reported(3), bets(13, 4)},
	}
	after := [][]entry{{bets(1100, 5), reported(5)}}
	want = slices.Concat(before...)
	return sealed(t, before, after), slices.Concat(want, after[0]), len(want)
}

// FuzzDamage damages a log as the input says: 5 bytes an edit, of which the first tells the file and what
// to do, two the offset and two the length or the new bytes. Whatever is done, a ledger that
// opens holds a beginning of what was written, and if its seal is what it was, at least what was sealed.
func FuzzDamage(f *testing.F) {
	pristine, want, sealedThrough := fuzzLog(f)
	names := []string{ledger.SegmentName(1), ""}
	for name := range pristine {
		if name != ledger.SealName {
			names[1] = max(names[1], name)
		}
	}
	f.Fuzz(func(t *testing.T, edits []byte) {
		files := pristine.clone()
		for ; len(edits) >= 5; edits = edits[5:] {
			name := names[edits[0]&1]
			if edits[0]&8 != 0 {
				name = ledger.SealName
			}
			if edits[0]&16 != 0 {
				delete(files, name)
				continue
			}
			data, there := files[name]
			if !there {
				continue
			}
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
		survived, err := reopen(t, files, want)
		if err != nil && !errors.Is(err, ledger.ErrCorrupt) && !errors.Is(err, ledger.ErrVersion) {
			t.Fatal(err)
		}
		if seal, ok := files[ledger.SealName]; ok && err == nil && survived < sealedThrough && slices.Equal(seal, pristine[ledger.SealName]) {
			t.Fatalf("%d records, %d were sealed", survived, sealedThrough)
		}
	})
}

// fuzzSegment is a segment of the ledger with that id: groups of one and of several records, and some of what is reserved.
func fuzzSegment(t testing.TB, id [16]byte) []byte {
	name := ledger.SegmentName(1)
	fsys := image{name: ledger.EncodeSegmentHeader(ledger.FormatVersion, id)}.fs()
	l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
	mustCommit(t, l, opened("7574"))
	mustCommit(t, l, bets(700, 1), reported(3), bets(13, 2))
	mustCommit(t, l, bets(400, 3))
	mustClose(t, l)
	files := imageOf(fsys)
	return files[name][:files.end(name)+2*ledgertest.SectorBytes]
}

var fuzzID = [16]byte([]byte("fuzzed segments."))

// FuzzSegment replays arbitrary bytes as a ledger's only segment. There is no panic, and what is
// accepted is exactly what AppendRecord and Commit would have written.
func FuzzSegment(f *testing.F) {
	f.Add(fuzzSegment(f, fuzzID))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= ledger.SegmentHeaderBytes { // fuzzing rarely finds a checksum, so give it the header's
			data = append(ledger.EncodeSegmentHeader(ledger.FormatVersion, fuzzID), data[ledger.SegmentHeaderBytes:]...)
		}
		checkSegment(t, data)
	})
}

// checkSegment replays a ledger's only segment.
func checkSegment(t *testing.T, data []byte) (records int, err error) {
	t.Helper()
	fsys := image{ledger.SegmentName(1): data}.fs()
	var again []byte
	at, chain := ledger.SegmentHeaderBytes, ledger.ChainStart(fuzzID)
	tail, err := ledger.Scan(testDir, ledger.Options{FS: fsys}, func(r ledger.Record) error {
		records++
		again = ledger.AppendRecord(again[:0], r.Kind, r.Agency, r.Count, r.Payload)
		chain = ledger.Complete(again, ledger.GroupIndex(data[at:]), r.Seq, chain)
		if got := data[at : at+len(again)]; !slices.Equal(got, again) {
			t.Fatalf("record %d is accepted, but is written otherwise", r.Seq)
		}
		at += len(again)
		return nil
	})
	if err != nil && !errors.Is(err, ledger.ErrCorrupt) && !errors.Is(err, ledger.ErrVersion) {
		t.Fatal(err)
	}
	if err == nil && tail.Segments == 1 && tail.Offset != int64(at) {
		t.Fatalf("the tail is at %d, the records end at %d", tail.Offset, at)
	}
	return records, err
}

// What FuzzRecord leaves as the fuzzer made it, by bits of a byte a record.
const (
	spareLength = 1 << iota
	sparePadding
	sparePayloadChecksum
	sparePlace
	spareGroup
)

// FuzzRecord replays records of any kind, length, agency, count, group and payload whose checksums are right, so
// that the fuzzer gets behind them: but for what a byte of spared says, every record is made to fit its place. What is
// accepted is exactly what AppendRecord and Commit would have written, and what could have been written is accepted.
func FuzzRecord(f *testing.F) {
	segment := fuzzSegment(f, fuzzID)[ledger.SegmentHeaderBytes:]
	f.Add(segment, []byte{})
	segment = segment[:len(segment)-2*ledgertest.SectorBytes] // without what is reserved
	if _, whole := repair(append(make([]byte, ledger.SegmentHeaderBytes), segment...), nil); !whole {
		f.Fatal("a segment that was written is not whole")
	}
	f.Add(segment, []byte{})
	for _, spared := range []byte{spareLength, sparePadding, sparePayloadChecksum, sparePlace, spareGroup} {
		f.Add(segment, []byte{0, 0, spared})
	}
	f.Fuzz(func(t *testing.T, data, spared []byte) {
		data = append(ledger.EncodeSegmentHeader(ledger.FormatVersion, fuzzID), data...)
		want, whole := repair(data, spared)
		got, err := checkSegment(t, data)
		if whole && (err != nil || got != want) {
			t.Fatalf("%d of %d records are accepted: %v", got, want, err)
		}
	})
}

// repair makes records fit their places. It reports how many they are, and whether all of data is what could have been
// written.
func repair(data, spared []byte) (records int, whole bool) {
	whole = true
	chain := ledger.ChainStart(fuzzID)
	for at := ledger.SegmentHeaderBytes; at < len(data); records++ {
		b := data[at:]
		if len(b) < ledger.RecordHeaderBytes {
			return records, false
		}
		spare := byte(0)
		if records < len(spared) {
			spare = spared[records]
		}
		room := (len(b) - ledger.RecordHeaderBytes) &^ (ledger.RecordAlignBytes - 1)
		length := int(binary.LittleEndian.Uint32(b))
		if length > room {
			if spare&spareLength != 0 {
				return records, false
			}
			length %= room + 1
			binary.LittleEndian.PutUint32(b, uint32(length))
		}
		end := ledger.RecordHeaderBytes + length
		padding := b[end:ledger.RecordBytes(length)]
		if spare&sparePadding == 0 {
			clear(padding)
		}
		if spare&sparePayloadChecksum == 0 {
			binary.LittleEndian.PutUint32(b[24:], ledger.PayloadChecksum(b[ledger.RecordHeaderBytes:end]))
		}
		if spare&spareGroup == 0 {
			clear(b[5:8])
		}
		if spare&sparePlace == 0 {
			chain = ledger.Complete(b, ledger.GroupIndex(b), uint64(records+1), chain)
		}
		// What is spared may be right all the same, which is for checkSegment to see.
		lawful := b[4] != 0 && (binary.LittleEndian.Uint32(b[16:]) != 0 || binary.LittleEndian.Uint32(b[20:]) != 0)
		whole = whole && spare == 0 && lawful && !slices.Contains(b[ledger.RecordHeaderBytes:end], 0)
		at += ledger.RecordBytes(length)
	}
	return records, whole
}
