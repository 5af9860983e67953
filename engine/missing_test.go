package engine

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/front"
	"loteria/engine/front/fronttest"
	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
	"loteria/engine/lottery"
)

// undriven is a server without running event loops: a test hands requests over in their place, and
// says when the server commits.
type undriven struct {
	*Server
	t     *testing.T
	disk  *ledgertest.FS
	now   time.Time
	loops []*fronttest.Loop
}

func newUndriven(t *testing.T, agencies int, log *zap.Logger) *undriven {
	t.Helper()
	u := &undriven{t: t, disk: ledgertest.NewFS(1), now: time.Unix(1_000_000, 0)}
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Agencies, cfg.EventLoops, cfg.NoExport = "data", agencies, 2, true
	var err error
	u.Server, err = open(cfg, log, environment{
		ledger: ledger.Options{FS: u.disk},
		front:  front.Config{Now: func() time.Time { return u.now }},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil && u.disk.Broken() == 0 {
			t.Error(err)
		}
	})
	for _, lp := range u.front.Loops() {
		u.loops = append(u.loops, new(fronttest.Loop))
		lp.Attach(u.loops[len(u.loops)-1])
	}
	return u
}

// session makes a session without a connection.
func (u *undriven) session() *front.Session {
	u.t.Helper()
	s, _, ok := u.front.Admit(front.Source{})
	if !ok {
		u.t.Fatal("a connection is refused")
	}
	return s
}

// says hands over a request of the session.
func (u *undriven) says(s *front.Session, kind lottery.RequestKind, id codec.Agency) {
	stage := u.committer.Stages()[slices.Index(u.front.Loops(), s.Loop())]
	stage.Add(commit.Request{Peer: &s.Peer, Kind: kind, Agency: id}, nil, nil)
}

// answering reports whether a loop has answers to send.
func (u *undriven) answering() bool {
	return slices.ContainsFunc(u.loops, (*fronttest.Loop).Busy)
}

func (u *undriven) commits() {
	u.t.Helper()
	if err := u.commit(); err != nil {
		u.t.Fatal(err)
	}
}

// waits takes the log's lines and returns those that name the missing agencies.
func waits(logs *observer.ObservedLogs) (lines []string) {
	for _, entry := range logs.TakeAll() {
		if entry.Message == "espera" || entry.Message == "entrega" {
			fields := entry.ContextMap()
			lines = append(lines, fmt.Sprint(entry.Message, " ", fields["result"], " ", fields["faltan"], " ", fields["agencias"]))
		}
	}
	return lines
}

// The log names the missing agencies once every missingPeriod, and with every report when few are
// missing. After the draw it names those that don't have their winners.
func TestMissingAreNamed(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	u := newUndriven(t, 6, zap.New(core))
	wants := func(what string, want ...string) {
		t.Helper()
		if got := waits(logs); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	u.sayMissing(u.now)
	wants("at first", "espera in_progress 6 1, 2, 3, 4, 5, 6")
	one, two := u.session(), u.session()
	u.says(one, lottery.Hello, 1)
	u.says(two, lottery.Hello, 2)
	u.says(one, lottery.GetWinners, 1)
	u.commits()
	wants("many are missing")
	u.sayMissingNowAndThen(u.now.Add(missingPeriod - 1))
	wants("too soon")
	u.sayMissingNowAndThen(u.now.Add(missingPeriod))
	wants("after a while", "espera in_progress 5 2, 3, 4, 5, 6")
	u.says(two, lottery.GetWinners, 2)
	u.commits()
	wants("still many")
	u.says(u.session(), lottery.GetWinners, 4)
	u.commits()
	wants("few", "espera in_progress 3 3, 5, 6")
	u.says(u.session(), lottery.GetWinners, 6)
	u.says(u.session(), lottery.GetWinners, 3)
	u.commits()
	wants("fewer, by two at once", "espera in_progress 1 5")
	u.says(u.session(), lottery.GetWinners, 5)
	u.commits()
	wants("none")
	u.says(one, lottery.Received, 1)
	u.commits()
	u.sayMissing(u.now)
	wants("after the draw", "entrega in_progress 5 2, 3, 4, 5, 6")
}

// syncedCore calls onSync when the log is written out.
type syncedCore struct {
	zapcore.Core
	onSync func()
}

func (c *syncedCore) Sync() error {
	c.onSync()
	return c.Core.Sync()
}

// The log line of the draw is written out before any winners leave. If the server is killed then,
// its log tells of the draw.
func TestDrawIsLoggedBeforeWinnersLeave(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	var u *undriven
	synced := 0
	u = newUndriven(t, 2, zap.New(&syncedCore{core, func() {
		synced++
		if logs.FilterMessage("sorteo").Len() != 1 || u.answering() {
			t.Errorf("written out with %d lines of the draw; answers had left: %v", logs.FilterMessage("sorteo").Len(), u.answering())
		}
	}}))
	u.says(u.session(), lottery.GetWinners, 1)
	u.says(u.session(), lottery.GetWinners, 2)
	u.commits()
	if synced != 1 || !u.answering() {
		t.Errorf("written out %d times, answers left: %v", synced, u.answering())
	}
}

// No answer leaves before its group is durable, and none leaves if the group can't be made durable.
// This includes answers that need no record, because they may tell of what is in the group.
func TestNothingLeavesBeforeItIsDurable(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault ledgertest.Fault
	}{
		{"a group that can't be synced", ledgertest.Fault{Op: ledgertest.SyncData, N: 1}},
		{"a draw that can't be sealed", ledgertest.Fault{Op: ledgertest.Create, N: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			core, logs := observer.New(zap.InfoLevel)
			u := newUndriven(t, 1, zap.New(core))
			u.disk.Break(test.fault)
			one := u.session()
			u.says(one, lottery.Hello, 1)
			u.says(one, lottery.GetWinners, 1)
			if err := u.commit(); !errors.Is(err, ErrStorage) || !errors.Is(err, syscall.EIO) {
				t.Errorf("error %v", err)
			}
			if u.answering() || logs.FilterMessage("sorteo").Len() > 0 {
				t.Errorf("answers left: %v; the log says %v", u.answering(), logs.All())
			}
		})
	}
}
