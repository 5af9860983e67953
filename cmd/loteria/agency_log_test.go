package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"loteria/agency"
	"loteria/codec"
)

var update = flag.Bool("update", false, "write golden files anew, and the lines of variables that VARIABLES.md and what compose needs lack")

// alike replaces what differs between two runs of an agency: times and ports.
func alike(log string) string {
	for _, unlike := range []struct{ found, shown string }{
		{`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d `, "2026-11-23 10:00:00 "},
		{`"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"`, `"time":"2026-11-23T10:00:00Z"`},
		{`127\.0\.0\.1:\d{4,5}\b`, "127.0.0.1:12345"},
	} {
		log = regexp.MustCompile(unlike.found).ReplaceAllString(log, unlike.shown)
	}
	return log
}

// agencyLog is the log of three agencies: one without a server, one without bets, and one whose
// server closes the connection before it takes the receipt.
func agencyLog(t *testing.T, format logConfig) string {
	t.Helper()
	var out bytes.Buffer
	log, closeLog, err := newLogger(format, &out)
	if err != nil {
		t.Fatal(err)
	}
	run := func(s *lonelyServer, want error, change func(*agencyConfig)) {
		t.Helper()
		cfg := s.config(change)
		ownLog := log.With(cfg.logFields()...)
		_, err := runAgency(t.Context(), cfg, ownLog, agencyHooks{})
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
		_ = logExit(ownLog, err) // it returns err again
	}
	folder := t.TempDir()
	bets := func(name, rows string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(rows), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}

	gone := startLonelyServer(t)
	gone.stop()
	run(gone, agency.ErrUnreachable, func(cfg *agencyConfig) { cfg.RetryFor = 0 })

	run(startLonelyServer(t), nil, func(cfg *agencyConfig) {
		cfg.Bets = bets(`sin "apuestas"|ñandú.csv`, "")
	})

	breaking := startLonelyServer(t)
	answers := [][]byte{nil, codec.AppendError(nil, codec.CodeStorage, ""), codec.AppendAck(nil)}
	breaking.received = func() []byte {
		answer := answers[0]
		answers = answers[1:]
		return answer
	}
	run(breaking, nil, func(cfg *agencyConfig) {
		cfg.BatchBets = 2
		cfg.Bets = bets("bets.csv", strings.Repeat("Juan,Pérez,12345678,1990-05-23,7574\n", 3))
	})

	if err := closeLog(); err != nil {
		t.Fatal(err)
	}
	return alike(strings.ReplaceAll(out.String(), folder+"/", ""))
}

// Other programs parse an agency's log lines, so they stay byte for byte as in the golden files.
func TestAgencyLog(t *testing.T) {
	for _, format := range []string{"line", "json"} {
		t.Run(format, func(t *testing.T) {
			golden := filepath.Join("testdata", "agencylog", format+".txt")
			got := agencyLog(t, logConfig{Level: "debug", Format: format})
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("agencies log\n%s\nwant %s:\n%s", got, golden, want)
			}
		})
	}
}

// LOG_LEVEL only leaves out lines; it changes none.
func TestAgencyLogLevels(t *testing.T) {
	all, err := os.ReadFile(filepath.Join("testdata", "agencylog", "line.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for level, left := range map[string]*regexp.Regexp{
		"info":  regexp.MustCompile(` (INFO|WARN|ERROR) `),
		"warn":  regexp.MustCompile(` (WARN|ERROR) `),
		"error": regexp.MustCompile(` ERROR `),
	} {
		t.Run(level, func(t *testing.T) {
			var want strings.Builder
			for line := range strings.Lines(string(all)) {
				if left.MatchString(line) {
					want.WriteString(line)
				}
			}
			if got := agencyLog(t, logConfig{Level: level, Format: "line"}); got != want.String() {
				t.Errorf("agencies log\n%s\nwant\n%s", got, want.String())
			}
		})
	}
}
