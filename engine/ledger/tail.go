package ledger

import (
	"fmt"
)

// damage says why the bytes at an offset are not the next record.
type damage struct {
	reason string
	extent int // how many bytes from that offset on surely belong to the record
}

// look reads the next record at the reader's offset, or finds damage there. The payload is valid
// until the reader is used again.
func (p *replayer) look() (h recordHeader, payload []byte, found *damage, err error) {
	b, err := p.r.peek(recordHeaderBytes)
	if err != nil {
		return h, nil, nil, err
	}
	// Any damage discredits the whole header, because the chain covers all its fields together.
	if len(b) < recordHeaderBytes {
		reason := "the record's header is cut off by the end of the file"
		return h, nil, &damage{reason, recordHeaderBytes}, nil
	}
	h = decodeRecordHeader(b)
	if !h.lawful() || h.seq != p.next || h.chain != chainNext(p.chain, b) {
		return h, nil, &damage{"the record's header is damaged", recordHeaderBytes}, nil
	}
	size := h.recordBytes()
	if b, err = p.r.peek(size); err != nil {
		return h, nil, nil, err
	}
	if len(b) < size {
		return h, nil, &damage{"the record's payload is cut off by the end of the file", size}, nil
	}
	payload, padding := b[recordHeaderBytes:recordHeaderBytes+h.length], b[recordHeaderBytes+h.length:]
	if payloadChecksum(payload) != h.payloadCRC || !allZero(padding) {
		return h, nil, &damage{"the record's payload is damaged", size}, nil
	}
	return h, payload, nil, nil
}

// verdict says what damage in the last segment means.
type verdict int

const (
	clean   verdict = iota // no damage: nothing was written from here on
	torn                   // a write that was never synced
	refused                // damage to something that may have been acknowledged
)

type judgement struct {
	verdict verdict
	reason  string
}

// judge applies the tail rule (see the package comment) to damage at the reader's offset in the
// last segment. It moves the reader.
func (p *replayer) judge(d damage) (judgement, error) {
	offset := p.r.offset
	b, err := p.r.peek(d.extent)
	if err != nil {
		return judgement{}, err
	}
	if len(b) == d.extent && !missesSector(b, offset) {
		return judgement{refused, d.reason}, nil
	}
	if allZero(b) {
		empty, err := p.r.zeroToEnd()
		if err != nil || empty {
			return judgement{clean, ""}, err
		}
		p.r.seek(offset)
	}
	if p.walk != nil && p.walk.together() {
		return judgement{torn, d.reason}, nil // entries that follow share its sync
	}
	later, err := p.laterGroup()
	if err != nil {
		return judgement{}, err
	}
	if later != 0 {
		reason := fmt.Sprintf("%s, though it was durable before record %d, which follows, was written",
			d.reason, later)
		return judgement{refused, reason}, nil
	}
	return judgement{torn, d.reason}, nil
}

// missesSector reports whether some sector's part of b is all zero. b lies at offset in the file.
// An intact record has no such part, so that sector was never written.
func missesSector(b []byte, offset int64) bool {
	for len(b) > 0 {
		part := min(len(b), int(sectorBytes-offset%sectorBytes))
		if allZero(b[:part]) {
			return true
		}
		b, offset = b[part:], offset+int64(part)
	}
	return false
}

// laterGroup looks after the reader's offset for a record of a group that began after the record
// expected there, and returns its sequence number, or 0. Such a group was written after the
// expected record had been synced. laterGroup moves the reader.
//
// The fields of the header are enough evidence. Text and zeros don't look like it. A header that
// lost a sector has lost its kind with the group index, or its sequence number, or both are still
// right. In doubt it is safe to refuse.
func (p *replayer) laterGroup() (uint64, error) {
	start := p.r.offset
	for {
		b, err := p.r.peek(recordHeaderBytes)
		if err != nil || len(b) < recordHeaderBytes {
			return 0, err
		}
		h := decodeRecordHeader(b)
		// The records between the expected one and this one take at least a header each.
		seqMax := p.next + uint64(p.r.offset-start)/recordHeaderBytes
		if h.lawful() && h.seq > p.next && h.seq <= seqMax &&
			h.groupFirst() > p.next && h.groupFirst() <= h.seq {
			return h.seq, nil
		}
		p.r.skip(recordAlignBytes)
	}
}
