package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/engine"
)

// A health check does not count as an agency: a server without grace would end after it. And it has
// no log line at the level info.
func TestHealthOfAServer(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	cfg := engine.DefaultConfig()
	cfg.Addr, cfg.DataDir, cfg.ExitGrace = "localhost:0", t.TempDir(), 0
	server, err := engine.Open(cfg, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-server.Ready():
	case <-time.After(eventTimeout):
		t.Fatal("the server doesn't listen")
	}

	addr := server.Addr().String()
	for range 3 {
		asking, cancel := context.WithTimeout(ctx, eventTimeout)
		if err := askHealth(asking, healthConfig{Addr: addr}); err != nil {
			t.Error(err)
		}
		cancel()
	}
	connected := func() int {
		success := zap.String("result", "success")
		return logs.FilterMessage("accept_connections").FilterField(success).Len()
	}
	if n := connected() + logs.FilterMessage("solicitud").Len(); n > 0 {
		t.Errorf("three health checks have %d lines, want none", n)
	}

	// An agency's connection is logged.
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	// The agency leaves after the server has ended: else the server would end by itself.
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write([]byte("7\nHELLO|1")); err != nil {
		t.Fatal(err)
	}
	welcome := make([]byte, 64)
	if n, err := conn.Read(welcome); err != nil || !bytes.Contains(welcome[:n], []byte("WELCOME|0|")) {
		t.Fatalf("%q %v", welcome[:n], err)
	}
	if n := connected(); n != 1 {
		t.Errorf("an agency's connection has %d lines, want 1", n)
	}
}

// Only a server that takes requests counts as healthy.
func TestHealthOfOthers(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		healthy      bool
		want         string // in the error
	}{
		{"rejects an empty batch", "17\nERROR_EMPTY_BATCH", true, ""},
		{"is full", "26\nERROR_TOO_MANY_CONNECTIONS", true, ""},
		{"can't write", "13\nERROR_STORAGE", false, `"ERROR_STORAGE"`},
		{"takes everything", "3\nACK", false, `"ACK"`},
		{"says nothing", "", false, "EOF"},
		{"says half", "17\nERROR_EM", false, "EOF"},
		{"speaks another protocol", "HTTP/1.1 400 Bad Request\r\n\r\n", false, "not a length"},
		{"says too much", "9999\n" + strings.Repeat("x", 9999), false, "too large"},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := answering(t, test.answer, true)
			ctx, cancel := context.WithTimeout(t.Context(), eventTimeout)
			defer cancel()
			err := askHealth(ctx, healthConfig{Addr: addr})
			switch {
			case test.healthy && err != nil:
				t.Error(err)
			case !test.healthy && (!errors.Is(err, errUnhealthy) ||
				!strings.Contains(err.Error(), test.want) || exitCode(err) != exitInput):
				t.Errorf("error %v, exit code %d; want %s, exit code 1",
					err, exitCode(err), test.want)
			}
		})
	}
	t.Run("hangs", func(t *testing.T) {
		addr := answering(t, "", false)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := askHealth(ctx, healthConfig{Addr: addr}); !errors.Is(err, errUnhealthy) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("is not there", func(t *testing.T) {
		t.Setenv("SERVER_ADDR", "localhost:1")
		var stdout, stderr bytes.Buffer
		code := run([]string{"health"}, &stdout, &stderr)
		said := stderr.String()
		if code != 1 || stdout.Len() > 0 || strings.Count(said, "\n") != 1 ||
			!strings.Contains(said, "SERVER_ADDR=localhost:1") {
			t.Errorf("exit code %d, said %q %q", code, stdout.String(), said)
		}
	})
}

// With SERVER_HTTP_ADDR, what /readyz says there is what counts.
func TestHealthOverHTTP(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   string // in the error; empty: healthy
	}{
		{"ready", http.StatusOK, "ok\n", ""},
		{"not ready", http.StatusServiceUnavailable, "it replays\n", `answers 503 Service Unavailable: "it replays"`},
		{"says too much", http.StatusNotFound, strings.Repeat("x", 9999), `: "` + strings.Repeat("x", reasonBytesMax) + `"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || r.URL.Path != "/readyz" {
					t.Errorf("was asked %s %s", r.Method, r.URL)
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body) // who asked may have heard enough
			}))
			defer server.Close()
			t.Setenv("SERVER_ADDR", "localhost:1") // is not asked
			t.Setenv("SERVER_HTTP_ADDR", server.Listener.Addr().String())
			t.Setenv("HTTP_PROXY", "http://localhost:1")
			var stdout, stderr bytes.Buffer
			code := run([]string{"health"}, &stdout, &stderr)
			if (code != exitDone) != (test.want != "") || !strings.Contains(stderr.String(), test.want) {
				t.Errorf("exit code %d, said %q; want %q", code, stderr.String(), test.want)
			}
		})
	}
	t.Run("is not there", func(t *testing.T) {
		t.Setenv("SERVER_HTTP_ADDR", "localhost:1")
		var stdout, stderr bytes.Buffer
		if code := run([]string{"health"}, &stdout, &stderr); code != exitInput || !strings.Contains(stderr.String(), "SERVER_HTTP_ADDR=localhost:1") {
			t.Errorf("exit code %d, said %q", code, stderr.String())
		}
	})
}

// answering listens for one connection, reads a frame and answers it. Then it closes the
// connection, or leaves it open until the test ends.
func answering(t *testing.T, answer string, closes bool) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return // the test ended before a connection came
		}
		defer conn.Close()
		question := make([]byte, 2)
		if n, err := conn.Read(question); err != nil || string(question[:n]) != "0\n" {
			t.Errorf("was asked %q %v", question[:n], err)
		}
		if _, err := conn.Write([]byte(answer)); err != nil {
			t.Error(err)
		}
		if !closes {
			<-over
		}
	}()
	t.Cleanup(func() {
		close(over)
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return listener.Addr().String()
}
