package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/codec"
)

// The few tests that look into a server while it serves need some of what serve_test.go has for
// those that don't.

// liveTimeout bounds every wait for something that has to happen.
const liveTimeout = 20 * time.Second

// liveServer is a server that serves on a port of its own.
type liveServer struct {
	*Server
	stop  context.CancelFunc
	ended chan error // its result, once
	logs  *observer.ObservedLogs
}

func liveConfig(t *testing.T) Config {
	cfg := DefaultConfig()
	cfg.Addr, cfg.Agencies, cfg.DataDir, cfg.ExitGrace = "127.0.0.1:0", 2, t.TempDir(), time.Hour
	return cfg
}

// serveLive starts a server. It has to end within the test, and to leave no goroutine behind.
func serveLive(t *testing.T, cfg Config) *liveServer {
	t.Helper()
	before := goleak.IgnoreCurrent()
	core, logs := observer.New(zapcore.InfoLevel)
	s, err := Open(cfg, zap.New(core))
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
		<-over
		goleak.VerifyNone(t, before, IdleWorkers())
	})
	<-s.Ready()
	return live
}

// end waits until the server has ended, and returns its result.
func (s *liveServer) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(liveTimeout):
		t.Fatal("the server doesn't end")
		return nil
	}
}

func awaitThat(t *testing.T, what string, is func() bool) {
	t.Helper()
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for timeout := time.After(liveTimeout); !is(); {
		select {
		case <-looks.C:
		case <-timeout:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// wire is an agency's end of a connection.
type wire struct {
	t    *testing.T
	conn net.Conn
}

func (s *liveServer) dial(t *testing.T) *wire {
	t.Helper()
	return dialTo(t, s.Addr())
}

func dialTo(t *testing.T, addr net.Addr) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // mostly closed by then
	if err := conn.SetDeadline(time.Now().Add(liveTimeout)); err != nil {
		t.Fatal(err)
	}
	return &wire{t, conn}
}

func (w *wire) raw(b []byte) *wire {
	w.t.Helper()
	if _, err := w.conn.Write(b); err != nil {
		w.t.Fatal(err)
	}
	return w
}

func (w *wire) say(payloads ...string) *wire {
	w.t.Helper()
	return w.raw(frames(payloads...))
}

func (w *wire) hears(payloads ...string) *wire {
	w.t.Helper()
	want := frames(payloads...)
	got := make([]byte, len(want))
	if n, err := io.ReadFull(w.conn, got); err != nil || !bytes.Equal(got, want) {
		w.t.Fatalf("heard %q, %v; want %q", got[:n], err, want)
	}
	return w
}

// waits asks for the winners and returns when the server holds the question.
func (w *wire) waits(agency int) *wire {
	w.t.Helper()
	return w.say(fmt.Sprintf("GET_WINNERS|%d", agency), "").hears(codec.CodeEmptyBatch.String())
}

func (w *wire) hearsEnd() {
	w.t.Helper()
	if rest, err := io.ReadAll(w.conn); err != nil || len(rest) > 0 {
		w.t.Errorf("at the end: %q, %v", rest, err)
	}
}

func (w *wire) close() {
	w.t.Helper()
	if err := w.conn.Close(); err != nil {
		w.t.Error(err)
	}
}

const betCarlos = "Carlos|López|99887766|1982-02-17|7574|2"
