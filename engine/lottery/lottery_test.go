package lottery_test

import (
	"errors"
	"math"
	"testing"

	"loteria/codec"
	"loteria/engine/lottery"
)

// Each test's comment states the rule that it checks, often in the words of codec/PROTOCOL.md.

const (
	none    = lottery.NoEntry
	stores  = lottery.BetsEntry
	serves  = lottery.ServedEntry
	reports = lottery.ReportedEntry
	juan    = "Juan|Pérez|12345678|1990-05-23|7574|1"
	maria   = "María|Gómez|87654321|1985-07-10|7574|1"
	carlos  = "Carlos|López|99887766|1982-02-17|7574|2"
	lucia   = "Lucía|Martínez|11223344|1995-09-30|07574|2"
)

var (
	push    = lottery.Rules{Agencies: 2}
	poll    = lottery.Rules{Agencies: 2, Poll: true}
	pushAll = lottery.Rules{Agencies: 2, AllWinners: true}
)

// A connection belongs to the agency that its first valid message names. A message that names
// another agency gets ERROR_INVALID_AGENCY.
func TestFirstMessageBindsTheConnection(t *testing.T) {
	a1 := session("A1")
	kinds := map[string]struct {
		request lottery.Request
		entry   lottery.Entry
		effects []lottery.Effect
	}{
		"hello":      {hello(a1, 1), none, []lottery.Effect{welcome(a1, 1, 0)}},
		"bets":       {bets(a1, 1, 3), stores, []lottery.Effect{ack(a1, 1, 3)}},
		"getWinners": {getWinners(a1, 1), reports, nil},
	}
	for name, first := range kinds {
		t.Run(name, func(t *testing.T) {
			*a1 = lottery.Session{Peer: "A1"}
			g := newGame(t, push)
			if a1.Agency() != 0 || g.OpenSessions() != 0 {
				t.Errorf("before: agency %d, %d open sessions", a1.Agency(), g.OpenSessions())
			}
			g.expect(first.request, first.entry, first.effects...)
			if a1.Agency() != 1 || g.OpenSessions() != 1 {
				t.Errorf("after: agency %d, %d open sessions, want agency 1, 1 open",
					a1.Agency(), g.OpenSessions())
			}
			stored := g.Bets()
			g.expect(hello(a1, 2), none, reject(a1, 2, codec.CodeInvalidAgency))
			g.expect(bets(a1, 2, 1, carlos), none, reject(a1, 2, codec.CodeInvalidAgency))
			g.expect(getWinners(a1, 2), none, reject(a1, 2, codec.CodeInvalidAgency))
			if a1.Agency() != 1 || g.Bets() != stored || g.Won() != 0 || g.Reported(2) {
				t.Errorf("another agency's messages were taken: %d bets, %d won, reported %v",
					g.Bets(), g.Won(), g.Reported(2))
			}
			g.expect(hello(a1, 1), none, welcome(a1, 1, stored)) // the connection is kept
		})
	}
}

// A message of an agency that is not expected gets ERROR_INVALID_AGENCY, and the connection stays.
func TestUnexpectedAgency(t *testing.T) {
	for _, id := range []codec.Agency{0, 3, 999_999_999, math.MaxUint32} {
		a := session("A")
		g := newGame(t, push)
		g.expect(hello(a, id), none, reject(a, id, codec.CodeInvalidAgency))
		g.expect(bets(a, id, 1, juan), none, reject(a, id, codec.CodeInvalidAgency))
		g.expect(getWinners(a, id), none, reject(a, id, codec.CodeInvalidAgency))
		if a.Agency() != 0 || a.Gone() || g.OpenSessions() != 0 ||
			g.Bets() != 0 || g.Stored(id) != 0 || g.Reported(id) {
			t.Errorf("agency %d: something was taken", id)
		}
		g.expect(hello(a, 2), none, welcome(a, 2, 0)) // it was not bound yet
		g.expect(bets(a, id, 1), none, reject(a, id, codec.CodeInvalidAgency))
		g.expect(bets(a, 2, 1), stores, ack(a, 2, 1))
	}
}

// A rejected batch changes nothing.
func TestRejectedBatchChangesNothing(t *testing.T) {
	g := newGame(t, push)
	a1, a2, late := session("A1"), session("A2"), session("late")
	g.expect(bets(a1, 1, 2, juan), stores, ack(a1, 1, 2))
	g.expect(getWinners(a1, 1), reports)

	g.expect(bets(late, 1, 1, maria), none, reject(late, 1, codec.CodeBetsClosed))
	if g.Stored(1) != 2 || g.Bets() != 2 || g.Won() != 1 ||
		g.OpenSessions() != 1 || late.Agency() != 0 {
		t.Errorf("stored %d of %d, won %d, %d open, late one bound to %d; want 2 of 2, 1, 1, 0",
			g.Stored(1), g.Bets(), g.Won(), g.OpenSessions(), late.Agency())
	}
	// The connection stays, and the rejected batch did not bind it.
	g.expect(bets(late, 2, 1), stores, ack(late, 2, 1))
	g.expect(getWinners(a2, 2), reports, draw(1), winners(a1, 1, juan), winners(a2, 2))
}

// Two identical bets are two bets: people do play the same number twice.
func TestIdenticalBetsAreTwoBets(t *testing.T) {
	g := newGame(t, lottery.Rules{Agencies: 1})
	a := session("A")
	g.expect(bets(a, 1, 2, juan, juan), stores, ack(a, 1, 2))
	g.expect(bets(a, 1, 1, juan), stores, ack(a, 1, 1))
	g.expect(getWinners(a, 1), reports, draw(3), winners(a, 1, juan, juan, juan))
}

// GET_WINNERS|<agency> says two things: "this agency has no more bets" and "send me my winners".
// Only its first one makes a Reported entry.
func TestReportIsLoggedOnce(t *testing.T) {
	for _, rules := range []lottery.Rules{push, poll} {
		g := newGame(t, rules)
		answer := func(s *lottery.Session) []lottery.Effect {
			if rules.Poll {
				return []lottery.Effect{reject(s, 1, codec.CodeLotteryHasntEnded)}
			}
			return nil
		}
		a, b := session("A"), session("B")
		g.expect(getWinners(a, 1), reports, answer(a)...)
		g.expect(getWinners(a, 1), none, answer(a)...)
		g.expect(getWinners(b, 1), none, answer(b)...)
		g.restart()
		c := session("C")
		g.expect(getWinners(c, 1), none, answer(c)...)
		if !g.Reported(1) || g.Reported(2) || g.Drawn() {
			t.Errorf("%+v: reported %v %v, drawn %v, want true false false",
				rules, g.Reported(1), g.Reported(2), g.Drawn())
		}
	}
}

// The draw takes place once, when the last expected agency reports: it is that agency's entry in
// the ledger.
func TestDrawTakesPlaceOnce(t *testing.T) {
	g := newGame(t, lottery.Rules{Agencies: 3})
	a := []*lottery.Session{session("A1"), session("A2"), session("A3")}
	g.expect(bets(a[0], 1, 5, juan), stores, ack(a[0], 1, 5))
	g.expect(getWinners(a[2], 3), reports)
	g.expect(getWinners(a[0], 1), reports)
	if g.Drawn() {
		t.Error("drawn before the last agency had reported")
	}
	g.expect(getWinners(a[1], 2), reports,
		draw(1), winners(a[0], 1, juan), winners(a[1], 2), winners(a[2], 3))
	for i, s := range a {
		id := codec.Agency(i + 1)
		g.expect(bets(s, id, 1, juan), none, reject(s, id, codec.CodeBetsClosed))
		g.expect(leave(s), none)
	}
	g.restart()
	if !g.Drawn() || g.Won() != 1 {
		t.Errorf("after a restart: drawn %v, won %d, want true, 1", g.Drawn(), g.Won())
	}
	back := session("back")
	g.expect(getWinners(back, 1), none, winners(back, 1, juan)) // and no second draw
}

// Every session that waits is sent its winners when the draw takes place, whichever agency reported
// last.
func TestWinnersArePushed(t *testing.T) {
	g := newGame(t, push)
	a1, again, a2 := session("A1"), session("A1 again"), session("A2")
	g.expect(bets(a1, 1, 3, juan, maria), stores, ack(a1, 1, 3))
	g.expect(bets(a2, 2, 1, carlos), stores, ack(a2, 2, 1))
	g.expect(getWinners(a1, 1), reports)
	g.expect(getWinners(again, 1), none)
	g.expect(getWinners(a2, 2), reports,
		draw(3), winners(again, 1, juan, maria), winners(a1, 1, juan, maria), winners(a2, 2, carlos))
}

// Every request has its own answer: a session that asked twice is answered twice.
func TestEachHeldQuestionIsAnswered(t *testing.T) {
	g := newGame(t, push)
	a1, a2 := session("A1"), session("A2")
	g.expect(getWinners(a1, 1), reports)
	g.expect(getWinners(a1, 1), none)
	g.expect(getWinners(a2, 2), reports, draw(0), winners(a1, 1), winners(a1, 1), winners(a2, 2))
}

// Winners are the only answer that may come out of order: requests sent after a held GET_WINNERS
// are answered without waiting for it.
func TestRequestsOvertakeHeldQuestion(t *testing.T) {
	g := newGame(t, push)
	a1, a2 := session("A1"), session("A2")
	g.expect(bets(a1, 1, 4), stores, ack(a1, 1, 4))
	g.expect(getWinners(a1, 1), reports)
	g.expect(bets(a1, 1, 1), none, reject(a1, 1, codec.CodeBetsClosed))
	g.expect(hello(a1, 1), none, welcome(a1, 1, 4))
	g.expect(getWinners(a2, 2), reports, draw(0), winners(a1, 1), winners(a2, 2)) // a1 still waited
}

// After the draw every GET_WINNERS is answered at once, on any connection and as often as it is
// asked.
func TestGetWinnersAfterTheDraw(t *testing.T) {
	for _, rules := range []lottery.Rules{push, poll} {
		g := newGame(t, rules)
		g.apply(bets(session("A1"), 1, 2, juan))
		g.apply(getWinners(session("A1"), 1))
		g.apply(getWinners(session("A2"), 2))
		if !g.Drawn() {
			t.Fatal("not drawn")
		}
		one, other := session("one"), session("other")
		for range 3 {
			g.expect(getWinners(one, 1), none, winners(one, 1, juan))
			g.expect(getWinners(other, 1), none, winners(other, 1, juan))
		}
	}
}

// SERVER_WINNERS=poll restores the old behaviour: before the draw a GET_WINNERS is answered at once
// with ERROR_LOTTERY_HASNT_ENDED.
func TestPollMode(t *testing.T) {
	g := newGame(t, poll)
	a1, a2 := session("A1"), session("A2")
	g.expect(bets(a1, 1, 1, juan), stores, ack(a1, 1, 1))
	g.expect(getWinners(a1, 1), reports, reject(a1, 1, codec.CodeLotteryHasntEnded))
	g.expect(getWinners(a1, 1), none, reject(a1, 1, codec.CodeLotteryHasntEnded))
	g.expect(bets(a1, 1, 1), none, reject(a1, 1, codec.CodeBetsClosed)) // the report still counts
	// The last agency's question causes the draw and is answered; no other question is open.
	g.expect(getWinners(a2, 2), reports, draw(1), winners(a2, 2))
	g.expect(getWinners(a1, 1), none, winners(a1, 1, juan))
}

// An old polling agency works unchanged in both modes, with one connection per message or one for
// all. In push mode its first question is answered at the draw.
func TestConnectionPerMessage(t *testing.T) {
	for _, rules := range []lottery.Rules{push, poll} {
		g := newGame(t, rules)
		for _, line := range []string{juan, maria} {
			s := session("batch")
			g.expect(bets(s, 1, 10, line), stores, ack(s, 1, 10))
			g.expect(leave(s), none)
		}
		question, last := session("question"), session("last")
		if rules.Poll {
			g.expect(getWinners(question, 1), reports, reject(question, 1, codec.CodeLotteryHasntEnded))
			g.expect(leave(question), none)
			g.expect(getWinners(last, 2), reports, draw(2), winners(last, 2))
			again := session("again")
			g.expect(getWinners(again, 1), none, winners(again, 1, juan, maria))
		} else {
			g.expect(getWinners(question, 1), reports)
			g.expect(getWinners(last, 2), reports,
				draw(2), winners(question, 1, juan, maria), winners(last, 2))
		}
	}
}

// SERVER_WINNERS_SCOPE=agency, the default: an agency gets only its own winners, and an empty
// payload if it has none.
func TestOwnWinnersOnly(t *testing.T) {
	g := newGame(t, lottery.Rules{Agencies: 3})
	a1, a2, a3 := session("A1"), session("A2"), session("A3")
	g.expect(bets(a2, 2, 1, lucia), stores, ack(a2, 2, 1))
	g.expect(bets(a1, 1, 1, juan), stores, ack(a1, 1, 1))
	g.expect(bets(a2, 2, 1, carlos), stores, ack(a2, 2, 1))
	g.expect(bets(a3, 3, 9), stores, ack(a3, 3, 9))
	g.expect(getWinners(a1, 1), reports)
	g.expect(getWinners(a2, 2), reports)
	g.expect(getWinners(a3, 3), reports,
		draw(3), winners(a1, 1, juan), winners(a2, 2, lucia, carlos), winners(a3, 3))
}

// SERVER_WINNERS_SCOPE=all: every agency gets all winners, in ledger order.
func TestAllWinnersInLedgerOrder(t *testing.T) {
	g := newGame(t, pushAll)
	a1, a2 := session("A1"), session("A2")
	g.expect(bets(a2, 2, 2, lucia), stores, ack(a2, 2, 2))
	g.expect(bets(a1, 1, 1, juan), stores, ack(a1, 1, 1))
	g.expect(bets(a2, 2, 1, carlos), stores, ack(a2, 2, 1))
	g.expect(bets(a1, 1, 1, maria), stores, ack(a1, 1, 1))
	g.restart() // the order comes from the ledger, not from the connections
	a1, a2 = session("A1"), session("A2")
	g.expect(getWinners(a2, 2), reports)
	all := []string{lucia, juan, carlos, maria}
	g.expect(getWinners(a1, 1), reports, draw(4), winners(a1, 1, all...), winners(a2, 2, all...))
}

// Bets after the agency's own GET_WINNERS, or after the draw, get ERROR_BETS_CLOSED. Another
// agency's report closes nothing.
func TestBetsClosed(t *testing.T) {
	g := newGame(t, push)
	a1, a2 := session("A1"), session("A2")
	g.expect(getWinners(a1, 1), reports)
	g.expect(bets(a1, 1, 1), none, reject(a1, 1, codec.CodeBetsClosed))
	g.expect(bets(a2, 2, 1), stores, ack(a2, 2, 1))
	g.restart()
	b1, b2 := session("B1"), session("B2")
	g.expect(bets(b1, 1, 1), none, reject(b1, 1, codec.CodeBetsClosed))
	g.expect(bets(b2, 2, 1), stores, ack(b2, 2, 1))
	g.expect(getWinners(b2, 2), reports, draw(0), winners(b2, 2))
	g.expect(bets(b2, 2, 1), none, reject(b2, 2, codec.CodeBetsClosed))
}

// WELCOME's stored is how many bets of the agency are durable. It counts everything queued before
// the HELLO.
func TestWelcomeSaysWhereToGoOn(t *testing.T) {
	g := newGame(t, push)
	a1, a2 := session("A1"), session("A2")
	g.expect(hello(a1, 1), none, welcome(a1, 1, 0))
	g.expect(bets(a1, 1, 150), stores, ack(a1, 1, 150))
	g.expect(bets(a1, 1, 7), stores, ack(a1, 1, 7))
	g.expect(bets(a2, 2, 1000), stores, ack(a2, 2, 1000))
	next := session("next")
	g.expect(hello(next, 1), none, reject(a1, 1, codec.CodeAgencyTakenOver), welcome(next, 1, 157))
	g.restart()
	restarted := session("restarted")
	g.expect(hello(restarted, 1), none, welcome(restarted, 1, 157))
	if g.Bets() != 1157 {
		t.Errorf("%d bets, want 1157", g.Bets())
	}
}

// A second HELLO for an agency takes it over: the older connection is told so and closed. What it
// had in flight is either counted in stored or dropped, and never stored later.
func TestTakeoverFencesOff(t *testing.T) {
	g := newGame(t, push)
	older, newer, a2 := session("older"), session("newer"), session("A2")
	g.expect(hello(older, 1), none, welcome(older, 1, 0))
	g.expect(bets(older, 1, 3), stores, ack(older, 1, 3))
	g.expect(hello(newer, 1), none,
		reject(older, 1, codec.CodeAgencyTakenOver), welcome(newer, 1, 3))
	if !older.Gone() || newer.Gone() || g.OpenSessions() != 1 {
		t.Errorf("older gone %v, newer gone %v, %d open; want true, false, 1",
			older.Gone(), newer.Gone(), g.OpenSessions())
	}

	// What was in flight doesn't count and gets no answer: the connection has been told already.
	g.expect(bets(older, 1, 5, juan), none)
	g.expect(getWinners(older, 1), none)
	g.expect(hello(older, 1), none)
	g.expect(hello(older, 2), none)
	g.expect(leave(older), none)
	if g.Stored(1) != 3 || g.Won() != 0 || g.Reported(1) || g.OpenSessions() != 1 {
		t.Errorf("stored %d, won %d, reported %v, %d open; want 3, 0, false, 1",
			g.Stored(1), g.Won(), g.Reported(1), g.OpenSessions())
	}

	g.expect(bets(newer, 1, 2, juan), stores, ack(newer, 1, 2))
	g.expect(getWinners(newer, 1), reports)
	g.expect(getWinners(a2, 2), reports, draw(1), winners(newer, 1, juan), winners(a2, 2))
}

// A broken connection's HELLO may be read after the one that its agency says on the next
// connection. It must not take over: it gets ERROR_AGENCY_TAKEN_OVER.
func TestTakeoverIsByTheNewerConnection(t *testing.T) {
	g := newGame(t, push)
	broken, next, newest := session("broken"), session("next"), session("newest")
	broken.Number, next.Number, newest.Number = 1, 2, 3
	g.expect(bets(newest, 1, 1), stores, ack(newest, 1, 1)) // no HELLO, so it is no takeover
	g.expect(hello(next, 1), none,
		reject(newest, 1, codec.CodeAgencyTakenOver), welcome(next, 1, 1))
	g.expect(hello(broken, 1), none, reject(broken, 1, codec.CodeAgencyTakenOver))
	g.expect(bets(broken, 1, 5, juan), none)
	g.expect(leave(broken), none)
	g.expect(bets(next, 1, 2), stores, ack(next, 1, 2))
	if next.Gone() || g.Stored(1) != 3 || g.OpenSessions() != 1 {
		t.Errorf("next gone %v, %d stored, %d open; want false, 3, 1",
			next.Gone(), g.Stored(1), g.OpenSessions())
	}
	g.expect(leave(next), none)
	// The fence also holds for connections that name the agency now, and when no newer one is left.
	for _, says := range []func(*lottery.Session) lottery.Request{
		func(s *lottery.Session) lottery.Request { return hello(s, 1) },
		func(s *lottery.Session) lottery.Request { return bets(s, 1, 1) },
		func(s *lottery.Session) lottery.Request { return getWinners(s, 1) },
	} {
		late := session("late")
		late.Number = 1
		g.expect(says(late), none, reject(late, 1, codec.CodeAgencyTakenOver))
		g.expect(says(late), none)
	}
	if g.Stored(1) != 3 || g.Reported(1) {
		t.Errorf("%d stored, reported %v; want 3, false", g.Stored(1), g.Reported(1))
	}
	// The fence doesn't stop older connections of another agency.
	other := session("other")
	other.Number = 1
	g.expect(bets(other, 2, 1), stores, ack(other, 2, 1))
}

// After the draw every GET_WINNERS is answered at once, also on a connection older than the
// agency's last HELLO.
func TestTakeoverLeavesWinnersToEveryConnection(t *testing.T) {
	g := newGame(t, push)
	older, newer, two := session("older"), session("newer"), session("two")
	older.Number, newer.Number = 1, 2
	g.expect(hello(newer, 1), none, welcome(newer, 1, 0))
	g.expect(bets(newer, 1, 1, juan), stores, ack(newer, 1, 1))
	g.expect(getWinners(newer, 1), reports)
	g.expect(getWinners(two, 2), reports, draw(1), winners(newer, 1, juan), winners(two, 2))
	g.expect(getWinners(older, 1), none, winners(older, 1, juan))
}

// A HELLO sends ERROR_AGENCY_TAKEN_OVER to every older connection of its agency, also to those that
// wait or never said HELLO, and to no connection of another agency.
func TestTakeoverOfAllOlderConnections(t *testing.T) {
	g := newGame(t, push)
	first, second, third := session("first"), session("second"), session("third")
	other, newest := session("other"), session("newest")
	g.expect(bets(first, 1, 1, juan), stores, ack(first, 1, 1))
	g.expect(getWinners(second, 1), reports)
	g.expect(getWinners(third, 1), none)
	g.expect(hello(other, 2), none, welcome(other, 2, 0))
	g.expect(hello(newest, 1), none,
		reject(third, 1, codec.CodeAgencyTakenOver),
		reject(second, 1, codec.CodeAgencyTakenOver),
		reject(first, 1, codec.CodeAgencyTakenOver),
		welcome(newest, 1, 1))
	if other.Gone() || g.OpenSessions() != 2 {
		t.Errorf("other agency gone %v, %d open; want false, 2", other.Gone(), g.OpenSessions())
	}
	// Their questions ended with them; the newest connection has not asked yet.
	g.expect(getWinners(other, 2), reports, draw(1), winners(other, 2))
	g.expect(getWinners(newest, 1), none, winners(newest, 1, juan))
}

// A repeated HELLO doesn't take over its own connection, wherever that is in the agency's list.
func TestRepeatedHello(t *testing.T) {
	for at := range 3 {
		g := newGame(t, push)
		s := []*lottery.Session{session("first"), session("second"), session("third")}
		for i := range s {
			g.apply(getWinners(s[i], 1))
		}
		var want []lottery.Effect
		for i := len(s) - 1; i >= 0; i-- {
			if i != at {
				want = append(want, reject(s[i], 1, codec.CodeAgencyTakenOver))
			}
		}
		g.expect(hello(s[at], 1), none, append(want, welcome(s[at], 1, 0))...)
		g.expect(hello(s[at], 1), none, welcome(s[at], 1, 0))
		if g.OpenSessions() != 1 {
			t.Errorf("%d open sessions, want 1", g.OpenSessions())
		}
		a2 := session("A2")
		g.expect(getWinners(a2, 2), reports, draw(0), winners(s[at], 1), winners(a2, 2))
	}
}

// Agencies that never say HELLO don't notice it: a connection without HELLO takes nothing over, so
// connections of one agency live side by side.
func TestConnectionsWithoutHelloShareTheAgency(t *testing.T) {
	g := newGame(t, push)
	a, b := session("A"), session("B")
	g.expect(hello(a, 1), none, welcome(a, 1, 0))
	g.expect(bets(b, 1, 1, maria), stores, ack(b, 1, 1))
	g.expect(bets(a, 1, 1, juan), stores, ack(a, 1, 1))
	g.expect(getWinners(b, 1), reports)
	g.expect(bets(a, 1, 1), none, reject(a, 1, codec.CodeBetsClosed)) // closed for the whole agency
	if g.Stored(1) != 2 || g.OpenSessions() != 2 {
		t.Errorf("stored %d, %d open, want 2, 2", g.Stored(1), g.OpenSessions())
	}
}

// In push mode, a server that stops before the draw sends ERROR_LOTTERY_HASNT_ENDED to every
// connection that waits.
func TestDismiss(t *testing.T) {
	g := newGame(t, lottery.Rules{Agencies: 3})
	a1, again, a2, a3 := session("A1"), session("A1 again"), session("A2"), session("A3")
	g.expect(bets(a1, 1, 1, juan), stores, ack(a1, 1, 1))
	g.expect(getWinners(a1, 1), reports)
	g.expect(getWinners(a1, 1), none)
	g.expect(getWinners(again, 1), none)
	g.expect(getWinners(a2, 2), reports)
	g.expect(hello(a3, 3), none, welcome(a3, 3, 0)) // doesn't wait
	hasntEnded := func(s *lottery.Session, id codec.Agency) lottery.Effect {
		return reject(s, id, codec.CodeLotteryHasntEnded)
	}
	g.expectDismiss(hasntEnded(again, 1), hasntEnded(a1, 1), hasntEnded(a1, 1), hasntEnded(a2, 2))
	g.expectDismiss()

	// A restart with the same ledger goes on where it ends.
	g.restart()
	b1, b3 := session("B1"), session("B3")
	g.expect(getWinners(b1, 1), none)
	g.expect(getWinners(b3, 3), reports, draw(1), winners(b1, 1, juan), winners(b3, 3))
	g.expectDismiss()
}

func TestDismissInPollMode(t *testing.T) {
	g := newGame(t, poll)
	a1 := session("A1")
	g.expect(getWinners(a1, 1), reports, reject(a1, 1, codec.CodeLotteryHasntEnded))
	g.expectDismiss() // it has its answer
}

// A session ends with its connection; its bets and its report stay.
func TestLeave(t *testing.T) {
	// Whichever session leaves, the agency's other sessions still get their winners.
	for at := range 3 {
		g := newGame(t, push)
		s := []*lottery.Session{session("first"), session("second"), session("third")}
		for i := range s {
			g.apply(bets(s[i], 1, 1))
			g.apply(getWinners(s[i], 1))
		}
		for range 2 { // leaving twice changes nothing
			g.expect(leave(s[at]), none)
			if g.OpenSessions() != 2 || !s[at].Gone() {
				t.Errorf("%d open, gone %v, want 2, true", g.OpenSessions(), s[at].Gone())
			}
		}
		g.expect(getWinners(s[at], 1), none) // it gets no answer any more
		if !g.Reported(1) || g.Stored(1) != 1 {
			t.Errorf("reported %v, stored %d, want true, 1", g.Reported(1), g.Stored(1))
		}
		want := []lottery.Effect{draw(0)}
		for i := len(s) - 1; i >= 0; i-- {
			if i != at {
				want = append(want, winners(s[i], 1))
			}
		}
		a2 := session("A2")
		g.expect(getWinners(a2, 2), reports, append(want, winners(a2, 2))...)
	}
}

func TestLeaveOfAnUnboundConnection(t *testing.T) {
	g := newGame(t, push)
	s := session("S")
	g.expect(leave(s), none)
	g.expect(hello(s, 1), none)
	if !s.Gone() || s.Agency() != 0 || g.OpenSessions() != 0 {
		t.Errorf("gone %v, agency %d, %d open, want true, 0, 0",
			s.Gone(), s.Agency(), g.OpenSessions())
	}
}

// Replay refuses an entry that this lottery can't have written, and the lottery stays unchanged.
func TestReplayRefusesWhatDoesNotFit(t *testing.T) {
	tests := map[string]record{
		"agency 0":               {lottery.BetsEntry, 0, 1, codec.Stretch{}, nil},
		"agency not expected":    {lottery.BetsEntry, 3, 1, codec.Stretch{}, nil},
		"agency far outside":     {lottery.ReportedEntry, math.MaxUint32, 0, codec.Stretch{}, nil},
		"bets after the report":  {lottery.BetsEntry, 1, 1, codec.Stretch{}, []byte(juan + "\n")},
		"second report":          {lottery.ReportedEntry, 1, 0, codec.Stretch{}, nil},
		"batch without bets":     {lottery.BetsEntry, 2, 0, codec.Stretch{}, nil},
		"batch of negative size": {lottery.BetsEntry, 2, -1, codec.Stretch{}, nil},
		"no entry":               {lottery.NoEntry, 2, 1, codec.Stretch{}, nil},
		"unknown entry":          {lottery.ServedEntry + 1, 2, 1, codec.Stretch{}, nil},
		"report of two":          {lottery.ReportedEntry, 2, 2, codec.Stretch{}, nil},
		"served before the draw": {lottery.ServedEntry, 1, 0, codec.Stretch{}, nil},
	}
	for name, r := range tests {
		t.Run(name, func(t *testing.T) {
			l := lottery.New(push)
			for _, r := range []record{
				{lottery.BetsEntry, 1, 2, codec.Stretch{}, []byte(maria + "\n")},
				{lottery.ReportedEntry, 1, 0, codec.Stretch{}, nil},
			} {
				if err := l.Replay(r.entry, r.agency, r.count, r.lines, r.winners); err != nil {
					t.Fatal(err)
				}
			}
			err := l.Replay(r.entry, r.agency, r.count, r.lines, r.winners)
			if !errors.Is(err, lottery.ErrReplay) {
				t.Errorf("error %v, want ErrReplay", err)
			}
			if l.Bets() != 2 || l.Won() != 1 || l.Stored(1) != 2 || l.Stored(2) != 0 ||
				l.Reported(2) || l.Drawn() || l.Served(1) {
				t.Error("the refused entry changed the lottery")
			}
		})
	}
}

// An agency that has said HELLO confirms its winners. One RECEIVED is enough; nothing undoes it.
func TestReceipt(t *testing.T) {
	g := newGame(t, push)
	a1, a2 := session("A1"), session("A2")
	g.expect(received(a2, 2), none, reject(a2, 2, codec.CodeInvalidBatch)) // it has not said HELLO
	g.expect(hello(a2, 3), none, reject(a2, 3, codec.CodeInvalidAgency))
	g.expect(received(a2, 2), none, reject(a2, 2, codec.CodeInvalidBatch)) // its HELLO was refused
	g.expect(hello(a1, 1), none, welcome(a1, 1, 0))
	g.expect(getWinners(a1, 1), reports)
	g.expect(received(a1, 1), none, reject(a1, 1, codec.CodeLotteryHasntEnded))
	g.expect(getWinners(a2, 2), reports, draw(0), winners(a1, 1), winners(a2, 2))
	if g.Served(1) || g.Unserved() != 2 {
		t.Error("an agency counts as served without a receipt")
	}
	g.expect(received(a1, 2), none, reject(a1, 2, codec.CodeInvalidAgency))
	g.expect(received(a1, 3), none, reject(a1, 3, codec.CodeInvalidAgency))
	g.expect(received(a1, 1), serves, receipt(a1, 1))
	g.expect(received(a1, 1), none, receipt(a1, 1))
	g.restart()
	again := session("A1 again")
	g.expect(hello(again, 1), none, welcome(again, 1, 0))
	g.expect(received(again, 1), none, receipt(again, 1))
	if !g.Served(1) || g.Served(2) || g.Unserved() != 1 {
		t.Errorf("served: %v, %v, %d missing; want true, false, 1",
			g.Served(1), g.Served(2), g.Unserved())
	}
	served := record{lottery.ServedEntry, 1, 0, codec.Stretch{}, nil}
	err := g.Replay(served.entry, served.agency, 0, served.lines, nil)
	if !errors.Is(err, lottery.ErrReplay) {
		t.Errorf("served twice: error %v, want ErrReplay", err)
	}
}

// An agency that never says HELLO is served when its system has acknowledged every byte of its
// winners. An agency that has to confirm is not, also after a restart.
func TestTaken(t *testing.T) {
	g := newGame(t, lottery.Rules{Agencies: 3})
	a1, a2, a3 := session("A1"), session("A2"), session("A3")
	g.expect(hello(a1, 1), none, welcome(a1, 1, 0))
	g.expect(getWinners(a1, 1), reports)
	g.expect(hello(a2, 2), none, welcome(a2, 2, 0))
	g.expect(leave(a2), none)
	a2 = session("A2")
	a2.Number = 1
	g.expect(getWinners(a2, 2), reports) // this connection has not said HELLO
	g.expect(taken(a2), none)            // there are no winners before the draw
	g.expect(getWinners(a3, 3), reports, draw(0), winners(a1, 1), winners(a2, 2), winners(a3, 3))
	g.expect(taken(session("nobody")), none)
	g.expect(taken(a2), serves)
	g.expect(taken(a2), none)
	g.expect(taken(a1), none) // it has to confirm
	curious := session("curious")
	g.expect(getWinners(curious, 1), none, winners(curious, 1))
	g.expect(taken(curious), none)
	g.restart()
	curious = session("curious again")
	g.expect(getWinners(curious, 1), none, winners(curious, 1))
	g.expect(taken(curious), none)
	g.expect(leave(a3), none)
	g.expect(taken(a3), none)
	renewed := session("A3 with a newer client") // it says HELLO, so it has to confirm
	g.expect(hello(renewed, 3), none, welcome(renewed, 3, 0))
	g.expect(getWinners(renewed, 3), none, winners(renewed, 3))
	g.expect(taken(renewed), none)
	if g.Served(1) || !g.Served(2) || g.Served(3) {
		t.Errorf("served: %v, %v, %v; want false, true, false",
			g.Served(1), g.Served(2), g.Served(3))
	}
}

// Apply appends its effects: those of earlier requests of the group stay.
func TestEffectsAreAppended(t *testing.T) {
	l := lottery.New(push)
	a1, a2 := session("A1"), session("A2")
	_, effects := l.Apply(hello(a1, 1), nil)
	_, effects = l.Apply(bets(a1, 1, 1), effects)
	_, effects = l.Apply(getWinners(a1, 1), effects)
	_, effects = l.Apply(bets(a2, 3, 1), effects)
	effects = l.Dismiss(effects)
	want := []lottery.Effect{
		welcome(a1, 1, 0), ack(a1, 1, 1), reject(a2, 3, codec.CodeInvalidAgency),
		reject(a1, 1, codec.CodeLotteryHasntEnded),
	}
	if got, want := describe(effects), describe(want); got != want {
		t.Errorf("effects:\n%swant:\n%s", got, want)
	}
}

// All agencies that wait share one copy of the winners: 10,000 of them must not take 10,000 copies.
func TestWinnersPayloadIsShared(t *testing.T) {
	g := newGame(t, pushAll)
	a1, a2 := session("A1"), session("A2")
	g.apply(bets(a1, 1, 1, juan))
	g.apply(getWinners(a1, 1))
	_, effects := g.apply(getWinners(a2, 2))
	if len(effects) != 3 {
		t.Fatalf("effects:\n%swant the draw and two pushes", describe(effects))
	}
	if &effects[1].Payload[0] != &effects[2].Payload[0] {
		t.Error("each push has its own copy of the winners")
	}
}

func TestNewChecksAgencies(t *testing.T) {
	for agencies, legal := range map[int]bool{
		-1: false, 0: false, 1: true, lottery.AgenciesMax: true, lottery.AgenciesMax + 1: false,
	} {
		func() {
			defer func() {
				if panicked := recover() != nil; panicked == legal {
					t.Errorf("%d agencies: panicked %v", agencies, panicked)
				}
			}()
			if got := lottery.New(lottery.Rules{Agencies: agencies}).Agencies(); got != agencies {
				t.Errorf("Agencies() = %d, want %d", got, agencies)
			}
		}()
	}
}

func TestUnknownRequestPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a request without a kind was taken")
		}
	}()
	lottery.New(push).Apply(lottery.Request{Session: session("S"), Agency: 1}, nil)
}
