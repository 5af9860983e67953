package engine

import (
	"time"

	"loteria/engine/admin"
	"loteria/engine/admin/board"
	"loteria/engine/history"
)

// Past is an [admin.Source] of the draw that a ledger holds. It never changes, so any goroutine may
// use it. No times are known, so its State has no series and no events. A draw that took place is
// over; one that didn't is shown as far as it is.
type Past struct {
	view  *view
	state *board.State
}

// OpenPast reads a whole log. It keeps nothing open. Errors are those of [history.Verify].
func OpenPast(log history.Log) (*Past, error) {
	l, err := history.Rebuild(log)
	if err != nil {
		return nil, err
	}
	p := &Past{view: newView(l, time.Now())}
	p.state = &board.State{
		Time: p.view.taken, Phase: board.Intake, Agencies: l.Agencies(),
		Series: board.Series{Bets: []int64{}}, Events: []board.Event{},
	}
	if p.view.drawn() {
		p.state.Phase = board.Over
	}
	p.view.show(p.state)
	return p, nil
}

// State implements admin.Source. It is always the same one.
func (p *Past) State() *board.State { return p.state }

// Agencies implements admin.Source.
func (p *Past) Agencies(visit func(board.Agency) bool) {
	for i := range p.view.agencies {
		if !visit(p.view.agency(i)) {
			return
		}
	}
}

// Counters implements admin.Source. Nothing was counted but the bets.
func (p *Past) Counters() admin.Counters { return admin.Counters{BetsStored: p.view.bets} }

// Ready implements admin.Source. What is past takes no bets, and is there to be seen.
func (p *Past) Ready() error { return nil }
