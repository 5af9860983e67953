package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/codec"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

// socketTimeout bounds every wait for something that has to happen.
const socketTimeout = 20 * time.Second

// liveServer is a server that serves on a port of its own.
type liveServer struct {
	*Server
	stop  context.CancelFunc
	ended chan error // its result, once
	logs  *observer.ObservedLogs
}

// liveConfig is a configuration for tests: two agencies, a grace that is
// longer than any test.
func liveConfig(t *testing.T) Config {
	cfg := DefaultConfig()
	cfg.Addr = "127.0.0.1:0"
	cfg.Agencies = 2
	cfg.DataDir = t.TempDir()
	cfg.ExitGrace = time.Hour
	return cfg
}

// serveLive starts a server. It is stopped at the end of the test, if it still
// runs then, and must leave no goroutine behind.
func serveLive(t *testing.T, cfg Config) *liveServer {
	t.Helper()
	return serveLiveOn(t, cfg, ledger.Options{})
}

// serveLiveOn is serveLive with a ledger of other segments, or on another file
// system.
func serveLiveOn(t *testing.T, cfg Config, options ledger.Options) *liveServer {
	t.Helper()
	before := goleak.IgnoreCurrent()
	core, logs := observer.New(zapcore.InfoLevel)
	s, err := openListening(cfg, zap.New(core), options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	live := &liveServer{Server: s, stop: stop, ended: make(chan error, 1), logs: logs}
	over := make(chan struct{})
	go func() {
		defer close(over)
		live.ended <- s.Serve(ctx)
	}()
	t.Cleanup(func() {
		stop()
		select {
		case <-over:
			goleak.VerifyNone(t, before, IdleWorkers())
		case <-time.After(socketTimeout):
			t.Error("the server doesn't stop")
		}
	})
	select {
	case <-s.Ready():
	case err := <-live.ended:
		t.Fatalf("ended before it listened: %v", err)
	}
	return live
}

// end waits until the server has ended, and returns its result.
func (s *liveServer) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(socketTimeout):
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

// wire is an agency's end of a connection, without any of our client.
type wire struct {
	t    *testing.T
	conn *net.TCPConn
	in   *bufio.Reader
}

func (s *liveServer) dial(t *testing.T) *wire {
	t.Helper()
	return s.dialFrom(t, "127.0.0.1")
}

// dialFrom connects from another address of this machine.
func (s *liveServer) dialFrom(t *testing.T, source string) *wire {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := d.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // mostly closed by then
	if err := conn.SetDeadline(time.Now().Add(socketTimeout)); err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, conn: conn.(*net.TCPConn), in: bufio.NewReader(conn)}
}

// say sends payloads as frames, in one write.
func (w *wire) say(payloads ...string) *wire {
	w.t.Helper()
	if _, err := w.conn.Write(frames(payloads...)); err != nil {
		w.t.Fatal(err)
	}
	return w
}

// raw sends bytes as they are, in one write.
func (w *wire) raw(b []byte) *wire {
	w.t.Helper()
	if _, err := w.conn.Write(b); err != nil {
		w.t.Fatal(err)
	}
	return w
}

// hears wants the next frames to have these payloads.
func (w *wire) hears(payloads ...string) *wire {
	w.t.Helper()
	for _, want := range payloads {
		header, err := w.in.ReadString('\n')
		if err != nil {
			w.t.Fatalf("waiting for %q: %v", want, err)
		}
		n, err := strconv.Atoi(strings.TrimSuffix(header, "\n"))
		if err != nil {
			w.t.Fatalf("header %q", header)
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(w.in, payload); err != nil || string(payload) != want {
			w.t.Fatalf("heard %q, %v; want %q", payload, err, want)
		}
	}
	return w
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

// welcomed is the answer to the HELLO of an agency that has these bets stored.
func welcomed(bets ...string) string {
	checksum := codec.Checksum(0).Add([]byte(strings.Join(bets, "\n")))
	return fmt.Sprintf("WELCOME|%d|64|65536|%v", len(bets), checksum)
}

// hearsEnd wants the server to have closed, after nothing more.
func (w *wire) hearsEnd() {
	w.t.Helper()
	if rest, err := io.ReadAll(w.in); err != nil || len(rest) > 0 {
		w.t.Errorf("at the end: %q, %v", rest, err)
	}
}

func (w *wire) close() {
	w.t.Helper()
	if err := w.conn.Close(); err != nil {
		w.t.Error(err)
	}
}

// kill closes as a killed process does whose socket has unread data: by reset.
func (w *wire) kill() {
	w.t.Helper()
	if err := w.conn.SetLinger(0); err != nil {
		w.t.Error(err)
	}
	w.close()
}

const (
	betCarlos = "Carlos|López|99887766|1982-02-17|7574|2"
	betLucia  = "Lucía|Martínez|11223344|1995-09-30|5421|2"
)

func wantExports(t *testing.T, dir, bets, winners string) {
	t.Helper()
	for name, want := range map[string]string{history.BetsFile: bets, history.WinnersFile: winners} {
		if content, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(content) != want {
			t.Errorf("%s has %q, error %v; want %q", name, content, err, want)
		}
	}
}

// exitMax is the second in which a server has to end, with as much again for a
// machine that is busy with other tests. What the disk takes for bets.csv and winners.csv comes on
// top: it begins with the draw, and a test's draw is over at once.
const exitMax = 2 * time.Second

// exportTook is how long the server wrote its exports.
func (s *liveServer) exportTook() (took time.Duration) {
	for _, entry := range s.logs.FilterMessage("export").All() {
		took, _ = entry.ContextMap()["duracion"].(time.Duration)
	}
	return took
}

func wantUnfinished(t *testing.T, err error, drawn bool, missing ...codec.Agency) {
	t.Helper()
	var unfinished *UnfinishedError
	if !errors.As(err, &unfinished) || unfinished.Drawn != drawn || !slices.Equal(unfinished.Missing, missing) {
		t.Errorf("result %v; want drawn %v, missing %v", err, drawn, missing)
	}
}

// awaitConnections waits until the server knows of so many connections only.
func awaitConnections(t *testing.T, s *liveServer, want int) {
	t.Helper()
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	timeout := time.After(socketTimeout)
	for s.admission.count() != want {
		select {
		case <-looks.C:
		case <-timeout:
			t.Fatalf("%d connections, want %d", s.admission.count(), want)
		}
	}
}
