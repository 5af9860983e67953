package replica_test

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"loteria/engine/ledger"
	"loteria/engine/replica"
	"loteria/engine/replica/replicatest"
)

func mustParse(t testing.TB, text string) replica.Membership {
	t.Helper()
	m, err := replica.ParseMembership(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A membership has one text, and there is no other.
func TestMembershipText(t *testing.T) {
	for _, text := range []string{
		"voters=1 learners= gone= addrs=",
		"voters=1,2,3 learners=4 gone=5,18446744073709551600 addrs=1=a:1,4=[::1]:4118",
		"voters=1,3,5,7,9 learners=2,4,6,8 gone= addrs=2=a=b:1",
	} {
		if got := mustParse(t, text).String(); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	long := "voters=1 learners= gone= addrs=1=" + strings.Repeat("a", replica.AddrBytesMax-2) + ":1"
	mustParse(t, long)
	for name, text := range map[string]string{
		"empty":               "",
		"no voter":            "voters= learners=1 gone= addrs=",
		"id 0":                "voters=0 learners= gone= addrs=",
		"raft's own id":       "voters=18446744073709551615 learners= gone= addrs=",
		"an id twice":         "voters=1,1 learners= gone= addrs=",
		"a voter that learns": "voters=1 learners=1 gone= addrs=",
		"a voter that's gone": "voters=1 learners= gone=1 addrs=",
		"another order":       "voters=2,1 learners= gone= addrs=",
		"gone in disorder":    "voters=1 learners= gone=3,2 addrs=",
		"a leading zero":      "voters=01 learners= gone= addrs=",
		"a sign":              "voters=+1 learners= gone= addrs=",
		"an empty id":         "voters=1, learners= gone= addrs=",
		"other fields":        "learners= voters=1 gone= addrs=",
		"more fields":         "voters=1 learners= gone= addrs= x=",
		"a line's end":        "voters=1 learners= gone= addrs=\n",
		"too many":            "voters=1,2,3,4,5,6,7,8,9 learners=10 gone= addrs=",
		"a stranger's addr":   "voters=1 learners= gone= addrs=2=a:1",
		"no port":             "voters=1 learners= gone= addrs=1=a",
		"no host":             "voters=1 learners= gone= addrs=1=:1",
		"an empty addr":       "voters=1 learners= gone= addrs=1=",
		"an addr twice":       "voters=1 learners= gone= addrs=1=a:1,1=a:1",
		"a NUL":               "voters=1 learners= gone= addrs=1=a\x00:1",
		"a long addr":         strings.Replace(long, "=a", "=aa", 1),
	} {
		if m, err := replica.ParseMembership(text); !errors.Is(err, replica.ErrMembership) {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
}

// What is a membership is written as it was read, is within its limits, and makes a record.
func FuzzMembership(f *testing.F) {
	for _, text := range []string{
		"voters=1,2,3 learners=4 gone=5 addrs=1=a:1,4=b:2", "voters=1 learners= gone= addrs=", "voters=+1 learners= gone= addrs=",
		"voters=1 learners= gone= addrs=1=[::1]:4118", "voters=1 learners= gone= addrs=1=a b:1", "voters= learners= gone= addrs=",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := replica.ParseMembership(text)
		if err != nil {
			if !errors.Is(err, replica.ErrMembership) {
				t.Fatal(err)
			}
			return
		}
		if m.String() != text || len(m.Servers) > replica.ServersMax || len(m.Voters()) == 0 || strings.Contains(text, "\x00") {
			t.Fatalf("%q becomes %v", text, m)
		}
		for _, s := range m.Servers {
			if _, err := m.After(replica.Change{Kind: replica.Add, ID: s.ID, Addr: "a:1"}); !errors.Is(err, replica.ErrTaken) {
				t.Fatalf("%v takes %d again: %v", m, s.ID, err)
			}
		}
	})
}

// A change makes one step, or says what is wrong with it.
func TestMembershipAfter(t *testing.T) {
	const before = "voters=1,3 learners=2 gone=7 addrs=2=b:1"
	many := "voters=1,2,3,4,5,6,7,8,9 learners= gone= addrs="
	for name, c := range map[string]struct {
		before string
		change replica.Change
		want   string
		err    error
	}{
		"add":                 {before, replica.Change{Kind: replica.Add, ID: 4, Addr: "d:1"}, "voters=1,3 learners=2,4 gone=7 addrs=2=b:1,4=d:1", nil},
		"promote":             {before, replica.Change{Kind: replica.Promote, ID: 2}, "voters=1,2,3 learners= gone=7 addrs=2=b:1", nil},
		"remove a voter":      {before, replica.Change{Kind: replica.Remove, ID: 3}, "voters=1 learners=2 gone=3,7 addrs=2=b:1", nil},
		"remove a learner":    {before, replica.Change{Kind: replica.Remove, ID: 2}, "voters=1,3 learners= gone=2,7 addrs=", nil},
		"nothing":             {before, replica.Change{ID: 1}, "", replica.ErrMembership},
		"a member again":      {before, replica.Change{Kind: replica.Add, ID: 2, Addr: "d:1"}, "", replica.ErrTaken},
		"one that was":        {before, replica.Change{Kind: replica.Add, ID: 7, Addr: "d:1"}, "", replica.ErrTaken},
		"no address":          {before, replica.Change{Kind: replica.Add, ID: 4}, "", replica.ErrAddr},
		"half an address":     {before, replica.Change{Kind: replica.Add, ID: 4, Addr: "d"}, "", replica.ErrAddr},
		"id 0":                {before, replica.Change{Kind: replica.Add, Addr: "d:1"}, "", replica.ErrMembership},
		"promote a voter":     {before, replica.Change{Kind: replica.Promote, ID: 1}, "", replica.ErrUnknown},
		"promote nobody":      {before, replica.Change{Kind: replica.Promote, ID: 4}, "", replica.ErrUnknown},
		"remove nobody":       {before, replica.Change{Kind: replica.Remove, ID: 4}, "", replica.ErrUnknown},
		"remove it again":     {before, replica.Change{Kind: replica.Remove, ID: 7}, "", replica.ErrUnknown},
		"the last voter":      {"voters=1 learners=2 gone= addrs=", replica.Change{Kind: replica.Remove, ID: 1}, "", replica.ErrLastVoter},
		"one server too many": {many, replica.Change{Kind: replica.Add, ID: 10, Addr: "d:1"}, "", replica.ErrTooMany},
	} {
		m := mustParse(t, c.before)
		after, err := m.After(c.change)
		if !errors.Is(err, c.err) || c.err == nil && after.String() != c.want {
			t.Errorf("%s: %v, %v, want %q, %v", name, after, err, c.want, c.err)
		}
		if m.String() != c.before {
			t.Errorf("%s has changed what was before: %v", name, m)
		}
	}
}

func membersEntry(index uint64, text string) replica.Entry {
	return replica.Entry{Index: index, Term: 1, Records: ledger.AppendRecord(nil, ledger.Members, 0, 1, []byte(text))}
}

// A server begins with the members that its store knows to be committed: of several in the log also
// the last but one, whatever its state says.
func TestStartKeepsMembers(t *testing.T) {
	const a, b = "voters=1,2,3 learners=4 gone= addrs=4=d:1", "voters=1,2,3,4 learners= gone= addrs=4=d:1"
	for name, c := range map[string]struct {
		commit  uint64
		entries []replica.Entry
		want    string
	}{
		"none":                {1, []replica.Entry{{Index: 1, Term: 1}}, "voters=1,2,3 learners= gone= addrs="},
		"one that may go":     {1, []replica.Entry{{Index: 1, Term: 1}, membersEntry(2, a)}, "voters=1,2,3 learners= gone= addrs="},
		"one that stays":      {2, []replica.Entry{{Index: 1, Term: 1}, membersEntry(2, a)}, a},
		"the last but one":    {1, []replica.Entry{{Index: 1, Term: 1}, membersEntry(2, a), {Index: 3, Term: 1}, membersEntry(4, b)}, a},
		"one that is twice":   {1, []replica.Entry{{Index: 1, Term: 1}, membersEntry(2, a), membersEntry(3, a)}, a},
		"the last of several": {4, []replica.Entry{{Index: 1, Term: 1}, membersEntry(2, a), membersEntry(3, a), membersEntry(4, b)}, b},
	} {
		s := replicatest.NewMemory(1).Open()
		if err := s.Save(replica.State{Term: 1}, c.entries); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(replica.State{Term: 1, Commit: c.commit}, nil); err != nil {
			t.Fatal(err)
		}
		r := ready(t, newNode(t, s, replica.Config{}))
		if r.Members == nil || r.Members.String() != c.want {
			t.Errorf("%s: %v, want %v", name, r.Members, c.want)
		}
	}
	s := replicatest.NewMemory(1).Open()
	if err := s.Save(replica.State{Term: 1}, []replica.Entry{membersEntry(1, a), membersEntry(2, "voters=")}); err != nil {
		t.Fatal(err)
	}
	if _, err := replica.New(replica.Config{ID: 1, Voters: []uint64{1}}, s); !errors.Is(err, replica.ErrMembership) {
		t.Errorf("a store with another text: %v", err)
	}
}

// A server that was removed is told so whatever it says, but only by one that has that on its disk.
func TestRemovedIsToldLast(t *testing.T) {
	s := replicatest.NewMemory(1).Open()
	n := newNode(t, s, replica.Config{})
	members := membersEntry(1, "voters=1,3 learners= gone=2 addrs=")
	data, err := proto.Marshal(&raftpb.ConfChange{Context: members.Records})
	if err != nil {
		t.Fatal(err)
	}
	e := raftEntry(1, data)
	e.Type = raftpb.EntryConfChange.Enum()
	m := appendMessage(1, 0, e)
	m.From, m.Commit = new(uint64(3)), new(uint64(1))
	told := func(r replica.Ready) (n int) {
		for _, m := range r.Messages {
			if m.GetTo() == 2 {
				n++
			}
		}
		return n
	}
	if err := n.Receive(m); err != nil {
		t.Fatal(err)
	}
	r := ready(t, n)
	saved(t, n, s, *r.Save)
	r = ready(t, n)
	if r.Members == nil || r.Members.String() != "voters=1,3 learners= gone=2 addrs=" || r.Save == nil || r.Save.State.Commit != 1 {
		t.Fatalf("want to know the members, and to save that at once: %+v", r)
	}
	for _, kind := range []raftpb.MessageType{raftpb.MsgHeartbeat, raftpb.MsgPreVote, raftpb.MsgHeartbeatResp} {
		if err := n.Receive(message(kind, 9)); err != nil {
			t.Fatal(err)
		}
		if r := ready(t, n); told(r) != 0 || r.Status.Term != 1 {
			t.Errorf("before it is saved: %+v", r)
		}
	}
	saved(t, n, s, *r.Save)
	if r = ready(t, n); told(r) != 1 {
		t.Fatalf("once it is saved: %+v", r)
	}
	answer := r.Messages[0]
	removed, err := replica.New(replica.Config{ID: 2, Voters: []uint64{1, 2, 3}}, replicatest.NewMemory(1).Open())
	if err != nil {
		t.Fatal(err)
	}
	if err := removed.Receive(answer); !errors.Is(err, replica.ErrRemoved) {
		t.Errorf("it is told, and returns %v", err)
	}
	if err := removed.Tick(); !errors.Is(err, replica.ErrRemoved) {
		t.Errorf("then Tick returns %v", err)
	}
}

// A membership comes only as raft's change of one, and nothing else does.
func TestReceiveRefusesEntries(t *testing.T) {
	n := newNode(t, replicatest.NewMemory(1).Open(), replica.Config{})
	members := membersEntry(1, "voters=1,3 learners= gone=2 addrs=").Records
	wrapped, err := proto.Marshal(&raftpb.ConfChange{Context: members})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		kind raftpb.EntryType
		data []byte
	}{
		"a bare membership": {raftpb.EntryNormal, members},
		"no change":         {raftpb.EntryConfChange, []byte("\xff")},
		"an empty change":   {raftpb.EntryConfChange, nil},
		"another kind":      {raftpb.EntryConfChangeV2, wrapped},
	} {
		e := raftEntry(1, c.data)
		e.Type = &c.kind
		if err := n.Receive(appendMessage(1, 0, e)); !errors.Is(err, replica.ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server that only follows, and hears of no leader, asks now and then, and no more than that.
func TestLearnerAsks(t *testing.T) {
	n, err := replica.New(replica.Config{ID: 9, Voters: []uint64{1, 2, 3}, ElectionTicks: 10}, replicatest.NewMemory(1).Open())
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for range 100 {
		if err := n.Tick(); err != nil {
			t.Fatal(err)
		}
		for _, m := range ready(t, n).Messages {
			if m.GetType() != raftpb.MsgHeartbeatResp {
				t.Errorf("it says %v", m.GetType())
			}
			asked++
		}
	}
	if want := 3 * 9; asked != want {
		t.Errorf("it has asked %d times, want %d", asked, want)
	}
}
