package codec

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of a bet's fields.
const (
	NameBytesMax      = 128
	DocumentDigitsMax = 20
	NumberDigitsMax   = 9
	NumberMax         = 999_999_999

	betFields       = 6
	birthdateBytes  = len("2006-01-02")
	birthdateLayout = "2006-01-02"
)

// BetBytesMax is the length of the longest possible bet, in bytes, without its '\n'.
const BetBytesMax = 2*NameBytesMax + DocumentDigitsMax + birthdateBytes + NumberDigitsMax + agencyDigitsMax + betFields - 1

// ErrBet says that a line is not a valid bet.
var ErrBet = errors.New("not a valid bet")

// Date is a calendar day as the number YYYYMMDD, so that days compare as
// integers.
type Date uint32

// DateOf returns the day of t in t's own location.
func DateOf(t time.Time) Date {
	y, m, d := t.Date()
	return Date(y*10000 + int(m)*100 + d)
}

// Bet is one bet. The fields hold the bytes that are on the wire.
type Bet struct {
	FirstName []byte
	LastName  []byte
	Document  []byte
	Birthdate []byte
	Number    []byte
	Agency    Agency
}

// AppendBet appends the bet's line to dst, without a '\n'. It checks nothing.
func AppendBet(dst []byte, b Bet) []byte {
	for _, field := range [...][]byte{b.FirstName, b.LastName, b.Document, b.Birthdate, b.Number} {
		dst = append(dst, field...)
		dst = append(dst, '|')
	}
	return AppendAgency(dst, b.Agency)
}

// SplitBet splits the line of a bet that was validated before, such as one in the ledger, into its
// fields, which alias line. It checks only that there are six fields and that the last one is an
// agency's id. The error wraps ErrBet.
func SplitBet(line []byte) (Bet, error) {
	var f [betFields][]byte
	for i := range betFields - 1 {
		end := bytes.IndexByte(line, '|')
		if end < 0 {
			return Bet{}, fmt.Errorf("%w: %d fields, want %d", ErrBet, i+1, betFields)
		}
		f[i], line = line[:end], line[end+1:]
	}
	if n := bytes.Count(line, []byte{'|'}); n > 0 {
		return Bet{}, fmt.Errorf("%w: %d fields, want %d", ErrBet, betFields+n, betFields)
	}
	agency, ok := ParseAgency(line)
	if !ok {
		return Bet{}, fmt.Errorf("%w: agency: %s is not an id", ErrBet, quote(line))
	}
	return Bet{FirstName: f[0], LastName: f[1], Document: f[2], Birthdate: f[3], Number: f[4], Agency: agency}, nil
}

// ParseBet reads and validates one line, without its '\n', by the protocol's rules for a bet. today
// is the latest legal birthdate. The fields alias line. The error wraps ErrBet and adds "FIELD:
// REASON" or the number of fields. It has no '|' and no line end, so it fits a log line.
//
// ParseBet follows the rules literally, and explains rejections. ParseBatch decides the same,
// faster.
func ParseBet(line []byte, today Date) (Bet, error) {
	b, err := SplitBet(line)
	if err != nil {
		return Bet{}, err
	}
	err = cmp.Or(
		checkName("first name", b.FirstName),
		checkName("last name", b.LastName),
		checkDigits("document", b.Document, DocumentDigitsMax),
		checkBirthdate(b.Birthdate, today),
		checkDigits("number", b.Number, NumberDigitsMax))
	if err != nil {
		return Bet{}, err
	}
	return b, nil
}

func checkName(field string, name []byte) error {
	switch {
	case len(name) == 0:
		return fmt.Errorf("%w: %s: is empty", ErrBet, field)
	case len(name) > NameBytesMax:
		return fmt.Errorf("%w: %s: %d bytes, at most %d", ErrBet, field, len(name), NameBytesMax)
	case !utf8.Valid(name):
		return fmt.Errorf("%w: %s: %s is not UTF-8", ErrBet, field, quote(name))
	case bytes.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w: %s: %s has a control character", ErrBet, field, quote(name))
	}
	return nil
}

func checkDigits(field string, digits []byte, digitsMax int) error {
	switch {
	case len(digits) == 0:
		return fmt.Errorf("%w: %s: is empty", ErrBet, field)
	case bytes.ContainsFunc(digits, func(c rune) bool { return c < '0' || c > '9' }):
		return fmt.Errorf("%w: %s: %s is not a number", ErrBet, field, quote(digits))
	case len(digits) > digitsMax:
		return fmt.Errorf("%w: %s: %d digits, at most %d", ErrBet, field, len(digits), digitsMax)
	}
	return nil
}

func checkBirthdate(b []byte, today Date) error {
	t, err := time.Parse(birthdateLayout, string(b))
	switch {
	case len(b) != birthdateBytes || b[4] != '-' || b[7] != '-':
		return fmt.Errorf("%w: birthdate: %s is not YYYY-MM-DD", ErrBet, quote(b))
	case err != nil:
		return fmt.Errorf("%w: birthdate: %s is not a day", ErrBet, quote(b))
	case DateOf(t) > today:
		return fmt.Errorf("%w: birthdate: %s is in the future", ErrBet, quote(b))
	}
	return nil
}

// barShown replaces '|' in reasons, because a '|' would end a field. People can read it, and tools
// that split at '|' don't trip over it. A '¦' in the input is escaped.
const barShown = "¦"

// quote makes bytes from outside safe to print. It cuts them after 40 bytes, quotes them unless
// they are printable ASCII without spaces and quotes, and replaces '|' with barShown.
func quote(b []byte) string {
	const shown = 40
	more := ""
	if len(b) > shown {
		b, more = b[:shown], "..."
	}
	special := func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '"' }
	text := string(b)
	if len(b) == 0 || bytes.ContainsFunc(b, special) {
		text = strconv.QuoteToASCII(text)
	}
	return strings.ReplaceAll(text, "|", barShown) + more
}

// Lines counts the lines of a payload, for reports of rejected batches. A '\n' at the end doesn't
// begin another line.
func Lines(payload []byte) int {
	n := bytes.Count(payload, []byte{'\n'})
	if len(payload) > 0 && payload[len(payload)-1] != '\n' {
		n++
	}
	return n
}

// reason returns the text of an error of ParseBet without ErrBet's text.
func reason(err error) string {
	return strings.TrimPrefix(err.Error(), ErrBet.Error()+": ")
}
