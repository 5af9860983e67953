package front

import (
	"slices"
	"testing"

	"go.uber.org/zap"

	"loteria/engine/commit"
	"loteria/engine/front/fronttest"
	"loteria/engine/lottery"
)

// Sessions are numbered in the order in which their connections came. Numbers of a later term of
// the log are above all numbers of an earlier one, so a HELLO under the later term takes over.
func TestSessionNumbers(t *testing.T) {
	last := uint64(0)
	for _, term := range []uint64{0, 1, 2, 1 << 20} {
		cfg := testConfig()
		cfg.Term = term
		f := New(cfg, zap.NewNop(), newStages(2))
		for range 3 {
			s, _, ok := f.Admit(Source{})
			if !ok || s.Number <= last {
				t.Fatalf("term %d: session %d comes after %d", term, s.Number, last)
			}
			last = s.Number
		}
	}
}

// Replies go to the loops of their sessions, in order.
func TestDeliverToLoops(t *testing.T) {
	f := New(testConfig(), zap.NewNop(), newStages(2))
	var sessions []*Session
	var replies []commit.Reply
	for range 3 { // on loops 0, 1, 0
		s, _, _ := f.Admit(Source{})
		sessions = append(sessions, s)
		replies = append(replies, commit.Reply{Effect: lottery.Effect{Session: &s.Session, Kind: lottery.Ack}})
	}
	f.Deliver(replies)
	for i, want := range [][]*Session{{sessions[0], sessions[2]}, {sessions[1]}} {
		var got []*Session
		for _, r := range f.loops[i].mail.replies {
			got = append(got, sessionOf(&r))
		}
		if !slices.Equal(got, want) {
			t.Errorf("loop %d has %d answers, want %d, in the order of their sessions", i, len(got), len(want))
		}
	}
}

// A loop says when it has done what it was told before.
func TestThrough(t *testing.T) {
	f := New(testConfig(), zap.NewNop(), newStages(2))
	var loops []*fronttest.Loop
	for _, lp := range f.loops {
		loops = append(loops, new(fronttest.Loop))
		lp.Attach(loops[len(loops)-1])
	}
	through, n := f.Through()
	if n != 2 || len(through) != 0 {
		t.Fatalf("%d of %d loops are through before they ran", len(through), n)
	}
	for i, lp := range loops {
		if _, err := lp.Run(); err != nil {
			t.Fatal(err)
		}
		if len(through) != i+1 {
			t.Errorf("%d loops are through when %d have run", len(through), i+1)
		}
	}
}
