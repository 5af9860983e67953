package engine

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// probeHost is an address of this machine on which hardly anybody listens.
const probeHost = "127.83.31.7"

// aService is the name of a port that can be listened on here, and the port.
func aService(t *testing.T) (name string, port int) {
	t.Helper()
	for _, name := range []string{"http-alt", "postgresql", "amqp", "http"} {
		port, err := net.LookupPort("tcp", name)
		if err != nil {
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort(probeHost, strconv.Itoa(port)))
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
	cfg.Addr = net.JoinHostPort(probeHost, name)
	s := serveLive(t, cfg)
	if got, want := s.Addr().String(), net.JoinHostPort(probeHost, strconv.Itoa(port)); got != want {
		t.Errorf("SERVER_ADDR=%s listens on %s, want %s", cfg.Addr, got, want)
	}
	s.dial(t).say("HELLO|1").hears("WELCOME|0|64|65536").close()
	s.stop()
	if err := s.end(t); err != nil {
		t.Errorf("result %v", err)
	}
}

// What the probe passes has a number for its port, and is the same address.
func TestProbeAddr(t *testing.T) {
	for _, test := range []struct {
		addr, want string
	}{
		{":0", ":0"},
		{"0.0.0.0:0", "0.0.0.0:0"},
		{"127.0.0.1:0", "127.0.0.1:0"},
		{"localhost:0", "127.0.0.1:0"},
		{"[::ffff:127.0.0.1]:0", "127.0.0.1:0"},
		{"[::1]:0", "[::1]:0"},
		{"[::]:0", "[::]:0"},
	} {
		t.Run(test.addr, func(t *testing.T) {
			got, err := probeAddr(test.addr)
			if strings.HasPrefix(test.want, "[") && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
				t.Skipf("no IPv6 here: %v", err)
			}
			if err != nil || got != test.want {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

// An address that can't be listened on is refused at start, and the message
// says which, why and what to do; nothing is left locked.
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
			s, err := Open(cfg, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			err = s.Serve(context.Background())
			var resolver *net.DNSError
			if !errors.Is(err, ErrListen) || test.cause != nil && !errors.Is(err, test.cause) || test.cause == nil && !errors.As(err, &resolver) {
				t.Errorf("result %v, want the cause %v", err, test.cause)
			}
			for _, says := range []string{"SERVER_ADDR=" + test.addr, "choose another address"} {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("it says %q, want %q in it", err, says)
				}
			}
			again, err := Open(cfg, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
