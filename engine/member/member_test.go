package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"loteria/engine/commit"
	"loteria/engine/ledger"
	"loteria/engine/mesh"
	"loteria/engine/replica"
)

// patience bounds every wait for something that has to happen.
const patience = 60 * time.Second

// cluster is three servers of this process, on real sockets and real disks. There may be a fourth.
type cluster struct {
	t       testing.TB
	addrs   map[uint64]string
	dirs    [5]string // by id
	servers [5]*server
	logs    chan *Log // the leaderships that begin
}

// server is a member, with what it needs.
type server struct {
	id     uint64
	mesh   *mesh.Mesh
	member *Member
	store  *flakyStore
	ledger *ledger.EntryLog
	cut    atomic.Bool // nothing is sent

	mu      sync.Mutex
	applied []string // payloads, as the state machine had them
	members []string // as the member told of them
}

// flakyStore fails when it is told to.
type flakyStore struct {
	replica.Store
	fails atomic.Bool
}

var errBroken = errors.New("the disk is broken")

func (s *flakyStore) Save(state replica.State, entries []replica.Entry) error {
	if s.fails.Load() {
		return errBroken
	}
	return s.Store.Save(state, entries)
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // behind the others
	c := &cluster{t: t, addrs: map[uint64]string{}, logs: make(chan *Log, 100)}
	// Addresses of this process alone: a port that is free now can be somebody's in a moment.
	pid := os.Getpid()
	for id := uint64(1); id <= 4; id++ {
		c.addrs[id] = fmt.Sprintf("127.%d.%d.%d:4118", 64+pid>>8&63, pid&255, id)
		c.dirs[id] = t.TempDir()
	}
	for id := uint64(1); id <= 3; id++ {
		c.start(id)
	}
	t.Cleanup(func() {
		for id := uint64(1); id <= 4; id++ {
			if err := c.stop(id); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

func (c *cluster) start(id uint64) {
	c.t.Helper()
	log, err := ledger.OpenEntryLog(c.dirs[id], ledger.EntryOptions{
		ID: [16]byte{9}, Create: true, First: ledger.AppendRecord(nil, ledger.Opened, 0, 5, []byte("first")),
	}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	s := &server{id: id, ledger: log, store: &flakyStore{Store: replica.Ledger{EntryLog: log}}}
	started := make(chan struct{})
	s.mesh, err = mesh.Listen(mesh.Settings{ID: id, Servers: c.addrs, Addr: c.addrs[id], Mesh: [16]byte{9}}, zap.NewNop(),
		func(from uint64, message []byte) {
			<-started
			s.member.Receive(from, message)
		})
	if err != nil {
		c.t.Fatal(err)
	}
	s.member, err = Start(Settings{
		Replica: replica.Config{ID: id, Voters: []uint64{1, 2, 3}},
		Tick:    10 * time.Millisecond,
		Fresh:   s.fresh,
		Begin:   func(l *Log) { c.logs <- l },
		Changed: s.changed,
		Send: func(to uint64, urgent bool, parts ...[]byte) bool {
			return !s.cut.Load() && s.mesh.Send(to, urgent, parts...)
		},
	}, s.store, zap.NewNop())
	if err != nil {
		c.t.Fatal(err)
	}
	close(started)
	c.servers[id] = s
}

// fresh is a state machine that keeps all payloads.
func (s *server) fresh() func(ledger.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = nil
	return func(r ledger.Record) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.applied = append(s.applied, string(r.Payload))
		return nil
	}
}

func (s *server) changed(m replica.Membership) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append(s.members, m.String())
}

func (s *server) has() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.applied)
}

// stop ends a server, and returns why its member has ended.
func (c *cluster) stop(id uint64) error {
	c.t.Helper()
	s := c.servers[id]
	if s == nil {
		return nil
	}
	c.servers[id] = nil
	err := s.member.Stop()
	return errors.Join(err, s.mesh.Close(), s.ledger.Close())
}

// leads waits for a leadership, of another server than these.
func (c *cluster) leads(not ...uint64) *Log {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case l := <-c.logs:
			if !slices.Contains(not, l.member.replica.ID()) {
				return l
			}
		case <-timeout:
			c.t.Fatal("nobody leads")
		}
	}
}

func record(payload string) []byte {
	return ledger.AppendRecord(nil, ledger.Bets, 1, 1, []byte(payload))
}

// commits commits groups, by this leader or the ones behind it. It returns the log that has the last
// of them, and what was acknowledged.
func (c *cluster) commits(l *Log, from, to int) (*Log, []string) {
	c.t.Helper()
	var acknowledged []string
	for i := from; i < to; i++ {
		payload := fmt.Sprintf("group %d", i)
		switch err := l.Commit([][]byte{record(payload)}); {
		case err == nil:
			acknowledged = append(acknowledged, payload)
		case errors.Is(err, commit.ErrNotLeader), errors.Is(err, ErrStopped):
			l = c.leads()
		default:
			c.t.Fatal(err)
		}
	}
	return l, acknowledged
}

// await waits until something is so.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	timeout := time.After(patience)
	for !is() {
		select {
		case <-looks.C:
		case <-timeout:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// wantSame waits until all servers know the same to be committed, stops them, and compares their
// files byte by byte. It returns the payloads.
func (c *cluster) wantSame(l *Log) (payloads []string) {
	c.t.Helper()
	if err := l.Commit([][]byte{record("the last")}); err != nil {
		c.t.Fatal(err)
	}
	last := l.member.Committed()
	await(c.t, "all to have it", func() bool {
		return !slices.ContainsFunc(c.servers[1:4], func(s *server) bool { return s.member.Committed() < last })
	})
	if _, err := l.Scan(func(r ledger.Record) error {
		payloads = append(payloads, string(r.Payload))
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
	for _, s := range c.servers[1:4] {
		if s.member.replica.ID() == l.member.replica.ID() {
			continue // its state machine is the leader's
		}
		await(c.t, "followers to apply it", func() bool { return slices.Equal(s.has(), payloads) })
	}
	for _, s := range c.servers[1:4] {
		s.cut.Store(true) // or those that end last would elect one of them
	}
	files := [4]map[string][]byte{}
	for id := uint64(1); id <= 3; id++ {
		if err := c.stop(id); err != nil {
			c.t.Error(err)
		}
		files[id] = segments(c.t, c.dirs[id])
	}
	for id := 2; id <= 3; id++ {
		if !maps.EqualFunc(files[1], files[id], bytes.Equal) {
			c.t.Errorf("server %d has other files than server 1", id)
		}
	}
	return payloads
}

func segments(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.ledger"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s has no segments: %v", dir, err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(name)] = bytes.TrimRight(b, "\x00") // what is reserved and not used
	}
	return files
}

// wantOnce checks that what was acknowledged is there once, in order, and nothing is there twice.
func wantOnce(t testing.TB, payloads, acknowledged []string) {
	t.Helper()
	seen := map[string]bool{}
	next := 0
	for _, p := range payloads {
		if seen[p] {
			t.Errorf("%q is there twice", p)
		}
		seen[p] = true
		if next < len(acknowledged) && p == acknowledged[next] {
			next++
		}
	}
	if next < len(acknowledged) {
		t.Errorf("%q was acknowledged, and isn't there, or not in order", acknowledged[next])
	}
}

// What a leader commits, all servers have: the same bytes.
func TestCommit(t *testing.T) {
	c := newCluster(t)
	l := c.leads()
	if err := l.Read(); err != nil {
		t.Fatal(err)
	}
	l, acknowledged := c.commits(l, 0, 100)
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	if len(acknowledged) < 90 {
		t.Errorf("%d of 100 groups were acknowledged, with nothing broken", len(acknowledged))
	}
	wantOnce(t, c.wantSame(l), acknowledged)
}

// A leader that ends in the middle of commits is followed by another one. It comes back and catches
// up.
func TestLeaderEnds(t *testing.T) {
	c := newCluster(t)
	l := c.leads()
	var all []string
	for round := range 3 {
		ended := make(chan error, 1)
		id, before := l.member.replica.ID(), l.Term()
		go func() { ended <- c.stop(id) }()
		var acknowledged []string
		l, acknowledged = c.commits(l, 50*round, 50*round+50)
		all = append(all, acknowledged...)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if l.member.replica.ID() == id {
			l = c.leads(id)
		}
		if l.Term() <= before {
			t.Errorf("term %d comes behind %d", l.Term(), before)
		}
		c.start(id)
	}
	wantOnce(t, c.wantSame(l), all)
}

// A leader that is cut off says so to whoever waits, and goes on as a follower. It never acknowledges
// anything in between.
func TestLeaderIsCutOff(t *testing.T) {
	c := newCluster(t)
	l := c.leads()
	l, acknowledged := c.commits(l, 0, 20)
	id := l.member.replica.ID()
	c.servers[id].cut.Store(true)
	if err := l.Commit([][]byte{record("cut off")}); !errors.Is(err, commit.ErrNotLeader) {
		t.Errorf("a commit of a leader that is cut off: %v", err)
	}
	if err := l.Read(); !errors.Is(err, commit.ErrNotLeader) {
		t.Errorf("a read of a leader that is cut off: %v", err)
	}
	l, more := c.commits(c.leads(id), 20, 40)
	c.servers[id].cut.Store(false)
	payloads := c.wantSame(l)
	wantOnce(t, payloads, append(acknowledged, more...))
	if slices.Contains(payloads, "cut off") {
		t.Error("what was not acknowledged by anybody else is there")
	}
}

// A leader knows how far the others are, and every server shows what is committed.
func TestProgressAndScan(t *testing.T) {
	c := newCluster(t)
	l, acknowledged := c.commits(c.leads(), 0, 10)
	leader := l.member
	last := leader.Committed()
	await(t, "the others to have it", func() bool {
		all := leader.Progress()
		return len(all) == 2 && !slices.ContainsFunc(all, func(p replica.Progress) bool {
			return p.Match < last || !p.Active || p.Learner
		})
	})
	for _, s := range c.servers[1:4] {
		await(t, "a follower to know it", func() bool { return s.member.Committed() >= last })
		if s.member != leader && s.member.Progress() != nil {
			t.Errorf("server %d follows, and says %+v", s.id, s.member.Progress())
		}
		var payloads []string
		if _, err := s.member.Scan(func(r ledger.Record) error {
			payloads = append(payloads, string(r.Payload))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		wantOnce(t, payloads, acknowledged)
	}
}

// changes changes the members, by this leader or the ones behind it. It returns the log of the last
// one.
func (c *cluster) changes(l *Log, what replica.Change) *Log {
	c.t.Helper()
	for {
		err := l.member.Change(c.t.Context(), what)
		s, known := l.member.Members().Server(what.ID)
		done := known == (what.Kind != replica.Remove) && s.Learner == (what.Kind == replica.Add)
		switch {
		case err == nil && done, errors.Is(err, replica.ErrTaken) && done, errors.Is(err, replica.ErrUnknown) && done:
			return l // perhaps by a leader before
		case errors.Is(err, replica.ErrLeading):
			if err := l.member.Transfer(4); err != nil && !errors.Is(err, commit.ErrNotLeader) {
				c.t.Fatal(err)
			}
			l = c.leads(what.ID)
		case errors.Is(err, commit.ErrNotLeader):
			l = c.leads()
		case !errors.Is(err, replica.ErrChanging) && !errors.Is(err, replica.ErrQuorum):
			c.t.Fatalf("%+v: %v, and the members are %v", what, err, l.member.Members())
		}
	}
}

// Servers are added, promoted and removed at work. One that is removed ends, and says why.
func TestChange(t *testing.T) {
	c := newCluster(t)
	l := c.leads()
	l, acknowledged := c.commits(l, 0, 20)
	c.dirs[4] = t.TempDir()
	c.start(4)
	l = c.changes(l, replica.Change{Kind: replica.Add, ID: 4, Addr: c.addrs[4]})
	l = c.changes(l, replica.Change{Kind: replica.Promote, ID: 4})
	old := l.member.replica.ID()%3 + 1
	l = c.changes(l, replica.Change{Kind: replica.Remove, ID: old})
	removed := c.servers[old]
	select {
	case <-removed.member.Done():
	case <-time.After(patience):
		t.Fatal("the server that was removed goes on")
	}
	if err := c.stop(old); !errors.Is(err, replica.ErrRemoved) {
		t.Errorf("the server that was removed ended with %v", err)
	}
	if err := removed.member.Change(t.Context(), replica.Change{Kind: replica.Remove, ID: 4}); !errors.Is(err, replica.ErrRemoved) {
		t.Errorf("a change by a server that was removed: %v", err)
	}
	l, more := c.commits(l, 20, 30)
	want := l.member.Members().String()
	last := l.member.Committed()
	await(t, "the new one to have all", func() bool { return c.servers[4].member.Committed() >= last })
	var payloads []string
	if _, err := c.servers[4].member.Scan(func(r ledger.Record) error {
		if r.Kind != ledger.Members {
			payloads = append(payloads, string(r.Payload))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	wantOnce(t, payloads, append(acknowledged, more...))
	s := c.servers[4]
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.members); n != 4 || s.members[3] != want || s.member.Members().String() != want {
		t.Errorf("server 4 told of the members %q, want four times, and %q at last", s.members, want)
	}
}

// A change that can't be made says so. One that has to wait ends with its context, and leaves room
// for another.
func TestChangeRefused(t *testing.T) {
	c := newCluster(t)
	l := c.leads()
	l = c.changes(l, replica.Change{Kind: replica.Add, ID: 4, Addr: c.addrs[4]})
	for _, s := range c.servers[1:4] {
		err := s.member.Change(t.Context(), replica.Change{Kind: replica.Add, ID: 4, Addr: c.addrs[4]})
		if !errors.Is(err, commit.ErrNotLeader) && !errors.Is(err, replica.ErrTaken) {
			t.Errorf("server %d is asked for what is done: %v", s.id, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	promoted := make(chan error, 1)
	leader := l.member
	go func() {
		err := replica.ErrQuorum
		for errors.Is(err, replica.ErrQuorum) { // on a slow machine, the others are silent for a moment
			err = leader.Change(ctx, replica.Change{Kind: replica.Promote, ID: 4})
		}
		promoted <- err
	}()
	l, acknowledged := c.commits(l, 0, 5)
	cancel()
	// It isn't there, so it never catches up.
	if err := <-promoted; !errors.Is(err, context.Canceled) && !errors.Is(err, commit.ErrNotLeader) {
		t.Errorf("a change that was cancelled: %v", err)
	}
	l = c.changes(l, replica.Change{Kind: replica.Remove, ID: 4})
	payloads := slices.DeleteFunc(c.wantSame(l), func(p string) bool { return strings.HasPrefix(p, "voters=") })
	wantOnce(t, payloads, acknowledged)
}

// The leader's place can be given away.
func TestTransfer(t *testing.T) {
	c := newCluster(t)
	l := c.leads()
	to := l.member.replica.ID()%3 + 1
	for deadline := time.Now().Add(patience); l.member.replica.ID() != to; {
		if time.Now().After(deadline) {
			t.Fatalf("server %d never leads", to)
		}
		// It is only asked for: a server that is just behind may not get it. Then it is asked again.
		if err := c.servers[l.member.replica.ID()].member.Transfer(to); err != nil && !errors.Is(err, commit.ErrNotLeader) {
			t.Fatal(err)
		}
		select {
		case l = <-c.logs:
		case <-time.After(time.Second):
		}
	}
	if status := l.member.Status(); status.Role != replica.Leading && status.Role != replica.Elected || status.Leader != to {
		t.Errorf("status %+v, want %d to lead", status, to)
	}
}

// A disk that fails ends the member, and whoever waits is told why. The others go on.
func TestDiskFails(t *testing.T) {
	c := newCluster(t)
	l := c.leads()
	l, acknowledged := c.commits(l, 0, 5)
	id := l.member.replica.ID()
	s := c.servers[id]
	s.store.fails.Store(true)
	if err := l.Commit([][]byte{record("lost")}); !errors.Is(err, errBroken) {
		t.Errorf("a commit: %v", err)
	}
	<-s.member.Done()
	if err := l.Commit([][]byte{record("late")}); !errors.Is(err, errBroken) {
		t.Errorf("a later commit: %v", err)
	}
	if err := c.stop(id); !errors.Is(err, errBroken) {
		t.Errorf("the member ended with %v", err)
	}
	l, more := c.commits(c.leads(id), 5, 10)
	c.start(id)
	wantOnce(t, c.wantSame(l), append(acknowledged, more...))
}

// Stopping a member ends a commit that waits for others.
func TestStopEndsCommit(t *testing.T) {
	c := newCluster(t)
	l := c.leads()
	id := l.member.replica.ID()
	c.servers[id].cut.Store(true)
	ended := make(chan error, 1)
	go func() { ended <- l.Commit([][]byte{record("x")}) }()
	if err := c.stop(id); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, ErrStopped) && !errors.Is(err, commit.ErrNotLeader) {
		t.Errorf("the commit ended with %v", err)
	}
	if err := l.Seal(); !errors.Is(err, ErrStopped) && !errors.Is(err, commit.ErrNotLeader) {
		t.Errorf("a seal behind the end: %v", err)
	}
}

// What is no message, or somebody else's, changes nothing.
func TestForeignMessages(t *testing.T) {
	c := newCluster(t)
	l := c.leads()
	m := c.servers[1].member
	heartbeat := appendMessage(nil, full())
	m.Receive(2, nil)
	m.Receive(2, []byte("HELLO"))
	m.Receive(3, heartbeat) // it is from 2
	m.Receive(2, bytes.Replace(heartbeat, []byte("records"), []byte(strings.Repeat("x", 7)), 1)[:50])
	l, acknowledged := c.commits(l, 0, 10)
	wantOnce(t, c.wantSame(l), acknowledged)
}

// BenchmarkCommit is a leader's commit with two followers, over the loopback, with a sync on three
// directories of one disk: a lone small group, and groups as a busy server has them.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{8 << 10, 512 << 10} {
		b.Run(fmt.Sprintf("%d kB", size>>10), func(b *testing.B) {
			c := newCluster(b)
			l := c.leads()
			group := [][]byte{record(strings.Repeat("x", size))}
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := l.Commit(group); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
