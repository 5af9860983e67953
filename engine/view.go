package engine

import (
	"time"

	"loteria/codec"
	"loteria/engine/admin/board"
	"loteria/engine/lottery"
)

// view is a lottery at one moment. It never changes, but for what it remembers of how it is shown.
type view struct {
	taken    time.Time
	took     time.Duration
	bets     int64
	won      int // 0 before the draw
	missing  int // agencies that have not reported
	unserved int // agencies that are not known to have their winners
	agencies []agencyView
	count    [agencyStates]int

	cells   string // "" until it is shown
	perCell int
	behind  []board.Agency
}

type agencyView struct {
	bets  int64
	won   int32 // 0 before the draw
	state agencyState
}

// agencyState is how far an agency is.
type agencyState uint8

const (
	stateWaiting agencyState = iota
	stateUploading
	stateReported
	stateServed
	agencyStates // how many there are
)

var (
	stateNames = [agencyStates]string{"waiting", "uploading", "reported", "served"}
	stateCells = [agencyStates]byte{board.CellWaiting, board.CellUploading, board.CellReported, board.CellServed}
)

// emptyView is the view of a lottery of which nothing is known yet.
func emptyView(agencies int) *view {
	v := &view{missing: agencies, unserved: agencies, agencies: make([]agencyView, agencies)}
	v.count[stateWaiting] = agencies
	return v
}

// newView copies what is shown of a lottery. It takes time in proportion to the agencies.
func newView(l *lottery.Lottery, now time.Time) *view {
	v := &view{taken: now, bets: l.Bets(), missing: l.Missing(), unserved: l.Unserved(),
		agencies: make([]agencyView, l.Agencies())}
	drawn := l.Drawn()
	if drawn {
		v.won = l.Won()
	}
	for i := range v.agencies {
		a, is := &v.agencies[i], l.Standing(codec.Agency(i+1))
		a.bets = is.Stored
		if drawn {
			a.won = int32(is.Won)
		}
		switch {
		case is.Served:
			a.state = stateServed
		case is.Reported:
			a.state = stateReported
		case is.Stored > 0:
			a.state = stateUploading
		}
		v.count[a.state]++
	}
	return v
}

func (v *view) drawn() bool { return v.missing == 0 }

// agency is what is shown of the agency with id i+1.
func (v *view) agency(i int) board.Agency {
	a := v.agencies[i]
	return board.Agency{ID: uint32(i + 1), State: stateNames[a.state], Bets: a.bets, Winners: int(a.won)}
}

// show adds the view to a state. Only one goroutine at a time may call it.
func (v *view) show(s *board.State) {
	if v.cells == "" {
		v.cells, v.perCell, v.behind = v.drawCells(), v.agenciesPerCell(), v.findBehind()
	}
	s.Bets, s.Winners = v.bets, v.won
	s.Waiting, s.Uploading = v.count[stateWaiting], v.count[stateUploading]
	s.Reported, s.Served = v.count[stateReported], v.count[stateServed]
	s.Cells, s.PerCell, s.Missing = v.cells, v.perCell, v.behind
}

func (v *view) agenciesPerCell() int { return (len(v.agencies) + board.CellsMax - 1) / board.CellsMax }

// drawCells has each cell show the agency that is furthest behind.
func (v *view) drawCells() string {
	per := v.agenciesPerCell()
	cells := make([]byte, 0, board.CellsMax)
	for first := 0; first < len(v.agencies); first += per {
		worst := stateServed
		for _, a := range v.agencies[first:min(first+per, len(v.agencies))] {
			worst = min(worst, a.state)
		}
		cells = append(cells, stateCells[worst])
	}
	return string(cells)
}

// findBehind returns the first agencies that have not come as far as all have to come next.
func (v *view) findBehind() []board.Agency {
	next := stateReported
	if v.drawn() {
		next = stateServed
	}
	behind := []board.Agency{}
	for i := 0; i < len(v.agencies) && len(behind) < board.MissingMax; i++ {
		if v.agencies[i].state < next {
			behind = append(behind, v.agency(i))
		}
	}
	return behind
}
