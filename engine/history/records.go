package history

import (
	"bytes"
	"errors"
	"fmt"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// ErrSettings says that a ledger was opened with settings that differ from the configured ones.
var ErrSettings = errors.New("ledger has other settings")

// Settings are those of the draw that a ledger holds. They are the payload of its first record and
// never change.
type Settings struct {
	Agencies      int    // expected agencies, 1 to lottery.AgenciesMax
	WinningNumber uint32 // at most codec.NumberMax
}

// settingsVersion is the version of the records' meaning. The ledger's own version is that of the
// format in which they are stored.
const settingsVersion = 1

const settingsFormat = "version=%d agencies=%d winning_number=%d"

// String is the payload of the first record.
func (s Settings) String() string {
	return fmt.Sprintf(settingsFormat, settingsVersion, s.Agencies, s.WinningNumber)
}

// AppendRecord appends the packed first record of a ledger to dst.
func (s Settings) AppendRecord(dst []byte) []byte {
	return ledger.AppendRecord(dst, ledger.Opened, 0, 1, []byte(s.String()))
}

func parseSettings(payload []byte) (Settings, error) {
	var (
		s       Settings
		version int
	)
	_, err := fmt.Sscanf(string(payload), settingsFormat, &version, &s.Agencies, &s.WinningNumber)
	switch {
	case err != nil:
		return Settings{}, fmt.Errorf("%w: first record is %.80q: %w", lottery.ErrReplay, payload, err)
	case version != settingsVersion || s.String() != string(payload):
		return Settings{}, fmt.Errorf("%w: first record is %.80q, want version %d: use the program that wrote it",
			lottery.ErrReplay, payload, settingsVersion)
	case s.Agencies < 1 || s.Agencies > lottery.AgenciesMax || s.WinningNumber > codec.NumberMax:
		return Settings{}, fmt.Errorf("%w: first record is %.80q, want 1 to %d agencies and a number up to %d",
			lottery.ErrReplay, payload, lottery.AgenciesMax, codec.NumberMax)
	}
	return s, nil
}

// Reader takes a ledger's records in order and calls a callback with what each means. The callbacks
// decide whether it fits the records before. The zero value is at the beginning. One goroutine may
// use it. The slices that callbacks get are valid only during the call.
//
// An error of a callback refuses the record. OnSettings may be nil; each of the others may be nil
// only if no record of its kind comes.
type Reader struct {
	// Settings are those of the first record, once Opened is true.
	Settings Settings
	Opened   bool

	// OnSettings is called with the first record; nil takes any settings.
	OnSettings func(Settings) error
	// OnBets is called with every batch: its lines, and their checksum.
	OnBets func(agency codec.Agency, count int, lines []byte, checksum ledger.Checksum) error
	// OnReported is called with every report, and told whether the agency confirms its winners.
	OnReported func(agency codec.Agency, confirms bool) error
	// OnServed is called with every agency that is recorded to have its winners.
	OnServed func(agency codec.Agency) error
	// OnEnded is called when the servers of the draw have ended, under the leader of that term. They
	// may have started again since: other records may follow. It may be nil.
	OnEnded func(e End) error
}

// Visit takes the next record; it is a visit function for a [Log], ledger.Open and ledger.Scan.
// Errors wrap lottery.ErrReplay, or are the callbacks'.
func (h *Reader) Visit(r ledger.Record) error {
	if err := h.take(r); err != nil {
		return fmt.Errorf("record %d: %w", r.Seq, err)
	}
	return nil
}

func (h *Reader) take(r ledger.Record) error {
	if !h.Opened {
		return h.open(r)
	}
	switch r.Kind {
	case ledger.Bets:
		return h.OnBets(codec.Agency(r.Agency), int(r.Count), r.Payload, r.Checksum)
	case ledger.Reported:
		return h.OnReported(codec.Agency(r.Agency), r.Count == reportCount(true))
	case ledger.Served:
		return h.served(r)
	case ledger.Ended:
		return h.ended(r)
	case ledger.Mark:
		return nil // it says which server made the records that follow, not what they mean
	case ledger.Members:
		return nil // a draw's content doesn't depend on who keeps it
	default:
		return fmt.Errorf("%w: a record of kind %v behind the first", lottery.ErrReplay, r.Kind)
	}
}

func (h *Reader) open(r ledger.Record) (err error) {
	if r.Kind != ledger.Opened {
		return fmt.Errorf("%w: the first record is %v, want %v",
			lottery.ErrReplay, r.Kind, ledger.Opened)
	}
	if h.Settings, err = parseSettings(r.Payload); err != nil {
		return err
	}
	h.Opened = true
	if h.OnSettings == nil {
		return nil
	}
	return h.OnSettings(h.Settings)
}

func (h *Reader) served(r ledger.Record) error {
	var count uint32
	for text := range bytes.SplitSeq(r.Payload, []byte{' '}) {
		id, ok := codec.ParseAgency(text)
		if !ok {
			return fmt.Errorf("%w: the agencies that are served are %.80q",
				lottery.ErrReplay, r.Payload)
		}
		if err := h.OnServed(id); err != nil {
			return err
		}
		count++
	}
	if count != r.Count || r.Agency != 0 {
		return fmt.Errorf("%w: %d agencies are served in a record of %d and of agency %d",
			lottery.ErrReplay, count, r.Count, r.Agency)
	}
	return nil
}

// AppendReported appends the packed record of an agency's report to dst.
func AppendReported(dst []byte, agency codec.Agency, confirms bool) []byte {
	return ledger.AppendRecord(dst, ledger.Reported, uint32(agency), reportCount(confirms), nil)
}

// reportCount is the count of a report's record: 1 if the agency confirms its winners, else 0. A
// ledger from before RECEIVED existed always has 0.
func reportCount(confirms bool) uint32 {
	if confirms {
		return 1
	}
	return 0
}

// AppendServed appends to dst the packed record that says that agencies have their winners. Its
// payload is their ids in decimal, with spaces between them.
func AppendServed(dst []byte, agencies []codec.Agency) []byte {
	var ids []byte
	for i, id := range agencies {
		if i > 0 {
			ids = append(ids, ' ')
		}
		ids = codec.AppendAgency(ids, id)
	}
	return ledger.AppendRecord(dst, ledger.Served, 0, uint32(len(agencies)), ids)
}

// End says that the servers of a draw have ended.
type End struct {
	Term    uint64 // of the leader that ended them
	Overdue bool   // SERVER_DEADLINE had passed before the draw
	Stay    bool   // the servers stay until that leader has written the end once more, without this
}

const (
	endFormat  = "term=%d overdue=%t"
	endPayload = len("term=18446744073709551615 overdue=false") // at most
	endStay    = " stay"                                        // behind it
)

// AppendEnded appends the packed record of an end to dst.
func AppendEnded(dst []byte, e End) []byte {
	text := fmt.Appendf(nil, endFormat, e.Term, e.Overdue)
	if e.Stay {
		text = append(text, endStay...)
	}
	return ledger.AppendRecord(dst, ledger.Ended, 0, 1, text)
}

func (h *Reader) ended(r ledger.Record) error {
	var e End
	text, stay := bytes.CutSuffix(r.Payload, []byte(endStay))
	e.Stay = stay
	_, err := fmt.Sscanf(string(text[:min(len(text), endPayload)]), endFormat, &e.Term, &e.Overdue)
	if err != nil || r.Agency != 0 || r.Count != 1 || fmt.Sprintf(endFormat, e.Term, e.Overdue) != string(text) {
		return fmt.Errorf("%w: the end is %.80q", lottery.ErrReplay, r.Payload)
	}
	if h.OnEnded == nil {
		return nil
	}
	return h.OnEnded(e)
}

// Replay makes a Reader that applies the records to l. It refuses a ledger whose settings are not
// want with ErrSettings.
func Replay(l *lottery.Lottery, want Settings) *Reader {
	var winners []byte
	return &Reader{
		OnSettings: func(got Settings) error {
			if got != want {
				return fmt.Errorf("%w: it was opened with SERVER_AGENCIES=%d SERVER_WINNING_NUMBER=%d, "+
					"configured are %d and %d: "+
					"set them back, or use another SERVER_DATA_DIR for another draw",
					ErrSettings, got.Agencies, got.WinningNumber, want.Agencies, want.WinningNumber)
			}
			return nil
		},
		OnBets: func(agency codec.Agency, count int, lines []byte, checksum ledger.Checksum) error {
			batch, wins, err := codec.ReplayBatch(lines, want.WinningNumber, winners[:0])
			winners = wins
			if err != nil {
				return fmt.Errorf("%w: %w", lottery.ErrReplay, err)
			}
			if batch.Agency != agency || batch.Count != count {
				return fmt.Errorf("%w: %d bets of agency %d in a record of %d bets of agency %d",
					lottery.ErrReplay, batch.Count, batch.Agency, count, agency)
			}
			sum, seed := checksum.CRC32C()
			return l.Replay(lottery.BetsEntry, agency, count, codec.StretchOf(lines, sum, seed), winners)
		},
		OnReported: func(agency codec.Agency, confirms bool) error {
			count := int(reportCount(confirms))
			return l.Replay(lottery.ReportedEntry, agency, count, codec.Stretch{}, nil)
		},
		OnServed: func(agency codec.Agency) error {
			return l.Replay(lottery.ServedEntry, agency, 0, codec.Stretch{}, nil)
		},
	}
}
