package agency

import (
	"bytes"
	"slices"
)

// Batch holds consecutive bets of an agency's input, which are sent as one frame.
type Batch struct {
	// First is the index of the batch's first bet in the input, from 0.
	First int64
	// Lines holds the bets as they are on the wire, each ended by '\n'.
	Lines []byte
	// Rows holds each bet's line number in the input. Its length is the number of bets.
	Rows []int
}

// Count is the number of bets.
func (b *Batch) Count() int { return len(b.Rows) }

// end is how many bets the input has up to the end of this batch.
func (b *Batch) end() int64 { return b.First + int64(len(b.Rows)) }

// payload is the frame's payload. It leaves out the last '\n', which is legal but not needed.
func (b *Batch) payload() []byte { return b.Lines[:len(b.Lines)-1] }

// skip drops the first n bets, in place, so that their memory can be used again.
func (b *Batch) skip(n int) {
	b.First += int64(n)
	b.Rows = slices.Delete(b.Rows, 0, n)
	b.Lines = slices.Delete(b.Lines, 0, linesBytes(b.Lines, n))
}

// split cuts the batch into batches whose payloads have at most payloadBytesMax bytes. Every single
// bet has to fit. If the whole batch fits, split returns the batch itself, otherwise copies.
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
