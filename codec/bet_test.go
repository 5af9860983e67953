package codec

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// The test checks each rule of a bet at its limits. want is the error's text, empty for a bet.
func TestParseBet(t *testing.T) {
	bet := func(field int, value string) string {
		fields := strings.Split(juan, "|")
		fields[field] = value
		return strings.Join(fields, "|")
	}
	const first, last, document, birthdate, number, agency = 0, 1, 2, 3, 4, 5
	tests := []struct{ name, line, want string }{
		{"the protocol's", juan, ""},

		{"name of 1 byte", bet(first, "J"), ""},
		{"name of 128 bytes", bet(first, strings.Repeat("J", 128)), ""},
		{"name of 129 bytes", bet(first, strings.Repeat("J", 129)), "first name: 129 bytes, at most 128"},
		{"empty name", bet(first, ""), "first name: is empty"},
		{"empty last name", bet(last, ""), "last name: is empty"},
		{"last name of 128 bytes in 64 characters", bet(last, strings.Repeat("ñ", 64)), ""},
		{"last name of 129 bytes in 65 characters", bet(last, strings.Repeat("ñ", 64)+"n"), "last name: 129 bytes, at most 128"},
		{"characters of 2, 3 and 4 bytes", bet(first, "ñ€😀"), ""},
		{"the replacement character itself", bet(first, "\ufffd"), ""},
		{"spaces, also around", bet(first, " Luz  Clara "), ""},
		{"last plain ASCII character", bet(first, "~"), ""},
		{"NUL", bet(first, "J\x00"), `first name: "J\x00" has a control character`},
		{"tab", bet(first, "J\t"), `first name: "J\t" has a control character`},
		{"unit separator", bet(first, "\x1f"), `first name: "\x1f" has a control character`},
		{"carriage return", bet(last, "P\r"), `last name: "P\r" has a control character`},
		{"DEL", bet(last, "P\x7f"), `last name: "P\x7f" has a control character`},
		{"first C1 control", bet(first, "J\u0080"), `first name: "J\u0080" has a control character`},
		{"last C1 control", bet(first, "J\u009f"), `first name: "J\u009f" has a control character`},
		{"first character after C1", bet(first, "J\u00a0"), ""},
		{"continuation alone", bet(first, "J\x80"), `first name: "J\x80" is not UTF-8`},
		{"lead alone", bet(first, "J\xc3"), `first name: "J\xc3" is not UTF-8`},
		{"lead twice", bet(first, "J\xc3\xc3\xa9"), `first name: "J\xc3\u00e9" is not UTF-8`},
		{"overlong slash", bet(first, "J\xc0\xaf"), `first name: "J\xc0\xaf" is not UTF-8`},
		{"overlong of 3 bytes", bet(first, "\xe0\x80\xaf"), `first name: "\xe0\x80\xaf" is not UTF-8`},
		{"surrogate", bet(first, "\xed\xa0\x80"), `first name: "\xed\xa0\x80" is not UTF-8`},
		{"beyond Unicode", bet(first, "\xf4\x90\x80\x80"), `first name: "\xf4\x90\x80\x80" is not UTF-8`},
		{"3 bytes cut to 2", bet(first, "\xe2\x82"), `first name: "\xe2\x82" is not UTF-8`},

		{"document of 1 digit", bet(document, "0"), ""},
		{"document of 7 digits", bet(document, "1234567"), ""},
		{"document of 20 digits", bet(document, strings.Repeat("9", 20)), ""},
		{"document of 21 digits", bet(document, strings.Repeat("9", 21)), "document: 21 digits, at most 20"},
		{"empty document", bet(document, ""), "document: is empty"},
		{"document with dots", bet(document, "12.345.678"), "document: 12.345.678 is not a number"},
		{"negative document", bet(document, "-1234567"), "document: -1234567 is not a number"},
		{"byte before 0", bet(document, "1234567/"), "document: 1234567/ is not a number"},
		{"byte after 9", bet(document, "1234567:"), "document: 1234567: is not a number"},
		{"digits of another script", bet(document, "١٢٣٤"), `document: "\u0661\u0662\u0663\u0664" is not a number`},

		{"29 February of a leap year", bet(birthdate, "2024-02-29"), ""},
		{"29 February of another year", bet(birthdate, "2023-02-29"), "birthdate: 2023-02-29 is not a day"},
		{"29 February of 1900", bet(birthdate, "1900-02-29"), "birthdate: 1900-02-29 is not a day"},
		{"29 February of 2000", bet(birthdate, "2000-02-29"), ""},
		{"30 February", bet(birthdate, "2000-02-30"), "birthdate: 2000-02-30 is not a day"},
		{"31 April", bet(birthdate, "1990-04-31"), "birthdate: 1990-04-31 is not a day"},
		{"31 December", bet(birthdate, "1990-12-31"), ""},
		{"month 0", bet(birthdate, "1990-00-10"), "birthdate: 1990-00-10 is not a day"},
		{"month 13", bet(birthdate, "1990-13-10"), "birthdate: 1990-13-10 is not a day"},
		{"day 0", bet(birthdate, "1990-10-00"), "birthdate: 1990-10-00 is not a day"},
		{"year 0", bet(birthdate, "0000-01-01"), ""},
		{"today", bet(birthdate, "2026-11-23"), ""},
		{"tomorrow", bet(birthdate, "2026-11-24"), "birthdate: 2026-11-24 is in the future"},
		{"next month", bet(birthdate, "2026-12-01"), "birthdate: 2026-12-01 is in the future"},
		{"next year", bet(birthdate, "2027-01-01"), "birthdate: 2027-01-01 is in the future"},
		{"slashes", bet(birthdate, "1990/05/23"), "birthdate: 1990/05/23 is not YYYY-MM-DD"},
		{"day first", bet(birthdate, "23-05-1990"), "birthdate: 23-05-1990 is not YYYY-MM-DD"},
		{"short", bet(birthdate, "1990-5-23"), "birthdate: 1990-5-23 is not YYYY-MM-DD"},
		{"long", bet(birthdate, "1990-05-230"), "birthdate: 1990-05-230 is not YYYY-MM-DD"},
		{"empty birthdate", bet(birthdate, ""), `birthdate: "" is not YYYY-MM-DD`},
		{"letters in the day", bet(birthdate, "1990-05-2x"), "birthdate: 1990-05-2x is not a day"},
		{"a space for a zero", bet(birthdate, "1990-05- 3"), `birthdate: "1990-05- 3" is not a day`},
		{"a sign in the year", bet(birthdate, "+990-05-23"), "birthdate: +990-05-23 is not a day"},

		{"number of 1 digit", bet(number, "0"), ""},
		{"number with a leading zero", bet(number, "07574"), ""},
		{"number of 9 digits", bet(number, "999999999"), ""},
		{"number of 10 digits", bet(number, "0000000001"), "number: 10 digits, at most 9"},
		{"empty number", bet(number, ""), "number: is empty"},
		{"signed number", bet(number, "+7574"), "number: +7574 is not a number"},
		{"number with a space", bet(number, "7574 "), `number: "7574 " is not a number`},

		{"agency 0", bet(agency, "0"), ""},
		{"agency of 9 digits", bet(agency, "999999999"), ""},
		{"agency of 10 digits", bet(agency, "1000000000"), "agency: 1000000000 is not an id"},
		{"agency with a leading zero", bet(agency, "01"), "agency: 01 is not an id"},
		{"agency 00", bet(agency, "00"), "agency: 00 is not an id"},
		{"agency of letters", bet(agency, "abc"), "agency: abc is not an id"},
		{"negative agency", bet(agency, "-1"), "agency: -1 is not an id"},
		{"agency with a carriage return", bet(agency, "1\r"), `agency: "1\r" is not an id`},
		{"empty agency", bet(agency, ""), `agency: "" is not an id`},

		{"nothing", "", "1 fields, want 6"},
		{"five fields", "Juan|Pérez|12345678|1990-05-23|7574", "5 fields, want 6"},
		{"seven fields", juan + "|", "7 fields, want 6"},
		{"eight fields", juan + "||", "8 fields, want 6"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseBet([]byte(test.line), today)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("ParseBet(%q): %v, want a bet", test.line, err)
			case test.want != "" && !errors.Is(err, ErrBet):
				t.Errorf("ParseBet(%q): %v, want an ErrBet", test.line, err)
			case test.want != "" && reason(err) != test.want:
				t.Errorf("ParseBet(%q)\n got %s\nwant %s", test.line, reason(err), test.want)
			}
			checkLine(t, test.line)
		})
	}
}

func TestParseBetFields(t *testing.T) {
	bet, err := ParseBet([]byte("Luz Clara|Pérez|12345678|1990-05-23|07574|12"), today)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{string(bet.FirstName), string(bet.LastName), string(bet.Document), string(bet.Birthdate), string(bet.Number)}
	if want := "Luz Clara/Pérez/12345678/1990-05-23/07574"; strings.Join(got, "/") != want || bet.Agency != 12 {
		t.Errorf("ParseBet = %q of agency %d, want %s of 12", got, bet.Agency, want)
	}
}

// SplitBet checks the number of fields and the agency, nothing else.
func TestSplitBet(t *testing.T) {
	for _, line := range []string{juan, "|||||7", "a\x00|\xff|no|date|here|0"} {
		bet, err := SplitBet([]byte(line))
		if err != nil {
			t.Errorf("SplitBet(%q): %v", line, err)
		} else if again := AppendBet([]byte("x"), bet); string(again) != "x"+line {
			t.Errorf("SplitBet(%q) re-encodes as %q", line, again)
		}
	}
	for _, line := range []string{"", "||||", "|||||", "||||||1", "a|b|c|d|e|01", juan + "\n"} {
		if bet, err := SplitBet([]byte(line)); !errors.Is(err, ErrBet) {
			t.Errorf("SplitBet(%q) = %+v, %v, want an ErrBet", line, bet, err)
		}
	}
}

func TestBetBytesMax(t *testing.T) {
	name := strings.Repeat("n", NameBytesMax)
	longest := strings.Join([]string{name, name, strings.Repeat("9", DocumentDigitsMax), "2000-02-29", "999999999", "999999999"}, "|")
	if len(longest) != BetBytesMax {
		t.Errorf("the longest bet has %d bytes, BetBytesMax is %d", len(longest), BetBytesMax)
	}
	checkLine(t, longest)
	if _, err := ParseBet([]byte(longest), today); err != nil {
		t.Errorf("the longest bet: %v", err)
	}
}

func TestDateOf(t *testing.T) {
	late := time.Date(2026, 11, 23, 23, 30, 0, 0, time.UTC)
	if got := DateOf(late); got != 2026_11_23 {
		t.Errorf("DateOf(%v) = %d", late, got)
	}
	if got := DateOf(late.In(time.FixedZone("", 3600))); got != 2026_11_24 {
		t.Errorf("DateOf an hour further east = %d", got)
	}
}

func TestQuote(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain", "plain"},
		{"", `""`},
		{"a b", `"a b"`},
		{"a|b", "a¦b"},
		{"a|b c", `"a¦b c"`},
		{"a¦b", `"a\u00a6b"`},
		{`a"b`, `"a\"b"`},
		{"a\nb\x00\x1b[31m", `"a\nb\x00\x1b[31m"`},
		{"ñ", `"\u00f1"`},
		{"\xff", `"\xff"`},
		{strings.Repeat("x", 40), strings.Repeat("x", 40)},
		{strings.Repeat("x", 41), strings.Repeat("x", 40) + "..."},
		{strings.Repeat("\n", 1000), `"` + strings.Repeat(`\n`, 40) + `"...`},
		{strings.Repeat("x", 39) + "ñ", `"` + strings.Repeat("x", 39) + `\xc3"...`},
	}
	for _, test := range tests {
		if got := quote([]byte(test.in)); got != test.want {
			t.Errorf("quote(%q) = %s, want %s", test.in, got, test.want)
		}
	}
	for c := range 256 {
		got := quote(bytes.Repeat([]byte{byte(c)}, 3))
		if strings.IndexFunc(got, func(r rune) bool { return r != '¦' && (r < ' ' || r > '~' || r == '|') }) >= 0 {
			t.Errorf("quote of byte %#x is %q, want printable ASCII and '¦'", c, got)
		}
	}
}
