package replica_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3/raftpb"

	"loteria/engine/commit"
	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
	"loteria/engine/replica"
	"loteria/engine/replica/replicatest"
)

// cluster is three servers on a perfect network, whose disks may fail, as one ledgertest.Store: who
// opens it gets the log of the one that leads. Everything happens in the goroutine that waits for
// something.
type cluster struct {
	mu      sync.Mutex
	servers [3]*clusterServer
	network []*raftpb.Message
	holder  *clusterLog // nil while nobody has the log open

	applyBytesMax int
}

type clusterServer struct {
	disk       *replicatest.Memory
	store      *replicatest.Store
	replica    *replica.Replica // nil while it is down
	saving     bool
	leadership *replica.Leadership // nil: it doesn't lead
	status     replica.Status
	seq        uint64 // of the last record that its state machine has
}

func newCluster(t *testing.T, seed uint64) *cluster {
	cryptotest.SetGlobalRandom(t, seed)
	return emptyCluster(seed)
}

func emptyCluster(seed uint64) *cluster {
	c := &cluster{applyBytesMax: 1 << 20}
	for i := range c.servers {
		c.servers[i] = &clusterServer{disk: replicatest.NewMemory(seed*16 + uint64(i))}
	}
	return c
}

// errDown says that too many servers are down.
var errDown = errors.New("the cluster has no leader")

// run lets the servers do what they have to do until done returns true, or nothing can make it
// true.
func (c *cluster) run(done func() bool) error {
	for range 2000 {
		if done() {
			return nil
		}
		busy := false
		for i, s := range c.servers {
			busy = c.step(uint64(i+1), s) || busy
		}
		for _, m := range c.take() {
			busy = true
			if to := c.servers[m.GetTo()-1]; to.replica != nil {
				if err := to.replica.Receive(m); err != nil && !errors.Is(err, replica.ErrBusy) {
					return err
				}
			}
		}
		if busy {
			continue
		}
		for _, s := range c.servers { // there is nothing to do but to wait
			if s.replica != nil {
				if err := s.replica.Tick(); err != nil {
					return err
				}
			}
		}
	}
	return errDown
}

func (c *cluster) take() []*raftpb.Message {
	all := c.network
	c.network = nil
	return all
}

// step lets a server work, and reports whether it had something to do.
func (c *cluster) step(id uint64, s *clusterServer) bool {
	if s.replica == nil {
		return false
	}
	saved := s.saving
	if saved {
		s.saving = false
		err := s.store.Sync()
		if err == nil {
			err = s.replica.Saved()
		}
		if err != nil {
			s.end()
			return true
		}
	}
	w, err := s.replica.Work()
	if err == nil && w.Save != nil {
		s.saving = true
		err = s.store.Write(w.Save.State, w.Save.Entries)
	}
	if err != nil {
		s.end()
		return true
	}
	if w.Begun != nil {
		s.leadership = w.Begun
	}
	s.status = w.Status
	if w.Status.Role != replica.Leading {
		s.leadership = nil
	}
	c.network = append(c.network, w.Messages...)
	return saved || w.More || w.Save != nil || len(w.Messages) > 0
}

// end is the end of a server's process.
func (s *clusterServer) end() { s.replica, s.leadership, s.saving = nil, nil, false }

// Open implements ledgertest.Store.
func (c *cluster) Open(visit func(ledger.Record) error) (ledgertest.Log, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holder != nil {
		return nil, ledger.ErrLocked
	}
	for i, s := range c.servers {
		if s.replica == nil {
			if err := s.start(uint64(i+1), c.applyBytesMax); err != nil {
				return nil, err
			}
		}
	}
	var leader *clusterServer
	if err := c.run(func() bool { leader = c.leader(); return leader != nil }); err != nil {
		return nil, err
	}
	l := &clusterLog{Leadership: leader.leadership, cluster: c, server: leader}
	if _, err := l.Scan(visit); err != nil {
		return nil, err
	}
	c.holder = l
	return l, nil
}

func (c *cluster) leader() *clusterServer {
	for _, s := range c.servers {
		if s.leadership != nil {
			return s
		}
	}
	return nil
}

func (s *clusterServer) start(id uint64, applyBytesMax int) (err error) {
	s.store = s.disk.Open()
	s.replica, err = replica.Open(
		replica.Config{ID: id, Voters: []uint64{1, 2, 3}, RecentBytesMax: 4 << 10, ApplyBytesMax: applyBytesMax},
		s.store, func() func(ledger.Record) error {
			s.seq = 0
			return func(r ledger.Record) error {
				s.seq = r.Seq
				return nil
			}
		})
	return err
}

// Kill implements ledgertest.Store.
func (c *cluster) Kill() { c.endAll((*replicatest.Memory).Kill) }

// Crash implements ledgertest.Store.
func (c *cluster) Crash() { c.endAll((*replicatest.Memory).Crash) }

func (c *cluster) endAll(end func(*replicatest.Memory)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		end(s.disk)
		s.disk.Fail(0)
		s.end()
	}
	c.network, c.holder = nil, nil
}

// BreakNext implements ledgertest.Store: a save of the holder's server fails; of every server if
// there is no holder.
func (c *cluster) BreakNext(n int, _ bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		if c.holder == nil || c.holder.server == s {
			s.disk.Fail(n)
		}
	}
}

// Failed implements ledgertest.Store.
func (c *cluster) Failed() bool {
	for _, s := range c.servers {
		if s.disk.Failed() {
			return true
		}
	}
	return false
}

// clusterLog is a commit.Log made of a Leadership: it waits by letting the cluster run.
type clusterLog struct {
	*replica.Leadership
	cluster *cluster
	server  *clusterServer
	failed  error
}

var _ commit.Log = (*clusterLog)(nil)

// Commit implements commit.Log.
func (l *clusterLog) Commit(runs [][]byte) error {
	return l.wait(func() error { return l.BeginCommit(runs) })
}

// Seal implements commit.Log.
func (l *clusterLog) Seal() error { return l.wait(l.BeginSeal) }

// Read implements commit.Log.
func (l *clusterLog) Read() error { return l.wait(l.BeginRead) }

// wait begins an operation and waits for it, and for what the cluster has to do after it.
func (l *clusterLog) wait(begin func() error) error {
	c := l.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	if err := begin(); err != nil {
		return err
	}
	var err error
	ended := false
	if errRun := c.run(func() bool {
		if !ended {
			ended, err = l.Poll()
		}
		return l.server.replica == nil || ended && !l.server.saving && len(c.network) == 0
	}); errRun != nil {
		err = errRun
	}
	if l.server.replica == nil {
		err = fmt.Errorf("the server has ended: %w", commit.ErrNotLeader)
	}
	l.failed = err
	return err
}

// Close implements commit.Log. A seal goes with the log's end. The next one to open the log finds
// another leader.
func (l *clusterLog) Close() error {
	if tail, err := l.Scan(nil); err == nil && tail.Sealed && tail.SealedSeq < tail.Seq {
		if err := l.Seal(); err != nil {
			return err
		}
	}
	c := l.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	l.Leadership.Close()
	if c.holder != l {
		return nil
	}
	c.holder = nil
	if l.server.replica == nil {
		return nil
	}
	to := l.Term()%3 + 1
	if l.server == c.servers[to-1] {
		to = to%3 + 1
	}
	if err := l.server.replica.Transfer(to); err != nil {
		return err
	}
	return c.run(func() bool { return l.server.leadership == nil })
}

// A leadership is a log, with all that a log has to be.
func TestLeadershipIsALog(t *testing.T) {
	seed := uint64(0)
	ledgertest.Conform(t, func(testing.TB) ledgertest.Open {
		seed++
		return newCluster(t, seed).Open
	})
}

// A log whose servers crash and whose disks fail loses nothing that it has acknowledged.
func TestLeadershipIsALogThatBreaks(t *testing.T) {
	ledgertest.Check(t, func(seed uint64) ledgertest.Store { return newCluster(t, seed) })
}

// A leader that is deposed and elected again at once has to rebuild its state machine first. It
// serves nothing until that has all that is committed.
func TestLeaderAgainRebuildsFirst(t *testing.T) {
	const groups = 300
	c := newCluster(t, 1)
	c.applyBytesMax = 1
	opened, err := c.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := opened.(*clusterLog)
	for i := range groups {
		if err := l.Commit([][]byte{ledgertest.Run(ledgertest.Bets(100, i))}); err != nil {
			t.Fatal(err)
		}
	}
	first := l.server
	id := first.replica.ID()
	other := c.servers[id%3]
	if err := first.replica.Transfer(other.replica.ID()); err != nil {
		t.Fatal(err)
	}
	if err := c.run(func() bool { return other.leadership != nil }); err != nil {
		t.Fatal(err)
	}
	if err := other.replica.Transfer(id); err != nil {
		t.Fatal(err)
	}
	rebuilding := false
	err = c.run(func() bool {
		_, seq := first.replica.Applied()
		rebuilding = rebuilding || first.status.Role == replica.Elected && seq < groups
		return first.leadership != nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !rebuilding || first.seq != groups {
		t.Fatalf("the leader has %d of %d records; rebuilding while it was elected: %v", first.seq, groups, rebuilding)
	}
}

// A leadership does one thing at a time, and tells once how it went.
func TestLeadershipDoesOneThing(t *testing.T) {
	c := newCluster(t, 1)
	opened, err := c.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := opened.(*clusterLog)
	if done, err := l.Poll(); done || err != nil {
		t.Errorf("nothing was begun, and Poll returned %v, %v", done, err)
	}
	run := [][]byte{ledgertest.Run(ledgertest.Bets(100, 1))}
	if err := l.BeginCommit(run); err != nil {
		t.Fatal(err)
	}
	for name, begin := range map[string]func() error{
		"BeginCommit": func() error { return l.BeginCommit(run) }, "BeginSeal": l.BeginSeal, "BeginRead": l.BeginRead,
	} {
		if err := begin(); err == nil || errors.Is(err, commit.ErrNotLeader) {
			t.Errorf("%s beside a commit returned %v", name, err)
		}
	}
	done := false
	if err := c.run(func() bool { done, err = l.Poll(); return done }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Errorf("the commit ended with %v", err)
	}
	if done, err := l.Poll(); done || err != nil {
		t.Errorf("the outcome was told, and Poll returned %v, %v", done, err)
	}
	if err := l.BeginCommit(run); err != nil {
		t.Fatal(err)
	}
	c.Kill() // its server, and with it the one that would answer
	if done, err := l.Poll(); done || err != nil {
		t.Errorf("nobody can know, and Poll returned %v, %v", done, err)
	}
}

// BenchmarkCommit commits groups of 512 kB on three servers in one goroutine, without network and
// disk: what raft and this package take.
func BenchmarkCommit(b *testing.B) {
	run := [][]byte{ledgertest.Run(ledgertest.Bets(512<<10, 1))}
	b.SetBytes(512 << 10)
	b.ReportAllocs()
	var log ledgertest.Log
	for i := range b.N {
		if i%100 == 0 { // the log is kept in memory
			b.StopTimer()
			opened, err := emptyCluster(uint64(i)).Open(nil)
			if err != nil {
				b.Fatal(err)
			}
			log = opened
			b.StartTimer()
		}
		if err := log.Commit(run); err != nil {
			b.Fatal(err)
		}
	}
}
