package history

import (
	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// Verified is what a ledger holds, up to the first damage if there is any.
type Verified struct {
	ledger.Tail

	Settings Settings // zero if the first record is not readable
	Bets     int64
	Winners  int            // winning bets
	Reported []codec.Agency // agencies that have reported, ordered by id
	Drawn    bool
	Served   []codec.Agency // agencies that are recorded to have their winners, ordered by id
}

// Verify reads every record of a log, as a restart of the server would, and returns what it holds.
// Memory is constant, apart from the winning bets.
//
// Errors wrap ErrDamaged, or are the log's. With ErrDamaged, Verified is what the ledger holds
// before the damage.
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
