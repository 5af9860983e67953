package admin

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/engine/admin/board"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSource is a server of four agencies, one in each state.
type fakeSource struct {
	state atomic.Pointer[board.State]
	ready atomic.Pointer[error]
	reads atomic.Int64 // of the counters
}

func newFakeSource() *fakeSource {
	behind, drawn := uint64(3), time.Unix(1700000000, 5e8)
	f := &fakeSource{}
	f.state.Store(&board.State{
		Phase: board.Intake, Agencies: 4, Waiting: 1, Uploading: 1, Reported: 1, Served: 1,
		Bets: 30, Winners: 7, DrawnAt: &drawn, QueueLimitBytes: 4096, Cells: "wurs", PerCell: 1,
		Cluster: &board.Cluster{Server: 1, Leader: 2, Term: 4, Committed: 9, Servers: []board.ClusterServer{
			{ID: 1, Behind: &behind}, {ID: 2},
		}},
	})
	return f
}

func (f *fakeSource) State() *board.State { return f.state.Load() }

func (f *fakeSource) Agencies(visit func(board.Agency) bool) {
	for i, state := range []string{"waiting", "uploading", "reported", "served"} {
		if !visit(board.Agency{ID: uint32(i + 1), State: state, Bets: int64(10 * i)}) {
			return
		}
	}
}

func (f *fakeSource) Counters() Counters {
	f.reads.Add(1)
	return Counters{
		BetsStored: 30, Rejected: map[string]int64{"ERROR_TIMEOUT": 2}, Commits: 5, WrittenBytes: 1234,
		Connections: map[string]int64{"agency": 3}, ConnectionsRefused: map[string]int64{"conexiones": 1},
		QueueBytes: 77, LinesSuppressed: 6, Handshakes: map[string]int64{"success": 4, "fail": 1},
		CertificateExpires: time.Unix(1_800_000_000, 0),
	}
}

func (f *fakeSource) Ready() error {
	if err := f.ready.Load(); err != nil {
		return *err
	}
	return nil
}

// fill replaces the state by one that is as large as a state gets.
func (f *fakeSource) fill(bets int64) {
	s := *f.State()
	s.Bets, s.Cells, s.Series.Bets = bets, strings.Repeat("w", board.CellsMax), make([]int64, board.PointsMax)
	for i := range s.Series.Bets {
		s.Series.Bets[i] = math.MaxInt64
	}
	f.state.Store(&s)
}

func openServer(t *testing.T, s Settings) (*Server, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	if s.Addr == "" {
		s.Addr = "127.0.0.1:0"
	}
	a, err := Open(s, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(nil); err != nil {
			t.Error(err)
		}
	})
	return a, logs
}

// client keeps no connections, so that none is left at the end of a test.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func get(t *testing.T, a *Server, path string) (int, string, http.Header) {
	t.Helper()
	return do(t, a, http.MethodGet, path)
}

func do(t *testing.T, a *Server, method, path string) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body), response.Header
}

// peer is the other side of a connection, without any help of net/http.
type peer struct {
	net.Conn
	from *bufio.Reader
}

// dial connects. A test that hangs fails after a minute.
func dial(t *testing.T, a *Server) peer {
	t.Helper()
	conn, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return peer{conn, bufio.NewReader(conn)}
}

func (p peer) say(t *testing.T, text string) peer {
	t.Helper()
	if _, err := io.WriteString(p, text); err != nil {
		t.Fatal(err)
	}
	return p
}

// rest is all that the peer receives until the server hangs up. Only a time-out is a failure.
func (p peer) rest(t *testing.T) string {
	t.Helper()
	text, err := io.ReadAll(p.from)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the server doesn't hang up; received %.200q", text)
	}
	return string(text)
}

// watch begins to watch the board.
func watch(t *testing.T, a *Server) peer {
	t.Helper()
	p := dial(t, a).say(t, "GET /board/events HTTP/1.1\r\nHost: x\r\n\r\n")
	for {
		line, err := p.from.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == ":\n" {
			return p
		}
		if strings.HasPrefix(line, "HTTP/1.1 ") && !strings.HasPrefix(line, "HTTP/1.1 200") {
			t.Fatal(line)
		}
	}
}

// event is the next event, and its data.
func (p peer) event(t *testing.T) (event, data string) {
	t.Helper()
	for {
		line, err := p.from.ReadString('\n')
		if err != nil {
			t.Fatal(fmt.Errorf("no event: %w", err))
		}
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			event = strings.TrimSpace(name)
		}
		if event != "" {
			if text, ok := strings.CutPrefix(line, "data: "); ok {
				return event, strings.TrimSpace(text)
			}
		}
	}
}
