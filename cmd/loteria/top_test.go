package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"loteria/engine/admin/board"
	"loteria/engine/history"
)

func topState() *board.State {
	behind := uint64(3)
	return &board.State{
		Phase: board.Intake, Agencies: 4, Waiting: 1, Uploading: 1, Reported: 1, Served: 1, Bets: 1234,
		Cells: "wurs", PerCell: 1,
		Series:  board.Series{Step: 500, Bets: []int64{0, 100, 700, 300}},
		Missing: []board.Agency{{ID: 1, State: "waiting"}, {ID: 2, State: "uploading", Bets: 34}},
		Events:  []board.Event{{Kind: board.EventLeader, Server: 2, Term: 7}},
		Cluster: &board.Cluster{Server: 1, Leader: 2, Term: 7, Servers: []board.ClusterServer{
			{ID: 1, Addr: "a:1", Votes: true, Connected: true, Behind: &behind},
			{ID: 2, Addr: "b:1", Votes: true, Connected: true}, {ID: 3, Addr: "c:1", Votes: true},
		}},
	}
}

func TestTopPicture(t *testing.T) {
	s := topState()
	got := topPicture{state: s, width: 40, height: 24}.text()
	want := `draw      intake
bets      1234, 0 win
bets/s    1000
▁▂█▄
agencies  4: 1 wait, 1 upload,
          1 reported, 1 served
·▒▓█
server 1  follows, 3 behind  a:1
server 2  leads, term 7  b:1
server 3  not connected  c:1
missing   agency 1 waiting, 0 bets
missing   agency 2 uploading, 34 bets
`
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "  server 2 leads, term 7\n") {
		t.Errorf("it shows\n%s\nwant\n%s", got, want)
	}
	if colored := (topPicture{state: s, width: 40, color: true}).text(); !strings.Contains(colored, "\x1b[31m·\x1b[0m\x1b[33m▒") {
		t.Errorf("no colors: %q", colored)
	}
}

// Whatever a server says, a picture fits into the terminal and doesn't control it.
func TestTopPictureFits(t *testing.T) {
	s := topState()
	s.Outcome = "\x1b[2J\r\n\u202e" + strings.Repeat("é", 500)
	s.Cells = strings.Repeat("wx\x1bs", 5000)
	s.Series = board.Series{Step: -1, Bets: slices.Repeat([]int64{-5, 1 << 62}, 5000)}
	s.Events = slices.Repeat([]board.Event{{Kind: "\x1b]0;x\a"}}, 500)
	s.Cluster.Servers[0].Addr = strings.Repeat("\x1b", 500)
	for _, step := range []int64{-1, 0, 1, 1 << 62} {
		s.Series.Step = step
		for _, size := range [][2]int{{40, 12}, {80, 24}, {1, 1}, {300, 90}} {
			p := topPicture{state: s, note: "\x1b[1m", width: size[0], height: size[1]}
			lines := strings.Split(strings.TrimSuffix(p.text(), "\n"), "\n")
			if len(lines) > size[1] {
				t.Errorf("%v: %d lines", size, len(lines))
			}
			for _, line := range lines {
				if utf8.RuneCountInString(line) > max(size[0], topWidthMin) || strings.ContainsAny(line, "\x1b\a\r\u202e") {
					t.Errorf("%v: %q", size, line)
				}
			}
		}
	}
}

func TestTopTakes(t *testing.T) {
	p := topPicture{width: 80}
	p.take(topUpdate{err: errTopEnded}, "here:1")
	if got := p.text(); !strings.HasPrefix(got, "no connection to here:1, trying again: ") {
		t.Errorf("without a server: %q", got)
	}
	p.take(topUpdate{state: topState()}, "here:1")
	p.take(topUpdate{err: errTopEnded}, "here:1")
	if got := p.text(); !strings.Contains(got, "no connection") || !strings.Contains(got, "bets      1234") {
		t.Errorf("the last state is gone: %q", got)
	}
	p.take(topUpdate{state: topState()}, "here:1")
	if got := p.text(); strings.Contains(got, "no connection") {
		t.Errorf("it is connected again: %q", got)
	}
}

// follow shows each state until bye, and refuses what no server says.
func TestTopFollows(t *testing.T) {
	for _, test := range []struct {
		name, said string
		bets       []int64
		err        error
	}{
		{"to the end", ":\n\nevent: state\ndata: {\"bets\":1}\n\n:\n\nevent: state\ndata: {\"bets\":2}\n\nevent: bye\ndata: {\"bets\":3}\n\nevent: state\ndata: {\"bets\":4}\n\n", []int64{1, 2, 3}, nil},
		{"cut off", "event: state\ndata: {\"bets\":1}\n\n", []int64{1}, errTopEnded},
		{"another event", "event: other\ndata: {\"bets\":1}\n\n", nil, errTopEnded},
		{"no JSON", "event: state\ndata: {\n\n", nil, errTopAnswer},
		{"no state", "event: bye\ndata: null\n\n", nil, errTopAnswer},
		{"a line without end", "event: state\ndata: " + strings.Repeat(" ", topStateBytesMax), nil, errTopLong},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprint(w, test.said) // a client that refuses it hangs up
			}))
			defer server.Close()
			var bets []int64
			err := follow(t.Context(), server.Listener.Addr().String(), func(u topUpdate) { bets = append(bets, u.state.Bets) })
			if !errors.Is(err, test.err) || !slices.Equal(bets, test.bets) {
				t.Errorf("%v, %v; want %v, %v", bets, err, test.bets, test.err)
			}
		})
	}
}

// The board of a ledger has the numbers of its export, and top shows them.
func TestBoardOfLedger(t *testing.T) {
	for _, golden := range []string{"v1", "v2"} {
		t.Run(golden, func(t *testing.T) {
			clearEnvironment(t)
			dir := goldenLedger(t, golden)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var bets, said bytes.Buffer
			exported, err := history.Export(history.In(dir), &bets, nil)
			if err != nil {
				t.Fatal(err)
			}
			port, err := freePort()
			if err != nil {
				t.Fatal(err)
			}
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			root, ended := newRootCommand(), make(chan error, 1)
			root.SetArgs([]string{"board", dir, "--addr", addr})
			root.SetOut(&bytes.Buffer{})
			go func() { ended <- root.ExecuteContext(ctx) }()
			deadline, stop := context.WithTimeout(ctx, time.Minute)
			defer stop()
			followOn(deadline, addr, func(u topUpdate) {
				if u.state != nil && !u.last {
					if u.state.Bets != exported.Bets || exported.Drawn != (u.state.Phase == board.Over) ||
						exported.Drawn && int64(u.state.Winners) != exported.Winners ||
						u.state.Waiting+u.state.Uploading+u.state.Reported+u.state.Served != u.state.Agencies {
						t.Errorf("%+v, and the export has %+v", u.state, exported)
					}
					if err := topOnce(ctx, addr, &said); err != nil {
						t.Error(err)
					}
					cancel()
				}
			})
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if want := fmt.Sprintf("\nbets      %d, ", exported.Bets); exported.Bets == 0 || !strings.Contains(said.String(), want) {
				t.Errorf("top says %q, want %q", said.String(), want)
			}
		})
	}
}

// --out writes the page. A damaged ledger and none have the exit codes of `loteria ledger verify`.
func TestBoardExitCodes(t *testing.T) {
	clearEnvironment(t)
	dir, out := goldenLedger(t, "v1"), filepath.Join(t.TempDir(), "board.html")
	var stderr bytes.Buffer
	for _, test := range []struct {
		dir  string
		code int
	}{{dir, exitDone}, {t.TempDir(), exitInput}} {
		if code := run([]string{"board", test.dir, "--out", out}, &stderr, &stderr); code != test.code {
			t.Errorf("exit code %d, want %d: %s", code, test.code, &stderr)
		}
	}
	if page := readText(t, out); !strings.Contains(page, `"phase":`) {
		t.Error("the page has no state")
	}
	segments, err := filepath.Glob(filepath.Join(dir, "ledger", "*.ledger"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	if err := os.Remove(segments[0]); err != nil {
		t.Fatal(err)
	}
	if code := run([]string{"board", dir, "--out", out}, &stderr, &stderr); code != exitStorage {
		t.Errorf("damaged: exit code %d, want %d: %s", code, exitStorage, &stderr)
	}
}
