package admin

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// What a hostile peer receives, over real sockets. Each server is its own, and answers an honest
// request afterwards.
func TestHostileRequests(t *testing.T) {
	const heads = " HTTP/1.1\r\nHost: x\r\n"
	much := strings.Repeat("a", 64<<10)
	for _, c := range []struct{ name, says, hears string }{
		{"slow header", "GET /" + heads + "A: ", ""}, // it takes headerTimeout
		{"huge header", "GET /" + heads + "A: " + much, "HTTP/1.1 431 "},
		{"many headers", "GET /" + heads + strings.Repeat("A: b\r\n", 10000), "HTTP/1.1 431 "},
		{"long path", "GET /" + much + heads + "\r\n", "HTTP/1.1 431 "},
		{"body", "GET /api/state" + heads + "Content-Length: 1000000000\r\n\r\n" + much, "HTTP/1.1 413 "},
		{"body that never comes", "GET /api/state" + heads + "Content-Length: 1\r\n\r\n", "HTTP/1.1 413 "},
		{"chunked body", "GET /board/events" + heads + "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "HTTP/1.1 413 "},
		{"announced body", "GET /" + heads + "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n", "HTTP/1.1 413 "},
		{"posted body", "POST /api/state" + heads + "Content-Length: 1000000000\r\n\r\n" + much, "HTTP/1.1 405 "},
		{"two lengths", "GET /" + heads + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 400 "},
		{"two framings", "GET /" + heads + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", "HTTP/1.1 413 "},
		{"proxy", "CONNECT x:80" + heads + "\r\n", "HTTP/1.1 405 "},
		{"all", "OPTIONS *" + heads + "Connection: close\r\n\r\n", "HTTP/1.1 405 "},
		{"not HTTP", "\x16\x03\x01\x00\x00 hello\r\n\r\n", "HTTP/1.1 400 "},
		{"agency", "00000001HELLO|1\n\n\r\n\r\n", "HTTP/1.1 400 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, _ := openServer(t, Settings{})
			a.Show(newFakeSource())
			p := dial(t, a)
			// The server may hang up in the midst of it, and a reset may destroy its answer.
			_, err := p.Write([]byte(c.says))
			heard := p.rest(t)
			reset := len(c.says) > 4*socketBytes || err != nil
			if !strings.HasPrefix(heard, c.hears) && !(reset && heard == "") || c.hears == "" && heard != "" {
				t.Errorf("it hears %.200q, want %q", heard, c.hears)
			}
			if strings.Contains(heard, "100 Continue") {
				t.Error("it is asked for its body")
			}
			if status, _, _ := get(t, a, "/healthz"); status != 200 {
				t.Errorf("afterwards: %d", status)
			}
		})
	}
}

// A browser that stops reading is cut, and doesn't keep the others from their states.
func TestBrowserThatStopsReading(t *testing.T) {
	a, _ := openServer(t, Settings{writeTimeout: time.Second})
	src := newFakeSource()
	a.Show(src)
	var stuck []peer
	for range 10 {
		stuck = append(stuck, watch(t, a))
	}
	honest := watch(t, a)
	before := heap()
	// It takes some seconds until the kernel's buffers are full, and then writeTimeout.
	deadline := time.Now().Add(2 * time.Minute)
	for _, p := range append(stuck, honest) {
		if err := p.SetDeadline(deadline.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	for bets := int64(100); ; bets++ {
		src.fill(bets)
		for data := ""; !strings.Contains(data, fmt.Sprintf(`"bets":%d,`, bets)); {
			_, data = honest.event(t)
		}
		a.stream.mu.Lock()
		left := a.stream.browsers
		a.stream.mu.Unlock()
		if grown := heap() - before; grown > 4<<20 {
			t.Fatalf("ten browsers that don't read take %d bytes", grown)
		}
		if left == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d browsers are still there", left)
		}
	}
	for _, p := range stuck {
		text := p.rest(t)
		if !strings.HasPrefix(text, "event: ") && !strings.Contains(text, "event: state") || strings.HasSuffix(text, "0\r\n\r\n") {
			t.Errorf("%.100q...", text)
		}
	}
}

// 10,000 connections take no more descriptors, goroutines and memory than connectionsMax do.
func TestTenThousandConnections(t *testing.T) {
	a, logs := openServer(t, Settings{})
	a.Show(newFakeSource())
	watching := watch(t, a)
	before, goroutines := heap(), runtime.NumGoroutine()
	held := make([]peer, 0, connectionsMax)
	// Those that are held stay for idleTimeout. A machine that is too slow for that makes fewer.
	end := time.Now().Add(idleTimeout / 2)
	tried, refused := 0, 0
	for ; tried < 10000 && time.Now().Before(end); tried++ {
		p := dial(t, a)
		if len(held) < connectionsMax-1 {
			held = append(held, p.say(t, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
			if line, err := p.from.ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
				t.Fatal(line, err)
			}
			continue
		}
		if _, err := p.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Fatalf("a connection too many: %v", err)
		}
		refused++
		p.Close()
	}
	a.door.mu.Lock()
	open := len(a.door.open)
	a.door.mu.Unlock()
	if open != connectionsMax || refused != tried-len(held) || refused == 0 {
		t.Errorf("of %d, %d are open and %d were refused", tried, open, refused)
	}
	// A connection has a goroutine of net/http's, and while its request is answered a second one.
	if n := runtime.NumGoroutine() - goroutines; n > 2*connectionsMax {
		t.Errorf("%d goroutines more", n)
	}
	if grown := heap() - before; grown > 16<<20 {
		t.Errorf("%d bytes more", grown)
	}
	if n := logs.FilterField(zap.String("error", "too many connections")).Len(); n == 0 || n > 60 {
		t.Errorf("%d lines of it", n)
	}
	if event, _ := watching.event(t); event != eventState {
		t.Error(event)
	}
	for _, p := range held {
		p.Close()
	}
	for deadline := time.Now().Add(time.Minute); ; {
		p := dial(t, a)
		_, err := p.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
		if err == nil && strings.HasPrefix(p.rest(t), "HTTP/1.1 200") {
			break
		}
		if p.Close(); time.Now().After(deadline) {
			t.Fatal("nobody is served afterwards")
		}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
