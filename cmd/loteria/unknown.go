package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap"
)

const (
	// unknownMax is how many unknown variables are warned about one by one. A
	// typo or two have their lines; an environment that was made for something else
	// doesn't flood the log.
	unknownMax = 8
	// unknownNameBytesMax is how much of such a name is shown. The longest known
	// ones are half of it.
	unknownNameBytesMax = 64
)

// warnOfUnknown warns of variables in the environment that begin with the prefix
// and are none of the configuration's: a misspelt one would be ignored silently.
// Empty ones are as good as unset. Values are not logged; they may be secrets.
func warnOfUnknown(log *zap.Logger, prefix string, configuration any) {
	var known []string
	for _, v := range variables(configuration) {
		known = append(known, v.name)
	}
	var unknown []string
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, prefix) && value != "" && !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	unknown = slices.Compact(unknown)
	for _, name := range unknown[:min(len(unknown), unknownMax)] {
		warning := "ignored: there is no such variable"
		if meant := nearestName(name, prefix, known); meant != "" {
			warning += "; did you mean " + meant + "?"
		}
		if len(name) > unknownNameBytesMax {
			name = name[:unknownNameBytesMax] + "..."
		}
		log.Warn("config", zap.String("result", "success"), zap.String("variable", name), zap.String("aviso", warning))
	}
	if more := len(unknown) - unknownMax; more > 0 {
		log.Warn("config", zap.String("result", "success"),
			zap.String("aviso", fmt.Sprintf("ignored: %d more variables that begin with %s and don't exist", more, prefix)))
	}
}

// nearestName is the known name that the fewest edits make of name, or empty if
// that would take too many to be a typo: more than one in three characters of
// the longer one behind the prefix, which all names have.
func nearestName(name, prefix string, known []string) string {
	nearest, fewest := "", 0
	for _, k := range known {
		length := max(len(name), len(k)) - len(prefix)
		most := (length + 2) / 3
		if surplus := len(name) - len(k); surplus > most || -surplus > most {
			continue
		}
		if edits := editDistance(name[len(prefix):], k[len(prefix):]); edits <= most && (nearest == "" || edits < fewest) {
			nearest, fewest = k, edits
		}
	}
	return nearest
}

// editDistance is how many bytes have to be inserted, removed or replaced to
// make b of a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1) // distances of a's beginning to b's beginnings
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
