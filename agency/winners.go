package agency

import (
	"bytes"
	"fmt"
	"iter"

	"loteria/codec"
)

// Winners holds winning bets as the server sent them. The zero value holds none.
type Winners struct {
	payload []byte
	count   int
}

// parseWinners checks and keeps payload.
func parseWinners(payload []byte) (Winners, error) {
	w := Winners{payload: payload}
	for line := range w.lines() {
		w.count++
		if _, err := codec.SplitBet(line); err != nil {
			return Winners{}, fmt.Errorf("%w: line %d of the winners: %w", ErrProtocol, w.count, err)
		}
	}
	return w, nil
}

// Bytes returns the winners byte for byte as they came: bets in the line format of the wire, joined
// by '\n'. The caller must not change them.
func (w Winners) Bytes() []byte { return w.payload }

// Count is the number of winning bets.
func (w Winners) Count() int { return w.count }

// Bets yields the winning bets in the server's order. Their fields alias Bytes.
func (w Winners) Bets() iter.Seq[codec.Bet] {
	return func(yield func(codec.Bet) bool) {
		for line := range w.lines() {
			b, err := codec.SplitBet(line)
			if err != nil {
				panic("agency: winners were changed: " + err.Error())
			}
			if !yield(b) {
				return
			}
		}
	}
}

// lines yields the lines without their '\n'. It tolerates a trailing '\n'.
func (w Winners) lines() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for line := range bytes.Lines(w.payload) {
			if !yield(bytes.TrimSuffix(line, []byte{'\n'})) {
				return
			}
		}
	}
}
