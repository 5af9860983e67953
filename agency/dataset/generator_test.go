package dataset_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"loteria/agency/dataset"
)

// content returns the CSV of one agency.
func content(tb testing.TB, spec dataset.Spec, agency int) []byte {
	tb.Helper()
	var out bytes.Buffer
	if err := spec.WriteAgency(context.Background(), &out, agency); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func hash(tb testing.TB, spec dataset.Spec) string {
	tb.Helper()
	sum := sha256.New()
	for i := range spec.Agencies {
		sum.Write(content(tb, spec, i+1))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// The hashes hold on every machine and with every release of Go. If you change them on purpose,
// make the bundled dataset again; see the package comment.
func TestContentIsStable(t *testing.T) {
	sized, err := dataset.Sized(7, 1_234)
	if err != nil {
		t.Fatal(err)
	}
	sized.Seed = 1 << 63
	sized.WinningNumber = 0
	for _, test := range []struct {
		name string
		spec dataset.Spec
		want string
	}{
		{"default", dataset.Default(), "a726df9d763763dc0cdd28d73d6ece1490e716d9dbb76a90857984446282b773"},
		{"sized", sized, "0db33ca4e1126f906c97eda7b7462a7370a08c378b35e8385e019a7e6329206e"},
	} {
		if got := hash(t, test.spec); got != test.want {
			t.Errorf("%s: sha256 of all agencies' files is %s, want %s", test.name, got, test.want)
		}
	}
}

func TestSeedsDiffer(t *testing.T) {
	one, two := dataset.Default(), dataset.Default()
	two.Seed++
	if bytes.Equal(content(t, one, 5), content(t, two, 5)) {
		t.Error("two seeds made the same file")
	}
}

func TestAnAgencyDependsOnNoOther(t *testing.T) {
	spec := dataset.Default()
	want := content(t, spec, 5)
	spec.Agencies[0] = dataset.Share{Bets: 3, Winners: 3}
	spec.Agencies = append(spec.Agencies, dataset.Share{Bets: 5})
	if !bytes.Equal(content(t, spec, 5), want) {
		t.Error("agency 5 changed with the others")
	}
}

func TestWinningNumberChangesNumbersOnly(t *testing.T) {
	spec := dataset.Default()
	number := regexp.MustCompile(`(?m)\d+\r$`)
	before := content(t, spec, 4)
	spec.WinningNumber = 3
	after := content(t, spec, 4)
	if bytes.Equal(before, after) {
		t.Error("nothing changed")
	}
	if !bytes.Equal(number.ReplaceAll(before, nil), number.ReplaceAll(after, nil)) {
		t.Error("more than the numbers changed")
	}
}

// TestEveryBetIsValid checks every bet by the protocol's rules and by the dataset's own.
func TestEveryBetIsValid(t *testing.T) {
	sized := func(agencies, bets, winningNumber int) dataset.Spec {
		spec, err := dataset.Sized(agencies, bets)
		if err != nil {
			t.Fatal(err)
		}
		spec.WinningNumber = winningNumber
		return spec
	}
	for name, spec := range map[string]dataset.Spec{
		"default":       dataset.Default(),
		"lowest wins":   sized(3, 20_000, 0),
		"highest wins":  sized(3, 20_000, dataset.NumberMax),
		"all win":       {Agencies: []dataset.Share{{Bets: 1_000, Winners: 1_000}}, WinningNumber: 5},
		"none at all":   {Agencies: []dataset.Share{{}}},
		"one bet, wins": {Agencies: []dataset.Share{{Bets: 1, Winners: 1}}, WinningNumber: 1},
	} {
		t.Run(name, func(t *testing.T) {
			for i, want := range spec.Agencies {
				got := dataset.Share{}
				for _, row := range strings.SplitAfter(string(content(t, spec, i+1)), "\r\n") {
					if row == "" { // after the last line end
						continue
					}
					got.Bets++
					number, err := checkRow(row)
					if err != nil {
						t.Fatalf("agency %d: row %d: %v: %q", i+1, got.Bets, err, row)
					}
					if number == spec.WinningNumber {
						got.Winners++
					}
				}
				if got != want {
					t.Errorf("agency %d: %+v, want %+v", i+1, got, want)
				}
			}
		})
	}
}

var (
	documentPattern = regexp.MustCompile(`^[1-9]\d{7}$`)
	numberPattern   = regexp.MustCompile(`^(0|[1-9]\d{0,3})$`)
	adultFrom       = time.Date(1952, 1, 1, 0, 0, 0, 0, time.UTC)
	adultTo         = time.Date(2006, 12, 31, 0, 0, 0, 0, time.UTC)
)

// checkRow checks a row in a slow and simple way. It returns the bet's number.
func checkRow(row string) (int, error) {
	line, ended := strings.CutSuffix(row, "\r\n")
	fields := strings.Split(line, ",")
	switch {
	case !ended:
		return 0, fmt.Errorf("no CRLF")
	case !utf8.ValidString(line):
		return 0, fmt.Errorf("not UTF-8")
	case strings.ContainsFunc(line, unicode.IsControl) || strings.ContainsAny(line, `|"`):
		return 0, fmt.Errorf("contains a character that the protocol or CSV treats specially")
	case len(fields) != 5:
		return 0, fmt.Errorf("%d columns", len(fields))
	case len(row) > 160:
		return 0, fmt.Errorf("%d bytes, more than the generator reserves", len(row))
	}
	parsed, err := csv.NewReader(strings.NewReader(row)).Read()
	if err != nil {
		return 0, err
	}
	if strings.Join(parsed, ",") != line {
		return 0, fmt.Errorf("encoding/csv reads %q", parsed)
	}
	for _, name := range fields[:2] {
		if len(name) < 1 || len(name) > 128 || name != strings.Join(strings.Fields(name), " ") {
			return 0, fmt.Errorf("name %q", name)
		}
	}
	if !documentPattern.MatchString(fields[2]) {
		return 0, fmt.Errorf("document %q", fields[2])
	}
	birth, err := time.Parse(time.DateOnly, fields[3])
	if err != nil || birth.Before(adultFrom) || birth.After(adultTo) {
		return 0, fmt.Errorf("birthdate %q: %v", fields[3], err)
	}
	if !numberPattern.MatchString(fields[4]) {
		return 0, fmt.Errorf("number %q", fields[4])
	}
	return strconv.Atoi(fields[4])
}

// TestDefaultIsVaried checks that the default dataset has the variety that other tests rely on.
func TestDefaultIsVaried(t *testing.T) {
	spec := dataset.Default()
	rows := make(map[string]bool)
	numbers := make(map[string]bool)
	days := make(map[string]bool)
	var all strings.Builder
	for i := range spec.Agencies {
		for row := range strings.Lines(string(content(t, spec, i+1))) {
			if rows[row] {
				t.Errorf("agency %d: %q occurs twice", i+1, row)
			}
			rows[row] = true
			fields := strings.Split(strings.TrimSpace(row), ",")
			days[fields[3]] = true
			numbers[fields[4]] = true
			all.WriteString(row)
		}
	}
	if len(numbers) < 9_950 || !numbers["0"] || !numbers["9999"] {
		t.Errorf("%d different numbers, the lowest played: %v, the highest: %v", len(numbers), numbers["0"], numbers["9999"])
	}
	if len(days) < 19_000 || !days["2000-02-29"] {
		t.Errorf("%d different days of birth, a leap day among them: %v", len(days), days["2000-02-29"])
	}
	for _, part := range []string{"é", "ñ", "ü", "Ñ", "Á", "D'Angelo", "María José,", ",De la Fuente,"} {
		if !strings.Contains(all.String(), part) {
			t.Errorf("%q occurs nowhere", part)
		}
	}
}

// TestMemoryIsConstant compares a small agency with one a hundred times its size.
func TestMemoryIsConstant(t *testing.T) {
	allocations := func(bets int) float64 {
		spec := dataset.Spec{Agencies: []dataset.Share{{Bets: bets, Winners: bets / 1_000}}}
		return testing.AllocsPerRun(3, func() {
			if err := spec.WriteAgency(context.Background(), io.Discard, 1); err != nil {
				t.Error(err)
			}
		})
	}
	if small, large := allocations(1_000), allocations(100_000); large > small {
		t.Errorf("%.0f allocations for a thousand bets, %.0f for a hundred thousand", small, large)
	}
}

func BenchmarkWriteAgency(b *testing.B) {
	const bets = 1_000_000
	spec := dataset.Spec{Agencies: []dataset.Share{{Bets: bets, Winners: 100}}, WinningNumber: 7574}
	b.ReportAllocs()
	for b.Loop() {
		if err := spec.WriteAgency(context.Background(), io.Discard, 1); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*bets/b.Elapsed().Seconds(), "bets/s")
}
