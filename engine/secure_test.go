package engine_test

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/codec/certtest"
	"loteria/engine"
)

// secureAgency is an agency's end over TLS, after its handshake.
type secureAgency struct {
	t    *testing.T
	conn *tls.Conn
}

func (s *liveServer) dialTLS(t *testing.T, config *tls.Config) *secureAgency {
	t.Helper()
	c, err := tls.Dial("tcp", s.SecureAddr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // mostly closed by then
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &secureAgency{t, c}
}

func (a *secureAgency) say(payloads ...string) *secureAgency {
	a.t.Helper()
	if _, err := a.conn.Write(frames(payloads...)); err != nil {
		a.t.Fatal(err)
	}
	return a
}

func (a *secureAgency) hears(payloads ...string) *secureAgency {
	a.t.Helper()
	want := string(frames(payloads...))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(a.conn, got); err != nil || string(got) != want {
		a.t.Fatalf("heard %q, %v; want %q", got[:n], err, want)
	}
	return a
}

// serial tells the server's certificates apart.
func (a *secureAgency) serial() string {
	return a.conn.ConnectionState().PeerCertificates[0].NotAfter.String()
}

// A certificate is replaced while agencies are connected: those who come see the new one, nobody is
// dropped, and what is none changes nothing and is said. The draw goes on as if nothing had been.
func TestCertificateReplacedInMidDraw(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} { // or the server sees it by itself
		authority := certtest.New(t)
		f := authority.Files(t, certtest.Server(1), authority)
		cfg := liveConfig(t)
		cfg.TLSAddr, cfg.TLSCert, cfg.TLSKey, cfg.TLSClientCA = "127.0.0.1:0", f.Cert, f.Key, f.CA
		s := serveLive(t, cfg)
		agency := func(id int) *tls.Config {
			paper := certtest.Agency(1)
			paper.URIs[0] = strings.TrimSuffix(paper.URIs[0], "1") + string(rune('0'+id))
			return &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", NextProtos: []string{codec.TLSProtocol},
				Certificates: []tls.Certificate{authority.Issue(t, paper)}}
		}
		first := s.dialTLS(t, agency(1)).say("HELLO|1").hears(welcomed()).say(betJuan).hears("ACK")
		notice := func(result string) {
			t.Helper()
			before := s.count("tls", result)
			if asked {
				s.ReloadCertificate()
			}
			awaitThat(t, "the server to notice", func() bool { return s.count("tls", result) > before })
		}

		paper := certtest.Server(1)
		paper.NotAfter = time.Now().Add(30 * time.Minute)
		f.Write(t, authority.Issue(t, paper))
		notice("success")
		second := s.dialTLS(t, agency(2)).say("HELLO|2").hears(welcomed())
		if first.serial() == second.serial() {
			t.Error("who comes later sees the old certificate")
		}
		if err := os.WriteFile(f.Cert, []byte("none"), 0o600); err != nil {
			t.Fatal(err)
		}
		notice("fail")
		if third := s.dialTLS(t, agency(2)); third.serial() != second.serial() {
			t.Error("a useless file has changed the certificate")
		}
		first.say("GET_WINNERS|1")
		second.say(betCarlos, "GET_WINNERS|2").hears("ACK", betCarlos)
		first.hears(betJuan)
		for id, a := range []*secureAgency{first, second} {
			a.say("RECEIVED|" + string(rune('1'+id))).hears("ACK")
			if err := a.conn.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := s.end(t); err != nil {
			t.Error(err)
		}
	}
}

// What the server can't show is an error before it takes anything.
func TestCertificateThatIsNone(t *testing.T) {
	authority := certtest.New(t)
	f := authority.Files(t, certtest.Server(1), authority)
	other := certtest.New(t).Files(t, certtest.Server(1), authority)
	for name, change := range map[string]func(*engine.Config){
		"no file":     func(c *engine.Config) { c.TLSCert += ".missing" },
		"another key": func(c *engine.Config) { c.TLSKey = other.Key },
		"no authority": func(c *engine.Config) {
			c.TLSClientCA = f.Key
		},
		"half a pair":  func(c *engine.Config) { c.TLSKey = "" },
		"no address":   func(c *engine.Config) { c.TLSAddr = "" },
		"same address": func(c *engine.Config) { c.Addr, c.TLSAddr = "127.0.0.1:4125", "127.0.0.1:4125" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := liveConfig(t)
			cfg.TLSAddr, cfg.TLSCert, cfg.TLSKey, cfg.TLSClientCA = "127.0.0.1:0", f.Cert, f.Key, f.CA
			cfg.DataDir = filepath.Join(cfg.DataDir, "data")
			change(&cfg)
			s, err := engine.Open(cfg, zap.NewNop())
			if s != nil {
				_ = s.Close()
			}
			if !errors.Is(err, engine.ErrConfig) || !strings.Contains(err.Error(), "SERVER_TLS_") {
				t.Errorf("opened with %v", err)
			}
			if _, err := os.Stat(cfg.DataDir); !errors.Is(err, os.ErrNotExist) {
				t.Error("the data directory is there")
			}
		})
	}
}
