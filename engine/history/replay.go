package history

import (
	"fmt"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

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
			var (
				batch codec.Batch
				err   error
			)
			batch, winners, err = codec.ReplayBatch(lines, want.WinningNumber, winners[:0])
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
