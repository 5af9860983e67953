package dataset

import (
	"strings"
	"testing"
)

func TestNamesAreClean(t *testing.T) {
	longestOf := func(names []string) string {
		longest := ""
		seen := make(map[string]bool)
		for _, name := range names {
			if name == "" || strings.ContainsAny(name, "\",|\n\t") {
				t.Errorf("%q is not a legal name", name)
			}
			if seen[name] {
				t.Errorf("%s is in its list twice", name)
			}
			seen[name] = true
			if len(name) > len(longest) {
				longest = name
			}
		}
		return longest
	}
	given := longestOf(givenNames[0])
	if other := longestOf(givenNames[1]); len(other) > len(given) {
		given = other
	}
	family := longestOf(familyNames)
	row := given + " " + given + "," + family + " " + family + ",12345678,1990-12-31,9999\r\n"
	if len(row) > rowBytesMax {
		t.Errorf("a row can have %d bytes, more than rowBytesMax", len(row))
	}
}
