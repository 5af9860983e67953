package engine

import (
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

	"loteria/engine/replica"
)

// ErrNotRunning says that no server of several runs with that SERVER_DATA_DIR.
var ErrNotRunning = errors.New("no server of several runs here")

const (
	// controlName is the socket in SERVER_DATA_DIR. Who may write to the directory may use it.
	controlName = "control"
	// controlTimeout bounds a question and its answer.
	controlTimeout = 5 * time.Second
	// controlBytesMax bounds either.
	controlBytesMax = 64 << 10
	// controlsMax is how many may ask at the same time.
	controlsMax = 16
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

// AskStatus asks the server that runs with that SERVER_DATA_DIR, which asks the leader if it knows
// one. Errors wrap ErrNotRunning, or are of the connection.
func AskStatus(dataDir string) (status ClusterStatus, err error) {
	path, release, err := controlPath(dataDir)
	if err != nil {
		return status, err
	}
	defer release()
	conn, err := net.DialTimeout("unix", path, controlTimeout)
	if err != nil {
		return status, fmt.Errorf("%w: %w: SERVER_DATA_DIR is the directory that it was started with", ErrNotRunning, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return askStatus(conn)
}

func askStatus(conn net.Conn) (status ClusterStatus, err error) {
	if err := conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return status, err
	}
	if _, err := io.WriteString(conn, "status\n"); err != nil {
		return status, err
	}
	return status, json.NewDecoder(io.LimitReader(conn, controlBytesMax)).Decode(&status)
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
	c.busy.Go(func() { m.answer(c) })
	return c, nil
}

func (c *control) close() error {
	err := errors.Join(c.listener.Close(), os.Remove(c.path))
	c.busy.Wait()
	return err
}

// answer takes connections until the listener is closed.
func (m *Member) answer(c *control) {
	slots := make(chan struct{}, controlsMax)
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				m.log.Error("control", zap.String("result", "fail"), zap.NamedError("error", err),
					zap.String("aviso", "`loteria cluster` can't ask this server any more"))
			}
			return
		}
		slots <- struct{}{}
		c.busy.Go(func() {
			defer func() { <-slots }()
			m.answerOne(conn, true)
			_ = conn.Close() // who asked has the answer, or asks again
		})
	}
}

// answerOne answers a question. A server that doesn't lead passes it on, if it may.
func (m *Member) answerOne(conn net.Conn, passOn bool) {
	if err := conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return
	}
	question := make([]byte, len("status\n"))
	if _, err := io.ReadFull(conn, question); err != nil || string(question) != "status\n" {
		return
	}
	status := m.clusterStatus()
	if leader := status.Leader; passOn && leader != 0 && leader != m.cfg.ID {
		if stream, err := m.open(leader, streamControl); err == nil {
			if known, err := askStatus(stream); err == nil {
				status = known
			}
			_ = stream.Close() // the answer is there, or isn't
		}
	}
	_ = json.NewEncoder(conn).Encode(status) // who asked is gone
}

// clusterStatus is what this server knows.
func (m *Member) clusterStatus() ClusterStatus {
	m.mu.Lock()
	now := m.status
	m.mu.Unlock()
	status := ClusterStatus{Server: m.cfg.ID, Leader: now.Leader, Term: now.Term, Committed: m.member.Committed()}
	has := map[uint64]uint64{m.cfg.ID: status.Committed}
	if now.Role != replica.Following {
		for _, p := range m.member.Progress() {
			has[p.ID] = p.Match
		}
	}
	for _, peer := range m.cfg.Peers {
		s := ServerStatus{ID: peer.ID, Addr: peer.Addr, Connected: peer.ID == m.cfg.ID || m.mesh.Connected(peer.ID)}
		if index, ok := has[peer.ID]; ok {
			s.Has = &index
		}
		status.Servers = append(status.Servers, s)
	}
	return status
}
