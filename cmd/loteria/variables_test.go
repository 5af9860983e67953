package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"loteria/engine"
)

// place is a file with a line for every variable, except those in own, which the file sets itself.
type place struct {
	file string
	// line matches a variable's line. Its groups are the text before the name, the name, the value,
	// and the text after it, which is written by hand. format makes a line of the four.
	line   *regexp.Regexp
	format string
	value  func(v variable) string
	behind func(v variable) string // the text after the value of a new line
	own    []string
}

var (
	// composeOwn belong to the compose file's mounts and services, and can't be set from outside.
	composeOwn = []string{"AGENCY_ID", "AGENCY_BETS", "SERVER_DATA_DIR"}
	// With several servers, each has its own SERVER_ID in the file that the script writes.
	scriptOwn = append(slices.Clone(composeOwn), "SERVER_ID")

	places = []place{
		{"cmd/loteria/VARIABLES.md", regexp.MustCompile("^()\\| `([A-Z_]+)` \\| ((?:`[^`|]+` )?)(\\| [^ |\n].*\\|)\n$"),
			"%s| `%s` | %s%s\n", tableValue, func(v variable) string { return "| " + v.help + " |" }, nil},
		{"compose/.env", regexp.MustCompile(`^(#?)((?:SERVER|AGENCY|LOG)_[A-Z_]+)=(.*)()\n$`),
			"%s%s=%s%s\n", composeValue, nothing, composeOwn},
		{"generar-compose.sh", regexp.MustCompile(`^(\s+)([A-Z_]+): "\\\$\{[A-Z_]+(:?-[^}"]*)\}"((?: #.*)?)\n$`),
			"%[1]s%[2]s: \"\\${%[2]s%[3]s}\"%[4]s\n", orDefault(scriptValue), nothing, scriptOwn},
		{"compose/docker-compose-dev.yaml", regexp.MustCompile(`^( +)([A-Z_]+): "\$\{[A-Z_]+(:?-[^}"]*)\}"((?: #.*)?)\n$`),
			"%[1]s%[2]s: \"${%[2]s%[3]s}\"%[4]s\n", orDefault(composeValue), nothing, composeOwn},
	}
)

func nothing(variable) string { return "" }

func tableValue(v variable) string {
	if v.defaultValue == "" {
		return ""
	}
	return "`" + v.defaultValue + "` "
}

// orDefault is how a compose file takes a variable's default: also in place of an empty variable, but
// for the one that is empty to switch something off.
func orDefault(value func(variable) string) func(variable) string {
	return func(v variable) string {
		if v.name == "SERVER_HTTP_ADDR" {
			return "-" + value(v)
		}
		return ":-" + value(v)
	}
}

// composeValue is a variable's default in containers.
func composeValue(v variable) string {
	switch v.name {
	case "AGENCY_SERVER":
		return "server:12345"
	case "SERVER_HTTP_ADDR":
		return ":8080" // for the board, when its profile is started
	}
	return v.defaultValue
}

// scriptVariables are those of the script that hold defaults, because these depend on the number of
// agencies or servers.
var scriptVariables = map[string]string{
	"AGENCY_SERVER":     "$addresses",
	"SERVER_AGENCIES":   "$n",
	"SERVER_PEERS":      "$peers",
	"SERVER_PEER_ADDR":  "$peer_addr",
	"SERVER_PEER_PLAIN": "$plain",
}

// scriptValue is a variable's default in the script.
func scriptValue(v variable) string {
	if value, ok := scriptVariables[v.name]; ok {
		return value
	}
	return composeValue(v)
}

// Each place has every variable once, with its default, and no others. A new variable's line goes
// after that of the variable before it in the configuration.
func TestPlacesHaveTheVariables(t *testing.T) {
	for _, p := range places {
		t.Run(p.file, func(t *testing.T) {
			differs := t.Errorf
			if *update {
				differs = t.Logf
			}
			text := readText(t, "../../"+p.file)
			lines := strings.SplitAfter(text, "\n")
			at := map[string]int{}
			for i, line := range lines {
				if parts := p.line.FindStringSubmatch(line); parts != nil {
					if _, twice := at[parts[2]]; twice {
						t.Errorf("line %d: %s is there twice", i+1, parts[2])
					}
					at[parts[2]] = i
				}
			}
			last, before := 0, "" // the line of the previous variable, and its text before the name
			for _, v := range variables(engine.Config{}, agencyConfig{}, logConfig{}) {
				if slices.Contains(p.own, v.name) {
					continue
				}
				i, found := at[v.name]
				delete(at, v.name)
				behind := p.behind(v)
				if found {
					parts := p.line.FindStringSubmatch(lines[i])
					last, before, behind = i, parts[1], parts[4]
				} else {
					before = strings.TrimPrefix(before, "#")
				}
				want := fmt.Sprintf(p.format, before, v.name, p.value(v), behind)
				switch {
				case !found:
					lines[last] += want // the next new line goes after it
					differs("after line %d: want\n%s", last+1, want)
				case lines[i] != want:
					lines[i] = want
					differs("line %d: want\n%s", i+1, want)
				}
			}
			for name, i := range at {
				t.Errorf("line %d: the program has no variable %s", i+1, name)
			}
			if changed := strings.Join(lines, ""); *update && changed != text {
				if err := os.WriteFile("../../"+p.file, []byte(changed), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if changed != text {
				t.Log("go test ./cmd/loteria -run Places -update writes these lines")
			}
		})
	}
}
