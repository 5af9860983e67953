package main

import (
	"bytes"
	"context"
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
	"loteria/engine/settings"
)

// clearEnvironment unsets every variable of the program for the test, and every other one that the
// program would warn of.
func clearEnvironment(t testing.TB) {
	t.Helper()
	for _, v := range variables(engine.Config{}, agencyConfig{}, logConfig{}) {
		t.Setenv(v.name, "") // an empty variable counts as unset
	}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "SERVER_") || strings.HasPrefix(name, "AGENCY_") {
			t.Setenv(name, "")
		}
	}
}

// anyPath lists the variables that take any path. The program finds out whether the file is there
// only when it uses it.
var anyPath = map[string]bool{
	"AGENCY_BETS": true, "AGENCY_SECRET_FILE": true, "AGENCY_WINNERS": true,
	"AGENCY_TLS_CA_FILE": true, "AGENCY_TLS_CERT_FILE": true, "AGENCY_TLS_KEY_FILE": true,
	"SERVER_AGENCY_SECRETS_FILE": true, "SERVER_DATA_DIR": true,
	"SERVER_PEER_TLS_CERT_FILE": true, "SERVER_PEER_TLS_KEY_FILE": true, "SERVER_PEER_TLS_CA_FILE": true,
}

// edges has illegal values for variables that are not numbers from a minimum to a maximum.
var edges = map[string][]string{
	"SERVER_ADDR":            {"localhost", "1:2:3", "localhost:99999", ":-1", "localhost:"},
	"SERVER_HTTP_ADDR":       {"localhost", "1:2:3", "localhost:99999", ":-1", "localhost:", ":12345"},
	"SERVER_HTTP_PPROF":      {"yes", "ON"},
	"SERVER_DURABILITY":      {"none", "FSYNC", " fsync", "fsync os"},
	"SERVER_WINNERS":         {"pull", "Push"},
	"SERVER_WINNERS_SCOPE":   {"everyone", "ALL"},
	"SERVER_EXIT_GRACE":      {"10", "-1s", "25h", "soon"},
	"SERVER_DEADLINE":        {"-1s", "0s", "soon", "2026-12-24", "20:00"},
	"SERVER_READ_TIMEOUT":    {"0s", "49ms", "25h", "30"},
	"AGENCY_SERVER":          {"localhost", "1:2:3", "localhost:99999", "localhost:-1", "localhost:"},
	"AGENCY_BATCH_BETS":      {"0", "-1"},
	"AGENCY_RETRY_FOR":       {"-1s", "60", "ever"},
	"AGENCY_TLS_SERVER_NAME": {"server:12345", "256.1.1.1", "[::1]"},
	"AGENCY_SECRET":          {"sesame", "sesame of agency one", "sésamo-de-la-agencia-1"},
	"LOG_LEVEL":              {"loud", "fatal", "panic"},
	"LOG_FORMAT":             {"xml", "Line"},
}

// bounds are the minimum and the maximum of a variable; ok is false if it is not a number with
// both.
func bounds(v variable) (least, most int, ok bool) {
	_, err := fmt.Sscanf(v.legal, "%d to %d", &least, &most)
	return least, most, err == nil && v.legal == fmt.Sprintf("%d to %d", least, most)
}

// illegalValues are illegal values of a variable; none for a variable that takes any path.
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

// The smallest and the largest number that the help calls legal are legal.
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
				if v.name == "SERVER_ID" && value > 0 {
					t.Setenv("SERVER_PEERS", fmt.Sprintf("1=localhost:1,2=localhost:2,%d=localhost:3", value))
				}
				_, errServer := server()
				_, errAgency := agency()
				if err := errors.Join(errServer, errAgency); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// For an illegal value the program prints one line that names the variable, the value and what is
// legal, exits with 1, and opens nothing. settings.CheckAddrs and variables.txtar have the lists of
// addresses, whose line also says which address is wrong.
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
				// The error says the same legal values as the help.
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
	t.Setenv("AGENCY_BETS", "a=b|c") // a value may have any characters
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

// loadEnvironment returns an error of the library that is not about a value as it is.
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

// Every variable has its help and its legal values where it is declared: --help and VARIABLES.md
// take them from there.
func TestVariablesAreDocumented(t *testing.T) {
	for _, v := range variables(engine.Config{}, agencyConfig{}, logConfig{}) {
		half := strings.HasPrefix(v.legal, " to ") || strings.HasSuffix(v.legal, " to ")
		if v.help == "" || half {
			t.Errorf("%s has no help or doesn't say what is legal", v.name)
		}
	}
}

// A variable that the server and other commands share has one default.
func TestDefaultsAreOne(t *testing.T) {
	defaults := map[string]string{}
	for _, v := range variables(engine.Config{}, healthConfig{}, ledgerConfig{}) {
		if one, ok := defaults[v.name]; ok && one != v.defaultValue {
			t.Errorf("%s has the defaults %q and %q", v.name, one, v.defaultValue)
		}
		defaults[v.name] = v.defaultValue
	}
}

// The bounds of a batch, of the window and of the addresses are those of the library.
func TestAgencyBoundsAreTheLibrarys(t *testing.T) {
	for name, want := range map[string]string{
		"AGENCY_BATCH_BYTES": fmt.Sprintf("%d to %d", agency.BatchBytesMin, agency.BatchBytesMax),
		"AGENCY_WINDOW":      fmt.Sprintf("1 to %d", agency.WindowMax),
		"AGENCY_SERVER":      fmt.Sprintf("HOST:PORT, or up to %d different ones separated by commas", agency.AddrsMax),
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

// AGENCY_SERVER takes what the library takes, and less where it takes a host that nobody can have.
func TestAgencyServersAreTheLibrarys(t *testing.T) {
	list := func(n int) string {
		var addrs []string
		for i := range n {
			addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", i+1))
		}
		return strings.Join(addrs, ",")
	}
	for value, legal := range map[string]bool{
		list(1): true, list(2): true, list(agency.AddrsMax): true, list(agency.AddrsMax + 1): false,
		"a:1,": false, ",a:1": false, "a:1,,b:1": false,
		"a:1, b:1": false, "a:1,a:1": false, "a:1,b": false,
	} {
		cfg := settings.Default[agencyConfig]()
		cfg.ID, cfg.Bets, cfg.Server = 1, "bets.csv", value
		err := cfg.validate()
		if (err == nil) != legal || err != nil && !strings.Contains(err.Error(), "AGENCY_SERVER="+value+" ") {
			t.Errorf("AGENCY_SERVER=%s: %v", value, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nothing is dialed
		if _, err := agency.Dial(ctx, value, 1); errors.Is(err, agency.ErrOption) == legal {
			t.Errorf("the library says %v of %s", err, value)
		}
	}
}
