package engine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"loteria/codec"
	"loteria/engine/lottery"
)

// ErrUnfinished says that the server ended without its goal: no agency was connected for
// SERVER_EXIT_GRACE, or SERVER_DEADLINE has passed, and the draw has not taken place or somebody is
// not known to have their winners. Nothing is lost; the next start with the same directory goes on.
// *UnfinishedError wraps it.
var ErrUnfinished = errors.New("ended without its goal")

// UnfinishedError names the agencies that are missing.
type UnfinishedError struct {
	// Drawn tells what is missing: if false, the agencies' reports; if true, that they have their
	// winners.
	Drawn bool
	// Overdue says that SERVER_DEADLINE has ended the wait.
	Overdue bool
	// Missing are the agencies, in order.
	Missing []codec.Agency
}

func (e *UnfinishedError) Error() string {
	what := "no draw: agencies that have not reported"
	next := "their stored bets are in the ledger: start the server again with the same SERVER_DATA_DIR and let these agencies come"
	switch {
	case e.Drawn:
		what = "drawn, but agencies that are not known to have their winners"
		next = "the winners are in the ledger: start the server again with the same SERVER_DATA_DIR and let these agencies ask"
	case e.Overdue:
		what = "no draw before SERVER_DEADLINE: agencies that have not reported"
		next += ", with a later SERVER_DEADLINE"
	}
	return fmt.Sprintf("%v: %s: %s; %s", ErrUnfinished, what, agencyList(e.Missing), next)
}

// Unwrap makes errors.Is(err, ErrUnfinished) true.
func (e *UnfinishedError) Unwrap() error { return ErrUnfinished }

// agenciesListed is how many agencies a message names before it only counts.
const agenciesListed = 20

func agencyList(ids []codec.Agency) string {
	var b strings.Builder
	for i, id := range ids {
		if i == agenciesListed {
			fmt.Fprintf(&b, " and %d more", len(ids)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(int(id)))
	}
	return b.String()
}

// exitRule decides when the server has nothing left to do. It knows sockets only by how many are
// agencies': those that never named one don't count, nor does what an agency opens that is done, or
// it could keep the server from ending by coming again and again.
type exitRule struct {
	grace    time.Duration
	deadline time.Time // the draw has to take place before it; zero if it may take its time
	came     bool      // some agency has named itself since the start
	open     int       // sockets of agencies
	// idleSince is when the last of them closed; at the beginning, when the server began to listen.
	idleSince time.Time
	// away are the agencies that have not been here since the start to get their winners, however
	// often they had them before.
	away    []bool // by agency id-1
	absent  int    // how many
	lottery *lottery.Lottery
}

func newExitRule(l *lottery.Lottery, agencies int, grace time.Duration) exitRule {
	x := exitRule{grace: grace, lottery: l, away: make([]bool, agencies), absent: agencies}
	for i := range x.away {
		x.away[i] = true
	}
	return x
}

// begin says that the server listens.
func (x *exitRule) begin(now time.Time) { x.idleSince = now }

func (x *exitRule) opened() {
	x.came = true
	x.open++
}

func (x *exitRule) closed(now time.Time) {
	x.open--
	x.idleSince = now
}

// content says that an expected agency is done: it has its winners, and has come for them since the
// start.
func (x *exitRule) content(id codec.Agency) {
	if x.away[id-1] {
		x.away[id-1] = false
		x.absent--
	}
}

// done reports whether an agency has its winners, and has come for them since the start.
func (x *exitRule) done(id codec.Agency) bool { return int(id) <= len(x.away) && !x.away[id-1] }

// overdue reports whether the draw has not been held in time.
func (x *exitRule) overdue(now time.Time) bool {
	return !x.deadline.IsZero() && !now.Before(x.deadline) && !x.lottery.Drawn()
}

// verdict is what the rule says of an end that has no deadline: done, or wait for events and, if
// wait is positive, look again after it. It counts only what is durable, so it may be asked between
// two groups, not while one is committed.
//
//	drawn  came  open  unserved  absent  verdict
//	no     no    -     -         -       wait for ever
//	no     yes   > 0   -         -       wait for ever
//	no     yes   0     -         -       when idle for the grace: done, unfinished
//	yes    -     > 0   -         -       wait for ever: their time is bounded (loop.hangUp)
//	yes    -     0     > 0       -       when idle for the grace: done, unfinished
//	yes    -     0     0         > 0     when idle for the grace: done
//	yes    -     0     0         0       done
//
// Agencies that had their winners before a restart may come again, as they do when everything is
// started again; they get the grace to do so, and lingerMax at least.
func (x *exitRule) verdict(now time.Time) (done bool, wait time.Duration) {
	drawn := x.lottery.Drawn()
	switch {
	case x.open > 0, !drawn && !x.came:
		return false, 0
	case drawn && x.lottery.Unserved() == 0 && x.absent == 0:
		return true, 0
	}
	grace := x.grace
	if !x.came {
		grace = max(grace, lingerMax) // or nobody could be quick enough, however often the server starts
	}
	if left := grace - now.Sub(x.idleSince); left > 0 {
		return false, left
	}
	return true, 0
}

// missing are the agencies that the goal lacks: before the draw those that have not reported, then
// those that are not known to have their winners.
func (x *exitRule) missing() (ids []codec.Agency) {
	there := x.lottery.Reported
	if x.lottery.Drawn() {
		there = x.lottery.Served
	}
	for id := codec.Agency(1); int(id) <= len(x.away); id++ {
		if !there(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// result is the error of a server that is done.
func (x *exitRule) result(now time.Time) error {
	if x.lottery.Drawn() && x.lottery.Unserved() == 0 {
		return nil
	}
	return &UnfinishedError{Drawn: x.lottery.Drawn(), Overdue: x.overdue(now), Missing: x.missing()}
}
