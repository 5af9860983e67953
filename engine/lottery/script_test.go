package lottery_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"loteria/codec"
	"loteria/engine/lottery"
)

var update = flag.Bool("update", false, "rewrite testdata/*.txt with what the lottery does now")

// The engine's part of a WELCOME, with the values of the transcript in codec/PROTOCOL.md.
const (
	scriptWindow        = 64
	scriptFrameBytesMax = 65536
)

var scriptBets = codec.Rules{Today: 20261123, WinningNumber: 7574}

// TestScripts runs the scenarios in testdata. A script has prose (#) and commands; the lines
// indented below a command are its output:
//
//	lottery agencies=N [poll] [all]    begins a new lottery
//	NAME -> S  PAYLOAD                 a connection sends this; \n separates lines
//	NAME takes                         a connection has taken its winners
//	NAME leaves                        a connection is gone
//	state                              shows the lottery's state
//	stop                               dismisses the connections that wait
//	restart                            replays the ledger; all connections are gone
//
// "ledger" lines are entries: they have to be durable before the lines below them leave.
// "S -> NAME" lines are replies. To accept what the lottery does now, run
// go test ./engine/lottery -update, and review the diff.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, want)
			if bytes.Equal(got, want) {
				return
			}
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			line, gotLine, wantLine := firstDifference(got, want)
			t.Errorf("%s:%d differs\n got %q\nwant %q\nif it is right now, run with -update",
				path, line, gotLine, wantLine)
		})
	}
}

func firstDifference(got, want []byte) (line int, gotLine, wantLine string) {
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		gotLine, wantLine = "end of file", "end of file"
		if i < len(g) {
			gotLine = g[i]
		}
		if i < len(w) {
			wantLine = w[i]
		}
		if gotLine != wantLine {
			return i + 1, gotLine, wantLine
		}
	}
	return 0, "", ""
}

const outputIndent = "    "

// runScript returns the script with the output of each command below it.
func runScript(t *testing.T, text []byte) []byte {
	t.Helper()
	var s script
	var out bytes.Buffer
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if strings.HasPrefix(line, outputIndent) {
			continue // the command's old output
		}
		fmt.Fprintln(&out, line)
		if line == "" || line[0] == '#' {
			continue
		}
		output, err := s.run(line)
		if err != nil {
			t.Fatalf("line %d: %q: %v", i+1, line, err)
		}
		for _, o := range output {
			fmt.Fprintln(&out, outputIndent+o)
		}
	}
	return out.Bytes()
}

// script is a running scenario.
type script struct {
	*recorder
	sessions map[string]*lottery.Session
}

func (s *script) run(line string) ([]string, error) {
	words := strings.Fields(line)
	if words[0] == "lottery" {
		return s.begin(words[1:])
	}
	if s.recorder == nil {
		return nil, fmt.Errorf("no lottery yet")
	}
	if name, payload, ok := strings.Cut(line, " -> S  "); ok {
		return s.send(name, payload)
	}
	switch {
	case len(words) == 2 && words[1] == "takes":
		return orNothing(s.apply(taken(s.session(words[0])))), nil
	case len(words) == 2 && words[1] == "leaves":
		return s.apply(leave(s.session(words[0]))), nil // a leave has no output
	case line == "state":
		return s.state(), nil
	case line == "stop":
		return orNothing(replies(each(s.Dismiss(nil)))), nil
	case line == "restart":
		return s.restart()
	default:
		return nil, fmt.Errorf("not a command")
	}
}

func (s *script) begin(settings []string) ([]string, error) {
	var rules lottery.Rules
	for _, setting := range settings {
		key, value, _ := strings.Cut(setting, "=")
		switch key {
		case "agencies":
			n, err := strconv.Atoi(value)
			if err != nil {
				return nil, err
			}
			rules.Agencies = n
		case "poll":
			rules.Poll = true
		case "all":
			rules.AllWinners = true
		default:
			return nil, fmt.Errorf("unknown setting %q", key)
		}
	}
	s.recorder = newRecorder(rules)
	s.sessions = make(map[string]*lottery.Session)
	return nil, nil
}

func (s *script) session(name string) *lottery.Session {
	if s.sessions[name] == nil {
		s.sessions[name] = session(name)
	}
	return s.sessions[name]
}

// send parses the payload and applies it, as the server does.
func (s *script) send(name, payload string) ([]string, error) {
	payload = strings.ReplaceAll(payload, `\n`, "\n")
	parsed, lines, err := codec.ParseRequest([]byte(payload), scriptBets, nil)
	if err != nil {
		return nil, err
	}
	req := lottery.Request{
		Session: s.session(name), Agency: parsed.Agency, Count: parsed.Batch.Count, Winners: lines,
	}
	if parsed.Kind == codec.RequestBets {
		req.Lines = stretch([]byte(payload))
	}
	switch parsed.Kind {
	case codec.RequestHello:
		req.Kind = lottery.Hello
	case codec.RequestBets:
		req.Kind = lottery.Bets
	case codec.RequestGetWinners:
		req.Kind = lottery.GetWinners
	case codec.RequestReceived:
		req.Kind = lottery.Received
	}
	return orNothing(s.apply(req)), nil
}

func (s *script) apply(req lottery.Request) []string {
	var output []string
	entry, effects := s.recorder.apply(req)
	switch entry {
	case lottery.BetsEntry:
		output = append(output, fmt.Sprintf("ledger  bets of agency %d: %d", req.Agency, req.Count))
	case lottery.ReportedEntry:
		output = append(output, fmt.Sprintf("ledger  agency %d reported", req.Agency))
	case lottery.ServedEntry:
		output = append(output, fmt.Sprintf("ledger  agency %d served", req.Session.Agency()))
	}
	return append(output, replies(effects)...)
}

func (s *script) restart() ([]string, error) {
	again, err := s.restarted()
	if err != nil {
		return nil, err
	}
	s.recorder = again
	s.sessions = make(map[string]*lottery.Session)
	return s.state(), nil
}

func (s *script) state() []string {
	drawn := "not drawn"
	if s.Drawn() {
		drawn = "drawn"
	}
	output := []string{
		fmt.Sprintf("%s; %d bets, %d won; %d open", drawn, s.Bets(), s.Won(), s.OpenSessions()),
	}
	for id := codec.Agency(1); int(id) <= s.Agencies(); id++ {
		line := fmt.Sprintf("agency %d: %d stored", id, s.Stored(id))
		if s.Reported(id) {
			line += ", reported"
		}
		if s.Served(id) {
			line += ", served"
		}
		output = append(output, line)
	}
	return output
}

func orNothing(output []string) []string {
	if len(output) == 0 {
		return []string{"(nothing)"}
	}
	return output
}

// replies shows effects as the protocol's payloads.
func replies(effects []lottery.Effect) []string {
	var output []string
	for _, e := range effects {
		var payload string
		switch e.Kind {
		case lottery.Draw:
			output = append(output, fmt.Sprintf("draw    %d won", e.Count))
			continue
		case lottery.Ack, lottery.Receipt:
			payload = "ACK"
		case lottery.Welcome:
			payload = fmt.Sprintf("WELCOME|%d|%d|%d|%v",
				e.Stored, scriptWindow, scriptFrameBytesMax, e.Checksum)
		case lottery.Reject:
			payload = e.Code.String()
			if e.Code.Closes() {
				payload += "  (and closes)"
			}
		case lottery.Winners:
			payload = strings.ReplaceAll(string(e.Payload), "\n", `\n`)
			if payload == "" {
				payload = "(empty)"
			}
		}
		output = append(output, fmt.Sprintf("S -> %s  %s", e.Session.Peer, payload))
	}
	return output
}
