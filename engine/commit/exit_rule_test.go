package commit

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"loteria/codec"
	"loteria/engine/lottery"
)

// exitState is everything that a verdict depends on.
type exitState struct {
	came, drawn      bool
	open             int
	unserved, absent int // of two agencies
	graceOver        bool
}

// exitStates yields every possible state.
func exitStates(yield func(exitState) bool) {
	for n := range 2 * 2 * 2 * 3 * 3 * 3 {
		s := exitState{came: n%2 == 1, drawn: n/2%2 == 1, graceOver: n/4%2 == 1, open: n / 8 % 3, unserved: n / 24 % 3, absent: n / 72 % 3}
		switch {
		case !s.came && (s.open > 0 || s.absent < 2):
			continue // an agency that is here has come
		case !s.drawn && (s.unserved < 2 || s.absent < 2):
			continue // no agency has winners before the draw
		case s.unserved > s.absent:
			continue // an agency that is not served has not come for its winners
		}
		if !yield(s) {
			return
		}
	}
}

const exitGrace = 10 * time.Second

// rule makes an exit rule that is in this state, idle since idleSince.
func (s exitState) rule(t *testing.T, idleSince time.Time) *ExitRule {
	t.Helper()
	state := lottery.New(lottery.Rules{Agencies: 2})
	x := newExitRule(state, 2, exitGrace, time.Time{})
	x.Begin(idleSince)
	for id := codec.Agency(1); s.drawn && id <= 2; id++ {
		if err := state.Replay(lottery.ReportedEntry, id, 0, codec.Stretch{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for id := codec.Agency(1); id <= 2; id++ {
		if s.unserved < int(id) {
			if err := state.Replay(lottery.ServedEntry, id, 0, codec.Stretch{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if s.absent < int(id) {
			x.content(id)
			x.content(id) // again, which must not count twice
		}
	}
	x.came = s.came
	for range s.open {
		x.opened()
	}
	return x
}

// Exactly one row decides each state.
func TestExitRuleVerdict(t *testing.T) {
	rows := []struct {
		sentence string
		matches  func(exitState) bool
		done     bool
		wait     bool
		finished bool // if done: without an error
	}{
		{
			sentence: "no agency has ever come, and there was no draw: wait for ever",
			matches:  func(s exitState) bool { return !s.came && !s.drawn },
		},
		{
			sentence: "an agency's socket is open: wait for ever",
			matches:  func(s exitState) bool { return s.open > 0 },
		},
		{
			sentence: "all agencies are served, have been here since the start, and have closed: exit 0",
			matches:  func(s exitState) bool { return s.open == 0 && s.drawn && s.unserved == 0 && s.absent == 0 },
			done:     true, finished: true,
		},
		{
			sentence: "all are served, and some have not been here since the start: the grace ...",
			matches: func(s exitState) bool {
				return s.open == 0 && s.drawn && s.unserved == 0 && s.absent > 0 && !s.graceOver
			},
			wait: true,
		},
		{
			sentence: "... then exit 0",
			matches: func(s exitState) bool {
				return s.open == 0 && s.drawn && s.unserved == 0 && s.absent > 0 && s.graceOver
			},
			done: true, finished: true,
		},
		{
			sentence: "some agency is not served, whether or not any came: the grace ...",
			matches:  func(s exitState) bool { return s.open == 0 && s.drawn && s.unserved > 0 && !s.graceOver },
			wait:     true,
		},
		{
			sentence: "... then exit 3",
			matches:  func(s exitState) bool { return s.open == 0 && s.drawn && s.unserved > 0 && s.graceOver },
			done:     true,
		},
		{
			sentence: "all agencies that came before the draw have closed: the grace ...",
			matches:  func(s exitState) bool { return s.came && s.open == 0 && !s.drawn && !s.graceOver },
			wait:     true,
		},
		{
			sentence: "... then exit 3",
			matches:  func(s exitState) bool { return s.came && s.open == 0 && !s.drawn && s.graceOver },
			done:     true,
		},
	}
	idleSince := time.Unix(1_000_000, 0)
	hit := make([]int, len(rows))
	for s := range exitStates {
		matching := -1
		for i, row := range rows {
			if row.matches(s) {
				if matching >= 0 {
					t.Fatalf("%+v: rows %d and %d", s, matching, i)
				}
				matching = i
			}
		}
		if matching < 0 {
			t.Fatalf("%+v falls through", s)
		}
		hit[matching]++
		row := rows[matching]
		times := []time.Duration{0, exitGrace / 2, exitGrace - 1}
		if s.graceOver {
			times = []time.Duration{exitGrace, exitGrace + 1, time.Hour}
		}
		for _, after := range times {
			x := s.rule(t, idleSince)
			done, wait := x.Verdict(idleSince.Add(after))
			wantWait := time.Duration(0)
			if row.wait {
				wantWait = exitGrace - after
			}
			if done != row.done || wait != wantWait {
				t.Errorf("%+v, idle for %v: done %v, wait %v; want %v, %v: %s", s, after, done, wait, row.done, wantWait, row.sentence)
			}
			if done {
				if err := x.Result(idleSince.Add(after)); (err == nil) != row.finished {
					t.Errorf("%+v: result %v, want finished %v", s, err, row.finished)
				}
			}
			// A deadline ends a wait for the draw, and nothing else.
			for _, left := range []time.Duration{-time.Hour, 0, 1} {
				x.deadline = idleSince.Add(after + left)
				if overdue := x.Overdue(idleSince.Add(after)); overdue != (left <= 0 && !s.drawn) {
					t.Errorf("%+v, %v before the deadline: overdue %v", s, left, overdue)
				}
			}
		}
	}
	for i, n := range hit {
		if n == 0 {
			t.Errorf("no state for %q", rows[i].sentence)
		}
	}
}

// The grace begins when the last connection closes. A grace of 0 means no wait.
func TestExitRuleGrace(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, grace := range []time.Duration{0, time.Minute} {
		x := newExitRule(lottery.New(lottery.Rules{Agencies: 1}), 1, grace, time.Time{})
		x.Begin(now.Add(-time.Hour))
		x.opened()
		x.closed(now)
		if done, wait := x.Verdict(now); done != (grace == 0) || wait != grace {
			t.Errorf("grace of %v: done %v, wait %v", grace, done, wait)
		}
	}
}

// A server that starts after the draw waits GraceMin for the first agency to come, even with a
// grace of 0.
func TestExitRuleFirstToCome(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	x := exitState{drawn: true, unserved: 2, absent: 2}.rule(t, now)
	x.grace = 0
	if done, wait := x.Verdict(now); done || wait != GraceMin {
		t.Errorf("no agency has come: done %v, wait %v; want %v", done, wait, GraceMin)
	}
	if done, _ := x.Verdict(now.Add(GraceMin)); !done {
		t.Error("no agency comes, but the server goes on waiting")
	}
	x.opened()
	x.closed(now)
	if done, wait := x.Verdict(now); !done {
		t.Errorf("an agency has come and gone: wait %v", wait)
	}
}

// The error names the missing agencies: before the draw those that have not reported, after it
// those that are not known to have their winners.
func TestExitRuleNamesTheMissing(t *testing.T) {
	for _, test := range []struct {
		name     string
		agencies int
		drawn    bool
		there    []codec.Agency // before the draw those that have reported, after it those that are served
		overdue  bool
		want     []codec.Agency
		says     string
	}{
		{"no draw", 5, false, []codec.Agency{4, 2}, false, []codec.Agency{1, 3, 5}, "no draw: agencies that have not reported: 1, 3, 5; "},
		{"no draw in time", 2, false, []codec.Agency{2}, true, []codec.Agency{1}, "no draw before SERVER_DEADLINE: agencies that have not reported: 1; "},
		{"drawn, nobody served", 3, true, nil, false, []codec.Agency{1, 2, 3}, "agencies that are not known to have their winners: 1, 2, 3; "},
		{"drawn, one not served", 3, true, []codec.Agency{3, 1}, true, []codec.Agency{2}, "agencies that are not known to have their winners: 2; "},
		{"many", 100, false, nil, false, nil, ", 20 and 80 more; "},
	} {
		t.Run(test.name, func(t *testing.T) {
			state := lottery.New(lottery.Rules{Agencies: test.agencies})
			replay := func(entry lottery.Entry, id codec.Agency) {
				if err := state.Replay(entry, id, 0, codec.Stretch{}, nil); err != nil {
					t.Fatal(err)
				}
			}
			entry := lottery.ReportedEntry
			for id := codec.Agency(1); test.drawn && int(id) <= test.agencies; id++ {
				replay(lottery.ReportedEntry, id)
				entry = lottery.ServedEntry
			}
			for _, id := range test.there {
				replay(entry, id)
			}
			x := newExitRule(state, test.agencies, 0, time.Time{})
			now := time.Unix(1_000_000, 0)
			if test.overdue {
				x.deadline = now
			}
			err := x.Result(now)
			var unfinished *UnfinishedError
			if !errors.As(err, &unfinished) || !errors.Is(err, ErrUnfinished) {
				t.Fatalf("error %v", err)
			}
			if unfinished.Drawn != test.drawn || test.want != nil && !slices.Equal(unfinished.Missing, test.want) {
				t.Errorf("drawn %v, missing %v; want %v, %v", unfinished.Drawn, unfinished.Missing, test.drawn, test.want)
			}
			if !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "SERVER_DATA_DIR") {
				t.Errorf("it says %q, want %q and what to do", err, test.says)
			}
		})
	}
}
