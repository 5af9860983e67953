package ledger

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
)

// Limits and sizes of the format, in bytes.
const (
	// RecordPayloadBytesMax is the longest payload of a record.
	RecordPayloadBytesMax = 16 << 20

	// SegmentBytesDefault is the size of a segment when Options don't say. To begin one takes 3 ms, in
	// which nothing is committed: with segments of 64 MB that was 5 % of a busy server's time.
	SegmentBytesDefault = 512 << 20
	// SegmentBytesMin is the smallest size that Options may ask for.
	SegmentBytesMin = 4 << 10
	// SegmentBytesMax is the largest size that Options may ask for. A segment of
	// this size holds fewer than 1<<24 records, so that a group index always fits.
	SegmentBytesMax = 512 << 20

	// ReserveBytesDefault is how much space is reserved at a time when Options don't say.
	ReserveBytesDefault = 64 << 20

	segmentHeaderBytes = 64
	recordHeaderBytes  = 32
	recordAlignBytes   = 8
	sectorBytes        = 512 // what a disk writes whole or not at all
)

const (
	formatVersion = 1
	segmentMagic  = "LOTERIA\n"
	segmentSuffix = ".ledger"
	segmentDigits = 20 // of the first sequence number in a segment's name
	lockName      = "LOCK"

	// payloadSeed starts every payload checksum, so that the checksum of an empty payload is not zero.
	payloadSeed = 0x4c4f5445
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Kind says what a record means. The numbers are part of the format; zero is invalid.
type Kind uint8

// The kinds of records.
const (
	Opened   Kind = 1 // the settings of the draw; the first record of a ledger
	Bets     Kind = 2 // a batch of one agency's bets, as received
	Reported Kind = 3 // an agency has no more bets
	Served   Kind = 4 // agencies have their winners; the payload names them
)

func (k Kind) String() string {
	switch k {
	case Opened:
		return "opened"
	case Bets:
		return "bets"
	case Reported:
		return "reported"
	case Served:
		return "served"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Record is one entry of the log: as replayed, or as [Unpack] finds it in a run.
type Record struct {
	Kind     Kind
	Agency   uint32
	Count    uint32
	Seq      uint64   // from 1, without gaps; 0 in a run, where it has no place yet
	Payload  []byte   // valid only during the call that hands it over; in a run, a part of it
	Checksum Checksum // of Payload
}

// Checksum proves a record's payload. It is computed once, when the record is packed, so that
// nobody who needs it has to read the payload again.
type Checksum uint32

// CRC32C is the checksum as package hash/crc32 computes it: sum is crc32.Update(seed,
// crc32.MakeTable(crc32.Castagnoli), payload). Where the seed comes from is the format's affair.
func (c Checksum) CRC32C() (sum, seed uint32) { return uint32(c), payloadSeed }

// RecordBytes is how many bytes a record with a payload of payloadBytes occupies, packed.
func RecordBytes(payloadBytes int) int {
	return recordHeaderBytes + (payloadBytes+recordAlignBytes-1)&^(recordAlignBytes-1)
}

// AppendRecord packs one record onto dst and returns the longer slice. dst must be
// empty or hold nothing but packed records: the result is a run for [Ledger.Commit], which
// fills in what depends on the record's place in the log.
//
// The payload must not contain NUL bytes (see "The tail rule" in the package comment), and agency and
// count must not both be zero. The payload is copied. AppendRecord is pure, allocates only when dst
// lacks room ([RecordBytes] tells how much it takes), and may be called by many goroutines, each with a dst of its own.
//
// It panics on a zero kind, on agency and count both zero, and on a payload over [RecordPayloadBytesMax].
func AppendRecord(dst []byte, kind Kind, agency, count uint32, payload []byte) []byte {
	switch {
	case kind == 0:
		panic("ledger: record without a kind")
	case agency == 0 && count == 0:
		panic("ledger: record whose agency and count are both zero")
	case len(payload) > RecordPayloadBytesMax:
		panic(fmt.Sprintf("ledger: payload of %d bytes, at most %d are legal", len(payload), RecordPayloadBytesMax))
	}
	start, total := len(dst), RecordBytes(len(payload))
	dst = slices.Grow(dst, total)[:start+total]
	b := dst[start:]
	h := recordHeader{
		length:     uint32(len(payload)),
		kind:       kind,
		agency:     agency,
		count:      count,
		payloadCRC: payloadChecksum(payload),
	}
	h.encode(b)
	used := recordHeaderBytes + copy(b[recordHeaderBytes:], payload)
	clear(b[used:])
	return dst
}

// Unpack takes the first record off a run: packed records as [AppendRecord] makes them, back to
// back. The record's payload and rest are parts of run, and nothing is copied. Only the record's
// header is read; the payload isn't checked against its checksum. Unpack is pure, doesn't allocate,
// and may be called by many goroutines.
//
// It panics if run doesn't begin with a whole packed record, so on an empty run, too.
func Unpack(run []byte) (first Record, rest []byte) {
	h := packedHeader(run)
	end := recordHeaderBytes + int(h.length)
	return Record{
		Kind: h.kind, Agency: h.agency, Count: h.count,
		Payload: run[recordHeaderBytes:end:end], Checksum: Checksum(h.payloadCRC),
	}, run[h.recordBytes():]
}

// packedHeader is the header of the record that run begins with, which is there as a whole.
func packedHeader(run []byte) recordHeader {
	if len(run) < recordHeaderBytes {
		panic("ledger: a run must hold whole records: make it with AppendRecord")
	}
	h := decodeRecordHeader(run)
	if !h.lawful() || h.recordBytes() > len(run) {
		panic("ledger: a run must hold whole records: make it with AppendRecord")
	}
	return h
}

func payloadChecksum(payload []byte) uint32 { return crc32.Update(payloadSeed, castagnoli, payload) }

// recordHeader is the decoded form of a record's first 32 bytes.
type recordHeader struct {
	length     uint32 // of the payload, without padding
	kind       Kind
	groupIndex uint32 // 24 bits: how many records of the same group come before this one in its segment
	seq        uint64
	agency     uint32
	count      uint32
	payloadCRC uint32
	chain      uint32
}

// encode writes the header as AppendRecord leaves it: without its place in the log.
func (h *recordHeader) encode(b []byte) {
	_ = b[recordHeaderBytes-1]
	binary.LittleEndian.PutUint32(b[0:], h.length)
	binary.LittleEndian.PutUint32(b[4:], uint32(h.kind))
	binary.LittleEndian.PutUint64(b[8:], 0)
	binary.LittleEndian.PutUint32(b[16:], h.agency)
	binary.LittleEndian.PutUint32(b[20:], h.count)
	binary.LittleEndian.PutUint32(b[24:], h.payloadCRC)
	binary.LittleEndian.PutUint32(b[28:], 0)
}

// complete fills in a packed header in place for its position in the log and
// returns the chain value after it. All three fields are overwritten, whatever they held.
func complete(b []byte, groupIndex uint32, seq uint64, chain uint32) uint32 {
	_ = b[recordHeaderBytes-1]
	binary.LittleEndian.PutUint32(b[4:], uint32(b[4])|groupIndex<<8)
	binary.LittleEndian.PutUint64(b[8:], seq)
	chain = chainNext(chain, b)
	binary.LittleEndian.PutUint32(b[28:], chain)
	return chain
}

func decodeRecordHeader(b []byte) recordHeader {
	_ = b[recordHeaderBytes-1]
	word := binary.LittleEndian.Uint32(b[4:])
	return recordHeader{
		length:     binary.LittleEndian.Uint32(b[0:]),
		kind:       Kind(word),
		groupIndex: word >> 8,
		seq:        binary.LittleEndian.Uint64(b[8:]),
		agency:     binary.LittleEndian.Uint32(b[16:]),
		count:      binary.LittleEndian.Uint32(b[20:]),
		payloadCRC: binary.LittleEndian.Uint32(b[24:]),
		chain:      binary.LittleEndian.Uint32(b[28:]),
	}
}

// lawful reports whether the fields are ones that AppendRecord could have written.
func (h *recordHeader) lawful() bool {
	return h.kind != 0 && h.length <= RecordPayloadBytesMax && (h.agency != 0 || h.count != 0)
}

// recordBytes is the packed size; call it only on a lawful header.
func (h *recordHeader) recordBytes() int { return RecordBytes(int(h.length)) }

// groupFirst is the sequence number at which the record's group begins in its segment.
func (h *recordHeader) groupFirst() uint64 { return h.seq - uint64(h.groupIndex) }

// chainNext continues the chain checksum over a record header.
func chainNext(chain uint32, header []byte) uint32 {
	return crc32.Update(chain, castagnoli, header[:recordHeaderBytes-4])
}

// ledgerID tells the segments of one ledger from those of another.
type ledgerID [16]byte

// chainStart is the chain value before a ledger's first record.
func (id ledgerID) chainStart() uint32 { return crc32.Checksum(id[:], castagnoli) }

// segmentHeader is the decoded form of a segment's first 64 bytes.
type segmentHeader struct {
	version uint32
	id      ledgerID
	first   uint64 // sequence number of the segment's first record
	chain   uint32 // chain value before that record
}

func (h *segmentHeader) encode() []byte {
	b := make([]byte, segmentHeaderBytes)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], h.version)
	copy(b[12:28], h.id[:])
	binary.LittleEndian.PutUint64(b[28:], h.first)
	binary.LittleEndian.PutUint32(b[36:], h.chain)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// decodeSegmentHeader reports false if the bytes are not an intact header of any version:
// all versions keep the magic, the version and the checksum where they are.
func decodeSegmentHeader(b []byte) (segmentHeader, bool) {
	if len(b) < segmentHeaderBytes || string(b[:len(segmentMagic)]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return segmentHeader{}, false
	}
	return segmentHeader{
		version: binary.LittleEndian.Uint32(b[8:]),
		id:      ledgerID(b[12:28]),
		first:   binary.LittleEndian.Uint64(b[28:]),
		chain:   binary.LittleEndian.Uint32(b[36:]),
	}, true
}

func segmentName(first uint64) string {
	return fmt.Sprintf("%0*d%s", segmentDigits, first, segmentSuffix)
}

// segmentFirst reads the first sequence number from a segment's name and reports whether it is such a name.
func segmentFirst(name string) (uint64, bool) {
	digits, found := strings.CutSuffix(name, segmentSuffix)
	if !found || len(digits) != segmentDigits {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil
}
