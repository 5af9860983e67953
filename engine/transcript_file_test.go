package engine_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"loteria/codec"
)

// transcriptDir holds the transcripts; its README.md describes their format.
const transcriptDir = "../testdata/transcripts"

// draw is one scenario of a transcript: a server on an empty ledger, what is
// said to it and by it, and what it leaves behind.
type draw struct {
	file     string // without .txt
	name     string
	settings settings
	secrets  string // the lines of SERVER_AGENCY_SECRETS_FILE; empty: there is none
	steps    []step
	stored   []string // the bets in the ledger, in its order
	drawn    bool
}

type settings map[string]string

type verb int

const (
	sends    verb = iota // conn -> S  bytes
	receives             // S -> conn  bytes
	connects             // conn connects
	closes               // conn closes
	shuts                // conn shuts
	vanishes             // conn vanishes
	closed               // S closes conn
	stops                // S stops
	breaks               // S breaks
	exits                // S exits code
	restarts             // S restarts settings
)

// step is one line of a transcript.
type step struct {
	line     int
	text     string
	verb     verb
	conn     string
	bytes    []byte
	blanks   []blank // in bytes
	code     int
	settings settings
}

// serverName is who everybody talks to.
const serverName = "S"

var errTranscript = errors.New("transcript can't be read")

// transcripts reads all draws of all transcripts.
func transcripts(t *testing.T) []draw {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(transcriptDir, "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts in %s: %v", transcriptDir, err)
	}
	var all []draw
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		draws, err := parseTranscript(strings.TrimSuffix(filepath.Base(path), ".txt"), string(text))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, draws...)
	}
	return all
}

// parseTranscript reads the draws of one file. Errors wrap errTranscript.
func parseTranscript(file, text string) ([]draw, error) {
	var draws []draw
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if err := parseLine(&draws, file, i+1, line); err != nil {
			return nil, fmt.Errorf("%w: %s.txt:%d: %w: %s", errTranscript, file, i+1, err, line)
		}
	}
	for i := range draws {
		if err := draws[i].check(); err != nil {
			return nil, fmt.Errorf("%w: %s.txt: draw %s: %w", errTranscript, file, draws[i].name, err)
		}
	}
	return draws, nil
}

func parseLine(draws *[]draw, file string, number int, line string) error {
	words := strings.Fields(line)
	if words[0] == "draw" && len(words) >= 2 {
		set, err := parseSettings(words[2:])
		*draws = append(*draws, draw{file: file, name: words[1], settings: set})
		return err
	}
	if len(*draws) == 0 {
		return errors.New("a draw has to begin first")
	}
	d := &(*draws)[len(*draws)-1]
	switch {
	case line == "drawn":
		d.drawn = true
		return nil
	case words[0] == "secret" && len(words) == 3:
		d.secrets += words[1] + " " + words[2] + "\n"
		return nil
	case words[0] == "stored":
		d.stored = append(d.stored, strings.TrimSpace(strings.TrimPrefix(line, "stored")))
		return nil
	}
	s, err := parseStep(line, words)
	s.line, s.text = number, line
	d.steps = append(d.steps, s)
	return err
}

func parseStep(line string, words []string) (step, error) {
	if len(words) >= 4 && words[1] == "->" {
		_, rest, _ := strings.Cut(line, "->")
		data, blanks, err := parseBytes(strings.TrimPrefix(strings.TrimSpace(rest), words[2]))
		switch {
		case words[0] == serverName:
			return step{verb: receives, conn: words[2], bytes: data, blanks: blanks}, err
		case words[2] == serverName:
			return step{verb: sends, conn: words[0], bytes: data, blanks: blanks}, err
		}
		return step{}, fmt.Errorf("neither is %s", serverName)
	}
	ofConn := map[string]verb{"connects": connects, "closes": closes, "shuts": shuts, "vanishes": vanishes}
	switch {
	case len(words) < 2:
	case words[0] != serverName && len(words) == 2:
		if v, ok := ofConn[words[1]]; ok {
			return step{verb: v, conn: words[0]}, nil
		}
	case words[0] != serverName:
	case words[1] == "closes" && len(words) == 3:
		return step{verb: closed, conn: words[2]}, nil
	case words[1] == "stops" && len(words) == 2:
		return step{verb: stops}, nil
	case words[1] == "breaks" && len(words) == 2:
		return step{verb: breaks}, nil
	case words[1] == "exits" && len(words) == 3:
		code, err := strconv.Atoi(words[2])
		return step{verb: exits, code: code}, err
	case words[1] == "restarts":
		set, err := parseSettings(words[2:])
		return step{verb: restarts, settings: set}, err
	}
	return step{}, errors.New("not a line of a transcript")
}

func parseSettings(words []string) (settings, error) {
	set := make(settings)
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok || !strings.HasPrefix(name, "SERVER_") {
			return nil, fmt.Errorf("%q is not SERVER_NAME=value", w)
		}
		set[name] = value
	}
	return set, nil
}

// unescape reads the escapes of Go strings: \n \r \t \\ \" \xHH.
func unescape(s string) ([]byte, error) {
	s, err := strconv.Unquote(`"` + strings.TrimSpace(s) + `"`)
	return []byte(s), err
}

// check finds mistakes in a draw that would make its run mean less than it
// says: answers that are no frames, or an error whose connection is not closed
// or kept as the protocol's table has it.
func (d *draw) check() error {
	if len(d.steps) == 0 || d.steps[len(d.steps)-1].verb != exits {
		return errors.New("its last step has to be: S exits CODE")
	}
	stopping := false
	shut := make(map[string]bool)       // by connection: it has ended its side
	last := make(map[string]codec.Code) // by connection: the last thing it was told
	for _, s := range d.steps {
		code, wanted := last[s.conn], stopping || shut[s.conn]
		delete(last, s.conn)
		shut[s.conn] = s.verb == shuts || s.verb == receives && shut[s.conn]
		switch s.verb {
		case stops:
			stopping = true
		case restarts:
			stopping = false
		case receives:
			codes, err := codesIn(s.bytes)
			if err != nil {
				return fmt.Errorf("line %d: %w: %s", s.line, err, s.text)
			}
			last[s.conn] = codes[len(codes)-1]
		case closed:
			if code != codec.CodeNone && !code.Closes() && !wanted {
				return fmt.Errorf("line %d: a connection is kept after %s", s.line, code)
			}
		default:
			if code.Closes() {
				return fmt.Errorf("line %d: a connection is closed after %s", s.line, code)
			}
		}
	}
	return nil
}

// codesIn is the code, or CodeNone, of every frame in b.
func codesIn(b []byte) ([]codec.Code, error) {
	var codes []codec.Code
	for len(b) > 0 {
		payload, rest, ok, err := codec.SplitFrame(b, codec.ReplyBytesMaxDefault)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("the frame %q is not whole", b)
		}
		reply, err := codec.ParseReply(payload)
		if err != nil {
			return nil, err
		}
		codes, b = append(codes, reply.Code), rest
	}
	if codes == nil {
		return nil, errors.New("no frame")
	}
	return codes, nil
}
