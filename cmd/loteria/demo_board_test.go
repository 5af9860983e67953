package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"loteria/engine/admin/board"
	"loteria/engine/history"
)

var (
	boardAt    = regexp.MustCompile(`(?m)^board    http://(127\.0\.0\.1:\d+)/board/(?: \(server \d\))?\n`)
	boardShown = regexp.MustCompile(`(?m)^board    (http://127\.0\.0\.1:\d+/board/) shows the last state, (\S+)/board\.html \(Ctrl-C ends it\)\n`)
)

// startWatchedDemo starts a demo of the bundled bets in dir. Neither the default address nor
// SERVER_HTTP_ADDR is free.
func startWatchedDemo(t *testing.T, dir, flags string) *process {
	t.Helper()
	bundled, err := filepath.Abs(filepath.Join("..", "..", bundledDataset))
	if err != nil {
		t.Fatal(err)
	}
	var taken string
	for _, addr := range []string{boardAddrDefault, "127.0.0.1:0"} {
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			continue // another program has it
		}
		t.Cleanup(func() { _ = listener.Close() })
		taken = listener.Addr().String()
	}
	p, err := startLoteria(dir, "demo --board --data-dir draw --dataset "+bundled+" "+flags, "SERVER_HTTP_ADDR="+taken)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// said waits until the demo has said what matches, and returns the groups of each match.
func said(t *testing.T, p *process, pattern *regexp.Regexp) [][]string {
	t.Helper()
	if err := p.stdout.await(pattern, 1, p.ended); err != nil {
		t.Fatalf("%v; it said:\n%s%s", err, p.stdout, p.stderr)
	}
	return pattern.FindAllStringSubmatch(p.stdout.String(), -1)
}

func interrupt(t *testing.T, p *process) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code, err := p.wait(); code != exitDone || err != nil {
		t.Errorf("exit code %d, %v; it said:\n%s%s", code, err, p.stdout, p.stderr)
	}
}

// getPage returns what a browser would get that is there for the first time.
func getPage(t *testing.T, url string) []byte {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: eventTimeout}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, response.Status, err)
	}
	return body
}

// The board is there during the draw. A signal ends it then, too.
func TestDemoBoardDuringTheDraw(t *testing.T) {
	p := startWatchedDemo(t, t.TempDir(), "--verbose --pace 1h")
	at := said(t, p, boardAt)[0][1]
	said(t, p, regexp.MustCompile(`action: hello \| result: success \| agencia: 1 `))
	if page := getPage(t, "http://"+at+"/board/"); !bytes.Contains(page, []byte("board.js")) {
		t.Errorf("that is not the page that is live: %.200q", page)
	}
	var state board.State
	if err := json.Unmarshal(getPage(t, "http://"+at+"/api/state"), &state); err != nil {
		t.Fatal(err)
	}
	if state.Phase != board.Intake || state.Agencies != 5 {
		t.Errorf("phase %q of %d agencies, want %q of 5", state.Phase, state.Agencies, board.Intake)
	}
	interrupt(t, p)
}

// The largest agency takes as long as it was told to, and the others read as fast as it does.
func TestPace(t *testing.T) {
	const took, largest = 200 * time.Millisecond, 10_000
	participants := []*participant{{bytes: largest / 2}, {bytes: largest}, {}}
	pace(participants, took)
	for _, p := range participants {
		began := time.Now()
		n, err := io.Copy(io.Discard, p.pace(t.Context(), bytes.NewReader(make([]byte, p.bytes))))
		if err != nil || n != p.bytes {
			t.Errorf("%d bytes, %v, want %d", n, err, p.bytes)
		}
		// The first step is free.
		least := took * time.Duration(p.bytes-largest/paceSteps-1) / largest
		if read := time.Since(began); read < least {
			t.Errorf("%d bytes in %v, want at least %v", n, read, least)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pace(participants, time.Hour)
	if _, err := io.ReadAll(participants[1].pace(ctx, bytes.NewReader(make([]byte, largest)))); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// After the draw the board has its last state, with the numbers of the export.
func TestDemoBoardAfterTheDraw(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, c := range map[string]struct {
		flags  string
		boards int
	}{
		"one server":    {"--pace 200ms", 1},
		"three servers": {"--pace 200ms --servers 3 --kill-leader", 3},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := startWatchedDemo(t, dir, c.flags)
			shown := said(t, p, boardShown)[0]
			all := map[string]bool{}
			for _, match := range said(t, p, boardAt) {
				all["http://"+match[1]+"/board/"] = true
			}
			if len(all) != c.boards || !all[shown[1]] {
				t.Errorf("the boards are %v, and the last one is %s: want %d different ones", all, shown[1], c.boards)
			}
			at := strings.TrimSuffix(shown[1], "/board/")
			if page := getPage(t, shown[1]); !bytes.Contains(page, []byte("board.js")) {
				t.Errorf("that is no page: %.200q", page)
			}
			getPage(t, at+"/healthz")
			metrics := string(getPage(t, at+"/metrics"))
			agencies := getPage(t, at+"/api/agencies")
			var state board.State
			if err := json.Unmarshal(getPage(t, at+"/api/state"), &state); err != nil {
				t.Fatal(err)
			}
			interrupt(t, p)

			for _, line := range []string{"loteria_bets_stored_total 78697", "loteria_winners 10", `loteria_agencies{state="served"} 5`} {
				if !strings.Contains(metrics, "\n"+line+"\n") {
					t.Errorf("the metrics lack %q", line)
				}
			}
			if n := bytes.Count(agencies, []byte(`"served"`)); n != 5 {
				t.Errorf("%d agencies are served: %s", n, agencies)
			}
			if len(state.Events) == 0 || len(state.Series.Bets) == 0 || state.DrawnAt == nil {
				t.Errorf("the times are gone: %+v", state)
			}
			rows := func(name string) int {
				content, err := os.ReadFile(filepath.Join(dir, shown[2], name))
				if err != nil {
					t.Fatal(err)
				}
				return bytes.Count(content, []byte{'\n'})
			}
			bets, winners := rows(history.BetsFile), rows(history.WinnersFile)
			if state.Phase != board.Over || state.Outcome != "" || state.Served != 5 ||
				int(state.Bets) != bets || state.Winners != winners || bets != 78697 || winners != 10 {
				t.Errorf("the export has %d bets and %d winners, the board %d and %d, %d agencies served, phase %q, outcome %q",
					bets, winners, state.Bets, state.Winners, state.Served, state.Phase, state.Outcome)
			}
		})
	}
}
