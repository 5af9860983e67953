package engine

import (
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"loteria/engine/commit"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/member"
	"loteria/engine/relay"
	"loteria/engine/replica"
)

// A server whose log says that the draw has ended, and which finds nobody to go on with, ends after
// the grace, however often it looks meanwhile. A leader that it finds makes it wait anew, and so does
// an election.
func TestAbandonedServerEnds(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ID, cfg.NoExport, cfg.ExitGrace = 1, true, 2*missingPeriod
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	m := newMember(cfg, zap.NewNop(), func() time.Time { return now })
	visit := m.fresh()
	follows := func(status replica.Status) {
		m.worked(status)
		now = now.Add(time.Second)
	}
	follows(replica.Status{Term: 5})
	if end, _ := m.abandoned(); end != nil {
		t.Error("a server ends whose log doesn't say so")
	}
	record, _ := ledger.Unpack(history.AppendEnded(nil, history.End{Term: 5}))
	record.Seq = 2
	if err := visit(record); err != nil {
		t.Fatal(err)
	}
	for _, term := range []uint64{6, 8} {
		follows(replica.Status{Term: term, Leader: 2})
		if end, _ := m.abandoned(); end != nil {
			t.Error("a server ends while another one leads")
		}
		begun := now
		for step := 0; ; step++ {
			if step == 5 {
				begun, term = now, term+1
			}
			follows(replica.Status{Term: term})
			end, wait := m.abandoned()
			if end == nil || wait != cfg.ExitGrace-now.Sub(begun) {
				t.Fatalf("after %v: end %v, to wait %v", now.Sub(begun), end, wait)
			}
			if wait <= 0 {
				break
			}
		}
	}
	cfg.ExitGrace = 0
	if m = newMember(cfg, zap.NewNop(), m.now); m.grace() != hearMin {
		t.Errorf("servers wait %v for each other", m.grace())
	}
}

// The draw may go on behind an end. Then that is the servers' end no more. Who they are may change behind
// it.
func TestDrawGoesOnBehindTheEnd(t *testing.T) {
	for _, test := range []struct {
		name   string
		behind []byte
		ends   bool
	}{
		{"an agency reports", history.AppendReported(nil, 1, true), false},
		{"a change of servers", ledger.AppendRecord(nil, ledger.Members, 0, 1, []byte("servers")), true},
	} {
		cfg := DefaultConfig()
		cfg.ID, cfg.NoExport = 1, true
		m := newMember(cfg, zap.NewNop(), time.Now)
		visit := m.fresh()
		for i, packed := range [][]byte{history.AppendEnded(nil, history.End{Term: 5}), test.behind} {
			record, _ := ledger.Unpack(packed)
			record.Seq = uint64(2 + i)
			if err := visit(record); err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
		}
		m.worked(replica.Status{Term: 6})
		if end, _ := m.abandoned(); (end != nil) != test.ends {
			t.Errorf("%s: the end is %v", test.name, end)
		}
		m.worked(replica.Status{Term: 5, Leader: 2})
		if (len(m.ended) > 0) != test.ends {
			t.Errorf("%s: it ends: %v", test.name, len(m.ended) > 0)
		}
	}
}

// A server that knows who leads before it begins to follow says so: nothing may change for hours.
func TestFollowerSaysWhoLeads(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ID, cfg.NoExport = 1, true
	lines, said := observer.New(zap.InfoLevel)
	m := newMember(cfg, zap.New(lines), time.Now)
	m.member = new(member.Member)
	m.relay = relay.New(relay.Settings{ConnectionsMax: 1}, m, zap.NewNop())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	m.listener = keptListener{listener.(*net.TCPListener)}
	m.worked(replica.Status{Term: 2, Leader: 3})
	m.ended <- ending{term: 2} // follow returns at once
	if _, over, err := m.follow(t.Context()); !over || err != nil {
		t.Fatalf("over: %v, %v", over, err)
	}
	if n := said.FilterMessage("lider").FilterField(zap.Uint64("servidor", 3)).Len(); n != 1 {
		t.Errorf("the leader is named %d times", n)
	}
}

// A server may hear of a leader, and pass agencies on, before that one has noted that it leads. They wait
// there. If yet another server leads, they don't.
func TestAgenciesWaitForTheDoor(t *testing.T) {
	for _, leader := range []uint64{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.ID, cfg.NoExport = 1, true
			m := newMember(cfg, zap.NewNop(), time.Now)
			m.worked(replica.Status{Term: 1})
			waiting := make(chan *door, 1)
			go func() { waiting <- m.awaitDoor() }()
			synctest.Wait()
			m.worked(replica.Status{Term: 1, Leader: leader})
			var want *door
			if leader == cfg.ID {
				want = new(door)
				m.setDoor(want)
			}
			if got := <-waiting; got != want {
				t.Errorf("server %d leads: they come to %p, want %p", leader, got, want)
			}
		})
	}
}

// A server that reads the end in its log when no leader is left looks at the end at once.
func TestLateEndIsLookedAt(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ID, cfg.NoExport = 1, true
	m := newMember(cfg, zap.NewNop(), time.Now)
	visit := m.fresh()
	m.worked(replica.Status{Term: 5})
	changed := m.Changed()
	record, _ := ledger.Unpack(history.AppendEnded(nil, history.End{Term: 5}))
	record.Seq = 2
	if err := visit(record); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing new
		m.worked(replica.Status{Term: 5})
	}
	select {
	case <-changed:
	default:
		t.Fatal("nothing says that there is an end")
	}
	if end, _ := m.abandoned(); end == nil {
		t.Error("the end is not there")
	}
	select {
	case <-m.Changed():
		t.Error("a server that waits is told again and again")
	default:
	}
}

// The last leader waits for a server that catches up, as long as that gets on, and no longer than
// the grace for one that doesn't.
func TestLastLeaderWaits(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ID, cfg.ExitGrace = 1, 10*time.Second
	if err := cfg.Peers.UnmarshalText([]byte("1=localhost:1,2=localhost:2,3=localhost:3")); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	m := newMember(cfg, zap.NewNop(), func() time.Time { return now })
	const end = 1000
	g := goodbye{end: end, since: now}
	mayGo := func(match uint64, after time.Duration, connected ...uint64) bool {
		now = now.Add(after)
		progress := []replica.Progress{{ID: 2, Match: end}, {ID: 3, Match: match}}
		goes, err := m.mayGo(&g, progress, func(id uint64) bool { return slices.Contains(connected, id) })
		if err != nil {
			t.Fatal(err)
		}
		return goes
	}
	for match := uint64(100); match <= end; match += 100 {
		if mayGo(match, cfg.ExitGrace-1, 3) {
			t.Fatalf("the leader leaves a server behind that has %d of %d entries", match, end)
		}
	}
	if mayGo(end, cfg.ExitGrace-1, 3) || !mayGo(end, 1, 3) {
		t.Error("the leader doesn't wait for the grace for a server that stays")
	}
	if !mayGo(end, 0) {
		t.Error("the leader waits for nobody")
	}
	g = goodbye{end: end, since: now}
	if mayGo(end-1, 0) || mayGo(end-1, hearMin-1) || !mayGo(end-1, 1) {
		t.Error("the leader doesn't wait for a restart")
	}
	g = goodbye{end: end, since: now}
	if mayGo(end-1, 0) || mayGo(end-1, hearMin-1) || mayGo(end-1, 0, 3) || mayGo(end-1, cfg.ExitGrace-1, 3) || !mayGo(end-1, 1, 3) {
		t.Error("the leader doesn't wait for the grace for a server that comes back")
	}
	g = goodbye{end: end, since: now}
	if mayGo(end-1, 0) || mayGo(end-1, 1, 3) || mayGo(end-1, 1) || mayGo(end-1, hearMin-2) || !mayGo(end-1, 1) {
		t.Error("the leader waits anew for a server that comes back again and again")
	}
	m.cfg.ExitGrace = 0
	g = goodbye{end: end, since: now}
	if mayGo(end-1, 0, 3) || mayGo(end-1, hearMin-1, 3) || !mayGo(end-1, 1, 3) {
		t.Error("with a short grace, the leader doesn't wait for elections")
	}
}

// The last leader goes once the others have heard of the end and are gone. But if another one leads by
// then, the draw may end otherwise, so it follows that one.
func TestLastLeaderGoes(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ID, cfg.NoExport = 1, true
	if err := cfg.Peers.UnmarshalText([]byte("1=a:1,2=b:1,3=c:1")); err != nil {
		t.Fatal(err)
	}
	const end = 9
	all := []replica.Progress{{ID: 2, Match: end}, {ID: 3, Match: end}}
	one := []replica.Progress{{ID: 2, Match: end}, {ID: 3, Match: end - 1}}
	for _, test := range []struct {
		name      string
		took      time.Duration // since the last entry that another server has acknowledged
		progress  []replica.Progress
		connected uint64 // server; 0: none
		leader    uint64
		goes      bool
		goesOn    bool
	}{
		{"all are gone", 0, all, 0, 1, true, false},
		{"all are gone, and with them the majority", 0, nil, 0, 0, false, false},
		{"one is still there", time.Second, all, 2, 1, false, false},
		{"one has not heard", hearMin - 1, one, 0, 1, false, false},
		{"one has not heard, and doesn't come back", hearMin, one, 0, 1, true, false},
		{"one has not heard, and another one is there", hearMin, one, 2, 1, false, false},
		{"it takes too long", cfg.ExitGrace, one, 2, 1, true, false},
		{"another one leads", 0, nil, 2, 2, false, true},
		{"another one leads, and it takes too long", cfg.ExitGrace, nil, 2, 2, false, true},
	} {
		now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
		m := newMember(cfg, zap.NewNop(), func() time.Time { return now })
		m.fresh()
		m.worked(replica.Status{Term: 5, Leader: test.leader})
		g := goodbye{end: end, acknowledged: 2 * end, since: now.Add(-test.took)}
		goes, err := m.mayGo(&g, test.progress, func(id uint64) bool { return id == test.connected })
		if goes != test.goes || errors.Is(err, commit.ErrNotLeader) != test.goesOn {
			t.Errorf("%s: %v, %v", test.name, goes, err)
		}
	}
}

// A last leader whose disk fails has nothing more to say to the others, and doesn't take its end for
// theirs.
func TestLastLeaderWithABrokenDiskEnds(t *testing.T) {
	m := newMember(DefaultConfig(), zap.NewNop(), time.Now)
	broken := errors.New("the disk is broken")
	all, err := m.await(new(goodbye), others{
		progress:    func() []replica.Progress { return nil },
		isConnected: func(uint64) bool { return true },
		stopped:     func() error { return broken },
		pause:       func() bool { return true },
	})
	if all || !errors.Is(err, broken) {
		t.Errorf("it ends with %v, %v", all, err)
	}
}

// A last leader that lost its term and has won a later one goes on with that: the others don't end with
// the end of a term that is over, so they would wait for each other until the grace is over.
func TestLastLeaderLeadsAnew(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ID, cfg.NoExport = 1, true
	m := newMember(cfg, zap.NewNop(), time.Now)
	g := goodbye{end: 9, since: m.now()}
	isConnected := func(uint64) bool { return true }
	m.worked(replica.Status{Role: replica.Elected, Term: 6, Leader: 1})
	if _, err := m.mayGo(&g, nil, isConnected); err != nil {
		t.Errorf("the leadership has not begun: %v", err)
	}
	m.begin(nil)
	if _, err := m.mayGo(&g, nil, isConnected); !errors.Is(err, commit.ErrNotLeader) {
		t.Errorf("it has begun: %v", err)
	}
}

// While the others stay, it is enough that they have the end. When they may go, those that are there
// have to be gone.
func TestLastLeaderKeepsOthers(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ID = 1
	if err := cfg.Peers.UnmarshalText([]byte("1=a:1,2=b:1,3=c:1")); err != nil {
		t.Fatal(err)
	}
	const end = 9
	for _, test := range []struct {
		name      string
		stay      bool
		end       uint64
		took      time.Duration
		match     uint64 // of server 3; server 2 is there, and has all
		connected bool   // server 3 is
		goes      bool
	}{
		{"all have it", true, end, 0, end, true, true},
		{"one lacks it", true, end, hearMin, end - 1, true, false},
		{"one lacks it for long", true, end, cfg.ExitGrace, end - 1, true, true},
		{"one is away", true, end, hearMin - 1, end - 1, false, false},
		{"one doesn't come back", true, end, hearMin, end - 1, false, true},
		{"all may go", false, 0, 0, end - 1, false, false},
	} {
		now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
		m := newMember(cfg, zap.NewNop(), func() time.Time { return now })
		g := goodbye{end: test.end, stay: test.stay, acknowledged: 2 * end, since: now.Add(-test.took)}
		progress := []replica.Progress{{ID: 2, Match: end}, {ID: 3, Match: test.match}}
		goes, err := m.mayGo(&g, progress, func(id uint64) bool { return id == 2 || test.connected })
		if err != nil || goes != test.goes {
			t.Errorf("%s: %v, %v", test.name, goes, err)
		}
	}
	m := newMember(cfg, zap.NewNop(), time.Now)
	g := goodbye{since: m.now()}
	if goes, err := m.mayGo(&g, nil, func(uint64) bool { return false }); err != nil || !goes {
		t.Errorf("it waits once more for a server that doesn't come back: %v, %v", goes, err)
	}
}
