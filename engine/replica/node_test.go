package replica_test

import (
	"errors"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"loteria/engine/commit"
	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
	"loteria/engine/replica"
	"loteria/engine/replica/replicatest"
)

func TestConfigIsChecked(t *testing.T) {
	three := []uint64{1, 2, 3}
	for name, c := range map[string]replica.Config{
		"no voters":            {ID: 1, Learners: []uint64{1}},
		"id 0":                 {ID: 1, Voters: []uint64{0, 1, 2}},
		"an id twice":          {ID: 1, Voters: []uint64{1, 2, 2}},
		"a voter that learns":  {ID: 1, Voters: three, Learners: []uint64{3}},
		"too many servers":     {ID: 1, Voters: three, Learners: []uint64{4, 5, 6, 7, 8, 9, 10}},
		"an address":           {ID: 1, Voters: three, Addrs: map[uint64]string{1: "nowhere"}},
		"slow heartbeats":      {ID: 1, Voters: three, ElectionTicks: 3, HeartbeatTicks: 3},
		"a negative limit":     {ID: 1, Voters: three, UnsavedBytesMax: -1},
		"inflight too small":   {ID: 1, Voters: three, MessageBytesMax: 100, InflightBytesMax: 99},
		"a negative heartbeat": {ID: 1, Voters: three, HeartbeatTicks: -1},
	} {
		if _, err := replica.New(c, replicatest.NewMemory(1).Open()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := replica.New(replica.Config{ID: 4, Voters: three}, replicatest.NewMemory(1).Open()); err != nil {
		t.Errorf("a server that is to be added: %v", err)
	}
	if _, err := replica.New(replica.Config{ID: 3, Voters: three}, replicatest.NewMemory(1).Open()); err != nil {
		t.Error(err)
	}
}

func newNode(t *testing.T, s replica.Store, c replica.Config) *replica.Node {
	t.Helper()
	c.ID = 1
	if c.Voters == nil {
		c.Voters = []uint64{1, 2, 3}
	}
	n, err := replica.New(c, s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// message makes one from server 2 to server 1.
func message(kind raftpb.MessageType, term uint64) *raftpb.Message {
	return &raftpb.Message{Type: kind.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: &term}
}

func appendMessage(term, index uint64, entries ...*raftpb.Entry) *raftpb.Message {
	m := message(raftpb.MsgApp, term)
	m.Index, m.LogTerm, m.Entries, m.Commit = &index, new(min(index, 1)), entries, new(uint64(0))
	return m
}

func raftEntry(index uint64, data []byte) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: new(uint64(1)), Data: data}
}

// A server takes only what another one of the cluster sends to it.
func TestReceiveRefuses(t *testing.T) {
	n := newNode(t, replicatest.NewMemory(1).Open(), replica.Config{})
	for kind := range raftpb.MessageType_name {
		m := message(raftpb.MessageType(kind), 1)
		switch m.GetType() {
		case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
			raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTimeoutNow:
			if err := n.Receive(m); err != nil {
				t.Errorf("%v: %v", m.GetType(), err)
			}
		default:
			if err := n.Receive(m); !errors.Is(err, replica.ErrMessage) {
				t.Errorf("%v: %v", m.GetType(), err)
			}
		}
	}
	for name, ids := range map[string][2]uint64{"nobody": {0, 1}, "itself": {1, 1}, "for another one": {2, 3}} {
		m := message(raftpb.MsgHeartbeat, 1)
		m.From, m.To = &ids[0], &ids[1]
		if err := n.Receive(m); !errors.Is(err, replica.ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A follower answers an append once it is saved. Meanwhile it answers heartbeats.
func TestFollowerPromisesWhatIsSaved(t *testing.T) {
	s := replicatest.NewMemory(1).Open()
	n := newNode(t, s, replica.Config{})
	receive := func(m *raftpb.Message) replica.Ready {
		t.Helper()
		if err := n.Receive(m); err != nil {
			t.Fatal(err)
		}
		return ready(t, n)
	}
	r := receive(appendMessage(1, 0, raftEntry(1, nil)))
	if r.Save == nil || len(r.Save.Entries) != 1 || r.Save.State.Term != 1 || len(r.Messages) != 0 {
		t.Fatalf("after an append: %+v", r)
	}
	r = receive(message(raftpb.MsgHeartbeat, 1))
	if r.Save != nil || len(r.Messages) != 1 || r.Messages[0].GetType() != raftpb.MsgHeartbeatResp {
		t.Fatalf("after a heartbeat beside the save: %+v", r)
	}
	saved(t, n, s, replica.Save{State: replica.State{Term: 1}, Entries: []replica.Entry{{Index: 1, Term: 1}}})
	r = ready(t, n)
	if len(r.Messages) != 1 || r.Messages[0].GetType() != raftpb.MsgAppResp || r.Messages[0].GetIndex() != 1 {
		t.Fatalf("after the save: %+v", r)
	}
}

func ready(t *testing.T, n *replica.Node) replica.Ready {
	t.Helper()
	r, err := n.Ready()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func saved(t *testing.T, n *replica.Node, s replica.Store, save replica.Save) {
	t.Helper()
	if err := s.Save(save.State, save.Entries); err != nil {
		t.Fatal(err)
	}
	if err := n.Saved(); err != nil {
		t.Fatal(err)
	}
}

// While the disk stalls, a follower keeps so much and no more.
func TestFollowerIsBounded(t *testing.T) {
	n := newNode(t, replicatest.NewMemory(1).Open(), replica.Config{UnsavedBytesMax: 1000, MessageBytesMax: 400})
	data := ledgertest.Run(ledgertest.Bets(368, 1)) // 400 bytes
	var err error
	kept := uint64(0)
	for ; err == nil; kept++ {
		err = n.Receive(appendMessage(1, kept, raftEntry(kept+1, data)))
		ready(t, n)
	}
	if !errors.Is(err, replica.ErrBusy) || kept-1 != 2 {
		t.Errorf("after %d messages of 400 bytes: %v", kept-1, err)
	}
	for i := 0; ; i++ { // without data
		if err = n.Receive(appendMessage(1, 2)); err != nil {
			break
		}
		ready(t, n)
		if i > 2*replica.PromisesMax {
			t.Fatalf("%d messages were taken", i)
		}
	}
	if !errors.Is(err, replica.ErrBusy) {
		t.Error(err)
	}
	if err := n.Receive(message(raftpb.MsgHeartbeat, 1)); err != nil {
		t.Errorf("a heartbeat: %v", err)
	}
}

// A store that lacks what was promised is refused, at the start or by the leader's next heartbeat.
func TestLostPromises(t *testing.T) {
	t.Run("at the start", func(t *testing.T) {
		s := forgetful{replicatest.NewMemory(1).Open()}
		if err := s.Save(replica.State{Term: 1}, []replica.Entry{{Index: 1, Term: 1}, {Index: 2, Term: 1}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(replica.State{Term: 1, Commit: 2}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := replica.New(replica.Config{ID: 1, Voters: []uint64{1, 2, 3}}, s); !errors.Is(err, replica.ErrLost) {
			t.Errorf("New returned %v", err)
		}
	})
	t.Run("by a heartbeat", func(t *testing.T) {
		n := newNode(t, replicatest.NewMemory(1).Open(), replica.Config{})
		m := message(raftpb.MsgHeartbeat, 1)
		m.Commit = new(uint64(1))
		if err := n.Receive(m); !errors.Is(err, replica.ErrLost) {
			t.Errorf("Receive returned %v", err)
		}
		if err := n.Tick(); !errors.Is(err, replica.ErrLost) {
			t.Errorf("then Tick returned %v", err)
		}
		if _, err := n.Ready(); !errors.Is(err, replica.ErrLost) {
			t.Errorf("then Ready returned %v", err)
		}
	})
}

// forgetful has lost its last entry.
type forgetful struct{ *replicatest.Store }

func (f forgetful) LastIndex() (uint64, error) {
	last, err := f.Store.LastIndex()
	return last - 1, err
}

// What the store can't read ends the server with the store's error.
func TestReadErrorIsFinal(t *testing.T) {
	m := replicatest.NewMemory(1)
	s := m.Open()
	if err := s.Save(replica.State{Term: 1}, []replica.Entry{{Index: 1, Term: 1}}); err != nil {
		t.Fatal(err)
	}
	disk := &brittle{Store: s}
	n := newNode(t, disk, replica.Config{Voters: []uint64{1}})
	disk.broken = true
	var err error
	for range 100 {
		if err = n.Tick(); err != nil {
			break
		}
		var r replica.Ready
		if r, err = n.Ready(); err != nil {
			break
		}
		if r.Save != nil {
			saved(t, n, s, *r.Save)
		}
	}
	if !errors.Is(err, replicatest.ErrInjected) {
		t.Errorf("the error is %v", err)
	}
	if err := n.Tick(); !errors.Is(err, replicatest.ErrInjected) {
		t.Errorf("then it is %v", err)
	}
}

// Nor does a server start if it can't read what it may have to hold back.
func TestStartReadsWhatIsNotCommitted(t *testing.T) {
	s := replicatest.NewMemory(1).Open()
	if err := s.Save(replica.State{Term: 1}, []replica.Entry{{Index: 1, Term: 1}}); err != nil {
		t.Fatal(err)
	}
	_, err := replica.New(replica.Config{ID: 1, Voters: []uint64{1}}, &brittle{Store: s, broken: true})
	if !errors.Is(err, replicatest.ErrInjected) {
		t.Errorf("the error is %v", err)
	}
}

// brittle can't read entries once it is broken.
type brittle struct {
	*replicatest.Store
	broken bool
}

func (b *brittle) Entries(first, last uint64, bytesMax int) ([]replica.Entry, error) {
	if b.broken {
		return nil, replicatest.ErrInjected
	}
	return b.Store.Entries(first, last, bytesMax)
}

// A follower takes neither proposals nor reads, and a draw of one server needs no others.
func TestOneServer(t *testing.T) {
	s := replicatest.NewMemory(1).Open()
	n := newNode(t, s, replica.Config{Voters: []uint64{1}})
	if _, err := n.Propose([]byte("x")); !errors.Is(err, commit.ErrNotLeader) {
		t.Errorf("Propose of a follower returned %v", err)
	}
	if err := n.Read(1); !errors.Is(err, commit.ErrNotLeader) {
		t.Errorf("Read of a follower returned %v", err)
	}
	var committed []replica.Entry
	var reads []replica.Read
	proposed := uint64(0)
	for i := range 200 {
		if err := n.Tick(); err != nil {
			t.Fatal(err)
		}
		r := ready(t, n)
		committed, reads = append(committed, r.Committed...), append(reads, r.Reads...)
		if r.Save != nil {
			saved(t, n, s, *r.Save)
		}
		if r.Status.Role == replica.Leading && proposed == 0 {
			group := ledger.AppendRecord(nil, ledger.Bets, 1, 1, []byte("a bet"))
			var err error
			if proposed, err = n.Propose(group); err != nil {
				t.Fatalf("Propose returned %v after %d ticks", err, i)
			}
			clear(group) // it is ours again
			if err := n.Read(7); err != nil {
				t.Fatal(err)
			}
		}
	}
	if proposed == 0 || uint64(len(committed)) != proposed || len(committed[proposed-1].Records) == 0 || committed[proposed-1].Records[0] == 0 {
		t.Errorf("entry %d was proposed, committed are %+v", proposed, committed)
	}
	if len(reads) != 1 || reads[0].Number != 7 {
		t.Errorf("read barriers: %+v", reads)
	}
}

func TestSavedWithoutASave(t *testing.T) {
	n := newNode(t, replicatest.NewMemory(1).Open(), replica.Config{})
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	_ = n.Saved()
}

// elect makes server 1 of three win an election with the vote of server 2, and returns what it
// wants to do then. Its votes and entries are saved in s.
func elect(t *testing.T, n *replica.Node, s replica.Store) replica.Ready {
	t.Helper()
	var r replica.Ready
	for range 100 {
		if err := n.Tick(); err != nil {
			t.Fatal(err)
		}
		if r = ready(t, n); len(r.Messages) > 0 {
			break
		}
	}
	if len(r.Messages) != 2 || r.Messages[0].GetType() != raftpb.MsgPreVote {
		t.Fatalf("want to ask whether an election is of use: %+v", r)
	}
	term := r.Messages[0].GetTerm()
	if err := n.Receive(message(raftpb.MsgPreVoteResp, term)); err != nil {
		t.Fatal(err)
	}
	if r = ready(t, n); r.Save == nil || r.Save.State.Vote != 1 || len(r.Messages) != 0 {
		t.Fatalf("want to save a vote, and to ask for others afterwards: %+v", r)
	}
	saved(t, n, s, *r.Save)
	if r = ready(t, n); len(r.Messages) != 2 || r.Messages[0].GetType() != raftpb.MsgVote {
		t.Fatalf("want to ask for votes: %+v", r)
	}
	if err := n.Receive(message(raftpb.MsgVoteResp, term)); err != nil {
		t.Fatal(err)
	}
	return ready(t, n)
}

// acknowledge tells server 1 that another server has the entries up to index.
func acknowledge(t *testing.T, n *replica.Node, from, index uint64) replica.Ready {
	t.Helper()
	m := message(raftpb.MsgAppResp, 1)
	m.From, m.Index = &from, &index
	if err := n.Receive(m); err != nil {
		t.Fatal(err)
	}
	return ready(t, n)
}

// A leader's entries leave beside its own save. They are committed once a majority has them, but
// handed out only once the leader has them, too. It leads only after its first one.
func TestLeaderSendsBesideItsSave(t *testing.T) {
	s := replicatest.NewMemory(1).Open()
	n := newNode(t, s, replica.Config{})
	appends := func(r replica.Ready) (n int) {
		for _, m := range r.Messages {
			if m.GetType() == raftpb.MsgApp && len(m.GetEntries()) > 0 {
				n++
			}
		}
		return n
	}
	r := elect(t, n, s)
	if r.Status != (replica.Status{Role: replica.Elected, Term: 1, Leader: 1}) || r.Save == nil || appends(r) != 2 {
		t.Fatalf("elected: %+v", r)
	}
	if _, err := n.Propose([]byte("too early")); !errors.Is(err, commit.ErrNotLeader) {
		t.Fatalf("Propose returned %v before the first entry is committed", err)
	}
	first := *r.Save
	if r = acknowledge(t, n, 2, 1); len(r.Committed) != 0 || r.Status.Role != replica.Elected {
		t.Fatalf("one of three has the first entry: %+v", r)
	}
	saved(t, n, s, first)
	if r = ready(t, n); len(r.Committed) != 1 || len(r.Committed[0].Records) != 0 || r.Status.Role != replica.Leading {
		t.Fatalf("two of three have the first entry: %+v", r)
	}
	if r.Save == nil || len(r.Save.Entries) != 0 || r.Save.State.Commit != 1 {
		t.Fatalf("want to save at once that the empty entry is committed: %+v", r.Save)
	}
	saved(t, n, s, *r.Save)
	index, err := n.Propose(ledgertest.Run(ledgertest.Bets(100, 1)))
	if err != nil || index != 2 {
		t.Fatalf("Propose returned %d, %v", index, err)
	}
	if r = ready(t, n); r.Save == nil || len(r.Save.Entries) != 1 {
		t.Fatalf("want to save the group: %+v", r)
	}
	group := *r.Save
	if appends(r) != 1 { // server 3 hasn't answered the first one
		t.Fatalf("want to send the group beside the save: %+v", r)
	}
	acknowledge(t, n, 2, 2)
	if r = acknowledge(t, n, 3, 2); len(r.Committed) != 0 {
		t.Fatalf("the leader hasn't saved it: %+v", r)
	}
	saved(t, n, s, group)
	if r = ready(t, n); len(r.Committed) != 1 || r.Committed[0].Index != 2 || r.Save != nil {
		t.Fatalf("all have it: %+v", r)
	}
}

// A leader tells nobody that an end is committed before it has saved that. Otherwise the others may be
// gone when it has forgotten it.
func TestLeaderSaysAnEndLast(t *testing.T) {
	end := ledger.AppendRecord(nil, ledger.Ended, 0, 1, []byte("end"))
	for name, before := range map[string][]replica.Entry{
		"of this term":            nil,
		"of a term before":        {{Index: 1, Term: 1, Records: end}},
		"of a term before, twice": {{Index: 1, Term: 1, Records: end}, {Index: 2, Term: 1, Records: end}},
	} {
		t.Run(name, func(t *testing.T) {
			s := replicatest.NewMemory(1).Open()
			last, first := uint64(len(before)+1), uint64(1) // entry of the log; end
			if before == nil {
				first = 2 // behind the beginning of the term
			} else if err := s.Save(replica.State{Term: 1}, before); err != nil {
				t.Fatal(err)
			}
			n := newNode(t, s, replica.Config{})
			told := uint64(0)
			var save *replica.Save // that the disk still has to do
			hear := func(r replica.Ready) {
				if r.Save != nil {
					save = r.Save
				}
				state, err := s.State()
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range r.Messages {
					if told = max(told, m.GetCommit()); told >= first && state.Commit < first {
						t.Fatalf("a %v says that %d entries are committed, and the leader's disk knows of %d",
							m.GetType(), told, state.Commit)
					}
				}
			}
			do := func(err error) {
				if err != nil {
					t.Fatal(err)
				}
				hear(ready(t, n))
			}
			answer := func(kind raftpb.MessageType, index uint64) {
				m := message(kind, 1)
				if before != nil {
					m.Term = new(uint64(2))
				}
				m.Index = &index
				do(n.Receive(m))
			}
			disk := func() {
				done := *save
				save = nil
				saved(t, n, s, done)
				hear(ready(t, n))
			}

			hear(elect(t, n, s))
			if before == nil {
				disk()
				answer(raftpb.MsgAppResp, last)
				disk()
				_, err := n.Propose(end)
				do(err)
				last++
			}
			answer(raftpb.MsgAppResp, last)
			do(n.Tick())
			disk() // the end, or the beginning of the term behind it
			answer(raftpb.MsgAppResp, last)
			do(n.Tick())
			answer(raftpb.MsgHeartbeatResp, 0)
			disk() // that it is committed
			do(n.Tick())
			if told != last {
				t.Errorf("server 2 was told that %d entries are committed, and they are %d", told, last)
			}
		})
	}
}

// A leader that hears from nobody gives up.
func TestLeaderWithoutAMajorityGivesUp(t *testing.T) {
	s := replicatest.NewMemory(1).Open()
	n := newNode(t, s, replica.Config{ElectionTicks: 10})
	r := elect(t, n, s)
	ticks := 0
	for ; r.Status.Role != replica.Following; ticks++ {
		if ticks > 20 {
			t.Fatalf("it leads after %d ticks: %+v", ticks, r.Status)
		}
		if err := n.Tick(); err != nil {
			t.Fatal(err)
		}
		r = ready(t, n)
	}
	if ticks < 10 {
		t.Errorf("it gave up after %d ticks", ticks)
	}
}

// A leader says how far the others are; nobody else does.
func TestProgress(t *testing.T) {
	s := replicatest.NewMemory(1).Open()
	n := newNode(t, s, replica.Config{Learners: []uint64{4}})
	if got := n.Progress(); got != nil {
		t.Errorf("a follower says %+v", got)
	}
	r := elect(t, n, s)
	saved(t, n, s, *r.Save)
	acknowledge(t, n, 2, 1)
	want := []replica.Progress{{ID: 2, Match: 1, Active: true}, {ID: 3}, {ID: 4, Learner: true}}
	if got := n.Progress(); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for range 9 {
		if err := n.Tick(); err != nil {
			t.Fatal(err)
		}
		ready(t, n)
	}
	acknowledge(t, n, 3, 1)
	if err := n.Tick(); err != nil {
		t.Fatal(err)
	}
	want[0].Active, want[1].Match, want[1].Active = false, 1, true
	if got := n.Progress(); !slices.Equal(got, want) {
		t.Errorf("ten ticks later: got %+v, want %+v", got, want)
	}
}

// A voter whose leader is lost wants to lead when it is its turn. It doesn't if the leader says
// something more, nor for another server.
func TestLost(t *testing.T) {
	for name, c := range map[string]struct {
		id, lost  uint64
		heartbeat bool
		want      int // ticks until it asks for votes; 0: it doesn't within 7
	}{
		"first in turn":     {id: 1, lost: 3, want: 1},
		"second in turn":    {id: 2, lost: 3, want: 3},
		"it is there still": {id: 1, lost: 3, heartbeat: true},
		"no leader":         {id: 1, lost: 2},
		"a learner":         {id: 4, lost: 3},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := replica.New(replica.Config{ID: c.id, Voters: []uint64{1, 2, 3}, Learners: []uint64{4}},
				replicatest.NewMemory(1).Open())
			if err != nil {
				t.Fatal(err)
			}
			heartbeat := func() {
				m := &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(3)), To: new(c.id), Term: new(uint64(1))}
				if err := n.Receive(m); err != nil {
					t.Fatal(err)
				}
				ready(t, n)
			}
			heartbeat()
			if err := n.Lost(c.lost); err != nil {
				t.Fatal(err)
			}
			if r := ready(t, n); (r.Status.Leader == 0) != (c.lost == 3) {
				t.Errorf("it knows of leader %d", r.Status.Leader)
			}
			if c.heartbeat {
				heartbeat()
			}
			asked := 0
			for tick := 1; tick <= 7 && asked == 0; tick++ {
				if err := n.Tick(); err != nil {
					t.Fatal(err)
				}
				if len(ready(t, n).Messages) > 0 {
					asked = tick
				}
			}
			if asked != c.want {
				t.Errorf("it asks for votes at tick %d, want %d", asked, c.want)
			}
		})
	}
}
