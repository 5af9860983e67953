package agency

import (
	"bytes"
	"slices"
)

// Batch is some consecutive bets of an agency's input, sent as one frame.
type Batch struct {
	// First is how many bets stand before this batch in the input.
	First int64
	// Lines holds the bets as they stand on the wire, each ended by '\n'.
	Lines []byte
	// Rows holds the input's line number of each bet; its length is the
	// number of bets.
	Rows []int
}

// Count is the number of bets.
func (b *Batch) Count() int { return len(b.Rows) }

// end is how many bets of the input there are up to the end of this batch.
func (b *Batch) end() int64 { return b.First + int64(len(b.Rows)) }

// payload is the frame's payload. The '\n' of the last bet is legal there,
// but it is not needed.
func (b *Batch) payload() []byte { return b.Lines[:len(b.Lines)-1] }

// skip drops the first n bets, in place, so that the room can be used again.
func (b *Batch) skip(n int) {
	b.First += int64(n)
	b.Rows = slices.Delete(b.Rows, 0, n)
	b.Lines = slices.Delete(b.Lines, 0, linesBytes(b.Lines, n))
}

// split cuts the batch into batches whose payloads have at most payloadBytesMax
// bytes, which every single bet has to meet. It returns the batch itself if
// that fits, and copies otherwise.
func (b *Batch) split(payloadBytesMax int) []*Batch {
	if len(b.payload()) <= payloadBytesMax {
		return []*Batch{b}
	}
	var parts []*Batch
	part := &Batch{First: b.First}
	rest := b.Lines
	for _, row := range b.Rows {
		n := linesBytes(rest, 1)
		if part.Count() > 0 && len(part.Lines)+n-1 > payloadBytesMax {
			parts = append(parts, part)
			part = &Batch{First: part.end()}
		}
		part.Lines = append(part.Lines, rest[:n]...)
		part.Rows = append(part.Rows, row)
		rest = rest[n:]
	}
	return append(parts, part)
}

// linesBytes is the length of the first n lines.
func linesBytes(lines []byte, n int) int {
	end := 0
	for range n {
		end += bytes.IndexByte(lines[end:], '\n') + 1
	}
	return end
}
