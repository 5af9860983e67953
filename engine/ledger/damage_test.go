package ledger_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"loteria/engine/ledger"
)

// One bit is flipped in each part of the first, a middle and the last record of a finished and of
// the live segment. All records were acknowledged, so the ledger replays those before the damage,
// and refuses with its place.
func TestFlippedBit(t *testing.T) {
	const perSegment = 3
	groups := [][]entry{
		{bets(1200, 1)}, {bets(1200, 2)}, {bets(1200, 3)},
		{bets(1200, 4)}, {bets(1200, 5)}, {bets(1200, 6)},
	}
	pristine, want := written(t, groups...), slices.Concat(groups...)
	segments := []string{ledger.SegmentName(1), ledger.SegmentName(1 + perSegment)}
	for s, segment := range segments {
		if pristine[segment] == nil || len(pristine) != len(segments) {
			t.Fatalf("%d segments, without %s", len(pristine), segment)
		}
		for n, record := range []string{"first", "middle", "last"} {
			for part, at := range map[string]int{
				"length": 0, "kind": 4, "group index": 5, "sequence number": 8, "agency": 16, "count": 20,
				"payload checksum": 24, "chain checksum": 28,
				"payload's begin": 32, "payload's middle": 700, "payload's end": 32 + 1199,
			} {
				t.Run(fmt.Sprintf("%s record of segment %d, %s", record, s+1, part), func(t *testing.T) {
					files := pristine.clone()
					offset := files.place(segment, n)
					files[segment][offset+at] ^= 0x10
					survived, err := reopen(t, files, want)
					var corrupt *ledger.CorruptError
					if !errors.As(err, &corrupt) {
						t.Fatalf("%d records and %v, want a CorruptError", survived, err)
					}
					before := s*perSegment + n
					if !strings.HasSuffix(corrupt.File, segment) || corrupt.Offset != int64(offset) ||
						corrupt.Seq != uint64(before+1) || survived != before {
						t.Errorf("%d records, then %v; want %d, then offset %d of %s",
							survived, err, before, offset, segment)
					}
				})
			}
		}
	}
}

// A missing segment is noticed if it had a successor. Without a seal, nothing proves that the
// newest segment existed.
func TestMissingSegment(t *testing.T) {
	groups := [][]entry{{bets(3000, 1)}, {bets(3000, 2)}, {bets(3000, 3)}, {bets(3000, 4)}}
	pristine, want := written(t, groups...), slices.Concat(groups...)
	if len(pristine) != len(groups) {
		t.Fatalf("%d segments, want %d", len(pristine), len(groups))
	}
	for missing := range len(groups) - 1 {
		files := pristine.clone()
		delete(files, ledger.SegmentName(uint64(missing+1)))
		survived, err := reopen(t, files, want)
		if !errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(err.Error(), "missing") ||
			survived != missing {
			t.Errorf("segment %d is missing: %d records and %v", missing+1, survived, err)
		}
	}
}
