package commit

import (
	"errors"
	"fmt"
	"time"

	"loteria/codec"
	"loteria/engine/lottery"
)

// ErrUnfinished says that the server ended without its goal: no agency was connected for
// SERVER_EXIT_GRACE, or SERVER_DEADLINE has passed, and the draw has not taken place or some agency
// is not known to have its winners. Nothing is lost: the next start with the same directory goes
// on. *UnfinishedError wraps it.
var ErrUnfinished = errors.New("ended without its goal")

// UnfinishedError names the agencies that are missing.
type UnfinishedError struct {
	// Drawn says whether the draw has taken place. If not, Missing have not reported; if so, they
	// are not known to have their winners.
	Drawn bool
	// Overdue says that SERVER_DEADLINE has passed before the draw.
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
	return fmt.Sprintf("%v: %s: %s; %s", ErrUnfinished, what, codec.ListAgencies(e.Missing, codec.AgenciesListed), next)
}

// Unwrap makes errors.Is(err, ErrUnfinished) true.
func (e *UnfinishedError) Unwrap() error { return ErrUnfinished }

// GraceMin is how long a server that starts after the draw waits at least for the first agency to
// come. With less, no agency could be quick enough, however often the server starts.
const GraceMin = 2 * time.Second

// ExitRule decides when the server has nothing left to do. It only counts the agencies'
// connections. A connection that never named an agency doesn't count. Nor does one that an agency
// opens when it is done: otherwise it could keep the server from ending by coming again and again.
//
// Like the Committer, it belongs to one goroutine.
type ExitRule struct {
	grace    time.Duration
	deadline time.Time // the draw has to take place before it; zero is none
	came     bool      // some agency has named itself since the start
	open     int       // connections of agencies
	// idleSince is when the last of them closed, or when the server began to listen.
	idleSince time.Time
	// away are the agencies that have not come for their winners since the start, even if they had
	// them before.
	away    []bool // by agency id-1
	absent  int    // how many are away
	lottery *lottery.Lottery
}

func newExitRule(l *lottery.Lottery, agencies int, grace time.Duration, deadline time.Time) *ExitRule {
	x := &ExitRule{grace: grace, deadline: deadline, lottery: l,
		away: make([]bool, agencies), absent: agencies}
	for i := range x.away {
		x.away[i] = true
	}
	return x
}

// Begin says that the server listens since now. It is called once, before Verdict.
func (x *ExitRule) Begin(now time.Time) { x.idleSince = now }

// Open is how many connections of agencies the server waits for.
func (x *ExitRule) Open() int { return x.open }

func (x *ExitRule) opened() {
	x.came = true
	x.open++
}

func (x *ExitRule) closed(now time.Time) {
	x.open--
	x.idleSince = now
}

// content notes that an expected agency is done: it has its winners, and has come for them since
// the start.
func (x *ExitRule) content(id codec.Agency) {
	if x.away[id-1] {
		x.away[id-1] = false
		x.absent--
	}
}

// done reports whether an agency has its winners, and has come for them since the start.
func (x *ExitRule) done(id codec.Agency) bool { return int(id) <= len(x.away) && !x.away[id-1] }

// Overdue reports whether the deadline has passed without a draw.
func (x *ExitRule) Overdue(now time.Time) bool {
	return !x.deadline.IsZero() && !now.Before(x.deadline) && !x.lottery.Drawn()
}

// Verdict says whether the server is done, apart from its deadline. If it isn't, the server waits
// for events and, if wait is positive, asks again after that time. The rule counts only what is
// durable, so Verdict may be called between any two commits.
//
//	drawn  came  open  unserved  absent  verdict
//	no     no    -     -         -       wait for ever
//	no     yes   > 0   -         -       wait for ever
//	no     yes   0     -         -       when idle for the grace: done, unfinished
//	yes    -     > 0   -         -       wait for ever: the front bounds how long they may stay
//	yes    -     0     > 0       -       when idle for the grace: done, unfinished
//	yes    -     0     0         > 0     when idle for the grace: done
//	yes    -     0     0         0       done
//
// Agencies that had their winners before a restart may come again, as they do when everything is
// started again. They get the grace for that. Until the first agency has come, it is GraceMin at
// least.
func (x *ExitRule) Verdict(now time.Time) (done bool, wait time.Duration) {
	drawn := x.lottery.Drawn()
	switch {
	case x.open > 0, !drawn && !x.came:
		return false, 0
	case drawn && x.lottery.Unserved() == 0 && x.absent == 0:
		return true, 0
	}
	grace := x.grace
	if !x.came {
		grace = max(grace, GraceMin)
	}
	if left := grace - now.Sub(x.idleSince); left > 0 {
		return false, left
	}
	return true, 0
}

// Missing returns the agencies that the goal lacks; see the function of that name.
func (x *ExitRule) Missing() []codec.Agency { return Missing(x.lottery) }

// Result is the error of a server that ends now; see Outcome.
func (x *ExitRule) Result(now time.Time) error { return Outcome(x.lottery, x.Overdue(now)) }

// Missing returns the agencies that a draw's goal lacks, in order: before the draw those that have not
// reported, after it those that are not known to have their winners. The slice is the caller's.
func Missing(l *lottery.Lottery) (ids []codec.Agency) {
	there := l.Reported
	if l.Drawn() {
		there = l.Served
	}
	for id := codec.Agency(1); int(id) <= l.Agencies(); id++ {
		if !there(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Outcome is the error of a server that ends with this state: nil if it has reached its goal, else an
// *UnfinishedError.
func Outcome(l *lottery.Lottery, overdue bool) error {
	if l.Drawn() && l.Unserved() == 0 {
		return nil
	}
	return &UnfinishedError{Drawn: l.Drawn(), Overdue: overdue, Missing: Missing(l)}
}
