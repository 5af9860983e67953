package main

import (
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"loteria/engine"
)

// documented are all the variables that server and agency are configured with.
func documented() map[string]string {
	defaults := map[string]string{}
	for _, v := range variables(engine.Config{}, agencyConfig{}, logConfig{}) {
		defaults[v.name] = v.defaultValue
	}
	return defaults
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// row is one of the README's rows about a variable:
//
//	| `SERVER_ADDR` | `:12345` | address to listen on |
var row = regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| (?:`([^`|]+)` )?\\| [^ |\n].*\\|$")

// The README's tables have every variable with its default, once, and no other.
func TestReadmeHasTheVariables(t *testing.T) {
	want := documented()
	for _, found := range row.FindAllStringSubmatch(readText(t, "../../README.md"), -1) {
		name, value := found[1], found[2]
		defaultValue, ok := want[name]
		switch {
		case !ok:
			t.Errorf("README.md: %s is no variable of the program, or it stands there twice", name)
		case value != defaultValue:
			t.Errorf("README.md: %s has the default %q, want %q", name, value, defaultValue)
		}
		delete(want, name)
	}
	for name, defaultValue := range want {
		t.Errorf("README.md: want a row | `%s` | `%s` | meaning |", name, defaultValue)
	}
}

// Variables that go with the compose file's mounts and services have their
// values there, and can't be set from outside.
var composeOwn = map[string]string{
	"AGENCY_ID":       "1",
	"AGENCY_BETS":     "/bets:/dataset.zip",
	"SERVER_DATA_DIR": "/data/agencies-${SERVER_AGENCIES:-5}",
}

// composeDefaults are defaults that are others between containers.
var composeDefaults = map[string]string{"AGENCY_SERVER": "server:12345"}

var (
	composeSetting = regexp.MustCompile(`(?m)^ +([A-Z]+_[A-Z_]+): (?:"([^"]*)"|(\S+))(?: #.*)?$`)
	dotenvSetting  = regexp.MustCompile(`(?m)^#?((?:SERVER|AGENCY|LOG)_[A-Z_]+)=(.*)$`)
)

// In the compose file every variable can be set from outside, or has the
// compose file's own value.
func TestComposeFileHasTheVariables(t *testing.T) {
	want := documented()
	for name, defaultValue := range want {
		if other, ok := composeDefaults[name]; ok {
			defaultValue = other
		}
		want[name] = "${" + name + ":-" + defaultValue + "}"
		if own, ok := composeOwn[name]; ok {
			want[name] = own
		}
	}
	text := readText(t, "../../compose/docker-compose-dev.yaml")
	text, _, _ = strings.Cut(text, "\n  client2:") // one agency stands for all
	for _, found := range composeSetting.FindAllStringSubmatch(text, -1) {
		name, value := found[1], found[2]+found[3]
		if want[name] != value {
			t.Errorf("compose file: %s: %s, want %s", name, value, want[name])
		}
		delete(want, name)
	}
	for name, value := range want {
		t.Errorf("compose file: want %s: %s", name, value)
	}
}

// compose/.env has every variable that can be set from outside, at its default.
func TestDotenvHasTheVariables(t *testing.T) {
	want := documented()
	for name := range composeOwn {
		delete(want, name)
	}
	for _, found := range dotenvSetting.FindAllStringSubmatch(readText(t, "../../compose/.env"), -1) {
		name, value := found[1], found[2]
		defaultValue, ok := want[name]
		if other, isOther := composeDefaults[name]; isOther {
			defaultValue = other
		}
		if !ok || value != defaultValue {
			t.Errorf("compose/.env: %s=%s, want %q (and only variables that can be set from outside, once)", name, value, defaultValue)
		}
		delete(want, name)
	}
	for name, value := range want {
		t.Errorf("compose/.env: want %s=%s", name, value)
	}
}

var (
	// handSection is the README's section in which printf is an agency, handServer
	// what sets its server, and handAgency what is said and answered.
	handSection = regexp.MustCompile(`(?ms)^## Say hello by hand$.*?^## `)
	handServer  = regexp.MustCompile(`(?m)^    \$ ([A-Z_]+=.*) \./loteria server &$`)
	handAgency  = regexp.MustCompile(`(?ms)^    \$ printf '%b' (.*?) \| nc localhost 12345\n(.*?)\n\n`)
	handFrame   = regexp.MustCompile(`'([^']*)'`)
)

// What the README says by hand, and what it is answered, is what a server
// answers, byte for byte.
func TestReadmeSaysHelloByHand(t *testing.T) {
	section := handSection.FindString(readText(t, "../../README.md"))
	settings, said := handServer.FindStringSubmatch(section), handAgency.FindStringSubmatch(section)
	if settings == nil || said == nil {
		t.Fatal("README.md: the section doesn't look as this test expects it")
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("localhost", strconv.Itoa(port))
	environment := strings.Fields(strings.Replace(settings[1], "$(mktemp -d)", t.TempDir(), 1))
	// The last one counts, and this test waits for a line of the log.
	environment = append(environment, "SERVER_ADDR="+addr, "LOG_LEVEL=info")
	server, err := startLoteria(t.TempDir(), "server", environment...)
	if err != nil {
		t.Fatal(err)
	}
	defer server.kill()
	listening := regexp.MustCompile(`action: accept_connections \| result: in_progress`)
	if err := server.stdout.await(listening, 1, server.ended); err != nil {
		t.Fatalf("%v; it said:\n%s", err, server.stdout)
	}

	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(eventTimeout)); err != nil {
		t.Fatal(err)
	}
	var frames strings.Builder
	for _, frame := range handFrame.FindAllStringSubmatch(said[1], -1) {
		frames.WriteString(strings.ReplaceAll(frame[1], `\n`, "\n"))
	}
	if _, err := io.WriteString(nc, frames.String()); err != nil {
		t.Fatal(err)
	}
	answers, err := io.ReadAll(nc)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(strings.TrimPrefix(said[2], "    "), "\n    ", "\n")
	if string(answers) != want {
		t.Errorf("the server answers\n%s\nREADME.md says\n%s", answers, want)
	}
	if err := nc.Close(); err != nil {
		t.Error(err)
	}
	if code, err := server.wait(); code != exitDone || err != nil {
		t.Errorf("exit code %d, %v; it said:\n%s%s", code, err, server.stdout, server.stderr)
	}
}
