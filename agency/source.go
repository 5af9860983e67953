package agency

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"loteria/codec"
)

// sourceAhead is how many batches are read ahead of the window.
const sourceAhead = 8

// batchLimits limit the batches of a source.
type batchLimits struct {
	bets         int // at least 1
	payloadBytes int // at least codec.BetBytesMax
}

// source reads an input into batches, in its own goroutine.
type source struct {
	rows   *rowReader
	limits batchLimits
	today  func() codec.Date

	// batches is closed at the end of the input or after an error.
	batches chan *Batch
	// spare carries batches whose memory can be used again.
	spare chan *Batch
	quit  chan struct{}

	// total and err are valid once batches is closed.

	total int64 // bets of the input
	err   error // *RowError, or an error of reading the input
}

// newSource returns a source that doesn't read until run is called. window is how many batches the
// caller holds at most.
func newSource(rows *rowReader, limits batchLimits, window int, today func() codec.Date) *source {
	return &source{
		rows:    rows,
		limits:  limits,
		today:   today,
		batches: make(chan *Batch, sourceAhead),
		spare:   make(chan *Batch, sourceAhead+window),
		quit:    make(chan struct{}),
	}
}

// run reads until the end of the input, an error, or stop.
func (s *source) run() {
	defer close(s.batches)
	var carry []byte // the row that didn't fit into the last batch
	var carryRow int
	for {
		b := s.empty()
		var err error
		b.Lines = append(b.Lines, carry...)
		if len(carry) > 0 {
			b.Rows = append(b.Rows, carryRow)
		}
		carry, carryRow, err = s.fill(b, carry[:0])
		if invalid := s.check(b); invalid != nil {
			s.err = invalid
			return
		}
		if err != nil && !errors.Is(err, io.EOF) {
			s.err = err
			return
		}
		if b.Count() > 0 {
			s.total = b.end()
			select {
			case s.batches <- b:
			case <-s.quit:
				return
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
	}
}

// fill appends rows to b until b is full or there is an error. A row that exceeds the limit in
// bytes is appended to carry instead.
func (s *source) fill(b *Batch, carry []byte) (carried []byte, carriedRow int, err error) {
	for b.Count() < s.limits.bets {
		before := len(b.Lines)
		if b.Lines, err = s.rows.appendBet(b.Lines); err != nil {
			return carry, 0, err
		}
		if len(b.Lines)-1 > s.limits.payloadBytes && before > 0 {
			carry = append(carry, b.Lines[before:]...)
			b.Lines = b.Lines[:before]
			return carry, s.rows.line, nil
		}
		b.Rows = append(b.Rows, s.rows.line)
	}
	return carry, 0, nil
}

// check validates all bets of the batch at once, as the server will.
func (s *source) check(b *Batch) error {
	if b.Count() == 0 {
		return nil
	}
	rules := codec.Rules{Today: s.today(), WinningNumber: numberNone}
	_, _, err := codec.ParseBatch(b.payload(), rules, nil)
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*codec.Error](err)
	if !ok || invalid.Line < 1 || invalid.Line > b.Count() {
		return fmt.Errorf("agency: batch of lines %d to %d: %w", b.Rows[0], b.Rows[b.Count()-1], err)
	}
	bad := &RowError{Name: s.rows.name, Line: b.Rows[invalid.Line-1], Reason: invalid.Reason}
	if invalid.Line == 1 {
		row, _, _ := bytes.Cut(b.Lines, s.rows.suffix)
		bad.explainHeader(row, '|')
	}
	return bad
}

// numberNone is a winning number that no bet can have.
const numberNone = codec.NumberMax + 1

// empty returns a batch to be filled.
func (s *source) empty() *Batch {
	select {
	case b := <-s.spare:
		*b = Batch{First: s.total, Lines: b.Lines[:0], Rows: b.Rows[:0]}
		return b
	default:
		return &Batch{First: s.total}
	}
}

// reuse takes back a batch that is not needed any more.
func (s *source) reuse(b *Batch) {
	select {
	case s.spare <- b:
	default:
	}
}

// stop makes run end, once it doesn't wait for its input any more.
func (s *source) stop() { close(s.quit) }
