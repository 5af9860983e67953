package ledger_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// fuzzLog makes the log that FuzzDamage damages: two segments, groups of one and of several
// records, and a seal before the last group. The first sealedThrough records of want are sealed.
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

// FuzzDamage damages a log as the input says. An edit has 5 bytes: one for the file and the kind of
// edit, two for the offset, and two for the length or the changed bits. Whatever the damage, a
// ledger that opens holds only the first of the written records, in order. If the seal is
// undamaged, it holds at least the sealed ones.
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
			case 1: // zero a stretch
				clear(data[offset:end])
			case 2: // cut
				files[name] = data[:offset]
			case 3: // copy a stretch of the other segment
				other := files[names[edits[0]&1^1]]
				copy(data[offset:end], other[min(offset, len(other)):])
			}
		}
		survived, err := reopen(t, files, want)
		if err != nil && !errors.Is(err, ledger.ErrCorrupt) && !errors.Is(err, ledger.ErrVersion) {
			t.Fatal(err)
		}
		if seal, ok := files[ledger.SealName]; ok && err == nil && survived < sealedThrough &&
			slices.Equal(seal, pristine[ledger.SealName]) {
			t.Fatalf("%d records, %d were sealed", survived, sealedThrough)
		}
	})
}

// fuzzSegment makes the segment of a ledger with that id: groups of one and of several records, and
// two sectors of reserved space.
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

// FuzzSegment replays arbitrary bytes as a ledger's only segment. Scan doesn't panic, and accepts
// only records as AppendRecord and Commit would have written them.
func FuzzSegment(f *testing.F) {
	f.Add(fuzzSegment(f, fuzzID))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= ledger.SegmentHeaderBytes { // give it a header: a fuzzer rarely guesses a checksum
			header := ledger.EncodeSegmentHeader(ledger.FormatVersion, fuzzID)
			data = append(header, data[ledger.SegmentHeaderBytes:]...)
		}
		checkSegment(t, data)
	})
}

// checkSegment replays a ledger's only segment, and checks that Commit would have written the
// accepted records with the same bytes.
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
			t.Fatalf("record %d is accepted, but Commit would write other bytes", r.Seq)
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

// FuzzRecord has a byte of these bits for each record: what it leaves as the fuzzer made it.
const (
	spareLength = 1 << iota
	sparePadding
	sparePayloadChecksum
	sparePlace
	spareGroup
)

// FuzzRecord replays records of any kind, length, agency, count, group and payload. repair makes
// each record fit its place and gives it right checksums, because a fuzzer doesn't guess them. A
// byte of spared says what repair leaves alone. Scan accepts a record if and only if AppendRecord
// and Commit could have written it.
func FuzzRecord(f *testing.F) {
	segment := fuzzSegment(f, fuzzID)[ledger.SegmentHeaderBytes:]
	f.Add(segment, []byte{})
	segment = segment[:len(segment)-2*ledgertest.SectorBytes] // without the reserved space
	if _, whole := repair(append(make([]byte, ledger.SegmentHeaderBytes), segment...), nil); !whole {
		f.Fatal("a segment that Commit wrote is not whole")
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
			t.Fatalf("%d of %d records were accepted: %v", got, want, err)
		}
	})
}

// repair makes records fit their places, except for what is spared. It returns how many there are,
// and whether Commit could have written all of data.
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
		// A spared record may still be right. checkSegment decides that, so it isn't counted as
		// whole.
		lawful := b[4] != 0 &&
			(binary.LittleEndian.Uint32(b[16:]) != 0 || binary.LittleEndian.Uint32(b[20:]) != 0)
		whole = whole && spare == 0 && lawful && !slices.Contains(b[ledger.RecordHeaderBytes:end], 0)
		at += ledger.RecordBytes(length)
	}
	return records, whole
}
