package main

import (
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

	"loteria/engine/admin"
	"loteria/engine/admin/board"
)

// shown is a server's draw.
type shown struct {
	admin.Source
	state *board.State
}

func (s shown) State() *board.State { return s.state }

func openBoard(t *testing.T, bets int64) (*admin.Server, string) {
	t.Helper()
	server, err := admin.Open(admin.Settings{Addr: "127.0.0.1:0"}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(nil) }) // it may be closed already
	state := topState()
	state.Bets = bets
	server.Show(shown{state: state})
	return server, server.Addr().String()
}

// startForward forwards until the test ends, and returns where, and what serve returns.
func startForward(t *testing.T, f *forward) (addr string, served <-chan error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		done <- f.serve(ctx, listener)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return listener.Addr().String(), done
}

// A browser sees the draw through a process that passes it on, also when a server goes. When the last
// one has ended, so does that process.
func TestForward(t *testing.T) {
	one, addr1 := openBoard(t, 1)
	two, addr2 := openBoard(t, 2)
	f := newForward([]string{addr1, addr2}, time.Hour)
	heard := make(chan int64, 100)
	f.hears = func(u topUpdate) { heard <- u.state.Bets }
	addr, served := startForward(t, f)
	last := topState()
	for i, server := range []*admin.Server{one, two} {
		want := int64(i + 1)
		for <-heard != want { // or it would not know that the server was there
		}
		response, err := http.Get("http://" + addr + "/board/")
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil || !strings.Contains(string(page), "<title>") {
			t.Fatalf("the page is %.100q, %v", page, err)
		}
		var bets []int64
		err = follow(t.Context(), addr, func(u topUpdate) {
			if bets = append(bets, u.state.Bets); len(bets) == 1 {
				go func() { _ = server.Close(last) }() // the other side sees whether it works
			}
		})
		if err != nil || len(bets) != 2 || bets[0] != want || bets[1] != last.Bets {
			t.Fatalf("server %d: %v, %v", want, bets, err)
		}
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// If no server is there for long, it says so.
func TestForwardFindsNobody(t *testing.T) {
	nobody, addr := openBoard(t, 1)
	if err := nobody.Close(nil); err != nil {
		t.Fatal(err)
	}
	_, served := startForward(t, newForward([]string{addr}, 0))
	if err := <-served; !errors.Is(err, errNoBoard) || exitCode(err) != exitUnfinished {
		t.Errorf("it ends with %v", err)
	}
}

// A server that has had nothing to say for long, and goes, is looked for as long as any other.
func TestForwardAfterAQuietDraw(t *testing.T) {
	t.Parallel()
	const retryFor = 2 * time.Second
	asked := 0 // one after the other
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event := "bye"
		if asked++; asked == 1 {
			event = "state"
		}
		_, _ = io.WriteString(w, "event: "+event+"\ndata: {}\n\n") // follow sees whether it came
		if event == "state" {
			_ = http.NewResponseController(w).Flush()
			<-time.After(2 * retryFor) // and then it is cut off
		}
	}))
	defer server.Close()
	_, served := startForward(t, newForward([]string{server.Listener.Addr().String()}, retryFor))
	if err := <-served; err != nil {
		t.Errorf("it looked no longer than the draw was quiet: %v", err)
	}
}

// What is passed on is bounded.
func TestForwardIsBounded(t *testing.T) {
	_, addr := openBoard(t, 1)
	f := newForward([]string{addr}, time.Hour)
	for range forwardConnectionsMax - 1 {
		f.open <- struct{}{}
	}
	through, _ := startForward(t, f)
	first, err := net.Dial("tcp", through) // it says nothing, stays, and is accepted first
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := net.Dial("tcp", through)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if n, err := second.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("one connection too many gets %d bytes, %v", n, err)
	}
}

func TestBoardsArguments(t *testing.T) {
	for _, args := range [][]string{
		{}, {"data", "--servers", "a:1"}, {"--servers", "a"}, {"--servers", "a:1,,b:1"}, {"--servers", "a:1", "--out", "x"},
	} {
		cmd := newBoardCommand()
		cmd.SetArgs(args)
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
