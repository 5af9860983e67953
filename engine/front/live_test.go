package front

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
	"loteria/engine/lottery"
)

// liveTimeout bounds every wait for something that has to happen.
const liveTimeout = 20 * time.Second

// live is a rig whose event loops run, and that commits what they hand over.
type live struct {
	*rig
	addr net.Addr
	logs *observer.ObservedLogs
	stop func() // ends it, and returns when it has ended
}

// serveLive starts a server. It ends with the test, and leaves no goroutine behind.
func serveLive(t *testing.T, cfg Config, loops int, listener net.Listener) *live {
	t.Helper()
	before := goleak.IgnoreCurrent()
	core, logs := observer.New(zapcore.InfoLevel)
	options := ledger.Options{FS: ledgertest.NewFS(1)}
	l := &live{
		rig:  newRig(t, cfg, lottery.Rules{Agencies: cfg.Agencies}, loops, rigDir, options, zap.New(core)),
		addr: listener.Addr(), logs: logs,
	}
	if err := l.front.Start(); err != nil {
		t.Fatal(err)
	}
	l.front.Accept(listener)
	ctx, stop := context.WithCancel(context.Background())
	committed := make(chan struct{})
	go func() {
		defer close(committed)
		for {
			select {
			case <-l.committer.Wake():
				if _, err := l.tryCommit(); err != nil {
					t.Error(err)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	stopped := false
	l.stop = func() {
		if stopped {
			return
		}
		stopped = true
		l.front.StopAccepting()
		stop()
		<-committed
		l.committer.Close()
		if err := l.front.Stop(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		l.stop()
		// gnet's pool of goroutines, in which connections are enrolled, waits for more for a while.
		goleak.VerifyNone(t, before, goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"))
	})
	return l
}

// listenLocal is a socket of this machine.
func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	listener, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// wire is an agency's end of a connection.
type wire struct {
	t    *testing.T
	conn net.Conn
}

func (l *live) dial(t *testing.T) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", l.addr.String())
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

func (w *wire) close() {
	w.t.Helper()
	if err := w.conn.Close(); err != nil {
		w.t.Error(err)
	}
}
