package engine_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine"
	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// quietHost is an address of this machine on which hardly anybody listens.
const quietHost = "127.83.31.7"

// aService is the name of a port that can be listened on here, and the port.
func aService(t *testing.T) (name string, port int) {
	t.Helper()
	for _, name := range []string{"http-alt", "postgresql", "amqp", "http"} {
		port, err := net.LookupPort("tcp", name)
		if err != nil {
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort(quietHost, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		return name, port
	}
	t.Skip("no service has both a name and a port that this user may listen on")
	return "", 0
}

// The port may be the name of a service.
func TestAddressOfService(t *testing.T) {
	name, port := aService(t)
	cfg := liveConfig(t)
	cfg.Addr = net.JoinHostPort(quietHost, name)
	s := serveLive(t, cfg)
	if got, want := s.Addr().String(), net.JoinHostPort(quietHost, strconv.Itoa(port)); got != want {
		t.Errorf("SERVER_ADDR=%s listens on %s, want %s", cfg.Addr, got, want)
	}
	s.dial(t).say("HELLO|1").hears(welcomed()).close()
	s.stop()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
}

// An address that can't be listened on is refused at start, before anything is
// made, and the message says which, why and what to do.
func TestAddressRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, addr string
		cause      error // nil: the resolver's
	}{
		{"port in use", "127.0.0.1:" + port, syscall.EADDRINUSE},
		{"port in use on one of all addresses", ":" + port, syscall.EADDRINUSE},
		{"port in use, by another name", "localhost:" + port, syscall.EADDRINUSE},
		{"address of another machine", "192.0.2.1:0", syscall.EADDRNOTAVAIL}, // TEST-NET-1 is nobody's
		{"host that can't be", "no host:0", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := liveConfig(t)
			cfg.Addr = test.addr
			cfg.DataDir = filepath.Join(t.TempDir(), "new")
			_, err := engine.Open(cfg, zap.NewNop())
			var resolver *net.DNSError
			if !errors.Is(err, engine.ErrListen) || test.cause != nil && !errors.Is(err, test.cause) || test.cause == nil && !errors.As(err, &resolver) {
				t.Errorf("result %v, want the cause %v", err, test.cause)
			}
			for _, says := range []string{"SERVER_ADDR=" + test.addr, "choose another address"} {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("it says %q, want %q in it", err, says)
				}
			}
			if _, err := os.Stat(cfg.DataDir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the data directory was made: %v", err)
			}
		})
	}
}

// A start that fails behind the listening, and a server that is closed without
// having served, leave the address to the next one. Who connected before the
// server serves is served, too.
func TestAddressReleased(t *testing.T) {
	cfg := liveConfig(t)
	cfg.ExitGrace, cfg.Agencies = 0, 1
	first, err := engine.Open(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Addr = first.Addr().String()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	broken := ledgertest.NewFS(1)
	broken.Break(ledgertest.Fault{Op: ledgertest.Mkdir, N: 1})
	if _, err := engine.OpenWith(cfg, zap.NewNop(), ledger.Options{FS: broken}); !errors.Is(err, engine.ErrStorage) {
		t.Errorf("with a broken disk: %v", err)
	}
	noSecrets := cfg
	noSecrets.AgencySecretsFile = filepath.Join(t.TempDir(), "nowhere")
	if _, err := engine.Open(noSecrets, zap.NewNop()); !errors.Is(err, engine.ErrConfig) {
		t.Errorf("without the secrets: %v", err)
	}

	last, err := engine.Open(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	early := (&liveServer{Server: last}).dial(t).say(betJuan, "GET_WINNERS|1")
	ended := make(chan error, 1)
	go func() { ended <- last.Serve(t.Context()) }()
	early.hears("ACK", betJuan).close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// hearsRefusal is how a connection over a limit ends.
func (w *wire) hearsRefusal() {
	w.t.Helper()
	w.hears(codec.CodeTooManyConnections.String()).hearsEnd()
}

// A source that has all it may have is told so; others are served, and it is
// again when one of its connections is gone.
func TestConnectionsPerSource(t *testing.T) {
	cfg := liveConfig(t)
	cfg.ConnectionsPerSource = 2
	s := serveLive(t, cfg)
	one, two := s.dial(t).waits(1), s.dial(t).say("HELLO|2").hears(welcomed())
	s.dial(t).hearsRefusal()
	if n := s.logs.FilterField(zap.String("limite", "conexiones_por_origen")).Len(); n != 1 {
		t.Errorf("%d lines of refusals, want 1", n)
	}
	other := s.dialFrom(t, "127.0.0.9").say("GET_WINNERS|2")
	one.hears("")
	other.hears("").close()
	one.close()
	s.dialUntilRoom(t).say("GET_WINNERS|1").hears("").close()
	two.close()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
}

// More at once than the server tells why over the limit: some are told, all are closed,
// and who was there before is served.
func TestConnectionsFlood(t *testing.T) {
	const flood = 192 // of refusals, 64 are told at once
	cfg := liveConfig(t)
	cfg.ConnectionsMax = 2
	s := serveLive(t, cfg)
	one, two := s.dial(t).waits(1), s.dial(t).say("HELLO|2").hears(welcomed())
	refused := make([]*wire, flood)
	for i := range refused {
		refused[i] = s.dial(t)
	}
	told := 0
	for _, w := range refused {
		answer, err := io.ReadAll(w.in)
		switch {
		case string(answer) == string(frames(codec.CodeTooManyConnections.String())) && err == nil:
			told++
		case len(answer) > 0 || errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatalf("heard %q, %v", answer, err)
		}
		w.close()
	}
	if told == 0 {
		t.Error("none was told")
	}
	two.say("GET_WINNERS|2").hears("").confirms(2).close()
	one.hears("").close()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
	if counts := s.logs.FilterMessage("limites").All()[0].ContextMap(); counts["conexiones"] != int64(flood) {
		t.Errorf("the log says %v, want %d refused", counts, flood)
	}
}

// Of peers that keep back the last byte of their frames, the first ones are told
// ERROR_TIMEOUT, behind what else they are owed. The last ones may finish theirs.
// Nobody who is honest notices, and the log counts them under their own limit.
func TestPartialBytesOverSockets(t *testing.T) {
	const (
		frameBytes = 16 << 10
		peers      = 12
		fit        = 3 // the allocator adds 2 kB to each
	)
	cfg := liveConfig(t)
	cfg.FrameBytesMax, cfg.PartialBytesMax, cfg.EventLoops = frameBytes, 64<<10, 2
	cfg.NoExport = true
	s := serveLive(t, cfg)
	honest := s.dial(t).say(betCarlos).hears("ACK")
	late := s.dial(t)
	said := frames("", strings.Repeat("\n", frameBytes))
	last := len(said) - 1
	var all []*wire
	for range peers {
		all = append(all, s.dial(t).does(raw(string(said[:last]))))
		s.awaitRead(t)
		honest.say(betCarlos).hears("ACK")
	}
	empty, timeout := codec.CodeEmptyBatch.String(), codec.CodeTimeout.String()
	for i, w := range all {
		w.hears(empty)
		if i < peers-fit {
			w.hears(timeout).hearsEnd()
		} else {
			w.does(raw(string(said[last:]))).hears(empty)
		}
		w.close()
	}
	late.say(betCarlos).hears("ACK").close()
	honest.close()
	s.stop()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
	counts := s.logs.FilterMessage("limites").All()[0].ContextMap()
	if counts["parciales_bytes"] != int64(peers-fit) || counts["espera"] != int64(0) {
		t.Errorf("the log says %v", counts)
	}
}
