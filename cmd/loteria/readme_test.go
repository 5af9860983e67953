package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

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
