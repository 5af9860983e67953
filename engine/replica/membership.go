package replica

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"loteria/engine/ledger"
)

// The limits of a membership.
const (
	ServersMax   = 9    // voters and learners
	GoneMax      = 1000 // servers that were removed
	AddrBytesMax = 255
)

var (
	// ErrMembership says that something is not a membership.
	ErrMembership = errors.New("not a membership")

	// ErrUnknown says that a change is about a server that is not a member, or to promote one that is
	// no learner.
	ErrUnknown = errors.New("no such server, or no such learner: look at the members")

	// ErrTaken says that the id of a server to be added is, or was, that of another one.
	ErrTaken = errors.New("the id is, or was, that of another server: take a new one")

	// ErrTooMany says that there would be more than ServersMax servers, or more than GoneMax gone.
	ErrTooMany = errors.New("too many servers: remove one that is not needed")

	// ErrAddr says that an address is not host:port, or has a character that an address can't have.
	ErrAddr = errors.New("not an address: want host:port")

	// ErrLastVoter says that no voter would be left.
	ErrLastVoter = errors.New("the last voter can't be removed: add another server first")

	// ErrChanging says that another change is under way.
	ErrChanging = errors.New("another change of the members is under way: try again later")

	// ErrLeading says that the leader was to remove itself.
	ErrLeading = errors.New("a leader can't remove itself: let another server lead first")

	// ErrQuorum says that no majority of the voters after the change is heard of, so that nothing more
	// could be committed.
	ErrQuorum = errors.New("too few of the voters would be there: " +
		"start or replace those that are missing first")

	// ErrRemoved says that this server is no longer a member.
	ErrRemoved = errors.New("this server was removed from the cluster: " +
		"to come back it has to be added anew, under a new id and with an empty directory")
)

// Server is a member.
type Server struct {
	ID uint64
	// Addr is host:port, for the other servers, or several of these with slashes, whose meaning is the
	// caller's. It may be empty for one of the first members.
	Addr    string
	Learner bool // it follows, and its vote doesn't count
}

// Membership says which servers keep a log. It is one record of the log, which has all of it, so
// that the last such record is all that a reader needs. Nobody changes a Membership; its slices are
// shared.
type Membership struct {
	Servers []Server // ordered by id
	Gone    []uint64 // servers that were removed, ordered; none of them ever comes back
}

// ChangeKind is what a Change does.
type ChangeKind uint8

// The kinds of changes. Each concerns one server.
const (
	Add     ChangeKind = iota + 1 // a new server, as a learner
	Promote                       // a learner to a voter, once it has caught up
	Remove
)

func (k ChangeKind) String() string { return [...]string{"nothing", "add", "promote", "remove"}[k] }

// Change is one step from a membership to another one.
type Change struct {
	Kind ChangeKind
	ID   uint64
	Addr string // of a server to be added
}

// Voters are the ids of the servers whose majority decides, ordered.
func (m Membership) Voters() []uint64 { return m.ids(false) }

// Learners are the ids of those that only follow, ordered.
func (m Membership) Learners() []uint64 { return m.ids(true) }

func (m Membership) ids(learners bool) (ids []uint64) {
	for _, s := range m.Servers {
		if s.Learner == learners {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// Server is the member with that id, if there is one.
func (m Membership) Server(id uint64) (s Server, known bool) {
	i, known := m.find(id)
	if known {
		s = m.Servers[i]
	}
	return s, known
}

func (m Membership) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(m.Servers, id, func(s Server, id uint64) int { return cmp.Compare(s.ID, id) })
}

func (m Membership) votes(id uint64) bool {
	s, known := m.Server(id)
	return known && !s.Learner
}

func (m Membership) equal(other Membership) bool {
	return slices.Equal(m.Servers, other.Servers) && slices.Equal(m.Gone, other.Gone)
}

func (m Membership) removed(id uint64) bool {
	_, gone := slices.BinarySearch(m.Gone, id)
	return gone
}

// After is the membership after a change. Errors match ErrTaken, ErrUnknown, ErrLastVoter,
// ErrTooMany or ErrAddr.
func (m Membership) After(c Change) (Membership, error) {
	at, known := m.find(c.ID)
	next := Membership{Servers: slices.Clone(m.Servers), Gone: m.Gone}
	switch {
	case c.Kind == Add && (known || m.removed(c.ID)):
		return m, fmt.Errorf("%w: %d", ErrTaken, c.ID)
	case c.Kind == Add && c.Addr == "":
		return m, fmt.Errorf("%w: server %d has none", ErrAddr, c.ID)
	case c.Kind == Add:
		next.Servers = slices.Insert(next.Servers, at, Server{ID: c.ID, Addr: c.Addr, Learner: true})
	case !known || c.Kind == Promote && !m.Servers[at].Learner:
		return m, fmt.Errorf("%w: %v server %d", ErrUnknown, c.Kind, c.ID)
	case c.Kind == Promote:
		next.Servers[at].Learner = false
	case c.Kind == Remove:
		next.Servers = slices.Delete(next.Servers, at, at+1)
		gone, _ := slices.BinarySearch(m.Gone, c.ID)
		next.Gone = slices.Insert(slices.Clone(m.Gone), gone, c.ID)
	default:
		return m, fmt.Errorf("%w: a change of kind %d", ErrMembership, c.Kind)
	}
	if err := next.check(); err != nil {
		return m, err
	}
	return next, nil
}

// check checks what the text of a membership can't rule out.
func (m Membership) check() error {
	switch {
	case len(m.Servers) > ServersMax || len(m.Gone) > GoneMax:
		return fmt.Errorf("%w: %d, at most %d; %d gone, at most %d",
			ErrTooMany, len(m.Servers), ServersMax, len(m.Gone), GoneMax)
	case len(m.Voters()) == 0:
		return ErrLastVoter
	}
	ids := slices.Clone(m.Gone)
	for _, s := range m.Servers {
		ids = append(ids, s.ID)
		if err := checkAddr(s.Addr); err != nil {
			return err
		}
	}
	slices.Sort(ids)
	if ids[0] == 0 || raft.IsLocalMsgTarget(ids[len(ids)-1]) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		return fmt.Errorf("%w: an id is illegal, or there twice: %v", ErrMembership, ids)
	}
	return nil
}

func checkAddr(addr string) error {
	if addr == "" {
		return nil
	}
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == ',' }
	for part := range strings.SplitSeq(addr, "/") {
		host, port, err := net.SplitHostPort(part)
		if err != nil || host == "" || port == "" || len(addr) > AddrBytesMax || strings.ContainsFunc(addr, odd) {
			return fmt.Errorf("%w, not %.80q", ErrAddr, addr)
		}
	}
	return nil
}

// String is the payload of a membership's record: voters=1,2,3 learners=4 gone= addrs=4=host:port.
func (m Membership) String() string {
	var addrs []string
	for _, s := range m.Servers {
		if s.Addr != "" {
			addrs = append(addrs, strconv.FormatUint(s.ID, 10)+"="+s.Addr)
		}
	}
	return "voters=" + list(m.Voters()) + " learners=" + list(m.Learners()) + " gone=" + list(m.Gone) +
		" addrs=" + strings.Join(addrs, ",")
}

func list(ids []uint64) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = strconv.FormatUint(id, 10)
	}
	return strings.Join(words, ",")
}

// ParseMembership reads what String writes, and nothing else. An error matches ErrMembership.
func ParseMembership(text string) (Membership, error) {
	m, err := parseMembership(text)
	if err == nil {
		err = m.check()
	}
	if err == nil && m.String() != text {
		err = errors.New("there is another way to write it")
	}
	if err != nil {
		return Membership{}, fmt.Errorf("%w: %.200q: %w", ErrMembership, text, err)
	}
	return m, nil
}

func parseMembership(text string) (m Membership, err error) {
	fields := strings.Split(text, " ")
	if len(fields) != 4 {
		return m, fmt.Errorf("%d fields", len(fields))
	}
	var lists [4][]string
	for i, name := range [...]string{"voters=", "learners=", "gone=", "addrs="} {
		value, found := strings.CutPrefix(fields[i], name)
		if !found {
			return m, fmt.Errorf("no %s", name)
		}
		if value != "" {
			lists[i] = strings.Split(value, ",")
		}
	}
	addrs := map[uint64]string{}
	for _, word := range lists[3] {
		word, addr, _ := strings.Cut(word, "=")
		id, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return m, err
		}
		addrs[id] = addr
	}
	for i, words := range lists[:3] {
		for _, word := range words {
			id, err := strconv.ParseUint(word, 10, 64)
			if err != nil {
				return m, err
			}
			if i == 2 {
				m.Gone = append(m.Gone, id)
			} else {
				m.Servers = append(m.Servers, Server{ID: id, Addr: addrs[id], Learner: i == 1})
			}
		}
	}
	slices.Sort(m.Gone)
	slices.SortFunc(m.Servers, func(a, b Server) int { return cmp.Compare(a.ID, b.ID) })
	return m, nil
}

// appendRecord appends the packed record of a membership to dst.
func (m Membership) appendRecord(dst []byte) []byte {
	return ledger.AppendRecord(dst, ledger.Members, 0, 1, []byte(m.String()))
}

// isMembers reports whether an entry's records are those of a membership.
func isMembers(records []byte) bool { return ledger.FirstKind(records) == ledger.Members }

// unpackMembers reads the record of a membership. It panics if records isn't packed records.
func unpackMembers(records []byte) (Membership, error) {
	r, rest := ledger.Unpack(records)
	if r.Agency != 0 || r.Count != 1 || len(rest) > 0 {
		return Membership{}, fmt.Errorf("%w: a record of agency %d and count %d, and %d bytes behind it",
			ErrMembership, r.Agency, r.Count, len(rest))
	}
	return ParseMembership(string(r.Payload))
}

// steps are the changes that lead raft from one membership to another, which it takes one at a
// time. There is one, except on a new server whose configuration is ahead of the log that it gets.
func steps(from, to Membership) (all []*raftpb.ConfChange) {
	step := func(kind raftpb.ConfChangeType, id uint64) {
		all = append(all, &raftpb.ConfChange{Type: &kind, NodeId: &id})
	}
	for _, id := range to.Voters() { // first, or there might be none for a moment
		if !from.votes(id) {
			step(raftpb.ConfChangeAddNode, id)
		}
	}
	for _, id := range to.Learners() {
		if s, known := from.Server(id); !known || !s.Learner {
			step(raftpb.ConfChangeAddLearnerNode, id)
		}
	}
	for _, s := range from.Servers {
		if _, stays := to.Server(s.ID); !stays {
			step(raftpb.ConfChangeRemoveNode, s.ID)
		}
	}
	return all
}
