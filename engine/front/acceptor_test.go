package front

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"loteria/codec"
)

// A connection that no loop can take, as when a descriptor is missing for it, is closed, said, and
// not counted as open for ever.
func TestConnectionThatNoLoopTakes(t *testing.T) {
	cfg := testConfig()
	cfg.ConnectionsMax = 1
	l := serveLive(t, cfg, 1, listenLocal(t))
	peer, conn := net.Pipe() // it has no descriptor at all
	const strange = "127.83.31.7"
	session, broken, ok := l.front.Admit(ip(strange))
	if !ok {
		t.Fatalf("refused: %v", limitKeys[broken])
	}
	l.front.acceptors[0].enroll(conn, session)
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("its peer reads %v, want the end", err)
	}
	said := l.logs.FilterMessage("accept_connections").FilterField(zap.String("result", "fail")).All()
	if len(said) != 1 || said[0].ContextMap()["ip"] != strange || said[0].ContextMap()["error"] == nil {
		t.Errorf("said: %v", said)
	}
	l.dial(t).say("").hears(codec.CodeEmptyBatch.String()).close()
}

// Agencies that come together are spread evenly over the loops.
func TestConnectionsAreSpread(t *testing.T) {
	const agencies, loops = 40, 4
	l := serveLive(t, testConfig(), loops, listenLocal(t))
	for range agencies {
		l.dial(t).say("").hears(codec.CodeEmptyBatch.String())
	}
	counts := make(chan int, loops)
	for _, lp := range l.front.Loops() {
		lp.post(func(m *mailbox) { m.then = append(m.then, func() { counts <- lp.Sessions() }) })
	}
	for range loops {
		if n := <-counts; n != agencies/loops {
			t.Errorf("a loop has %d connections, want %d", n, agencies/loops)
		}
	}
}

// What can't be accepted for want of descriptors is said and tried again: the server goes on.
// flakyListener fails as a process does that has no more.
func TestAcceptGoesOn(t *testing.T) {
	const failures = 3
	l := serveLive(t, testConfig(), 1, &flakyListener{Listener: listenLocal(t), failures: failures})
	l.dial(t).say("").hears(codec.CodeEmptyBatch.String()).close()
	l.stop()
	logged := 0
	for _, entry := range l.logs.FilterMessage("accept_connections").FilterLevelExact(zap.ErrorLevel).All() {
		logged++
		if suppressed, ok := entry.ContextMap()["suprimidas"].(int64); ok {
			logged += int(suppressed)
		}
	}
	if logged != failures {
		t.Errorf("logged %d failures, want %d", logged, failures)
	}
}

type flakyListener struct {
	net.Listener
	failures int
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}
