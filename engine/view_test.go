package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/admin/board"
	"loteria/engine/commit"
	"loteria/engine/lottery"
	"loteria/engine/replica"
)

// lotteryOf is one whose first agencies have their winners, the next have reported, and the next have
// bets, of which the first wins.
func lotteryOf(t testing.TB, agencies, served, reported, uploading int) *lottery.Lottery {
	t.Helper()
	l := lottery.New(lottery.Rules{Agencies: agencies})
	replay := func(entry lottery.Entry, first, last, count int, winners string) {
		t.Helper()
		for id := first; id <= last; id++ {
			if err := l.Replay(entry, codec.Agency(id), count, codec.Stretch{Bytes: 1}, []byte(winners)); err != nil {
				t.Fatal(err)
			}
		}
	}
	replay(lottery.BetsEntry, 1, served+reported+uploading, 3, "a\n")
	replay(lottery.ReportedEntry, 1, served+reported, 0, "")
	replay(lottery.ServedEntry, 1, served, 0, "")
	return l
}

var noon = time.Date(2026, 12, 24, 12, 0, 0, 0, time.UTC)

func TestView(t *testing.T) {
	for _, test := range []struct {
		agencies, served, reported, uploading int
		perCell, cells                        int
		first, last                           string // of the cells
		missing                               int
		firstMissing                          uint32
	}{
		{1, 0, 0, 0, 1, 1, "w", "w", 1, 1},
		{4, 0, 2, 1, 1, 4, "rr", "uw", 2, 3},
		{3, 1, 2, 0, 1, 3, "s", "rr", 2, 2},
		{3, 3, 0, 0, 1, 3, "sss", "sss", 0, 0},
		{2000, 0, 10, 0, 1, 2000, "rrrrrrrrrrw", "w", 32, 11},
		{2001, 0, 3, 1, 2, 1001, "ruw", "w", 32, 4},
		{4001, 4000, 1, 0, 3, 1334, "s", "sr", 1, 4001},
		{100_000, 0, 99_999, 0, 50, 2000, "r", "rw", 1, 100_000},
	} {
		t.Run(fmt.Sprint(test.agencies, test.served, test.reported, test.uploading), func(t *testing.T) {
			l := lotteryOf(t, test.agencies, test.served, test.reported, test.uploading)
			v := newView(l, noon)
			var s board.State
			v.show(&s)
			drawn := test.served+test.reported == test.agencies
			if s.Served != test.served || s.Reported != test.reported || s.Uploading != test.uploading ||
				s.Waiting+s.Uploading+s.Reported+s.Served != test.agencies || s.Bets != l.Bets() || v.drawn() != drawn {
				t.Errorf("counts: %+v", s)
			}
			if len(s.Cells) != test.cells || s.PerCell != test.perCell || test.cells > board.CellsMax ||
				!strings.HasPrefix(s.Cells, test.first) || !strings.HasSuffix(s.Cells, test.last) {
				t.Errorf("%d cells of %d: %.40s", len(s.Cells), s.PerCell, s.Cells)
			}
			if len(s.Missing) != test.missing || test.missing > 0 && s.Missing[0].ID != test.firstMissing {
				t.Errorf("missing: %+v", s.Missing)
			}
			winners := 0
			if drawn {
				winners = l.Won()
			}
			sum, bets := 0, int64(0)
			for i := range v.agencies {
				a := v.agency(i)
				sum, bets = sum+a.Winners, bets+a.Bets
			}
			if s.Winners != winners || sum != winners || bets != s.Bets {
				t.Errorf("%d winners, of the agencies %d, want %d; the agencies have %d bets of %d", s.Winners, sum, winners, bets, s.Bets)
			}
		})
	}
}

// testWatch is a watch with a clock that stands still until somebody moves it.
func testWatch(t testing.TB, agencies int) (w *watch, now *time.Time) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Agencies, cfg.HTTPAddr, cfg.DataDir = agencies, "127.0.0.1:0", t.TempDir()
	w, err := openWatch(cfg, zap.NewNop(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.close(nil); err != nil {
			t.Error(err)
		}
	})
	clock := noon
	now = &clock
	w.now = func() time.Time { return *now }
	w.recorder = board.NewRecorder(noon)
	w.recorder.Note(board.Event{Time: noon, Kind: board.EventStarted})
	return w, now
}

// A view is made at once of what has happened to an agency, and of bets now and then, but however much
// happens, views take no more than their share of the time.
func TestViewsTakeTheirShare(t *testing.T) {
	w, now := testWatch(t, 3)
	w.open()
	bets := 0
	upload := func() *lottery.Lottery {
		bets++
		return lotteryOf(t, 3, 0, 0, min(bets, 3))
	}
	seen := func(l *lottery.Lottery, period time.Duration, is bool) {
		t.Helper()
		before := w.view
		w.saw(l, period)
		if (w.view != before) != is {
			t.Errorf("at %v there is a new view: %v", now.Sub(noon), !is)
		}
	}
	one := upload()
	seen(one, viewPeriod, true)
	two := upload()
	seen(two, viewPeriod, false)
	*now = now.Add(viewPeriod - 1)
	seen(two, viewPeriod, false)
	*now = now.Add(1)
	seen(one, viewPeriod, false)
	seen(two, viewPeriod, true)
	seen(two, 0, false) // nothing is new
	*now = now.Add(1)
	seen(lotteryOf(t, 3, 0, 1, 1), 0, true)

	// A report is seen at once, and bets aren't.
	before := w.view
	c := commit.New(nil, lotteryOf(t, 3, 0, 2, 1), commit.Settings{Agencies: 3, Loops: 1})
	w.answered(c, commit.Group{})
	if w.view != before {
		t.Error("a view is made of each group")
	}
	w.answered(c, commit.Group{Reported: []codec.Agency{2}})
	if w.view == before {
		t.Error("no view is made of a report")
	}

	w.view.took = time.Second
	last := lotteryOf(t, 3, 0, 3, 0)
	*now = now.Add(viewShare*time.Second - 1)
	seen(last, 0, false)
	*now = now.Add(1)
	seen(last, 0, true)
}

// A server that replays what it has shown before shows it no second time, and nothing goes back.
func TestReplayIsNotShown(t *testing.T) {
	w, now := testWatch(t, 3)
	w.saw(lotteryOf(t, 3, 0, 0, 1), 0) // at the start: it has happened before
	w.open()
	if s := w.State(); s.Bets != 3 || len(s.Series.Bets) != 0 || len(s.Events) != 1 {
		t.Errorf("what happened before the start is shown as new: %+v", s)
	}
	*now = now.Add(time.Second)
	w.saw(lotteryOf(t, 3, 1, 2, 0), 0)
	before := w.State()
	if before.Bets != 9 || before.DrawnAt == nil || !before.DrawnAt.Equal(*now) || before.Winners != 3 {
		t.Errorf("the draw: %+v", before)
	}
	*now = now.Add(time.Second)
	for _, l := range []*lottery.Lottery{
		lotteryOf(t, 3, 0, 0, 0), lotteryOf(t, 3, 0, 0, 2), lotteryOf(t, 3, 0, 2, 1), lotteryOf(t, 3, 0, 3, 0), lotteryOf(t, 3, 1, 2, 0),
	} {
		w.saw(l, 0)
		if s := w.State(); s.Bets != 9 || s.Served != 1 || len(s.Events) != len(before.Events) || w.Counters().BetsStored != 9 {
			t.Errorf("a replay is shown: %+v", s)
		}
	}
	var events []board.EventKind
	for _, e := range before.Events {
		events = append(events, e.Kind)
	}
	if want := fmt.Sprint([]string{"started", "reported", "reported", "reported", "draw", "served"}); fmt.Sprint(events) != want {
		t.Errorf("events %v, want %v", events, want)
	}
}

// There is a new state only if there is something new in it, or a second has passed.
func TestStateIsNewOnlyIfSomethingIs(t *testing.T) {
	w, now := testWatch(t, 2)
	w.open()
	w.saw(lotteryOf(t, 2, 0, 0, 1), 0)
	first := w.State()
	for range 9 {
		*now = now.Add(stillPeriod / 10)
		if w.State() != first {
			t.Fatalf("after %v there is another state", now.Sub(noon))
		}
	}
	*now = now.Add(stillPeriod / 10)
	second := w.State()
	if n := len(second.Series.Bets); second == first || n != 101 || !second.Time.Equal(*now) {
		t.Errorf("after a second: the same %v, %d steps", second == first, n)
	}
	w.saw(lotteryOf(t, 2, 0, 0, 2), 0)
	if third := w.State(); third == second || third.Bets != 6 || third.Series.Bets[100] != 3 {
		t.Errorf("more bets: %+v", third)
	}
	w.led(replica.Status{Leader: 2, Term: 3})
	third := w.State()
	w.led(replica.Status{Role: replica.Leading, Leader: 2, Term: 3}) // it is the same leader
	if again := w.State(); again != third || third.Events[1].Kind != board.EventLeader || third.Events[1].Server != 2 || third.Events[1].Term != 3 {
		t.Errorf("a leader: %+v", third.Events)
	}
	w.led(replica.Status{Term: 4})
	w.led(replica.Status{Term: 5})
	if s := w.State(); len(s.Events) != 3 || s.Events[2].Kind != board.EventLost {
		t.Errorf("no leader: %+v", s.Events)
	}
}

// Reasons of not being ready, in the order in which they come.
func TestReady(t *testing.T) {
	w, _ := testWatch(t, 2)
	want := func(is error) {
		t.Helper()
		if err := w.Ready(); !errors.Is(err, is) || (err == nil) != (is == nil) {
			t.Errorf("ready: %v, want %v", err, is)
		}
	}
	want(errOpening)
	s, err := open(w.cfg, zap.NewNop(), environment{watch: w})
	if err != nil {
		t.Fatal(err)
	}
	want(errOpening)
	w.serves(s)
	want(nil)
	s.front.StopReading()
	want(errStopping)
	w.leaves(s, nil)
	want(errStopping)
	w.serves(s)
	w.stop()
	want(errStopping)
	if err := s.ledger.Close(); err != nil {
		t.Error(err)
	}

	other, _ := testWatch(t, 2)
	cfg := DefaultConfig()
	cfg.ID, cfg.NoExport = 1, true
	if err := cfg.Peers.UnmarshalText([]byte("1=localhost:1,2=localhost:2,3=localhost:3")); err != nil {
		t.Fatal(err)
	}
	other.member = newMember(cfg, zap.NewNop(), time.Now)
	w = other
	want(errOpening)
	if s := w.State(); s.Cluster == nil || len(s.Cluster.Servers) != 3 || !s.Cluster.Servers[0].Connected || s.Cluster.Servers[1].Connected {
		t.Errorf("it opens and shows %+v", s.Cluster)
	}
	w.open()
	want(errNoLeader)
	w.member.status = replica.Status{Leader: 1}
	want(errNoLeader) // it takes no agencies yet
	w.member.status = replica.Status{Leader: 2}
	want(nil)
	w.stop()
	want(errStopping)
}

// What a server has counted stays counted when the next one takes over in the same process.
func TestCountersOfTwoReigns(t *testing.T) {
	w, _ := testWatch(t, 2)
	for reign := int64(1); reign <= 2; reign++ {
		s, err := open(w.cfg, zap.NewNop(), environment{watch: w})
		if err != nil {
			t.Fatal(err)
		}
		w.serves(s)
		peer := new(commit.Peer)
		stage := s.committer.Stages()[0]
		stage.Add(commit.Request{Peer: peer, Agency: 1, Count: 1, Kind: lottery.Bets}, []byte(betJuan), nil)
		stage.Add(commit.Request{Peer: peer, Kind: commit.Answer, Reply: lottery.Reject, Code: codec.CodeEmptyBatch}, nil, nil)
		if n := w.Counters().QueueBytes; n < int64(len(betJuan)) {
			t.Errorf("%d bytes wait", n)
		}
		group, err := s.committer.Commit(noon)
		if err != nil {
			t.Fatal(err)
		}
		if !group.Since.Equal(noon) {
			t.Errorf("a group has waited since %v", group.Since)
		}
		w.answered(s.committer, group)
		c := w.Counters()
		if c.BetsStored != reign || c.Commits != reign || c.WrittenBytes < reign*int64(len(betJuan)) || c.QueueBytes != 0 ||
			c.Rejected["ERROR_EMPTY_BATCH"] != reign || len(c.Rejected) != 1 || c.Connections["agency"] != 1 {
			t.Errorf("reign %d: %+v", reign, c)
		}
		w.leaves(s, nil)
		if after := w.Counters(); after.Rejected["ERROR_EMPTY_BATCH"] != reign || after.Commits != reign || after.Connections["agency"] != 0 {
			t.Errorf("behind reign %d: %+v", reign, after)
		}
		if err := s.ledger.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

const betJuan = "Juan|Pérez|12345678|1990-05-23|7574|1"

// A server that can't leave its board ends as it would have.
func TestBoardThatCannotBeLeft(t *testing.T) {
	w, _ := testWatch(t, 2)
	w.cfg.DataDir += "/is/not/there"
	w.end(errors.New("one\ntwo"), nil)
	if s := w.State(); s.Phase != board.Over || s.Outcome != "one; two" {
		t.Errorf("at last: %+v", s)
	}
}

func BenchmarkView(b *testing.B) {
	for _, agencies := range []int{1000, 100_000} {
		l := lotteryOf(b, agencies, 0, agencies/3, agencies/3)
		b.Run(fmt.Sprintf("agencies=%d", agencies), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				newView(l, noon)
			}
		})
	}
}

// BenchmarkState is a state of a new view, or of one that was shown before.
func BenchmarkState(b *testing.B) {
	for _, agencies := range []int{1000, 100_000} {
		for _, again := range []bool{false, true} {
			b.Run(fmt.Sprintf("agencies=%d/again=%v", agencies, again), func(b *testing.B) {
				w, now := testWatch(b, agencies)
				w.open()
				w.saw(lotteryOf(b, agencies, 0, agencies/3, agencies/3), 0)
				for i := range 2 * board.PointsMax {
					w.recorder.Count(noon.Add(time.Duration(i)*10*time.Millisecond), 1)
				}
				b.ReportAllocs()
				for b.Loop() {
					*now = now.Add(time.Second)
					if !again {
						w.view.cells = ""
					}
					w.State()
				}
			})
		}
	}
}
