package history_test

import (
	"errors"
	"math"
	"testing"

	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// An end is read as it was written. What is no end is refused.
func TestEnded(t *testing.T) {
	var got history.End
	reader := history.Reader{Opened: true, OnEnded: func(e history.End) error {
		got = e
		return nil
	}}
	for _, e := range []history.End{
		{Term: 1}, {Term: 7, Overdue: true}, {Term: 7, Stay: true}, {Term: math.MaxUint64, Overdue: true, Stay: true},
	} {
		record, _ := ledger.Unpack(history.AppendEnded(nil, e))
		if err := reader.Visit(record); err != nil || got != e {
			t.Errorf("%+v is read as %+v, %v", e, got, err)
		}
	}
	for _, text := range []string{"", " stay", "term=1", "term=1 overdue=false stay stay", "term=1 overdue=falsestay", "term=01 overdue=false"} {
		record, _ := ledger.Unpack(ledger.AppendRecord(nil, ledger.Ended, 0, 1, []byte(text)))
		if err := reader.Visit(record); !errors.Is(err, lottery.ErrReplay) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
