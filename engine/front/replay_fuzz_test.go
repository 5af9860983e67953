package front

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"loteria/codec"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// FuzzReplay replays records of any content, as from a ledger that somebody else has made: three
// bytes for kind, agency and count, then the payload up to a NUL. A replay never panics. It refuses
// a record with the right error, and what it accepts adds up to what the model counts.
func FuzzReplay(f *testing.F) {
	want := history.Settings{Agencies: 2, WinningNumber: 7}
	opened := "\x01\x00\x01" + want.String() + "\x00"
	for _, records := range []string{
		"", opened, opened + opened, "\x02\x01\x01A|B|1|1990-05-23|7|1\x00",
		opened + "\x02\x01\x01A|B|1|1990-05-23|7|1\x00\x02\x02\x02A|B|1|9999-12-31|7|2\nC|D|2|2000-02-29|007|2\n\x00\x03\x01\x00\x00\x03\x02\x00",
		opened + "\x03\x01\x00\x00\x03\x01\x00\x00", opened + "\x03\x01\x00\x00\x02\x01\x01A|B|1|1990-05-23|7|1", opened + "\x03\x03",
		opened + "\x02\x01\x02A|B|1|1990-05-23|7|1", opened + "\x02\x01\x01A|B|1|1990-05-23|7|2", opened + "\x02\x01\x00", opened + "\x04\x01\x01x",
		"\x01\x00\x01version=1 agencies=2 winning_number=07", "\x01\x00\x01version=1 agencies=3 winning_number=7",
		"\x01\x00\x01version=2 agencies=2 winning_number=7", "\x01\x00\x01version=1 agencies=-1 winning_number=4294967296",
	} {
		f.Add([]byte(records))
	}
	f.Fuzz(func(t *testing.T, records []byte) {
		state := lottery.New(lottery.Rules{Agencies: want.Agencies})
		reader := history.Replay(state, want)
		m := newModel(modelConfig{Config: Config{Agencies: want.Agencies, WinningNumber: want.WinningNumber}}, 9999_12_31)
		for seq := uint64(1); len(records) >= 3; seq++ {
			payload, rest, _ := bytes.Cut(records[3:], []byte{0})
			r, _ := ledger.Unpack(ledger.AppendRecord(nil, ledger.Bets, 1, 1, payload))
			r.Seq, r.Kind, r.Agency, r.Count = seq, ledger.Kind(records[0]), uint32(records[1]), uint32(records[2])
			records = rest
			err := reader.Visit(r)
			if fits := m.replays(r, want); fits != (err == nil) {
				t.Fatalf("%+v: %v; it fits: %v", r, err, fits)
			}
			if err != nil {
				if !errors.Is(err, lottery.ErrReplay) && !errors.Is(err, history.ErrSettings) || !strings.Contains(err.Error(), fmt.Sprintf("record %d", seq)) {
					t.Fatal(err)
				}
				return
			}
		}
		won := 0
		for id := codec.Agency(1); int(id) <= want.Agencies; id++ {
			if state.Stored(id) != m.stored(id) || state.Reported(id) != m.reported(id) {
				t.Fatalf("agency %d: %d stored, reported %v; want %d, %v", id, state.Stored(id), state.Reported(id), m.stored(id), m.reported(id))
			}
			won += len(m.winners(id))
		}
		if state.Drawn() != m.drawn() || state.Won() != won {
			t.Fatalf("drawn %v, %d won; want %v, %d", state.Drawn(), state.Won(), m.drawn(), won)
		}
	})
}

// replays takes the next record, and reports whether it fits what came before.
func (m *model) replays(r ledger.Record, want history.Settings) bool {
	id := codec.Agency(r.Agency)
	expected := id >= 1 && int(id) <= m.cfg.Agencies
	switch {
	case r.Seq == 1:
		return r.Kind == ledger.Opened && string(r.Payload) == want.String()
	case !expected || m.reported(id):
		return false
	case r.Kind == ledger.Reported:
		m.log = append(m.log, modelEntry{agency: id})
		return true
	case r.Kind != ledger.Bets:
		return false
	}
	e := m.understand(string(r.Payload))
	if e.kind != lottery.Bets || e.agency != id || len(modelLines(e.payload)) != int(r.Count) {
		return false
	}
	m.log = append(m.log, modelEntry{id, e.payload})
	return true
}
