package engine

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

// A connection that no loop can take, as when a descriptor is missing for it, is
// closed, said, and not counted as open for ever.
func TestConnectionThatNoLoopTakes(t *testing.T) {
	cfg := liveConfig(t)
	cfg.ConnectionsMax = 1
	s := serveLive(t, cfg)
	peer, conn := net.Pipe() // it has no descriptor at all
	const strange = "127.83.31.7"
	from := ip(strange)
	if broken, ok := s.admission.enter(from); !ok {
		t.Fatalf("refused: %v", limitKeys[broken])
	}
	newAcceptor(s.Server, nil).enroll(conn, s.newSession(from))
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("its peer reads %v, want the end", err)
	}
	said := s.logs.FilterMessage("accept_connections").FilterField(zap.String("result", "fail")).All()
	if len(said) != 1 || said[0].ContextMap()["ip"] != strange || said[0].ContextMap()["error"] == nil {
		t.Errorf("said: %v", said)
	}
	s.dial(t).say("").hears(codec.CodeEmptyBatch.String()).close()
	s.stop()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
}

// Agencies that come together are spread evenly over the loops.
func TestConnectionsAreSpread(t *testing.T) {
	const agencies = 40
	cfg := liveConfig(t)
	cfg.Agencies, cfg.EventLoops = agencies, 4
	s := serveLive(t, cfg)
	var wires [agencies]*wire
	for i := range wires {
		wires[i] = s.dial(t)
	}
	for _, w := range wires {
		w.say("").hears(codec.CodeEmptyBatch.String())
	}
	if err := s.onLoops(t.Context(), func(lp *loop) {
		if n := len(lp.sessions); n != agencies/cfg.EventLoops {
			t.Errorf("a loop has %d connections, want %d", n, agencies/cfg.EventLoops)
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, w := range wires {
		w.close()
	}
	s.stop()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
}

// What can't be accepted for want of descriptors is said and tried again: the
// server goes on. flakyListener fails as a process does that has no more.
func TestAcceptGoesOn(t *testing.T) {
	const failures = 3
	cfg := liveConfig(t)
	s := serveLive(t, cfg)
	l, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newAcceptor(s.Server, &flakyListener{Listener: l, failures: failures})
	go a.run()
	dialTo(t, l.Addr()).say("").hears(codec.CodeEmptyBatch.String()).close()
	a.stop()
	<-a.done
	s.stop()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
	logged := 0
	for _, entry := range s.logs.FilterMessage("accept_connections").FilterLevelExact(zap.ErrorLevel).All() {
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
