package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"loteria/engine/commit"
	"loteria/engine/replica"
)

var (
	// ErrNotRunning says that no server of several runs with that SERVER_DATA_DIR.
	ErrNotRunning = errors.New("no server of several runs here")
	// ErrChange says that the servers don't change their members as asked. The message says why.
	ErrChange = errors.New("the servers stay as they are")
)

const (
	// controlName is the socket in SERVER_DATA_DIR. Who may write to the directory may use it.
	controlName = "control"
	// controlTimeout bounds a question and its answer.
	controlTimeout = 5 * time.Second
	// changeTimeout is how long a new server may take to catch up before it is asked for again.
	changeTimeout = 10 * time.Minute
	// promoteRetryDelay is after how long it is asked for again meanwhile, if it can't be done.
	promoteRetryDelay = 100 * time.Millisecond
	// controlBytesMax bounds a question, and an answer.
	controlBytesMax = 64 << 10
	// controlsMax is how many may ask at the same time.
	controlsMax = 16
	// hopsMax is how often a question is passed on: to the leader, and to the next one if it is the
	// leader that is to be removed.
	hopsMax = 2
	// socketPathMax is the longest path that every system takes for a socket.
	socketPathMax = 100
)

// ClusterStatus is what a server knows of the servers that hold a draw together.
type ClusterStatus struct {
	// Server is the one that knows it: the leader, or the one that was asked if none is known.
	Server    uint64         `json:"server"`
	Leader    uint64         `json:"leader"` // 0: none is known
	Term      uint64         `json:"term"`
	Committed uint64         `json:"committed"` // index of the last committed entry
	Servers   []ServerStatus `json:"servers"`   // by id
}

// ServerStatus is what is known of one server.
type ServerStatus struct {
	ID        uint64 `json:"id"`
	Addr      string `json:"addr"`
	Votes     bool   `json:"votes"`     // false: a learner, which only follows
	Connected bool   `json:"connected"` // with the server that knows it
	// Has is the index of the last entry that the server is known to have; nil if only a leader
	// would know.
	Has *uint64 `json:"has"`
}

// Behind is how many committed entries a server is not known to have.
func (s ClusterStatus) Behind(server ServerStatus) uint64 {
	if server.Has == nil {
		return s.Committed
	}
	return s.Committed - min(*server.Has, s.Committed)
}

// controlQuestion is what is asked through the socket; its answer is a controlAnswer.
type controlQuestion struct {
	Verb string `json:"verb"`
	ID   uint64 `json:"id,omitempty"`   // of add and remove
	Addr string `json:"addr,omitempty"` // of add
	Hops int    `json:"hops"`           // how often it was passed on
}

const (
	verbStatus = "status"
	verbAdd    = "add"
	verbRemove = "remove"
)

// controlAnswer has an error, or what was asked for.
type controlAnswer struct {
	Error  string        `json:"error,omitempty"`
	Status ClusterStatus `json:"status"`
}

// AskStatus asks the server that runs with that SERVER_DATA_DIR, which asks the leader if it knows
// one. Errors wrap ErrNotRunning, or are of the connection.
func AskStatus(ctx context.Context, dataDir string) (ClusterStatus, error) {
	return askAt(ctx, dataDir, controlQuestion{Verb: verbStatus})
}

// AddServer adds a server, which first follows and then votes, and returns when it votes. It may be
// called again for the same server. The server itself has to run, or to be started, with SERVER_JOIN.
// Errors wrap ErrNotRunning or ErrChange, or are of the connection or the context; then the server
// may be added nonetheless.
func AddServer(ctx context.Context, dataDir string, p Peer) (ClusterStatus, error) {
	return askAt(ctx, dataDir, controlQuestion{Verb: verbAdd, ID: p.ID, Addr: p.addrs()})
}

// RemoveServer removes a server, which ends if it runs. Its id never comes back. Errors are as those
// of AddServer.
func RemoveServer(ctx context.Context, dataDir string, id uint64) (ClusterStatus, error) {
	return askAt(ctx, dataDir, controlQuestion{Verb: verbRemove, ID: id})
}

func askAt(ctx context.Context, dataDir string, q controlQuestion) (status ClusterStatus, err error) {
	path, release, err := controlPath(dataDir)
	if err != nil {
		return status, err
	}
	defer release()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return status, fmt.Errorf("%w: %w: SERVER_DATA_DIR is the directory that it was started with", ErrNotRunning, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	a, err := ask(conn, q)
	switch {
	case ctx.Err() != nil:
		return status, ctx.Err()
	case err == nil && a.Error != "":
		err = fmt.Errorf("%w: %s", ErrChange, a.Error)
	}
	return a.Status, err
}

// timeout is how long an answer may take.
func (q controlQuestion) timeout() time.Duration {
	if q.Verb == verbStatus {
		return 2 * controlTimeout
	}
	return changeTimeout + 2*controlTimeout
}

func ask(conn net.Conn, q controlQuestion) (a controlAnswer, err error) {
	if err := conn.SetDeadline(time.Now().Add(q.timeout())); err != nil {
		return a, err
	}
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return a, err
	}
	return a, json.NewDecoder(io.LimitReader(conn, controlBytesMax)).Decode(&a)
}

// controlPath is the path of the socket in a directory; release it when the socket is there. A long
// path is given as one of an open directory.
func controlPath(dataDir string) (path string, release func(), err error) {
	path = filepath.Join(dataDir, controlName)
	if len(path) <= socketPathMax {
		return path, func() {}, nil
	}
	dir, err := os.Open(dataDir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), controlName), func() { _ = dir.Close() }, nil
}

// control answers questions on the socket until it is closed.
type control struct {
	listener net.Listener
	path     string
	ctx      context.Context // done when it is closed
	stop     context.CancelFunc
	busy     sync.WaitGroup
}

// listenControl takes the place of a socket that a killed server has left: the ledger is locked, so
// no other server runs with this directory.
func (m *Member) listenControl() (*control, error) {
	c := &control{path: filepath.Join(m.cfg.DataDir, controlName)}
	if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	path, release, err := controlPath(m.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	defer release()
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // the path may be one of release's
	c.listener = listener
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.busy.Go(func() { m.answerAll(c) })
	return c, nil
}

func (c *control) close() error {
	c.stop()
	err := errors.Join(c.listener.Close(), os.Remove(c.path))
	c.busy.Wait()
	return err
}

// answerAll takes connections until the listener is closed.
func (m *Member) answerAll(c *control) {
	slots := make(chan struct{}, controlsMax)
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			if c.ctx.Err() == nil {
				m.log.Error("control", zap.String("result", "fail"), zap.NamedError("error", err),
					zap.String("aviso", "`loteria cluster` can't ask this server any more"))
			}
			return
		}
		slots <- struct{}{}
		c.busy.Go(func() {
			defer func() { <-slots }()
			defer context.AfterFunc(c.ctx, func() { _ = conn.Close() })()
			m.answer(conn)
			_ = conn.Close() // who asked has the answer, or asks again
		})
	}
}

// answer answers a question. A server that doesn't lead passes it on to the one that does.
func (m *Member) answer(conn net.Conn) {
	if err := conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return
	}
	var q controlQuestion
	line, err := bufio.NewReader(io.LimitReader(conn, controlBytesMax)).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &q)
	}
	if err != nil {
		return // it is no question
	}
	if err := conn.SetDeadline(time.Now().Add(q.timeout())); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), changeTimeout)
	defer cancel()
	defer context.AfterFunc(m.closing, cancel)()
	a, passed := m.passOn(q)
	if !passed {
		err := m.change(ctx, q)
		if errors.Is(err, replica.ErrLeading) && m.giveUp(ctx) {
			a, passed = m.passOn(q)
		}
		if !passed {
			a.Status = m.clusterStatus()
			if err != nil {
				a.Error = err.Error()
			}
		}
	}
	_ = json.NewEncoder(conn).Encode(a) // who asked may be gone
}

// passOn asks the leader, if that is another server.
func (m *Member) passOn(q controlQuestion) (a controlAnswer, passed bool) {
	leader, known := m.otherLeader()
	if !known || q.Hops >= hopsMax {
		return a, false
	}
	q.Hops++
	stream, err := m.openStream(leader, streamControl)
	if err != nil {
		return a, false
	}
	defer func() { _ = stream.Close() }() // the answer is there, or isn't
	a, err = ask(stream, q)
	return a, err == nil
}

// change changes the members as a question says.
func (m *Member) change(ctx context.Context, q controlQuestion) error {
	var err error
	switch s, known := m.member.Members().Server(q.ID); {
	case q.Verb == verbStatus:
		return nil
	case q.Verb == verbRemove:
		err = m.member.Change(ctx, replica.Change{Kind: replica.Remove, ID: q.ID})
	case q.Verb != verbAdd:
		return fmt.Errorf("nobody knows how to %.20q", q.Verb)
	case known && s.Addr == q.Addr && !s.Learner: // it was added before
		return nil
	case !known || s.Addr != q.Addr: // or it is another server's id
		err = m.member.Change(ctx, replica.Change{Kind: replica.Add, ID: q.ID, Addr: q.Addr})
		if err != nil {
			break
		}
		fallthrough
	default:
		err = m.promote(ctx, q.ID)
	}
	if errors.Is(err, commit.ErrNotLeader) {
		return fmt.Errorf("no leader is known, or it has changed: look at the status, and ask again: %w", err)
	}
	if err == nil {
		m.log.Info("miembros", zap.String("result", "success"), zap.String("cambio", q.Verb), zap.Uint64("servidor", q.ID))
	}
	return err
}

// promote has a server that was added vote, once it has caught up. It may not have come yet, so that
// too few would be there to go on with it.
func (m *Member) promote(ctx context.Context, id uint64) error {
	for {
		err := m.member.Change(ctx, replica.Change{Kind: replica.Promote, ID: id})
		if !errors.Is(err, replica.ErrQuorum) && !errors.Is(err, replica.ErrChanging) {
			return err
		}
		select {
		case <-time.After(promoteRetryDelay):
		case <-ctx.Done():
			return err
		}
	}
}

// giveUp has another server lead, and reports whether one does.
func (m *Member) giveUp(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, handOverMax)
	defer cancel()
	if !m.transfer() {
		return false
	}
	for {
		changed := m.Changed()
		if _, known := m.otherLeader(); known {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// clusterStatus is what this server knows.
func (m *Member) clusterStatus() ClusterStatus {
	m.mu.Lock()
	now := m.status
	m.mu.Unlock()
	status := ClusterStatus{Server: m.cfg.ID, Leader: now.Leader, Term: now.Term, Committed: m.member.Committed()}
	has := map[uint64]uint64{m.cfg.ID: status.Committed}
	for _, p := range m.member.Progress() {
		has[p.ID] = p.Match
	}
	members := m.member.Members()
	for _, peer := range m.members() {
		member, known := members.Server(peer.ID)
		s := ServerStatus{ID: peer.ID, Addr: peer.Addr, Votes: known && !member.Learner,
			Connected: peer.ID == m.cfg.ID || m.mesh.Connected(peer.ID)}
		if index, ok := has[peer.ID]; ok {
			s.Has = &index
		}
		status.Servers = append(status.Servers, s)
	}
	return status
}
