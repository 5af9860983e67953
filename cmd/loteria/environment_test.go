package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"

	"loteria/agency"
	"loteria/codec"
	"loteria/engine"
)

// clearEnvironment unsets every variable of the program for the test, and those
// that could be taken for one.
func clearEnvironment(t testing.TB) {
	t.Helper()
	for _, v := range variables(engine.Config{}, agencyConfig{}, logConfig{}) {
		t.Setenv(v.name, "") // an empty variable is as good as none
	}
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "SERVER_") || strings.HasPrefix(name, "AGENCY_") {
			t.Setenv(name, "")
		}
	}
}

// anyPath lists the variables whose every value is a path: whether something
// is there shows only when it is used.
var anyPath = map[string]bool{
	"AGENCY_BETS": true, "AGENCY_SECRET_FILE": true, "AGENCY_WINNERS": true,
	"SERVER_AGENCY_SECRETS_FILE": true, "SERVER_DATA_DIR": true,
}

// edges has more values that are not legal, for variables that have no least and
// most number.
var edges = map[string][]string{
	"SERVER_ADDR":          {"localhost", "1:2:3", "localhost:99999", ":-1", "localhost:"},
	"SERVER_DURABILITY":    {"none", "FSYNC", " fsync", "fsync os"},
	"SERVER_WINNERS":       {"pull", "Push"},
	"SERVER_WINNERS_SCOPE": {"everyone", "ALL"},
	"SERVER_EXIT_GRACE":    {"10", "-1s", "25h", "soon"},
	"SERVER_DEADLINE":      {"-1s", "0s", "soon", "2026-12-24", "20:00"},
	"SERVER_READ_TIMEOUT":  {"0s", "49ms", "25h", "30"},
	"AGENCY_SERVER":        {"localhost", "1:2:3", "localhost:99999", "localhost:-1", "localhost:"},
	"AGENCY_BATCH_BETS":    {"0", "-1"},
	"AGENCY_RETRY_FOR":     {"-1s", "60", "ever"},
	"AGENCY_SECRET":        {"sesame", "sesame of agency one", "sésamo-de-la-agencia-1"},
	"LOG_LEVEL":            {"loud", "fatal", "panic"},
	"LOG_FORMAT":           {"xml", "Line"},
}

// bounds are the least and the most of a variable, if it is a number that has both.
func bounds(v variable) (least, most int, ok bool) {
	_, err := fmt.Sscanf(v.legal, "%d to %d", &least, &most)
	return least, most, err == nil && v.legal == fmt.Sprintf("%d to %d", least, most)
}

// illegalValues are values of a variable, unless it takes any path, that are not legal.
func illegalValues(v variable) []string {
	if anyPath[v.name] {
		return nil
	}
	values := append([]string{"what?"}, edges[v.name]...)
	if least, most, ok := bounds(v); ok {
		values = append(values, strconv.Itoa(least-1), strconv.Itoa(most+1))
		values = append(values, "1.5", "64k", "99999999999999999999")
	}
	return values
}

// Every number that help says is legal is taken.
func TestBoundsAreLegal(t *testing.T) {
	server, agency := loaded(engine.Config.Validate), loaded(agencyConfig.validate)
	for _, v := range variables(engine.Config{}, agencyConfig{}) {
		least, most, ok := bounds(v)
		if !ok {
			continue
		}
		for _, value := range []int{least, most} {
			t.Run(fmt.Sprintf("%s=%d", v.name, value), func(t *testing.T) {
				clearEnvironment(t)
				t.Setenv("AGENCY_ID", "1")
				t.Setenv("AGENCY_BETS", "bets.csv")
				t.Setenv(v.name, strconv.Itoa(value))
				_, errServer := server()
				_, errAgency := agency()
				if err := errors.Join(errServer, errAgency); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A wrong variable is one clear line that names the variable,
// its value and what is legal, and exit code 1. Nothing is opened.
func TestIllegalValues(t *testing.T) {
	for _, v := range variables(engine.Config{}, agencyConfig{}, logConfig{}) {
		name := v.name
		for _, value := range illegalValues(v) {
			t.Run(name+"="+value, func(t *testing.T) {
				clearEnvironment(t)
				dir := t.TempDir()
				t.Setenv("SERVER_DATA_DIR", filepath.Join(dir, "data"))
				t.Setenv("AGENCY_ID", "1")
				t.Setenv("AGENCY_BETS", filepath.Join(dir, "bets.csv"))
				t.Setenv(name, value)
				command := "server"
				if strings.HasPrefix(name, "AGENCY_") {
					command = "agency"
				}
				var stdout, stderr bytes.Buffer
				code := run([]string{command}, &stdout, &stderr)
				said := stdout.String() + stderr.String()
				if code != exitInput {
					t.Errorf("exit code %d, want %d", code, exitInput)
				}
				if strings.Count(said, "\n") != 1 || !strings.HasSuffix(said, "\n") {
					t.Errorf("want one line")
				}
				shown := value
				if d, err := time.ParseDuration(value); err == nil && strings.ContainsAny(value, "smh") {
					shown = d.String() // 25h is shown as 25h0m0s
				}
				if name == "AGENCY_SECRET" {
					shown = codec.SecretShown
					if strings.Contains(said, value) {
						t.Error("the line says the secret")
					}
				}
				if !strings.Contains(said, name+"="+shown+" is not legal: want ") {
					t.Errorf("the line doesn't name %s=%s", name, shown)
				}
				// What help says is legal is what the error says.
				_, want, _ := strings.Cut(said, "want ")
				for word := range strings.FieldsSeq(strings.TrimPrefix(v.legal, "a duration, ")) {
					if !strings.Contains(want, strings.Trim(word, ",")) {
						t.Errorf("the line doesn't say %q of %q", word, v.legal)
					}
				}
				if t.Failed() {
					t.Log(said)
				}
				if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
					t.Error("the data directory was made")
				}
			})
		}
	}
}

func TestLoadEnvironment(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("AGENCY_ID", "7")
	t.Setenv("AGENCY_BETS", "a=b|c") // a value may have anything in it
	t.Setenv("AGENCY_RETRY_FOR", "1m30s")
	t.Setenv("AGENCY_WINDOW", "") // the default
	var got agencyConfig
	if err := loadEnvironment(&got); err != nil {
		t.Fatal(err)
	}
	want := agencyConfig{
		ID: 7, Server: "localhost:12345", Bets: "a=b|c", RetryFor: 90e9,
		BatchBets: agency.BatchBetsDefault, BatchBytes: agency.BatchBytesDefault,
		Window: agency.WindowDefault, ReplyBytesMax: codec.ReplyBytesMaxDefault,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// An error of the library that is not about a value is passed on as it is.
func TestLoadEnvironmentOtherError(t *testing.T) {
	config := struct {
		Missing string `env:"LOTERIA_TEST_MISSING,required"`
	}{}
	err := loadEnvironment(&config)
	if err == nil || !strings.Contains(err.Error(), "LOTERIA_TEST_MISSING") {
		t.Errorf("error %v", err)
	}
	if _, ok := err.(env.AggregateError); !ok {
		t.Errorf("error of type %T", err)
	}
}

// Every variable is documented where it is declared: help and VARIABLES.md rely on it.
func TestVariablesAreDocumented(t *testing.T) {
	for _, v := range variables(engine.Config{}, agencyConfig{}, logConfig{}) {
		half := strings.HasPrefix(v.legal, " to ") || strings.HasSuffix(v.legal, " to ")
		if v.help == "" || half {
			t.Errorf("%s has no help or doesn't say what is legal", v.name)
		}
	}
}

// The server and the commands that look at it have the same defaults.
func TestDefaultsAreOne(t *testing.T) {
	defaults := map[string]string{}
	for _, v := range variables(engine.Config{}, healthConfig{}, ledgerConfig{}, exportConfig{}) {
		if one, ok := defaults[v.name]; ok && one != v.defaultValue {
			t.Errorf("%s has the defaults %q and %q", v.name, one, v.defaultValue)
		}
		defaults[v.name] = v.defaultValue
	}
}

// A batch and a window are what the library takes, no more and no less.
func TestAgencyBoundsAreTheLibrarys(t *testing.T) {
	for name, want := range map[string]string{
		"AGENCY_BATCH_BYTES": fmt.Sprintf("%d to %d", agency.BatchBytesMin, agency.BatchBytesMax),
		"AGENCY_WINDOW":      fmt.Sprintf("1 to %d", agency.WindowMax),
	} {
		found := false
		for _, v := range variables(agencyConfig{}) {
			if v.name != name {
				continue
			}
			found = true
			if v.legal != want {
				t.Errorf("%s takes %s, want %s", name, v.legal, want)
			}
		}
		if !found {
			t.Errorf("no variable %s", name)
		}
	}
}
