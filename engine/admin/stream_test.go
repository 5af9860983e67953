package admin

import (
	"encoding/json"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"loteria/engine/admin/board"
)

// The states of a stream are looked at every framePeriod, and only while a browser is there.
func TestStreamLooksOnlyWhileWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		var state atomic.Pointer[board.State]
		state.Store(&board.State{Bets: 1})
		s := newStream(func() *board.State { looks.Add(1); return state.Load() }, writeTimeoutDefault)
		time.Sleep(time.Minute)
		if looks.Load() != 0 {
			t.Fatalf("%d looks, and nobody watches", looks.Load())
		}
		for range browsersMax {
			if err := s.join(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.join(); err != errBrowsers {
			t.Errorf("one too many: %v", err)
		}
		first := s.current()
		time.Sleep(time.Second + time.Millisecond)
		if looks.Load() != 5 || s.current() != first {
			t.Errorf("%d looks in a second, another frame: %v", looks.Load(), s.current() != first)
		}
		state.Store(&board.State{Bets: 2})
		select {
		case <-first.replaced:
		case <-time.After(framePeriod):
			t.Error("no new frame")
		}
		if second := s.current(); second.event != eventState || second.state != state.Load() || !strings.Contains(second.text, `"bets":2`) {
			t.Errorf("%+v", second)
		}
		for range browsersMax {
			s.leave()
		}
		time.Sleep(framePeriod)
		looks.Store(0)
		time.Sleep(time.Minute)
		if looks.Load() != 0 {
			t.Errorf("%d looks after all have left", looks.Load())
		}
		// Whoever comes and goes doesn't make it look more often.
		for range 100 {
			if err := s.join(); err != nil {
				t.Fatal(err)
			}
			s.leave()
		}
		if looks.Load() != 1 {
			t.Errorf("%d looks for 100 that came and went", looks.Load())
		}
		if err := s.end(&board.State{Bets: 3}); err != nil {
			t.Fatal(err)
		}
		if last := s.current(); last.event != eventBye || !strings.Contains(last.text, `"bets":3`) {
			t.Errorf("%+v", last)
		}
		time.Sleep(time.Minute)
		if looks.Load() != 1 {
			t.Error("it looks after the end")
		}
	})
}

// pipes is a listener without sockets, whose time-outs run on a test's clock.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	close func() // done, once
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { p.close(); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// piped runs a test against a server whose clock is the test's.
func piped(t *testing.T, test func(t *testing.T, a *Server, src *fakeSource, dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		p := pipes{make(chan net.Conn), done, sync.OnceFunc(func() { close(done) })}
		a := open(p, Settings{}, zap.NewNop())
		src := newFakeSource()
		a.Show(src)
		test(t, a, src, func() net.Conn {
			ours, theirs := net.Pipe()
			p.conns <- theirs
			return ours
		})
		if err := a.Close(nil); err != nil {
			t.Error(err)
		}
	})
}

// until is after how long the server hangs up, and what it says until then.
func until(conn net.Conn) (time.Duration, string) {
	begin, text, buf := time.Now(), "", make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		text += string(buf[:n])
		if err != nil {
			return time.Since(begin), text
		}
	}
}

func TestTimeouts(t *testing.T) {
	check := func(name string, want time.Duration, begin func(t *testing.T, conn net.Conn)) {
		t.Run(name, func(t *testing.T) {
			piped(t, func(t *testing.T, _ *Server, _ *fakeSource, dial func() net.Conn) {
				conn := dial()
				begin(t, conn)
				if took, text := until(conn); took != want {
					t.Errorf("it hangs up after %v, want %v; it says %q", took, want, text)
				}
			})
		})
	}
	say := func(t *testing.T, conn net.Conn, text string) {
		t.Helper()
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	check("nothing said", headerTimeout, func(*testing.T, net.Conn) {})
	check("half a header", headerTimeout, func(t *testing.T, conn net.Conn) { say(t, conn, "GET / HTTP/1.1\r\nHost: x\r\nA: b") })
	check("a byte a second", headerTimeout-3*time.Second, func(t *testing.T, conn net.Conn) {
		for _, c := range "GET" {
			say(t, conn, string(c))
			time.Sleep(time.Second)
		}
	})
	check("idle", idleTimeout, func(t *testing.T, conn net.Conn) { say(t, conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") })
}

// A browser that nothing is new for hears so from time to time, much longer than any time-out.
func TestHeartbeat(t *testing.T) {
	const watched = time.Hour + time.Second
	piped(t, func(t *testing.T, _ *Server, _ *fakeSource, dial func() net.Conn) {
		conn := dial()
		defer conn.Close()
		if _, err := conn.Write([]byte("GET /board/events HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(watched)); err != nil {
			t.Fatal(err)
		}
		took, text := until(conn)
		if beats := strings.Count(text, "\r\n:\n\n\r\n") - 1; took != watched || beats != int(watched/heartbeatPeriod) {
			t.Errorf("%d heartbeats in %v", beats, took)
		}
		if n := strings.Count(text, "event: "); n != 1 {
			t.Errorf("%d events, and nothing was new", n)
		}
	})
}

// A browser that stops reading is cut. One that reads again in time gets the newest state, and none
// of those between.
func TestSlowBrowser(t *testing.T) {
	piped(t, func(t *testing.T, _ *Server, src *fakeSource, dial func() net.Conn) {
		stuck, slow := dial(), dial()
		defer slow.Close()
		buf := make([]byte, 64<<10)
		for _, conn := range []net.Conn{stuck, slow} {
			if _, err := conn.Write([]byte("GET /board/events HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			for text := ""; !strings.Contains(text, "}\n\n") && !strings.HasSuffix(text, "\n\n\r\n"); {
				n, err := conn.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				text += string(buf[:n])
			}
		}
		for bets := int64(1000); bets < 1000+int64((writeTimeoutDefault-time.Second)/framePeriod); bets++ {
			src.fill(bets)
			time.Sleep(framePeriod)
		}
		src.fill(2000)
		time.Sleep(framePeriod)
		text := ""
		for !strings.Contains(text, `"bets":2000,`) {
			n, err := slow.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			text += string(buf[:n])
		}
		if n := strings.Count(text, "event: state"); n > 3 {
			t.Errorf("%d states for a slow browser", n)
		}
		go func() {
			_, _ = until(slow)
		}()
		time.Sleep(writeTimeoutDefault)
		if took, _ := until(stuck); took != 0 {
			t.Errorf("a browser that doesn't read is cut %v too late", took)
		}
	})
}

func TestEvents(t *testing.T) {
	a, _ := openServer(t, Settings{})
	early := watch(t, a)
	src := newFakeSource()
	a.Show(src)
	late := watch(t, a)
	for _, p := range []peer{early, late} {
		event, data := p.event(t)
		var got board.State
		if err := json.Unmarshal([]byte(data), &got); err != nil || event != eventState || got.Bets != 30 {
			t.Errorf("%s %s %v", event, data, err)
		}
	}
	src.fill(31)
	for _, p := range []peer{early, late} {
		if event, data := p.event(t); event != eventState || !strings.Contains(data, `"bets":31,`) {
			t.Errorf("%s %s", event, data)
		}
	}
	if err := a.Close(&board.State{Bets: 32, Phase: board.Over}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []peer{early, late} {
		if event, data := p.event(t); event != eventBye || !strings.Contains(data, `"bets":32,`) {
			t.Errorf("%s %s", event, data)
		}
		if rest := p.rest(t); rest != "\n\r\n0\r\n\r\n" && !strings.HasSuffix(rest, "0\r\n\r\n") {
			t.Errorf("after the last event: %q", rest)
		}
	}
}

// Browsers that are there, that are idle, and that don't read don't keep a server from ending.
func TestCloseWaitsForNobody(t *testing.T) {
	a, _ := openServer(t, Settings{})
	src := newFakeSource()
	a.Show(src)
	var watching []peer
	for range 10 {
		watching = append(watching, watch(t, a))
	}
	dial(t, a) // says nothing
	dial(t, a).say(t, "GET /board/ HT")
	idle := dial(t, a).say(t, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	if line, err := idle.from.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatal(line, err)
	}
	begin := time.Now()
	if err := a.Close(nil); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 2*time.Second { // far beyond the bound, for a busy machine
		t.Errorf("it took %v", took)
	}
	for _, p := range watching {
		for event := ""; event != eventBye; {
			event, _ = p.event(t)
		}
		p.rest(t)
	}
	if conn, err := net.Dial("tcp", a.Addr().String()); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
	if err := a.Close(nil); err != nil {
		t.Error(err)
	}
}

func TestTooManyBrowsers(t *testing.T) {
	a, _ := openServer(t, Settings{})
	a.Show(newFakeSource())
	var first peer
	for range browsersMax {
		first = watch(t, a)
	}
	if status, text, _ := get(t, a, "/board/events"); status != 503 || !strings.Contains(text, "too many browsers") {
		t.Errorf("%d %s", status, text)
	}
	first.Close()
	// The room of a browser that is gone is free soon, not at once.
	for deadline := time.Now().Add(time.Minute); ; {
		p := dial(t, a).say(t, "GET /board/events HTTP/1.1\r\nHost: x\r\n\r\n")
		if line, err := p.from.ReadString('\n'); err == nil && strings.Contains(line, "200") {
			return
		}
		if p.Close(); time.Now().After(deadline) {
			t.Fatal("no room")
		}
	}
}
