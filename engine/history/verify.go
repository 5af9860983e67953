package history

import (
	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// Verified is what a log holds, up to the first damage if there is one.
type Verified struct {
	ledger.Tail

	Settings Settings // of 0 agencies if the first record is not readable
	Bets     int64
	Winners  int
	Reported []codec.Agency // in order of their ids
	Drawn    bool
	Served   []codec.Agency // that are known to have their winners, in order of their ids
}

// Verify walks every record of a log, as a restart of the server would, and says what it holds. Memory
// is constant but for the winning bets.
//
// Errors wrap ErrDamaged, or are the log's. With ErrDamaged, Verified tells what stands before the
// damage.
func Verify(log Log) (Verified, error) {
	var (
		reader *Reader
		state  *lottery.Lottery
		done   Verified
	)
	tail, err := log(func(r ledger.Record) error {
		if reader == nil {
			var first Reader
			if err := first.Visit(r); err != nil {
				return err
			}
			done.Settings = first.Settings
			state = lottery.New(lottery.Rules{Agencies: done.Settings.Agencies})
			reader = Replay(state, done.Settings)
		}
		return reader.Visit(r)
	})
	done.Tail = tail
	if state != nil {
		done.Bets, done.Winners, done.Drawn = state.Bets(), state.Won(), state.Drawn()
		for id := codec.Agency(1); int(id) <= done.Settings.Agencies; id++ {
			if state.Reported(id) {
				done.Reported = append(done.Reported, id)
			}
			if state.Served(id) {
				done.Served = append(done.Served, id)
			}
		}
	}
	if err == nil {
		err = CheckSealed(tail, done.Drawn)
	}
	return done, damaged(err)
}
