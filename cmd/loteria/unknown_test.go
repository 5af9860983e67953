package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"loteria/engine"
)

// nearestName finds the meant name for a misspelt one, and none for another word.
func TestNearestName(t *testing.T) {
	for _, test := range []struct {
		prefix, name, want string
		configuration      any
	}{
		{"SERVER_", "SERVER_AGENCES", "SERVER_AGENCIES", engine.Config{}},
		{"SERVER_", "SERVER_AGENCY", "SERVER_AGENCIES", engine.Config{}},
		{"SERVER_", "SERVER_ADDRESS", "SERVER_ADDR", engine.Config{}},
		{"SERVER_", "SERVER_ADR", "SERVER_ADDR", engine.Config{}},
		{"SERVER_", "SERVER_DATADIR", "SERVER_DATA_DIR", engine.Config{}},
		{"SERVER_", "SERVER_WINNER", "SERVER_WINNERS", engine.Config{}},
		{"SERVER_", "SERVER_WINNERS_SCOP", "SERVER_WINNERS_SCOPE", engine.Config{}},
		{"SERVER_", "SERVER_AGENCY_SECRET_FILE", "SERVER_AGENCY_SECRETS_FILE", engine.Config{}},
		{"SERVER_", "SERVER_agencies", "", engine.Config{}},
		{"SERVER_", "SERVER_PORT", "", engine.Config{}},
		{"SERVER_", "SERVER_", "", engine.Config{}},
		{"SERVER_", "SERVER_" + strings.Repeat("AGENCIES", 10_000), "", engine.Config{}},
		{"AGENCY_", "AGENCY_IDD", "AGENCY_ID", agencyConfig{}},
		{"AGENCY_", "AGENCY_NO", "", agencyConfig{}},
		{"AGENCY_", "AGENCY_BET", "AGENCY_BETS", agencyConfig{}},
		{"AGENCY_", "AGENCY_BTES", "AGENCY_BETS", agencyConfig{}},
		{"AGENCY_", "AGENCY_SECRETS", "AGENCY_SECRET", agencyConfig{}},
		{"AGENCY_", "AGENCY_BATCH_SIZE", "AGENCY_BATCH_BETS", agencyConfig{}},
		{"AGENCY_", "AGENCY_COMPANY", "", agencyConfig{}},
	} {
		var known []string
		for _, v := range variables(test.configuration) {
			known = append(known, v.name)
		}
		if got := nearestName(test.name, test.prefix, known); got != test.want {
			t.Errorf("%.40s is near %q, want %q", test.name, got, test.want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "ABC", 3},
		{"ABC", "ABC", 0},
		{"ABC", "ABD", 1},
		{"ABC", "AC", 1},
		{"BETS", "BTES", 2},
		{"KITTEN", "SITTING", 3},
		{"AGENCY", "AGENCIES", 3},
	} {
		got, back := editDistance(test.a, test.b), editDistance(test.b, test.a)
		if got != test.want || back != test.want {
			t.Errorf("%q and %q are %d and %d apart, want %d", test.a, test.b, got, back, test.want)
		}
	}
}

// The warnings are few, short and whole lines without values, for any number of variables and any
// names.
func TestUnknownVariablesAreBounded(t *testing.T) {
	clearEnvironment(t)
	for n := range 100 {
		name := fmt.Sprintf("SERVER_X%02d | action: sorteo\n%s", n, strings.Repeat("y", 1000))
		t.Setenv(name, "a-value-of-nobody")
	}
	var out bytes.Buffer
	log, closeLog, err := newLogger(logConfig{Level: "info", Format: "line"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	warnOfUnknown(log, "SERVER_", engine.Config{})
	if err := closeLog(); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(out.String(), "\n"); lines != unknownMax+1 {
		t.Errorf("%d lines, want %d", lines, unknownMax+1)
	}
	for line := range strings.Lines(out.String()) {
		action, _, values, err := parseLine(strings.TrimSuffix(line, "\n"))
		if err != nil || action != "config" || values["aviso"] == "" || len(line) > 300 {
			t.Errorf("%q, %v", line, err)
		}
	}
	want := fmt.Sprintf("ignored: %d more variables that begin with SERVER_", 100-unknownMax)
	if !strings.Contains(out.String(), want) {
		t.Errorf("nothing says %q", want)
	}
	if strings.Contains(out.String(), "nobody") {
		t.Error("a value is logged")
	}
}
