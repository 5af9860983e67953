package commit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// fakeLog keeps what was committed.
type fakeLog struct {
	groups  [][]byte // by group: its records, back to back
	runs    []int    // by group: in how many runs they came
	err     error    // what the next commits return
	seals   []int    // after how many groups it was sealed
	errSeal error    // what the next seals return
	reads   int      // how often it was asked whether it leads
	errRead error    // what the next reads return
}

func (l *fakeLog) Read() error {
	l.reads++
	return l.errRead
}

func (l *fakeLog) Term() uint64 { return 0 }
func (l *fakeLog) Close() error { return nil }

func (l *fakeLog) Scan(func(ledger.Record) error) (ledger.Tail, error) {
	return ledger.Tail{}, errors.ErrUnsupported
}

func (l *fakeLog) Seal() error {
	if l.errSeal == nil {
		l.seals = append(l.seals, len(l.groups))
	}
	return l.errSeal
}

func (l *fakeLog) Commit(runs [][]byte) error {
	if l.err != nil {
		return l.err
	}
	l.groups = append(l.groups, bytes.Join(runs, nil))
	l.runs = append(l.runs, len(runs))
	return nil
}

// commits is a committer with a fake log and two loops' stages.
type commits struct {
	*Committer
	log    *fakeLog
	drawns int
	report []codec.Agency // agencies whose reports became durable, in that order
	now    time.Time
	last   Group
}

func newCommits(rules lottery.Rules) *commits {
	c := &commits{log: new(fakeLog), now: time.Unix(1_000_000, 0)}
	c.Committer = New(c.log, lottery.New(rules), Settings{
		Agencies: rules.Agencies, Loops: 2, QueueBytesMax: 2 * intakes * testStageBytesMax, Grace: time.Second,
	})
	return c
}

// testPeer is a connection on one of two loops.
type testPeer struct {
	Peer
	stage *Stage
}

func (c *commits) session(loop int) *testPeer {
	p := &testPeer{stage: c.Stages()[loop]}
	p.Session.Peer = p
	return p
}

func (c *commits) bets(s *testPeer, agency codec.Agency, payload, winners string) []byte {
	count := codec.Lines([]byte(payload))
	s.stage.Add(Request{Peer: &s.Peer, Kind: lottery.Bets, Agency: agency, Count: count}, []byte(payload), []byte(winners))
	return ledger.AppendRecord(nil, ledger.Bets, uint32(agency), uint32(count), []byte(payload))
}

func (c *commits) getWinners(s *testPeer, agency codec.Agency) []byte {
	s.stage.Add(Request{Peer: &s.Peer, Kind: lottery.GetWinners, Agency: agency}, nil, nil)
	return ledger.AppendRecord(nil, ledger.Reported, uint32(agency), 0, nil)
}

func (c *commits) say(s *testPeer, kind lottery.RequestKind, agency codec.Agency) {
	s.stage.Add(Request{Peer: &s.Peer, Kind: kind, Agency: agency}, nil, nil)
}

func (c *commits) commit() (err error) {
	c.last, err = c.Commit(c.now)
	c.report = append(c.report, c.last.Reported...)
	if c.last.Drawn {
		c.drawns++
	}
	return err
}

// answers returns the last group's replies in words, with the names of their sessions.
func (c *commits) answers(names map[*testPeer]string) []string {
	var words []string
	for _, r := range c.last.Replies {
		w := names[r.Session.Peer.(*testPeer)] + ": "
		switch r.Kind {
		case lottery.Ack:
			w += fmt.Sprintf("ack %d", r.Count)
		case lottery.Welcome:
			w += fmt.Sprintf("welcome %d", r.Stored)
		case lottery.Receipt:
			w += "receipt"
		case lottery.Winners:
			w += fmt.Sprintf("winners %d %q", r.Count, r.Payload)
		case lottery.Reject:
			w += fmt.Sprintf("%v of %d", r.Code, r.Count)
		}
		words = append(words, w)
	}
	return words
}

func wantAnswers(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("answers %q, want %q", got, want)
	}
}

// The log has what was decided, in the order in which it was decided. Records that are adjacent in
// memory are one write.
func TestCommitterMergesRuns(t *testing.T) {
	for _, test := range []struct {
		name string
		fill func(c *commits, one, two *testPeer) [][]byte // the records expected
		runs int
	}{
		{"nothing", func(c *commits, one, two *testPeer) [][]byte { return nil }, 0},
		{"three batches of a loop", func(c *commits, one, two *testPeer) [][]byte {
			return [][]byte{c.bets(one, 1, "a", ""), c.bets(one, 1, "b\nc", ""), c.bets(one, 1, "d", "")}
		}, 1},
		{"batches of two loops", func(c *commits, one, two *testPeer) [][]byte {
			b := c.bets(two, 2, "b", "")
			a := c.bets(one, 1, "a", "") // loop 0 is taken first
			return [][]byte{a, b}
		}, 2},
		{"a rejected one between", func(c *commits, one, two *testPeer) [][]byte {
			a := c.bets(one, 1, "a", "")
			c.bets(one, 9, "no such agency", "")
			return [][]byte{a, c.bets(one, 1, "b", "")}
		}, 2},
		{"a refused one between", func(c *commits, one, two *testPeer) [][]byte {
			a := c.bets(one, 1, "a", "")
			one.stage.Add(refusal(&one.Peer, codec.CodeEmptyBatch, ""), nil, nil)
			return [][]byte{a, c.bets(one, 1, "b", "")}
		}, 1},
		{"a report after bets", func(c *commits, one, two *testPeer) [][]byte {
			return [][]byte{c.bets(one, 1, "a", ""), c.getWinners(one, 1)}
		}, 2},
		{"a report between bets of others", func(c *commits, one, two *testPeer) [][]byte {
			third := c.session(0)
			return [][]byte{c.bets(one, 1, "a", ""), c.getWinners(one, 1), c.bets(third, 3, "b", ""), c.bets(third, 3, "c", "")}
		}, 3},
		{"a report twice", func(c *commits, one, two *testPeer) [][]byte {
			r := c.getWinners(one, 1)
			c.getWinners(one, 1)
			return [][]byte{r}
		}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCommits(lottery.Rules{Agencies: 3})
			want := test.fill(c, c.session(0), c.session(1))
			if err := c.commit(); err != nil {
				t.Fatal(err)
			}
			if want == nil {
				if len(c.log.groups) != 0 {
					t.Error("an empty group was committed: that costs a sync")
				}
				return
			}
			if len(c.log.groups) != 1 {
				t.Fatalf("%d commits, want one for the group", len(c.log.groups))
			}
			if got := c.log.groups[0]; !bytes.Equal(got, bytes.Join(want, nil)) {
				t.Errorf("records\n%q, want\n%q", got, want)
			}
			if c.log.runs[0] != test.runs {
				t.Errorf("in %d runs, want %d", c.log.runs[0], test.runs)
			}
		})
	}
}

// Many reports in one group outgrow the committer's own buffer. The earlier ones must not get lost.
func TestCommitterManyReports(t *testing.T) {
	const agencies = 1000
	c := newCommits(lottery.Rules{Agencies: agencies})
	var want []byte
	for id := codec.Agency(1); id <= agencies; id++ {
		want = append(want, c.getWinners(c.session(0), id)...)
	}
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.log.groups[0], want) {
		t.Error("the log has other records")
	}
	if c.drawns != 1 || len(c.last.Replies) != agencies || len(c.report) != agencies {
		t.Errorf("%d draws, %d answers, %d reports", c.drawns, len(c.last.Replies), len(c.report))
	}
}

// Answers come in the order of the requests. The draw answers all connections that wait, including
// the one that brought it about.
func TestCommitterAnswers(t *testing.T) {
	c := newCommits(lottery.Rules{Agencies: 2})
	one, two := c.session(0), c.session(1)
	names := map[*testPeer]string{one: "one", two: "two"}
	c.say(one, lottery.Hello, 1)
	c.bets(one, 1, "a\nb", "b\n")
	one.stage.Add(Request{Peer: &one.Peer, Kind: Answer, Reply: lottery.Reject, Code: codec.CodeInvalidBatch, Count: 3, Detail: "2|why"}, nil, nil)
	c.bets(one, 2, "x", "")
	c.getWinners(one, 1)
	c.bets(one, 1, "late\nlate", "")
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	wantAnswers(t, c.answers(names), "one: welcome 0", "one: ack 2", "one: ERROR_INVALID_BATCH of 3", "one: ERROR_INVALID_AGENCY of 1", "one: ERROR_BETS_CLOSED of 2")
	if got := c.last.Replies[2]; got.Detail != "2|why" || got.Agency != 1 {
		t.Errorf("the refusal became %+v", got)
	}

	c.getWinners(two, 2)
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	wantAnswers(t, c.answers(names), `one: winners 1 "b"`, `two: winners 0 ""`)
	if c.drawns != 1 || !slices.Equal(c.log.seals, []int{2}) {
		t.Errorf("%d draws, sealed after groups %v, want 1, after the second", c.drawns, c.log.seals)
	}

	// Asked again, on another connection: no record, no draw.
	again := c.session(0)
	names[again] = "again"
	c.getWinners(again, 1)
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	wantAnswers(t, c.answers(names), `again: winners 1 "b"`)
	if c.drawns != 1 || len(c.log.groups) != 2 {
		t.Errorf("%d draws, %d commits", c.drawns, len(c.log.groups))
	}
}

// A HELLO on another loop takes the agency over. What was queued before it counts as stored. What
// comes after it on the older connection is dropped.
func TestCommitterTakeoverBetweenLoops(t *testing.T) {
	c := newCommits(lottery.Rules{Agencies: 2})
	older, newer := c.session(0), c.session(1)
	names := map[*testPeer]string{older: "older", newer: "newer"}
	c.say(older, lottery.Hello, 1)
	before := c.bets(older, 1, "a\nb", "")
	c.say(newer, lottery.Hello, 1)
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	wantAnswers(t, c.answers(names), "older: welcome 0", "older: ack 2", "older: ERROR_AGENCY_TAKEN_OVER of 0", "newer: welcome 2")

	c.bets(older, 1, "c", "")
	c.getWinners(older, 1)
	older.stage.Add(refusal(&older.Peer, codec.CodeEmptyBatch, ""), nil, nil)
	after := c.bets(newer, 1, "c", "")
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	wantAnswers(t, c.answers(names), "newer: ack 1")
	if got := bytes.Join(c.log.groups, nil); !bytes.Equal(got, append(before, after...)) {
		t.Errorf("the log has %q", got)
	}
	if c.lottery.Stored(1) != 3 || c.lottery.Reported(1) {
		t.Errorf("%d stored, reported %v", c.lottery.Stored(1), c.lottery.Reported(1))
	}

	// Both sockets count until they close.
	if c.exit.open != 2 {
		t.Errorf("%d sockets are open, want 2", c.exit.open)
	}
	c.say(older, lottery.Leave, 0)
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	if c.exit.open != 1 {
		t.Errorf("%d sockets are open, want 1", c.exit.open)
	}
}

// The exit rule counts each socket that named an agency once, until it is gone. If the agency has
// to confirm, it counts only until the peer closes its side, because then it can't confirm.
func TestCommitterCountsSockets(t *testing.T) {
	c := newCommits(lottery.Rules{Agencies: 2})
	stranger, agency, confirms := c.session(0), c.session(0), c.session(0)
	for _, step := range []struct {
		name string
		do   func()
		open int
		came bool
	}{
		{"a stranger leaves", func() { c.say(stranger, lottery.Leave, 0) }, 0, false},
		{"an id that isn't expected", func() { c.getWinners(agency, 3) }, 0, false},
		{"a message that names no agency", func() { agency.stage.Add(refusal(&agency.Peer, codec.CodeEmptyBatch, ""), nil, nil) }, 0, false},
		{"the first bets", func() { c.bets(agency, 1, "a", "") }, 1, true},
		{"more bets", func() { c.bets(agency, 1, "b", "") }, 1, true},
		{"the peer half-closes", func() { c.say(agency, HalfClose, 0) }, 1, true},
		{"and is gone", func() { c.say(agency, lottery.Leave, 0) }, 0, true},
		{"HELLO", func() { c.say(confirms, lottery.Hello, 2) }, 1, true},
		{"its peer half-closes", func() { c.say(confirms, HalfClose, 0) }, 0, true},
		{"and takes what it was told", func() { c.say(confirms, lottery.Taken, 0) }, 0, true},
		{"and is gone", func() { c.say(confirms, lottery.Leave, 0) }, 0, true},
	} {
		step.do()
		if err := c.commit(); err != nil {
			t.Fatal(err)
		}
		if c.exit.open != step.open || c.exit.came != step.came {
			t.Errorf("%s: %d open, came %v; want %d, %v", step.name, c.exit.open, c.exit.came, step.open, step.came)
		}
	}
	if !c.exit.idleSince.Equal(c.now) {
		t.Errorf("idle since %v, want %v", c.exit.idleSince, c.now)
	}
}

// The log says which agencies have their winners: one record for all of a group, after its other
// records. Only then are receipts answered.
func TestCommitterServed(t *testing.T) {
	c := newCommits(lottery.Rules{Agencies: 3})
	one, two, three := c.session(0), c.session(1), c.session(0)
	names := map[*testPeer]string{one: "one", two: "two", three: "three"}
	c.say(one, lottery.Hello, 1)
	c.getWinners(one, 1)
	c.getWinners(two, 2)
	c.say(one, lottery.Received, 1)
	c.getWinners(three, 3)
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	// Loop 0 comes first, so the receipt comes before the request of agency 2 and so before the
	// draw.
	wantAnswers(t, c.answers(names), "one: welcome 0", "one: ERROR_LOTTERY_HASNT_ENDED of 0",
		`one: winners 0 ""`, `two: winners 0 ""`, `three: winners 0 ""`)
	if n := c.lottery.Unserved(); n != 3 || c.exit.absent != 3 {
		t.Fatalf("%d unserved, %d absent before anybody confirmed", n, c.exit.absent)
	}
	c.say(one, lottery.Received, 1)
	c.say(one, lottery.Received, 1)
	c.say(three, lottery.Taken, 0)
	c.say(three, lottery.Leave, 0)
	c.say(two, lottery.Leave, 0)
	c.say(two, lottery.Taken, 0) // the connection is gone, so this doesn't count
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	wantAnswers(t, c.answers(names), "one: receipt", "one: receipt")
	want := ledger.AppendRecord(nil, ledger.Served, 0, 2, []byte("1 3"))
	if got := c.log.groups[len(c.log.groups)-1]; !bytes.Equal(got, want) {
		t.Errorf("the log has %q, want %q", got, want)
	}
	if n := c.lottery.Unserved(); n != 1 || c.exit.absent != 1 || !c.exit.away[1] {
		t.Errorf("%d unserved, away %v", n, c.exit.away)
	}
	groups := len(c.log.groups)
	c.say(one, lottery.Received, 1)
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	wantAnswers(t, c.answers(names), "one: receipt")
	if len(c.log.groups) != groups {
		t.Error("a receipt that is in the log was written again")
	}
	// Agency 1 is done: the server answers another connection of it, but doesn't wait for it.
	open, idleSince := c.exit.open, c.exit.idleSince
	visitor := c.session(1)
	names[visitor] = "visitor"
	c.now = c.now.Add(time.Minute)
	for _, step := range []struct {
		kind    lottery.RequestKind
		answers []string
	}{{lottery.GetWinners, []string{`visitor: winners 0 ""`}}, {lottery.Leave, nil}} {
		c.say(visitor, step.kind, 1)
		if err := c.commit(); err != nil {
			t.Fatal(err)
		}
		wantAnswers(t, c.answers(names), step.answers...)
		if c.exit.open != open || !c.exit.idleSince.Equal(idleSince) {
			t.Errorf("%d open, idle since %v; want %d, %v", c.exit.open, c.exit.idleSince, open, idleSince)
		}
	}
	// After a restart no agency has come yet. A receipt for another agency is refused.
	c.exit = newExitRule(c.lottery, 3, 0, time.Time{})
	c.say(one, lottery.Received, 3)
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	wantAnswers(t, c.answers(names), "one: ERROR_INVALID_AGENCY of 0")
	if c.exit.absent != 3 || !c.exit.away[2] {
		t.Errorf("%d absent, away %v: agency 3 has not come", c.exit.absent, c.exit.away)
	}
}

// No answer leaves before its group is durable, and none leaves if the group can't be made durable.
// This includes answers that need no record, because they may tell of what is in the group.
func TestNothingIsReleasedBeforeItIsDurable(t *testing.T) {
	c := newCommits(lottery.Rules{Agencies: 2})
	one, two := c.session(0), c.session(1)
	c.bets(one, 1, "a", "")
	c.say(two, lottery.Hello, 1)
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	if n := len(c.last.Replies); n != 3 { // ACK, ERROR_AGENCY_TAKEN_OVER, WELCOME
		t.Errorf("%d answers left, want 3", n)
	}

	broken := errors.New("the disk is broken")
	c.log.err = broken
	c.bets(two, 1, "b", "")
	c.getWinners(two, 1)
	c.getWinners(c.session(0), 2) // the draw
	c.say(c.session(0), lottery.Hello, 9)
	if err := c.commit(); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if n := len(c.last.Replies); n != 0 {
		t.Errorf("%d answers left after a failed commit", n)
	}
	if c.drawns != 0 || len(c.log.seals) > 0 || len(c.report) != 0 {
		t.Error("something was announced that isn't durable")
	}

	// A draw that can't be sealed isn't safe either.
	c = newCommits(lottery.Rules{Agencies: 1})
	c.log.errSeal = broken
	c.getWinners(c.session(0), 1)
	if err := c.commit(); !errors.Is(err, broken) {
		t.Errorf("error of a seal that fails: %v", err)
	}
	if n := len(c.last.Replies); n != 0 || c.drawns != 0 || len(c.report) != 1 {
		t.Errorf("a failed seal: %d answers left, %d draws and %d reports were announced", n, c.drawns, len(c.report))
	}
}

// An answer's agency is the one that the request names, else the lottery's for the session.
func TestCommitterRepliesWithAgency(t *testing.T) {
	c := newCommits(lottery.Rules{Agencies: 2})
	s := c.session(0)
	c.say(s, Answer, 2)
	c.say(s, lottery.Hello, 1)
	c.say(s, Answer, 0)
	if err := c.commit(); err != nil {
		t.Fatal(err)
	}
	var got []codec.Agency
	for _, r := range c.last.Replies {
		got = append(got, r.Agency)
	}
	if want := []codec.Agency{2, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("answers for agencies %v, want %v", got, want)
	}
}

// A reply that needs no record leaves only once the log says that its holder leads. A group with a
// record has been told so by the commit.
func TestRepliesWithoutRecord(t *testing.T) {
	c := newCommits(lottery.Rules{Agencies: 2})
	s := c.session(0)
	names := map[*testPeer]string{s: "s"}
	if err := c.commit(); err != nil || c.log.reads != 0 {
		t.Fatalf("there is nothing to say, and the log was asked %d times; %v", c.log.reads, err)
	}
	c.say(s, lottery.Hello, 1)
	if err := c.commit(); err != nil || c.log.reads != 1 {
		t.Fatalf("the log was asked %d times for a welcome; %v", c.log.reads, err)
	}
	wantAnswers(t, c.answers(names), "s: welcome 0")
	c.say(s, lottery.Hello, 1)
	c.bets(s, 1, "Ana|Paz|1|1990-05-23|7574|1", "")
	if err := c.commit(); err != nil || c.log.reads != 1 {
		t.Fatalf("the log was asked %d times for a group that it has committed; %v", c.log.reads, err)
	}
	c.log.errRead = ErrNotLeader
	c.say(s, lottery.Hello, 1)
	if err := c.commit(); !errors.Is(err, ErrNotLeader) || len(c.last.Replies) != 0 {
		t.Errorf("the log has another holder: %v, %q", err, c.answers(names))
	}
}
