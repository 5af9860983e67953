package engine_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/codec"
	"loteria/engine"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

// What tests of a whole server have in common. They know it by its configuration, its sockets, its
// log, and how it ends.

// TestMain also checks that no test leaves a goroutine behind. gnet has some from the start.
func TestMain(m *testing.M) {
	// Tests that are parallel mostly wait: for graces, elections and time-outs.
	if err := flag.Set("test.parallel", strconv.Itoa(8*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(), engine.IdleWorkers())
}

// patience bounds every wait for something that has to happen. Only a failure uses it up.
const patience = 90 * time.Second

// liveServer is a server that serves on a port of its own.
type liveServer struct {
	*engine.Server
	stop   context.CancelFunc
	dialed atomic.Int64           // connections
	ended  chan error             // its result, once
	over   chan struct{}          // closed behind that
	logs   *observer.ObservedLogs // of serveLive
}

// startLive starts a server, and returns when it accepts connections. Whoever has one must stop it.
func startLive(cfg engine.Config, log *zap.Logger, options ledger.Options) (*liveServer, error) {
	opened, err := engine.OpenWith(cfg, log, options)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &liveServer{Server: opened, stop: stop, ended: make(chan error, 1), over: make(chan struct{})}
	go func() {
		defer close(s.over)
		s.ended <- s.Serve(ctx)
	}()
	select {
	case <-s.Ready():
		return s, nil
	case err := <-s.ended:
		stop()
		return nil, fmt.Errorf("the server ends before it listens: %w", err)
	}
}

// serveLogging starts a server. It is stopped at the end of the test, if it still runs then.
func serveLogging(t testing.TB, cfg engine.Config, log *zap.Logger, options ledger.Options) *liveServer {
	t.Helper()
	s, err := startLive(cfg, log, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stop()
		select {
		case <-s.over:
		case <-time.After(patience):
			t.Error("the server doesn't stop")
		}
	})
	return s
}

// serveLiveOn starts a server whose log is kept, with a ledger of other segments or on another file
// system.
func serveLiveOn(t *testing.T, cfg engine.Config, options ledger.Options) *liveServer {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	s := serveLogging(t, cfg, zap.New(core), options)
	s.logs = logs
	return s
}

func serveLive(t *testing.T, cfg engine.Config) *liveServer {
	t.Helper()
	return serveLiveOn(t, cfg, ledger.Options{})
}

// liveConfig is a configuration for tests: two agencies, a grace that is longer than any test.
func liveConfig(t testing.TB) engine.Config {
	cfg := engine.DefaultConfig()
	cfg.Addr = "127.0.0.1:0"
	cfg.Agencies = 2
	cfg.DataDir = t.TempDir()
	cfg.ExitGrace = time.Hour
	return cfg
}

// end waits until the server has ended, and returns its result.
func (s *liveServer) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		t.Fatal("the server doesn't end")
		return nil
	}
}

// stays checks that the server doesn't end for a while.
func (s *liveServer) stays(t *testing.T, while time.Duration) {
	t.Helper()
	select {
	case err := <-s.ended:
		t.Fatalf("the server has ended: %v", err)
	case <-time.After(while): // the observation itself
	}
}

// count is how many lines it logged with this action and result.
func (s *liveServer) count(action, result string) (n int) {
	for _, entry := range s.logs.FilterMessage(action).All() {
		if entry.ContextMap()["result"] == result {
			n++
		}
	}
	return n
}

// awaitRead returns when the server has read what was sent before.
func (s *liveServer) awaitRead(t *testing.T) {
	t.Helper()
	if err := s.AwaitRead(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// awaitAccepted returns when the server has all connections that were made before.
func (s *liveServer) awaitAccepted(t *testing.T) {
	t.Helper()
	if err := s.AwaitConnections(t.Context(), s.dialed.Load()); err != nil {
		t.Fatal(err)
	}
}

// awaitThat waits until something is so that the server does on its own.
func awaitThat(t *testing.T, what string, is func() bool) {
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

// wire is an agency's end of a connection, without any of our client.
type wire struct {
	t    testing.TB
	conn *net.TCPConn
	in   *bufio.Reader
	wait time.Duration // how long it waits for anything
}

// dial connects from an address of this machine; nil: any.
func dial(ctx context.Context, addr string, from net.IP, wait time.Duration) (*wire, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	w := &wire{conn: c.(*net.TCPConn), in: bufio.NewReader(c), wait: wait}
	return w, w.rearm()
}

// rearm lets the time begin anew in which everything has to happen.
func (w *wire) rearm() error { return w.conn.SetDeadline(time.Now().Add(w.wait)) }

func (s *liveServer) dial(t testing.TB) *wire {
	t.Helper()
	return s.dialFrom(t, "127.0.0.1")
}

// dialFrom connects from another address of this machine.
func (s *liveServer) dialFrom(t testing.TB, source string) *wire {
	t.Helper()
	s.dialed.Add(1)
	w, err := dial(t.Context(), s.Addr().String(), net.ParseIP(source), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.conn.Close() }) // mostly closed by then
	w.t = t
	return w
}

// dialUntilRoom connects again and again until it isn't refused: the server has noticed that others
// are gone.
func (s *liveServer) dialUntilRoom(t *testing.T) *wire {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		w := s.dial(t).say("")
		answer, err := w.next()
		switch {
		case err == nil && answer == codec.CodeEmptyBatch.String():
			return w
		case time.Now().After(deadline):
			t.Fatalf("there is no room: %q, %v", answer, err)
		}
		w.close()
	}
}

// frames are payloads as they are sent.
func frames(payloads ...string) []byte {
	var b []byte
	for _, p := range payloads {
		b = codec.AppendFrame(b, []byte(p))
	}
	return b
}

// say sends payloads as frames, in one write.
func (w *wire) say(payloads ...string) *wire {
	w.t.Helper()
	if _, err := w.conn.Write(frames(payloads...)); err != nil {
		w.t.Fatal(err)
	}
	return w
}

// next is the payload of the next answer. It may be called by any goroutine.
func (w *wire) next() (string, error) {
	header, err := w.in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("header %q: %w", header, err)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(header, "\n"))
	if err != nil {
		return "", err
	}
	payload := make([]byte, n)
	_, err = io.ReadFull(w.in, payload)
	return string(payload), err
}

// hears wants the next frames to have these payloads.
func (w *wire) hears(payloads ...string) *wire {
	w.t.Helper()
	const shown = 500 // bytes of an answer, some of which are megabytes
	for _, want := range payloads {
		if got, err := w.next(); err != nil || got != want {
			w.t.Fatalf("heard %d bytes, %.*q, %v; want %d, %.*q", len(got), shown, got, err, len(want), shown, want)
		}
	}
	return w
}

// hearsEnd wants the server to have closed, after nothing more.
func (w *wire) hearsEnd() {
	w.t.Helper()
	if rest, err := io.ReadAll(w.in); err != nil || len(rest) > 0 {
		w.t.Errorf("at the end: %q, %v", rest, err)
	}
}

// waits asks for the winners and returns when the server holds the question:
// what is asked behind it has been answered.
func (w *wire) waits(agency int) *wire {
	w.t.Helper()
	return w.say(fmt.Sprintf("GET_WINNERS|%d", agency), "").hears(codec.CodeEmptyBatch.String())
}

// confirms says that the agency has its winners, and returns when the server knows.
func (w *wire) confirms(agency int) *wire {
	w.t.Helper()
	return w.say(fmt.Sprintf("RECEIVED|%d", agency)).hears("ACK")
}

func (w *wire) close() {
	w.t.Helper()
	if err := w.conn.Close(); err != nil {
		w.t.Error(err)
	}
}

const (
	betJuan   = "Juan|Pérez|12345678|1990-05-23|7574|1"
	betMaria  = "María|Gómez|87654321|1985-07-10|2311|1"
	betCarlos = "Carlos|López|99887766|1982-02-17|7574|2"
	betLucia  = "Lucía|Martínez|11223344|1995-09-30|5421|2"
)

// winningBatch is a batch of at most so many bytes that all win: for agency 1,
// the answer to GET_WINNERS.
func winningBatch(bytesMax int) string {
	return strings.TrimSuffix(strings.Repeat(betJuan+"\n", bytesMax/len(betJuan+"\n")), "\n")
}

// welcomed is the answer to the HELLO of an agency that has these bets stored.
func welcomed(bets ...string) string {
	checksum := codec.Checksum(0).Add([]byte(strings.Join(bets, "\n")))
	return fmt.Sprintf("WELCOME|%d|64|65536|%v", len(bets), checksum)
}

func wantExports(t *testing.T, dir, bets, winners string) {
	t.Helper()
	for name, want := range map[string]string{history.BetsFile: bets, history.WinnersFile: winners} {
		if content, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(content) != want {
			t.Errorf("%s has %q, error %v; want %q", name, content, err, want)
		}
	}
}

func wantUnfinished(t *testing.T, err error, drawn bool, missing ...codec.Agency) {
	t.Helper()
	var unfinished *engine.UnfinishedError
	if !errors.As(err, &unfinished) || unfinished.Drawn != drawn || !slices.Equal(unfinished.Missing, missing) {
		t.Errorf("result %v; want drawn %v, missing %v", err, drawn, missing)
	}
}
