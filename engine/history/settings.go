package history

import (
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
