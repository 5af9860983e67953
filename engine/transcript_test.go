package engine_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"loteria/codec"
)

// cutsAtOnce is how many servers run beside each other in one draw's cuts.
const cutsAtOnce = 4

// processors has a place for each.
var processors = make(chan struct{}, runtime.GOMAXPROCS(0))

// inTurn is t.Parallel for tests that have to be quicker than a time-out: no more of them run at once
// than there are processors.
func inTurn(t *testing.T) {
	t.Parallel()
	processors <- struct{}{}
	t.Cleanup(func() { <-processors })
}

// strideEnv sets how far apart the places are at which TestTranscripts cuts; strideDefault if it isn't
// set. The first cutHeader places, in and just behind a frame's header, are all tried.
//
//	LOTERIA_STRIDE=1 go test ./engine -run '^TestTranscripts$'
const (
	strideEnv     = "LOTERIA_STRIDE"
	strideDefault = 7
	cutHeader     = 4
)

// TestTranscripts plays every transcript against real servers over real
// sockets: everything that is sent as one write, byte by byte, and cut in two
// at many places, or at every one. However it arrives, every byte of every answer and the
// ledger have to be the same.
//
// Over TLS it has to be the same, also if every byte is a record.
func TestTranscripts(t *testing.T) {
	secure := newSecureEnds(t)
	for _, d := range transcripts(t) {
		t.Run(d.file+"/"+d.name, func(t *testing.T) {
			inTurn(t)
			t.Run("whole", func(t *testing.T) { playOnce(t, &d, manner{split: whole, patience: patience}) })
			// What the disk does doesn't depend on cuts, and takes most of the time.
			t.Run("bytes", func(t *testing.T) {
				playOnce(t, &d, manner{split: everyByte, volatile: true, patience: patience})
			})
			t.Run("TLS", func(t *testing.T) {
				playOnce(t, &d, manner{split: whole, volatile: true, patience: patience, secure: secure})
				playOnce(t, &d, manner{split: everyByte, volatile: true, patience: patience, secure: secure})
			})
			t.Run("cuts", func(t *testing.T) {
				playCuts(t, &d, manner{volatile: true, patience: patience})
			})
		})
	}
}

func playOnce(t *testing.T, d *draw, m manner) {
	t.Helper()
	dir, remove, err := tempDir(t.TempDir())
	if err == nil {
		err = errors.Join(d.run(dir, m), remove())
	}
	if err != nil {
		t.Error(err)
	}
}

// playCuts plays the draw once for each offset at which its sends are cut: all
// of them that are long enough.
func playCuts(t *testing.T, d *draw, m manner) {
	longest := 0
	for _, s := range d.steps {
		if s.verb == sends {
			longest = max(longest, len(s.bytes))
		}
	}
	stride := strideDefault
	if v := os.Getenv(strideEnv); v != "" {
		var err error
		if stride, err = strconv.Atoi(v); err != nil || stride <= 0 {
			t.Fatalf("%s=%s: want a distance in bytes", strideEnv, v)
		}
	}
	parent := t.TempDir()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, cutsAtOnce)
	for offset := 1; offset < longest && !t.Failed(); offset++ {
		if offset > cutHeader && offset%stride > 0 {
			continue
		}
		slots <- struct{}{}
		m := m
		m.split = cutAt(offset)
		wg.Go(func() {
			defer func() { <-slots }()
			dir, remove, err := tempDir(parent)
			if err == nil {
				err = errors.Join(d.run(dir, m), remove())
			}
			if err != nil {
				t.Errorf("cut at %d: %v", offset, err)
			}
		})
	}
}

// TestTranscriptsHaveEveryError: every row of the protocol's table of errors
// has a transcript. That the connection is closed or kept as the table says is
// checked when a transcript is read.
func TestTranscriptsHaveEveryError(t *testing.T) {
	seen := make(map[codec.Code]bool)
	for _, d := range transcripts(t) {
		for _, s := range d.steps {
			if s.verb != receives {
				continue
			}
			codes, err := codesIn(s.bytes)
			if err != nil {
				t.Fatalf("%s.txt:%d: %v", d.file, s.line, err)
			}
			for _, c := range codes {
				seen[c] = true
			}
		}
	}
	for _, c := range codec.Codes() {
		if c == codec.CodeNotLeader {
			continue // a server that is alone, as those of the transcripts are, never sends it
		}
		if !seen[c] {
			t.Errorf("no transcript says %s", c)
		}
	}
}

// TestTranscriptsNotice: a transcript that says something else than what
// happens fails, where it differs.
func TestTranscriptsNotice(t *testing.T) {
	const right = `
		draw example SERVER_AGENCIES=1
		A -> S  27\nAna|Paz|1|1990-01-01|7574|1
		S -> A  3\nACK
		A -> S  13\nGET_WINNERS|1
		S -> A  27\nAna|Paz|1|1990-01-01|7574|1
		A closes
		S exits 0
		stored Ana|Paz|1|1990-01-01|7574|1
		drawn`
	for _, tt := range []struct {
		name, old, new string
		want           string // in the error
	}{
		{"right", "", "", ""},
		{"another answer", `S -> A  3\nACK`, `S -> A  3\nACC`, `got "3\nACK"`},
		{"a close that doesn't come", `A closes`, "S closes A", "timeout"},
		{"an answer that is not expected", `S -> A  27\nAna|Paz|1|1990-01-01|7574|1`, ``, `want nothing more`},
		{"an answer that doesn't come", `S -> A  3\nACK`, `S -> A  3\nACK3\nACK`, `got "3\nACK"`},
		{"another exit code", `S exits 0`, `S exits 3`, "exit code is 0"},
		{"an open connection", `A closes`, ``, `leaves ["A"] open`},
		{"fewer bets", `stored Ana|Paz|1|1990-01-01|7574|1`, ``, "the ledger holds"},
		{"another bet", `stored Ana`, `stored Eva`, "the ledger holds"},
		{"no draw", `		drawn`, ``, "drawn: true"},
		{"half a frame", `S -> A  3\nACK`, `S -> A  3\nAC`, "is not whole"},
		{"an error that doesn't close", `S -> A  3\nACK`, `S -> A  13\nERROR_TIMEOUT`, "is closed after"},
		{"an error that closes", `S -> A  3\nACK`, "S -> A  19\\nERROR_INVALID_BATCH\nS closes A", "is kept after"},
		{"an unknown line", `S exits 0`, `S sleeps`, "not a line"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inTurn(t)
			patience := patience
			if strings.HasSuffix(tt.name, "that doesn't come") {
				patience = patienceShort
			}
			err := playText(t.TempDir(), strings.Replace(right, tt.old, tt.new, 1), patience)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("the error is %v, want one that says %s", err, tt.want)
			}
		})
	}
}

// Blanks are held to what they stand for.
func TestTranscriptsNoticeBlanks(t *testing.T) {
	const right = `
		draw example SERVER_AGENCIES=1
		secret 1 sesame-of-agency-1
		A -> S  6\nAUTH|1
		S -> A  74\nCHALLENGE|{challenge}
		A -> S  70\nPROOF|{proof 1 sesame-of-agency-1}
		S -> A  13\nAUTHENTICATED
		A -> S  13\nGET_WINNERS|1
		S -> A  0\n
		A closes
		S exits 0
		drawn`
	for _, tt := range []struct {
		name, old, new string
		want           string // in the error
	}{
		{"right", "", "", ""},
		{"another secret", "{proof 1 sesame-of-agency-1}", "{proof 1 sesame-of-agency-2}", "ERROR_AUTHENT"},
		{"another agency", "{proof 1 ", "{proof 2 ", "ERROR_AUTHENT"},
		{"another connection's, which there is not", "-1}", "-1 B}", "B was not challenged"},
		{"a challenge that is sent", "{proof 1 sesame-of-agency-1}", "{challenge}", "no proof"},
		{"a proof that is received", "{challenge}", "{proof 1 sesame-of-agency-1}", "want {challenge}"},
		{"a secret that is none", "{proof 1 sesame-of-agency-1}", "{proof 1 sesame}", "secret is not legal"},
		{"no secrets", "secret 1 sesame-of-agency-1", "", "ERROR_INVALID_BATCH"},
		{"something else than a challenge", "CHALLENGE|", "challenge|", `got "74\nC`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inTurn(t)
			err := playText(t.TempDir(), strings.Replace(right, tt.old, tt.new, 1), patience)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("the error is %v, want one that says %q", err, tt.want)
			}
		})
	}
}

// patienceShort is for answers that are known not to come. Those before them have to come in time.
const patienceShort = 3 * time.Second

func playText(dir, text string, patience time.Duration) error {
	draws, err := parseTranscript("example", text)
	if err != nil {
		return err
	}
	if len(draws) != 1 {
		return fmt.Errorf("%d draws", len(draws))
	}
	return draws[0].run(dir, manner{split: whole, patience: patience})
}
