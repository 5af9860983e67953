package engine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"loteria/codec"
)

// ErrUnfinished says that the server ended without its goal: every agency's
// socket was closed for SERVER_EXIT_GRACE, but the draw has not taken place or
// somebody does not have their winners. Nothing is lost; the next start with
// the same directory goes on. *UnfinishedError wraps it.
var ErrUnfinished = errors.New("ended without its goal")

// UnfinishedError names the agencies that are missing.
type UnfinishedError struct {
	// Drawn tells what is missing: if false, the agencies' reports; if true,
	// the delivery of their winners.
	Drawn bool
	// Missing are the agencies, in order.
	Missing []codec.Agency
}

func (e *UnfinishedError) Error() string {
	what := "no draw: agencies that have not reported"
	next := "their stored bets are safe: start the server again with the same SERVER_DATA_DIR and let these agencies come"
	if e.Drawn {
		what = "drawn, but agencies that don't have their winners"
		next = "the winners are safe: start the server again with the same SERVER_DATA_DIR and let these agencies ask"
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

// exitRule decides when the server has nothing left to do. It knows sockets
// only by how many are agencies': those that never named one don't count, and
// neither does one whose peer has closed its side.
type exitRule struct {
	grace    time.Duration
	came     bool // some agency has named itself since the start
	open     int  // sockets of agencies
	closedAt time.Time
	drawn    bool
	served   []bool // by agency id-1: its winners were written to a socket of it
	unserved int
}

func newExitRule(agencies int, grace time.Duration, drawn bool) exitRule {
	return exitRule{grace: grace, drawn: drawn, served: make([]bool, agencies), unserved: agencies}
}

func (x *exitRule) opened() {
	x.came = true
	x.open++
}

func (x *exitRule) closed(now time.Time) {
	x.open--
	x.closedAt = now
}

func (x *exitRule) serve(id codec.Agency) {
	if id >= 1 && int(id) <= len(x.served) && !x.served[id-1] {
		x.served[id-1] = true
		x.unserved--
	}
}

// verdict is what the rule says: done, or wait for events and, if wait is
// positive, look again after it.
//
//	came  open  drawn, all served   verdict
//	no    -     -                   wait for ever
//	yes   > 0   -                   wait for ever
//	yes   0     yes                 done
//	yes   0     no                  wait until the grace is over, then unfinished
func (x *exitRule) verdict(now time.Time) (done bool, wait time.Duration) {
	switch {
	case !x.came || x.open > 0:
		return false, 0
	case x.drawn && x.unserved == 0:
		return true, 0
	}
	if left := x.grace - now.Sub(x.closedAt); left > 0 {
		return false, left
	}
	return true, 0
}

// result is the error of a verdict that is done.
func (x *exitRule) result(reported func(codec.Agency) bool) error {
	if x.drawn && x.unserved == 0 {
		return nil
	}
	e := &UnfinishedError{Drawn: x.drawn}
	for i := range x.served {
		id := codec.Agency(i + 1)
		if x.drawn && !x.served[i] || !x.drawn && !reported(id) {
			e.Missing = append(e.Missing, id)
		}
	}
	return e
}
