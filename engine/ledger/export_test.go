package ledger

import "hash/crc32"

// The tests use these parts of the format.
const (
	FormatVersion      = formatVersion
	SegmentHeaderBytes = segmentHeaderBytes
	RecordHeaderBytes  = recordHeaderBytes
	RecordAlignBytes   = recordAlignBytes
	ReadBytes          = readBytes
	ZeroAheadBytes     = zeroAheadBytes
	SealName           = sealName
	StateName          = stateName
)

var (
	SegmentName  = segmentName
	SegmentFirst = segmentFirst
	Complete     = complete

	PayloadChecksum = payloadChecksum
)

// EncodeSegmentHeader makes the header of a ledger's first segment.
func EncodeSegmentHeader(version uint32, id [16]byte) []byte {
	h := segmentHeader{version: version, id: id, first: 1, chain: ChainStart(id)}
	return h.encode()
}

// Checksum32 is what proves headers and slots.
func Checksum32(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func ChainStart(id [16]byte) uint32 { return ledgerID(id).chainStart() }

func GroupIndex(record []byte) uint32 { h := decodeRecordHeader(record); return h.groupIndex }
