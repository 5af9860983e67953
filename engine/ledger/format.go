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

	// SegmentBytesDefault is the default of Options.SegmentBytes. Beginning a segment takes 3 ms,
	// during which nothing is committed: with segments of 64 MB that was 5 % of a busy server's
	// time.
	SegmentBytesDefault = 512 << 20
	// SegmentBytesMin is the least Options.SegmentBytes.
	SegmentBytesMin = 4 << 10
	// SegmentBytesMax is the largest Options.SegmentBytes. A segment of this size holds fewer
	// than 1<<24 records, so a group index always fits into its 24 bits.
	SegmentBytesMax = 512 << 20

	// ReserveBytesDefault is the default of Options.ReserveBytes.
	ReserveBytesDefault = 64 << 20

	segmentHeaderBytes = 64
	recordHeaderBytes  = 32
	recordAlignBytes   = 8
	sectorBytes        = 512 // what a disk writes whole or not at all
)

const (
	formatVersion = 1 // of a single server's ledger
	entryVersion  = 2 // of one that several servers keep: see EntryLog
	segmentMagic  = "LOTERIA\n"
	segmentSuffix = ".ledger"
	segmentDigits = 20 // of the first sequence number in a segment's name
	lockName      = "LOCK"

	// payloadSeed starts every payload checksum, so that an empty payload's checksum isn't zero.
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
	Mark     Kind = 5 // an entry begins, in a ledger that several servers keep; see EntryLog
	Ended    Kind = 6 // the servers of a draw have ended; in a ledger that several servers keep
	Members  Kind = 7 // which servers keep the ledger from here on; alone in its entry
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
	case Mark:
		return "entry"
	case Ended:
		return "ended"
	case Members:
		return "members"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Record is one entry of the log, as it is replayed or as [Unpack] finds it in a run.
type Record struct {
	Kind     Kind
	Agency   uint32
	Count    uint32
	Seq      uint64   // from 1, without gaps; 0 from Unpack
	Payload  []byte   // valid only during the call of visit; from Unpack, a part of the run
	Checksum Checksum // of Payload
}

// Checksum proves a record's payload. It is computed once, when the record is packed, so that its
// users need not read the payload again.
type Checksum uint32

// CRC32C returns the checksum in terms of package hash/crc32: sum is crc32.Update(seed,
// crc32.MakeTable(crc32.Castagnoli), payload). The format defines the seed.
func (c Checksum) CRC32C() (sum, seed uint32) { return uint32(c), payloadSeed }

// RecordBytes returns how many bytes a packed record with a payload of payloadBytes takes.
func RecordBytes(payloadBytes int) int {
	return recordHeaderBytes + (payloadBytes+recordAlignBytes-1)&^(recordAlignBytes-1)
}

// AppendRecord appends one packed record to dst and returns the longer slice. dst must be empty or
// hold only packed records: the result is a run for [Ledger.Commit], which fills in what depends on
// the record's place in the log.
//
// The payload is copied. It must not contain NUL bytes (see "The tail rule" in the package
// comment). AppendRecord allocates only when dst lacks room for [RecordBytes] more. Many goroutines
// may call it, each with a dst of its own.
//
// It panics if kind is zero, if agency and count are both zero, and if the payload is longer than
// [RecordPayloadBytesMax].
func AppendRecord(dst []byte, kind Kind, agency, count uint32, payload []byte) []byte {
	switch {
	case kind == 0:
		panic("ledger: record without a kind")
	case agency == 0 && count == 0:
		panic("ledger: record whose agency and count are both zero")
	case len(payload) > RecordPayloadBytesMax:
		panic(fmt.Sprintf("ledger: payload of %d bytes, at most %d are legal",
			len(payload), RecordPayloadBytesMax))
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

// Unpack splits a run, as [AppendRecord] makes it, into its first record and the rest. The record's
// payload and rest are parts of run; nothing is copied. Unpack reads only the record's header, and
// doesn't check the payload against its checksum. It doesn't allocate. Many goroutines may call it,
// also on the same run.
//
// It panics if run doesn't begin with a whole packed record, also if run is empty.
func Unpack(run []byte) (first Record, rest []byte) {
	h := packedHeader(run)
	end := recordHeaderBytes + int(h.length)
	return Record{
		Kind: h.kind, Agency: h.agency, Count: h.count,
		Payload: run[recordHeaderBytes:end:end], Checksum: Checksum(h.payloadCRC),
	}, run[h.recordBytes():]
}

// FirstKind returns the kind of a run's first record, and 0 if there is no room for one in it. The
// rest of the run need not be right.
func FirstKind(run []byte) Kind {
	if len(run) < recordHeaderBytes {
		return 0
	}
	return decodeRecordHeader(run).kind
}

// packedHeader returns the header of run's first record. It panics if the record isn't whole.
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

func payloadChecksum(payload []byte) uint32 {
	return crc32.Update(payloadSeed, castagnoli, payload)
}

// recordHeader is the decoded form of a record's first 32 bytes.
type recordHeader struct {
	length     uint32 // of the payload, without padding
	kind       Kind
	groupIndex uint32 // 24 bits: how many records lie between this one and its segment's last sync
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

// complete fills in, in place, the fields of a packed header that depend on its place in the log,
// and returns the chain value after it. It overwrites all three fields, so a run can be committed
// again.
func complete(b []byte, groupIndex uint32, seq uint64, chain uint32) uint32 {
	_ = b[recordHeaderBytes-1]
	binary.LittleEndian.PutUint32(b[4:], uint32(b[4])|groupIndex<<8)
	binary.LittleEndian.PutUint64(b[8:], seq)
	chain = chainNext(chain, b)
	binary.LittleEndian.PutUint32(b[28:], chain)
	return chain
}

// unplace makes a packed record what AppendRecord made, before complete.
func unplace(b []byte) {
	h := decodeRecordHeader(b)
	h.encode(b)
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

// lawful reports whether AppendRecord could have written these fields.
func (h *recordHeader) lawful() bool {
	return h.kind != 0 && h.length <= RecordPayloadBytesMax && (h.agency != 0 || h.count != 0)
}

// recordBytes returns the size of the packed record. Call it only on a lawful header.
func (h *recordHeader) recordBytes() int { return RecordBytes(int(h.length)) }

// groupFirst returns the sequence number of the first record of the record's group in its segment.
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

	segmentBytes uint64 // at which a segment ends; 0 in version 1, where each start may choose
}

func (h *segmentHeader) encode() []byte {
	b := make([]byte, segmentHeaderBytes)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], h.version)
	copy(b[12:28], h.id[:])
	binary.LittleEndian.PutUint64(b[28:], h.first)
	binary.LittleEndian.PutUint32(b[36:], h.chain)
	binary.LittleEndian.PutUint64(b[40:], h.segmentBytes)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// decodeSegmentHeader reports false if the bytes are not an intact header. It accepts every
// version: all have the magic, the version and the checksum in the same places.
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

		segmentBytes: binary.LittleEndian.Uint64(b[40:]),
	}, true
}

func segmentName(first uint64) string {
	return fmt.Sprintf("%0*d%s", segmentDigits, first, segmentSuffix)
}

// segmentFirst reads the sequence number from a segment's name. It reports false for other names.
func segmentFirst(name string) (uint64, bool) {
	digits, found := strings.CutSuffix(name, segmentSuffix)
	if !found || len(digits) != segmentDigits {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil
}
