package engine

import (
	"bytes"
	"errors"
	"fmt"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// ErrSettings says that the ledger was opened with other settings than the
// configured ones.
var ErrSettings = errors.New("ledger has other settings")

// settings are what a ledger is opened with and can't be changed afterwards.
// They are the payload of its first record.
type settings struct {
	agencies      int
	winningNumber uint32
}

// settingsVersion is the version of what the records mean, as the ledger's own
// version is that of how they are stored.
const settingsVersion = 1

const settingsFormat = "version=%d agencies=%d winning_number=%d"

func (s settings) String() string {
	return fmt.Sprintf(settingsFormat, settingsVersion, s.agencies, s.winningNumber)
}

// record packs the ledger's first record.
func (s settings) record() []byte {
	return ledger.AppendRecord(nil, ledger.Opened, 0, 1, []byte(s.String()))
}

func parseSettings(payload []byte) (settings, error) {
	var (
		s       settings
		version int
	)
	_, err := fmt.Sscanf(string(payload), settingsFormat, &version, &s.agencies, &s.winningNumber)
	switch {
	case err != nil:
		return settings{}, fmt.Errorf("%w: first record is %.80q: %w", lottery.ErrReplay, payload, err)
	case version != settingsVersion || s.String() != string(payload):
		return settings{}, fmt.Errorf("%w: first record is %.80q, want version %d: use the program that wrote it", lottery.ErrReplay, payload, settingsVersion)
	case s.agencies < 1 || s.agencies > lottery.AgenciesMax || s.winningNumber > codec.NumberMax:
		return settings{}, fmt.Errorf("%w: first record is %.80q, want 1 to %d agencies and a number up to %d", lottery.ErrReplay, payload, lottery.AgenciesMax, codec.NumberMax)
	}
	return s, nil
}

// history reads a ledger's records as what they mean, in order. The zero value
// is at the beginning.
type history struct {
	settings settings
	opened   bool
	// onSettings, if not nil, is called with the first record and may refuse it.
	onSettings func(settings) error
	// onBets is also given the payload's CRC-32C, begun with ledger.PayloadSeed.
	onBets func(agency codec.Agency, count int, payload []byte, checksum uint32) error
	// onReported is also told whether the agency confirms its winners.
	onReported func(agency codec.Agency, confirms bool) error
	onServed   func(agency codec.Agency) error
}

// visit takes the next record. It is what ledger.Open and ledger.Scan call.
func (h *history) visit(r ledger.Record) error {
	err := h.take(r)
	if err != nil {
		return fmt.Errorf("record %d: %w", r.Seq, err)
	}
	return nil
}

func (h *history) take(r ledger.Record) error {
	if !h.opened {
		if r.Kind != ledger.Opened {
			return fmt.Errorf("%w: the first record is %v, want %v", lottery.ErrReplay, r.Kind, ledger.Opened)
		}
		var err error
		if h.settings, err = parseSettings(r.Payload); err != nil {
			return err
		}
		h.opened = true
		if h.onSettings != nil {
			return h.onSettings(h.settings)
		}
		return nil
	}
	switch r.Kind {
	case ledger.Bets:
		return h.onBets(codec.Agency(r.Agency), int(r.Count), r.Payload, r.Checksum)
	case ledger.Reported:
		return h.onReported(codec.Agency(r.Agency), r.Count == reportCount(true))
	case ledger.Served:
		return h.served(r)
	default:
		return fmt.Errorf("%w: a record of kind %v behind the first", lottery.ErrReplay, r.Kind)
	}
}

// reportCount is what the record of a report has as its count: whether the agency confirms its
// winners. Ledgers of before there was a receipt have 0.
func reportCount(confirms bool) uint32 {
	if confirms {
		return 1
	}
	return 0
}

// appendServed packs the record that says that agencies have their winners: their ids in decimal, with
// spaces between them.
func appendServed(dst []byte, agencies []codec.Agency) []byte {
	var ids []byte
	for i, id := range agencies {
		if i > 0 {
			ids = append(ids, ' ')
		}
		ids = codec.AppendAgency(ids, id)
	}
	return ledger.AppendRecord(dst, ledger.Served, 0, uint32(len(agencies)), ids)
}

func (h *history) served(r ledger.Record) error {
	var count uint32
	for text := range bytes.SplitSeq(r.Payload, []byte{' '}) {
		id, ok := codec.ParseAgency(text)
		if !ok {
			return fmt.Errorf("%w: the agencies that are served are %.80q", lottery.ErrReplay, r.Payload)
		}
		if err := h.onServed(id); err != nil {
			return err
		}
		count++
	}
	if count != r.Count || r.Agency != 0 {
		return fmt.Errorf("%w: %d agencies are served in a record of %d and of agency %d", lottery.ErrReplay, count, r.Count, r.Agency)
	}
	return nil
}

// replayInto makes a history that rebuilds a lottery and refuses a ledger of
// other settings than want.
func replayInto(l *lottery.Lottery, want settings) *history {
	var lines []byte
	return &history{
		onSettings: func(got settings) error {
			if got != want {
				return fmt.Errorf("%w: it was opened with SERVER_AGENCIES=%d SERVER_WINNING_NUMBER=%d, configured are %d and %d: set them back, or use another SERVER_DATA_DIR for another draw",
					ErrSettings, got.agencies, got.winningNumber, want.agencies, want.winningNumber)
			}
			return nil
		},
		onBets: func(agency codec.Agency, count int, payload []byte, checksum uint32) error {
			var (
				batch codec.Batch
				err   error
			)
			batch, lines, err = codec.ReplayBatch(payload, want.winningNumber, lines[:0])
			if err != nil {
				return fmt.Errorf("%w: %w", lottery.ErrReplay, err)
			}
			if batch.Agency != agency || batch.Count != count {
				return fmt.Errorf("%w: %d bets of agency %d in a record of %d bets of agency %d", lottery.ErrReplay, batch.Count, batch.Agency, count, agency)
			}
			return l.Replay(lottery.BetsEntry, agency, count, codec.StretchOf(payload, checksum, ledger.PayloadSeed), lines)
		},
		onReported: func(agency codec.Agency, confirms bool) error {
			return l.Replay(lottery.ReportedEntry, agency, int(reportCount(confirms)), codec.Stretch{}, nil)
		},
		onServed: func(agency codec.Agency) error {
			return l.Replay(lottery.ServedEntry, agency, 0, codec.Stretch{}, nil)
		},
	}
}
