package front

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
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
		// Records that only several servers make, and records of who has its winners.
		opened + "\x05\xff\xff\x05\x00\x07\x00\x01[1 2 3]\x00\x02\x01\x01A|B|1|1990-05-23|7|1", "\x05\x00\x00\x00" + opened,
		opened + "\x06\x00\x01term=3 overdue=false\x00\x03\x01\x00", opened + "\x06\x00\x01term=03 overdue=true", opened + "\x06\x01\x01term=3 overdue=true",
		opened + "\x03\x01\x01\x00\x03\x02\x00\x00\x04\x00\x011\x00\x06\x00\x01term=18446744073709551615 overdue=true\x00\x04\x00\x012",
		opened + "\x03\x01\x01\x00\x03\x02\x00\x00\x04\x00\x022 1\x00\x04\x00\x011", opened + "\x03\x01\x01\x00\x04\x00\x011",
		opened + "\x03\x01\x01\x00\x03\x02\x00\x00\x04\x00\x011 2", opened + "\x03\x01\x01\x00\x03\x02\x00\x00\x04\x00\x013",
		opened + "\x03\x01\x01\x00\x03\x02\x00\x00\x04\x01\x011", opened + "\x03\x01\x01\x00\x03\x02\x00\x00\x04\x00\x0101",
		"\x01\x00\x01version=2 agencies=2 winning_number=7", "\x01\x00\x01version=1 agencies=-1 winning_number=4294967296",
	} {
		f.Add([]byte(records))
	}
	f.Fuzz(func(t *testing.T, records []byte) {
		state := lottery.New(lottery.Rules{Agencies: want.Agencies})
		reader := history.Replay(state, want)
		m := newModel(modelConfig{Config: Config{Agencies: want.Agencies, WinningNumber: want.WinningNumber}}, 9999_12_31)
		served := make(map[codec.Agency]bool)
		for seq := uint64(1); len(records) >= 3; seq++ {
			payload, rest, _ := bytes.Cut(records[3:], []byte{0})
			r, _ := ledger.Unpack(ledger.AppendRecord(nil, ledger.Bets, 1, 1, payload))
			r.Seq, r.Kind, r.Agency, r.Count = seq, ledger.Kind(records[0]), uint32(records[1]), uint32(records[2])
			records = rest
			err := reader.Visit(r)
			if fits := m.replays(r, want, served); fits != (err == nil) {
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

// replays takes the next record, and reports whether it fits what came before. served are the
// agencies that have their winners.
func (m *model) replays(r ledger.Record, want history.Settings, served map[codec.Agency]bool) bool {
	switch {
	case r.Seq == 1:
		return r.Kind == ledger.Opened && string(r.Payload) == want.String()
	case r.Kind == ledger.Mark || r.Kind == ledger.Members:
		return true
	case r.Kind == ledger.Ended:
		return r.Agency == 0 && r.Count == 1 && modelEnd(string(r.Payload))
	case r.Kind == ledger.Served:
		return r.Agency == 0 && m.serves(string(r.Payload), int(r.Count), served)
	}
	id := codec.Agency(r.Agency)
	expected := id >= 1 && int(id) <= m.cfg.Agencies
	switch {
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

// modelEnd reports whether text says that the servers have ended.
func modelEnd(text string) bool {
	term, overdue, _ := strings.Cut(strings.TrimPrefix(text, "term="), " overdue=")
	n, err := strconv.ParseUint(term, 10, 64)
	return err == nil && text == fmt.Sprintf("term=%d overdue=%s", n, overdue) && (overdue == "true" || overdue == "false")
}

// serves takes a record that says that count agencies have their winners, and reports whether it fits.
func (m *model) serves(ids string, count int, served map[codec.Agency]bool) bool {
	texts := strings.Split(ids, " ")
	for _, text := range texts {
		n, err := strconv.Atoi(text)
		id := codec.Agency(n)
		if err != nil || strconv.Itoa(n) != text || n < 1 || n > m.cfg.Agencies || !m.drawn() || served[id] {
			return false
		}
		served[id] = true
	}
	return len(texts) == count
}
