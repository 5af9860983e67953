package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap"
)

const (
	// unknownMax is how many unknown variables get a line of their own. It is enough for typos, and
	// an environment made for another program doesn't flood the log.
	unknownMax = 8
	// unknownNameBytesMax is how much of an unknown name is shown. The longest known names are half
	// as long.
	unknownNameBytesMax = 64
)

// warnOfUnknown warns of variables in the environment that begin with the prefix but are not in the
// configuration: without it a misspelt variable would be ignored silently. Empty variables count as
// unset. Values are not logged, because they may be secrets.
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
		log.Warn("config", zap.String("result", "success"),
			zap.String("variable", name), zap.String("aviso", warning))
	}
	if more := len(unknown) - unknownMax; more > 0 {
		warning := fmt.Sprintf("ignored: %d more variables that begin with %s and don't exist",
			more, prefix)
		log.Warn("config", zap.String("result", "success"), zap.String("aviso", warning))
	}
}

// nearestName is the known name with the smallest edit distance from name. It is empty if the
// distance is too large for a typo: more than a third of the longer name's characters after the
// prefix, which all names have.
func nearestName(name, prefix string, known []string) string {
	nearest, fewest := "", 0
	for _, k := range known {
		length := max(len(name), len(k)) - len(prefix)
		most := (length + 2) / 3
		if surplus := len(name) - len(k); surplus > most || -surplus > most {
			continue
		}
		edits := editDistance(name[len(prefix):], k[len(prefix):])
		if edits <= most && (nearest == "" || edits < fewest) {
			nearest, fewest = k, edits
		}
	}
	return nearest
}

// editDistance is the least number of bytes to insert, remove or replace to turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1) // distances between a prefix of a and all prefixes of b
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
