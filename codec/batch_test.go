package codec

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const (
	juan  = "Juan|Pérez|12345678|1990-05-23|7574|1"
	maria = "María|Gómez|87654321|1985-07-10|2311|1"
)

func TestParseBatch(t *testing.T) {
	invalid := func(line int) outcome { return outcome{code: CodeInvalidBatch, line: line} }
	tests := []struct {
		name    string
		payload string
		want    outcome
	}{
		{"one bet", juan, outcome{agency: 1, count: 1, wins: 1, winners: juan + "\n"}},
		{"trailing newline", juan + "\n", outcome{agency: 1, count: 1, wins: 1, winners: juan + "\n"}},
		{"no winner", maria, outcome{agency: 1, count: 1}},
		{"two bets", juan + "\n" + maria, outcome{agency: 1, count: 2, wins: 1, winners: juan + "\n"}},
		{"identical bets are two bets", juan + "\n" + juan, outcome{agency: 1, count: 2, wins: 2, winners: juan + "\n" + juan + "\n"}},
		{"agency of nine digits", "A|B|1|2000-01-01|1|999999999", outcome{agency: 999_999_999, count: 1}},
		{"agency 0 is legal here", "A|B|1|2000-01-01|1|0", outcome{count: 1}},

		{"empty", "", outcome{code: CodeEmptyBatch}},
		{"a newline", "\n", outcome{code: CodeEmptyBatch}},
		{"only newlines", strings.Repeat("\n", 100), outcome{code: CodeEmptyBatch}},
		{"two trailing newlines", juan + "\n\n", invalid(2)},
		{"empty first line", "\n" + juan, invalid(1)},
		{"empty line between", juan + "\n\n" + maria, invalid(2)},
		{"CRLF", juan + "\r\n" + maria + "\r\n", invalid(1)},
		{"a trailing space", juan + "\n" + maria + " ", invalid(2)},
		{"a byte order mark is part of the name", "\ufeff" + juan, outcome{agency: 1, count: 1, wins: 1, winners: "\ufeff" + juan + "\n"}},

		{"several agencies", juan + "\n" + maria[:len(maria)-1] + "2", outcome{code: CodeInvalidAgency}},
		{"an agency that begins with the other", juan + "\n" + maria + "1\n" + juan, outcome{code: CodeInvalidAgency}},
		{"an agency that the other begins with", juan + "1\n" + maria, outcome{code: CodeInvalidAgency}},
		{"several agencies, then not a bet", juan + "\n" + maria + "2\nx", invalid(3)},
		{"several agencies far apart", strings.Repeat(maria+"\n", 100) + juan + "2\n" + strings.Repeat(maria+"\n", 100), outcome{code: CodeInvalidAgency}},
		{"not a bet, after many lines", strings.Repeat(maria+"\n", 200) + "x\n" + strings.Repeat(maria+"\n", 100), invalid(201)},

		{"first name HELLO", "HELLO|Pérez|12345678|1990-05-23|1|1", outcome{agency: 1, count: 1}},
		{"first name ACK", "ACK|Pérez|12345678|1990-05-23|1|1", outcome{agency: 1, count: 1}},
		{"first name ERROR_X", "ERROR_X|Pérez|12345678|1990-05-23|1|1", outcome{agency: 1, count: 1}},
		{"first name WELCOME", "WELCOME|Pérez|12345678|1990-05-23|1|1", outcome{agency: 1, count: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := parsed(t, []byte(test.payload), testRules); got != test.want {
				t.Errorf("ParseBatch(%q)\n got %+v\nwant %+v", test.payload, got, test.want)
			}
			checkBatch(t, []byte(test.payload), testRules)
		})
	}
}

func TestParseBatchReason(t *testing.T) {
	_, _, err := ParseBatch([]byte(maria+"\n"+maria+"\nJuan|Pérez|1|1990-02-30|1|1"), testRules, nil)
	var rejected *Error
	if !errors.As(err, &rejected) {
		t.Fatalf("error %v is not an *Error", err)
	}
	if got, want := rejected.Error(), "ERROR_INVALID_BATCH|3|birthdate: 1990-02-30 is not a day"; got != want {
		t.Errorf("error is %q, want %q", got, want)
	}
	if got, want := rejected.Detail(), "3|birthdate: 1990-02-30 is not a day"; got != want {
		t.Errorf("detail is %q, want %q", got, want)
	}
	if got := (&Error{Code: CodeEmptyBatch}).Detail(); got != "" {
		t.Errorf("detail of an empty batch is %q, want nothing", got)
	}
}

// Numbers are compared as integers, for any width and any place of the line.
func TestParseBatchWinningNumber(t *testing.T) {
	for _, winning := range []uint32{0, 7, 42, 999, 7574, 12345, 9_999_999, 10_000_000, 99_999_999, 100_000_000, NumberMax, NumberMax + 1, 1<<32 - 1} {
		rules := Rules{Today: today, WinningNumber: winning}
		for width := 1; width <= NumberDigitsMax+1; width++ {
			for _, number := range []uint32{winning, winning + 1, winning * 10} {
				checkAmid(t, fmt.Sprintf("A|B|12345678|1990-05-23|%0*d|1", width, number), rules)
			}
		}
	}
}

// The test replaces every byte of several kinds of line by every other byte.
func TestParseBatchEveryByte(t *testing.T) {
	for _, line := range []string{
		juan,
		"Agustín Emanuel|Zúñiga y Benítez|30904465|1999-03-17|2201|1", // names beyond 24 bytes
		"A|B|7|2000-02-29|042|1",
	} {
		for i := range line {
			for c := range 256 {
				mutant := []byte(line)
				mutant[i] = byte(c)
				second, last, careful := amid(string(mutant))
				checkBatch(t, second, testRules)
				if i%8 == c%8 { // an eighth is enough: these two differ little from second
					checkBatch(t, last, testRules)
					checkBatch(t, careful, testRules)
				}
			}
		}
	}
}

// The test puts every pair of bytes into a name, inside one word that is read at once and across
// two.
func TestParseBatchEveryPairInNames(t *testing.T) {
	for _, before := range []string{"Abc", "Abcdefg"} {
		second, _, _ := amid(before + "??z|Pérez|12345678|1990-05-23|2311|1")
		line := second[bytes.Index(second, []byte(before)):]
		line = line[:bytes.IndexByte(line, '\n')]
		for pair := range 1 << 16 {
			line[len(before)], line[len(before)+1] = byte(pair>>8), byte(pair)
			_, _, err := ParseBatch(second, testRules, nil)
			if want := modelBet(strings.Split(string(line), "|"), today); (err == nil) != want {
				t.Fatalf("ParseBatch with line %q: %v, model accepts: %v", line, err, want)
			}
		}
	}
}

// The test checks the days around the ends of each month, in years that decide a rule.
func TestParseBatchBirthdates(t *testing.T) {
	check := func(year, month, day int) {
		t.Helper()
		for _, today := range []Date{today, 2024_02_28, dateLast} {
			checkAmid(t, fmt.Sprintf("Ana|Paz|12345678|%04d-%02d-%02d|1|1", year, month, day), Rules{Today: today})
		}
	}
	for _, year := range []int{0, 4, 100, 400, 1900, 1999, 2000, 2023, 2024, 2025, 2026, 2027, 9999} {
		for month := range 15 {
			for _, day := range []int{0, 1, 9, 27, 28, 29, 30, 31, 32} {
				check(year, month, day)
			}
		}
		check(year, 99, 99)
	}
}

// ParseBatch agrees with the model on random batches with random damage.
func TestParseBatchRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(7574, 1)) // the same batches in every run; fuzzing tries others
	const telling = "|\n\r\x00\x1f \x7e\x7f-09:/@}{ñ\u0080\u009f\u00a0€😀\xc2\xc3\xe1\xed\xf0\xff"
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	for range 3000 {
		var p []byte
		for range 1 + r.IntN(6) {
			p = fmt.Appendf(p, "%s%s|%s|%0*d|%04d-%02d-%02d|%0*d|%s\n",
				pick("Juan", "María", "Ñ", "Luz Clara", "Agustín Emanuel", "Zoë 😀", "Ki€l", "HELLO"), strings.Repeat("é", max(0, r.IntN(80)-60)),
				pick("Pérez", "Rodríguez", "Paz", "~}", "Fernández de la Fuente"),
				pick8(r, 8, 20), r.IntN(100_000_000),
				1900+r.IntN(128), 1+r.IntN(12), 1+r.IntN(29),
				pick8(r, 4, 9), pickNumber(r), pick("7", "7", "7", "7", "7", "7", "7", "77"))
		}
		for range max(0, r.IntN(4)-1) {
			at := r.IntN(len(p))
			switch r.IntN(3) {
			case 0:
				p[at] = telling[r.IntN(len(telling))]
			case 1:
				p = slices.Insert(p, at, telling[r.IntN(len(telling))])
			default:
				p = slices.Delete(p, at, at+1)
			}
		}
		checkBatch(t, p, testRules)
	}
}

// pick8 returns usual in seven of eight cases, and 1 to most otherwise.
func pick8(r *rand.Rand, usual, most int) int {
	if r.IntN(8) > 0 {
		return usual
	}
	return 1 + r.IntN(most)
}

func pickNumber(r *rand.Rand) int {
	if r.IntN(8) == 0 {
		return 7574
	}
	return r.IntN(10_000)
}

// ParseBatch agrees with the model on any part of a valid batch: its reads of whole words must not
// depend on bytes after the payload.
func TestParseBatchEveryPart(t *testing.T) {
	whole := []byte(strings.Repeat(juan+"\n"+maria+"\n", 4))
	for from := range whole {
		for to := from; to <= len(whole); to++ {
			if from > len(juan)+2 && to < len(whole) {
				continue // starts in the first line are tried with every end, later ones with one
			}
			checkBatch(t, whole[from:to:to], testRules)
		}
	}
}

func TestReplayBatch(t *testing.T) {
	future := "Juan|Pérez|12345678|9999-12-31|7574|1\n" + maria
	if _, _, err := ParseBatch([]byte(future), testRules, nil); err == nil {
		t.Fatal("ParseBatch accepts a birthdate in the future")
	}
	batch, winners, err := ReplayBatch([]byte(future), 7574, nil)
	if err != nil || batch != (Batch{Agency: 1, Count: 2, Winners: 1}) || string(winners) != "Juan|Pérez|12345678|9999-12-31|7574|1\n" {
		t.Errorf("ReplayBatch = %+v, %q, %v", batch, winners, err)
	}
	var rejected *Error
	if _, _, err := ReplayBatch([]byte("x"), 7574, nil); !errors.As(err, &rejected) || rejected.Code != CodeInvalidBatch {
		t.Errorf("ReplayBatch of a line that is not a bet: %v, want CodeInvalidBatch", err)
	}
}
