package codec

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// today is the latest legal birthdate in all tests of this package.
const today Date = 2026_11_23

var testRules = Rules{Today: today, WinningNumber: 7574}

// modelSplit cuts a stream into frames, slowly, by the text of PROTOCOL.md.
func modelSplit(stream string, limit int) (payloads []string, err error) {
	for {
		header, rest, whole := strings.Cut(stream, "\n")
		for end := 1; end <= len(header); end++ { // a header is rejected at its first bad byte
			length, errLength := strconv.Atoi(header[:end])
			switch {
			case !modelDigits(header[:end], end) || end > 1 && header[0] == '0':
				return payloads, ErrFrameHeader
			case errLength != nil || length > limit:
				return payloads, ErrFrameTooLarge
			}
		}
		length, errLength := strconv.Atoi(header)
		switch {
		case whole && errLength != nil: // an empty header
			return payloads, ErrFrameHeader
		case !whole || length > len(rest):
			return payloads, nil
		}
		payloads, stream = append(payloads, rest[:length]), rest[length:]
	}
}

// outcome is the result that the protocol demands for a payload of bets.
type outcome struct {
	code    Code
	line    int // of CodeInvalidBatch
	agency  Agency
	count   int
	wins    int
	winners string
}

// model reads a payload of bets, slowly, by the text of PROTOCOL.md. It uses no code of this
// package, and repeats the limits as numbers.
func model(payload string, rules Rules) outcome {
	if strings.Trim(payload, "\n") == "" {
		return outcome{code: CodeEmptyBatch}
	}
	o := outcome{}
	agencies := map[string]bool{}
	for i, line := range strings.Split(strings.TrimSuffix(payload, "\n"), "\n") {
		fields := strings.Split(line, "|")
		if !modelBet(fields, rules.Today) {
			return outcome{code: CodeInvalidBatch, line: i + 1}
		}
		o.count++
		if number, _ := strconv.Atoi(fields[4]); number == int(rules.WinningNumber) {
			o.wins++
			o.winners += line + "\n"
		}
		agency, _ := strconv.Atoi(fields[5])
		o.agency = Agency(agency)
		agencies[fields[5]] = true
	}
	if len(agencies) > 1 {
		return outcome{code: CodeInvalidAgency}
	}
	return o
}

// modelDigits reports whether s is 1 to most ASCII digits.
func modelDigits(s string, most int) bool {
	return 1 <= len(s) && len(s) <= most && strings.Trim(s, "0123456789") == ""
}

func modelAgency(s string) bool { return modelDigits(s, 9) && (s == "0" || s[0] != '0') }

func modelBet(fields []string, today Date) bool {
	if len(fields) != 6 {
		return false
	}
	for _, name := range fields[:2] {
		if len(name) < 1 || len(name) > 128 || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
			return false
		}
	}
	day, err := time.Parse("2006-01-02", fields[3])
	if err != nil || day.Format("2006-01-02") != fields[3] {
		return false
	}
	compact, _ := strconv.Atoi(day.Format("20060102"))
	return compact <= int(today) &&
		modelDigits(fields[2], 20) &&
		modelDigits(fields[4], 9) &&
		modelAgency(fields[5])
}

// parsed returns ParseBatch's result as an outcome, to compare it with the model's.
func parsed(t testing.TB, payload []byte, rules Rules) outcome {
	t.Helper()
	before := []byte("kept\n")
	batch, winners, err := ParseBatch(payload, rules, before)
	after, ok := bytes.CutPrefix(winners, before)
	if !ok {
		t.Fatalf("ParseBatch(%q) lost what winners held: %q", payload, winners)
	}
	if err == nil {
		return outcome{agency: batch.Agency, count: batch.Count, wins: batch.Winners, winners: string(after)}
	}
	var rejected *Error
	if !errors.As(err, &rejected) {
		t.Fatalf("ParseBatch(%q): error %v is not an *Error", payload, err)
	}
	if batch != (Batch{}) || len(after) != 0 {
		t.Fatalf("ParseBatch(%q) rejects (%v) and returns %+v, %q", payload, err, batch, after)
	}
	if (rejected.Code == CodeInvalidBatch) != (rejected.Reason != "") || strings.ContainsAny(rejected.Reason, "|\n") || !utf8.ValidString(rejected.Reason) {
		t.Fatalf("ParseBatch(%q): %v with reason %q", payload, err, rejected.Reason)
	}
	return outcome{code: rejected.Code, line: rejected.Line}
}

// checkBatch fails unless ParseBatch, ParseBet and the model agree on payload,
// and accepted bytes come back identically from SplitBet and AppendBet.
func checkBatch(t testing.TB, payload []byte, rules Rules) {
	t.Helper()
	checkScans(t, payload, rules)
	original := bytes.Clone(payload)
	want := model(string(payload), rules)
	if got := parsed(t, payload, rules); got != want {
		t.Fatalf("ParseBatch(%q, %+v)\n got %+v\nwant %+v", payload, rules, got, want)
	}
	if want.code == CodeNone {
		batch, winners, err := ReplayBatch(payload, rules.WinningNumber, nil)
		if got := (outcome{agency: batch.Agency, count: batch.Count, wins: batch.Winners, winners: string(winners)}); err != nil || got != want {
			t.Fatalf("ReplayBatch(%q)\n got %+v, %v\nwant %+v", payload, got, err, want)
		}
	}
	if want.code == CodeEmptyBatch {
		return
	}
	body, newline := bytes.CutSuffix(payload, []byte("\n"))
	lines := bytes.Split(body, []byte("\n"))
	var again []byte
	for i, line := range lines {
		bet, err := ParseBet(line, rules.Today)
		if got, want := err == nil, modelBet(strings.Split(string(line), "|"), rules.Today); got != want {
			t.Fatalf("ParseBet(%q) = %v, model accepts: %v", line, err, want)
		}
		if err != nil {
			if !errors.Is(err, ErrBet) || strings.ContainsAny(err.Error(), "|\n") {
				t.Fatalf("ParseBet(%q) = %v, want an ErrBet without '|' and line ends", line, err)
			}
			continue
		}
		if i > 0 {
			again = append(again, '\n')
		}
		again = AppendBet(again, bet)
	}
	if newline {
		again = append(again, '\n')
	}
	if want.code == CodeNone && !bytes.Equal(again, payload) {
		t.Fatalf("%q re-encodes as %q", payload, again)
	}
	if !bytes.Equal(payload, original) {
		t.Fatalf("ParseBatch changed its input %q to %q", original, payload)
	}
}

// amid puts a line of agency 1 among ordinary bets, so that every path of ParseBatch sees it: the
// fast path in the middle of a payload (second) and at its end (last), and the slow path (careful),
// which an agency of eight digits forces.
func amid(line string) (second, last, careful []byte) {
	const agency, long = "|1", "|12345678"
	const ordinary = "Juan|Pérez|12345678|1990-05-23|2311"
	second = []byte(ordinary + agency + "\n" + line + strings.Repeat("\n"+ordinary+agency, 2) + "\n")
	last = []byte(ordinary + agency + "\n" + line)
	if of1, ok := strings.CutSuffix(line, agency); ok {
		line = of1 + long
	}
	return second, last, []byte(ordinary + long + "\n" + line)
}

// checkAmid compares ParseBatch with the model on the three payloads that amid makes of a line.
func checkAmid(t testing.TB, line string, rules Rules) {
	t.Helper()
	second, last, careful := amid(line)
	checkBatch(t, second, rules)
	checkBatch(t, last, rules)
	checkBatch(t, careful, rules)
}

func checkLine(t testing.TB, line string) {
	t.Helper()
	checkAmid(t, line, testRules)
}

// checkScans fails unless scan and scanWords take the same ordinary lines, from the start of every
// line on.
func checkScans(t testing.TB, payload []byte, rules Rules) {
	t.Helper()
	run := presumeRun(payload, rules)
	for rest := payload; len(rest) > 0; {
		n, count := run.scan(rest)
		if wantN, want := run.scanWords(rest); n != wantN || count != want {
			t.Fatalf("scan(%q) = %d, %d, scanWords %d, %d", rest, n, count, wantN, want)
		}
		_, rest, _ = bytes.Cut(rest[n:], []byte{'\n'})
	}
}
