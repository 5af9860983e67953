package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"loteria/engine/admin/board"
)

func TestReady(t *testing.T) {
	a, _ := openServer(t, Settings{})
	ready := func(status int, says string) {
		t.Helper()
		if got, text, _ := get(t, a, "/readyz"); got != status || !strings.Contains(text, says) || strings.Count(text, "\n") != 1 {
			t.Errorf("/readyz: %d %q, want %d %q", got, text, status, says)
		}
		if got, _, _ := get(t, a, "/healthz"); got != 200 {
			t.Errorf("/healthz: %d", got)
		}
	}
	ready(503, "opening")
	src := newFakeSource()
	a.Show(src)
	ready(200, "ok")
	err := errors.New("no server\nleads")
	src.ready.Store(&err)
	ready(503, "no server leads")
	a.Show(newFakeSource())
	ready(200, "ok")
}

func TestState(t *testing.T) {
	a, _ := openServer(t, Settings{})
	if status, text, _ := get(t, a, "/api/state"); status != 503 || !strings.Contains(text, "try again") {
		t.Errorf("before Show: %d %s", status, text)
	}
	src := newFakeSource()
	a.Show(src)
	for _, bets := range []int64{1, 2} {
		src.fill(bets)
		_, text, header := get(t, a, "/api/state")
		var got board.State
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if want := src.State(); got.Bets != bets || got.Cells != want.Cells || !got.DrawnAt.Equal(*want.DrawnAt) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if header.Get("Content-Type") != "application/json" {
			t.Error(header)
		}
	}
}

func TestAgencies(t *testing.T) {
	a, _ := openServer(t, Settings{})
	if status, _, _ := get(t, a, "/api/agencies"); status != 503 {
		t.Errorf("before Show: %d", status)
	}
	src := newFakeSource()
	a.Show(src)
	check := func(query string, more bool, ids ...uint32) {
		t.Helper()
		status, text, _ := get(t, a, "/api/agencies"+query)
		var got agencies
		if err := json.Unmarshal([]byte(text), &got); err != nil || status != 200 {
			t.Fatal(status, text, err)
		}
		var have []uint32
		for _, agency := range got.Agencies {
			have = append(have, agency.ID)
		}
		if !reflect.DeepEqual(have, ids) || got.More != more {
			t.Errorf("%s: %v, more %v", query, have, got.More)
		}
	}
	check("", false, 1, 2, 3, 4)
	check("?missing=0&limit=1024", false, 1, 2, 3, 4)
	check("?limit=4", false, 1, 2, 3, 4)
	check("?limit=3", true, 1, 2, 3)
	check("?missing=1", false, 1, 2)
	check("?missing=1&limit=1", true, 1)
	drawn := *src.State()
	drawn.Waiting, drawn.Uploading = 0, 0
	src.state.Store(&drawn)
	check("?missing=1", false, 1, 2, 3)
	for _, bad := range []string{"?limit=0", "?limit=1025", "?limit=-1", "?limit=x", "?limit=", "?limit=1&limit=2",
		"?missing=2", "?missing=true", "?missing", "?other=1", "?limit=99999999999999999999", "?a;b", "?%zz",
		"?missing=" + strings.Repeat("9", 4000)} {
		status, text, _ := get(t, a, "/api/agencies"+bad)
		if status != 400 || !strings.Contains(text, errQuery.Error()) || len(text) > 300 {
			t.Errorf("%.40s: %d %.400s", bad, status, text)
		}
	}
}

func TestRoutes(t *testing.T) {
	plain, _ := openServer(t, Settings{})
	profiled, _ := openServer(t, Settings{Pprof: true})
	for _, c := range []struct {
		a      *Server
		method string
		path   string
		status int
	}{
		{plain, "GET", "/", 302},
		{plain, "GET", "/board/", 200},
		{plain, "HEAD", "/board/", 200},
		{plain, "HEAD", "/board/events", 200},
		{plain, "HEAD", "/metrics", 200},
		{plain, "GET", "/board/../../../etc/passwd", 404},
		{plain, "GET", "/board/%2e%2e/%2e%2e/etc/passwd", 404},
		{plain, "GET", "/board/..%2f..%2fetc%2fpasswd", 404},
		{plain, "GET", "/board/page.go", 404},
		{plain, "GET", "/nothing", 404},
		{plain, "POST", "/api/state", 405},
		{plain, "PUT", "/board/", 405},
		{plain, "DELETE", "/metrics", 405},
		{plain, "OPTIONS", "/api/state", 405},
		{plain, "TRACE", "/api/state", 405},
		{plain, "GET", "/debug/pprof/", 404},
		{plain, "GET", "/debug/pprof/heap", 404},
		{plain, "GET", "/debug/pprof/profile", 404},
		{profiled, "GET", "/debug/pprof/", 200},
		{profiled, "GET", "/debug/pprof/heap", 200},
		{profiled, "POST", "/debug/pprof/symbol", 405},
	} {
		status, text, header := do(t, c.a, c.method, c.path)
		if status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect {
			// A path that isn't clean is sent to the clean one.
			status, text, header = do(t, c.a, c.method, header.Get("Location"))
		}
		if status != c.status || strings.Contains(text, "root:") {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, status, c.status)
		}
		if c.status == 405 && header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s allows %q", c.method, c.path, header.Get("Allow"))
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Access-Control-Allow-Origin": "", "Set-Cookie": "",
		} {
			if header.Get(name) != want {
				t.Errorf("%s %s: %s is %q", c.method, c.path, name, header.Get(name))
			}
		}
		if csp := header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src '") ||
			!strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
			t.Errorf("%s %s: policy %q", c.method, c.path, csp)
		}
	}
	if _, _, header := get(t, plain, "/"); header.Get("Location") != "/board/" {
		t.Error(header)
	}
}

func TestListenFails(t *testing.T) {
	a, logs := openServer(t, Settings{})
	if logs.FilterField(zap.String("result", "in_progress")).Len() != 1 {
		t.Error("it doesn't say where it listens")
	}
	_, err := Open(Settings{Addr: a.Addr().String()}, zap.NewNop())
	if !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), "SERVER_HTTP_ADDR="+a.Addr().String()) {
		t.Error(err)
	}
}

func TestNil(t *testing.T) {
	var a *Server
	a.Show(newFakeSource())
	a.Committed(time.Second)
	a.Acked(time.Second)
	if a.Addr() != nil || a.Close(nil) != nil {
		t.Error("a nil server has an address, or can't be closed")
	}
}

// Lines that strangers can cause are bounded, and counted.
func TestLogIsBounded(t *testing.T) {
	a, logs := openServer(t, Settings{})
	src := newFakeSource()
	a.Show(src)
	for range 100 {
		a.http.ErrorLog.Printf("http: panic serving x|y: %s\n%s", "why", strings.Repeat("z", 5000))
	}
	lines := logs.FilterField(zap.String("result", "fail")).All()
	if n := len(lines); n == 0 || n > 50 {
		t.Fatalf("%d lines", n)
	}
	said, _ := lines[0].ContextMap()["error"].(string)
	if !strings.Contains(said, "why") || strings.ContainsAny(said, "|\n") || len(said) > lineBytesMax+16 {
		t.Errorf("said: %q", said)
	}
	s, _ := a.sample()
	if got := s.counters.LinesSuppressed; got != int64(6+100-len(lines)) {
		t.Errorf("%d lines suppressed, %d written", got, len(lines))
	}
}
