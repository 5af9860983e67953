package codec

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// Rules are what a batch is validated with, beside the protocol's fixed limits.
type Rules struct {
	// Today is the last legal birthdate.
	Today Date
	// WinningNumber is compared with each bet's number as an integer.
	WinningNumber uint32
}

// Batch describes the bets of a valid batch.
type Batch struct {
	// Agency is the one agency that all lines name.
	Agency Agency
	// Count is how many bets there are, at least 1.
	Count int
	// Winners is how many of them have the winning number.
	Winners int
}

// ParseBatch validates a payload of bets, one a line, by the protocol's rules.
//
// The winning lines are appended to winners, each followed by '\n'; the grown
// slice is returned, cut back to what it was if the batch is invalid. A valid
// batch allocates nothing as long as winners has room.
//
// The error is an *Error with CodeEmptyBatch, CodeInvalidBatch (with the first
// line that is not a bet) or, if every line is a bet, CodeInvalidAgency for
// lines of several agencies.
func ParseBatch(payload []byte, rules Rules, winners []byte) (Batch, []byte, error) {
	var (
		batch  Batch
		before = len(winners)
		id     []byte // the first line's agency, as its bytes
		mixed  bool
		rest   = payload
	)
	for len(rest) > 0 {
		n, number := scanBet(rest, rules.Today)
		if n == 0 {
			return Batch{}, winners[:before], explain(payload, rest, batch.Count+1, rules.Today)
		}
		// An id has only one spelling, so comparing bytes is enough, and all
		// lines but the first nearly always pass here.
		end := n + len(id)
		if len(id) == 0 || end > len(rest) || string(rest[n:end]) != string(id) || end < len(rest) && rest[end] != '\n' {
			end = len(rest)
			if i := bytes.IndexByte(rest[n:], '\n'); i >= 0 {
				end = n + i
			}
			agency, ok := ParseAgency(rest[n:end])
			switch {
			case !ok:
				return Batch{}, winners[:before], explain(payload, rest, batch.Count+1, rules.Today)
			case batch.Count == 0:
				batch.Agency, id = agency, rest[n:end]
			default:
				mixed = true
			}
		}
		batch.Count++
		if number == rules.WinningNumber {
			batch.Winners++
			winners = append(winners, rest[:end]...)
			winners = append(winners, '\n')
		}
		if end < len(rest) {
			end++ // the '\n'
		}
		rest = rest[end:]
	}
	switch {
	case batch.Count == 0:
		return Batch{}, winners, &Error{Code: CodeEmptyBatch}
	case mixed:
		return Batch{}, winners[:before], &Error{Code: CodeInvalidAgency}
	}
	return batch, winners, nil
}

// explain says why the line at the start of rest is not a bet. It runs only
// for rejected batches, so it takes its time.
func explain(payload, rest []byte, number int, today Date) error {
	if len(bytes.Trim(payload, "\n")) == 0 {
		return &Error{Code: CodeEmptyBatch}
	}
	line, _, _ := bytes.Cut(rest, []byte{'\n'})
	_, err := ParseBet(line, today)
	if err == nil {
		panic("codec: ParseBatch rejects a line that ParseBet accepts: " + quote(line))
	}
	return &Error{Code: CodeInvalidBatch, Line: number, Reason: reason(err)}
}

// scanBet validates the first five fields of the bet that b begins with. It
// returns where the sixth begins and the bet's number, or 0 if the line is not
// a bet. The line ends at the first '\n' or at the end of b; no field of a
// valid bet holds one.
func scanBet(b []byte, today Date) (n int, number uint32) {
	n = scanName(b, 0)
	if n == 0 {
		return 0, 0
	}
	if n = scanName(b, n); n == 0 {
		return 0, 0
	}
	if n = scanDocument(b, n); n == 0 {
		return 0, 0
	}
	if n = scanBirthdate(b, n, today); n == 0 {
		return 0, 0
	}
	return scanNumber(b, n)
}

// plain marks the ASCII bytes that may stand in a name as they are.
var plain = func() (t [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		t[c] = c != '|'
	}
	return t
}()

// firstGraphic is the first character above ASCII that is not a control (C1).
const firstGraphic = 0xa0

// scanName returns the index behind the '|' of the name at b[i:], or 0.
func scanName(b []byte, i int) int {
	start := i
	for i < len(b) {
		c := b[i]
		switch {
		case plain[c]:
			i++
		case c == '|':
			if i == start || i-start > NameBytesMax {
				return 0
			}
			return i + 1
		case c < utf8.RuneSelf:
			return 0
		case 0xc3 <= c && c <= 0xdf && i+1 < len(b) && b[i+1]&0xc0 == 0x80:
			i += 2 // two bytes, as nearly every letter above ASCII of these names
		default:
			r, size := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && size == 1 || r < firstGraphic {
				return 0
			}
			i += size
		}
	}
	return 0
}

// Eight bytes at once: XOR with these turns digits into their values and
// dashes into zero; what is left in a mask bit is not what it should be.
const (
	eightZeros  = 0x30_30_30_30_30_30_30_30 // "00000000"
	eightSixes  = 0x06_06_06_06_06_06_06_06
	eightHigh   = 0xf0_f0_f0_f0_f0_f0_f0_f0
	dateZeros   = 0x2d_30_30_2d_30_30_30_30 // "0000-00-", first byte lowest
	dateSixes   = 0x00_06_06_00_06_06_06_06
	dateHigh    = 0xff_f0_f0_ff_f0_f0_f0_f0
	eightDigits = 8
)

// scanDocument returns the index behind the '|' of the document at b[i:], or 0.
func scanDocument(b []byte, i int) int {
	if len(b)-i > eightDigits && b[i+eightDigits] == '|' {
		x := binary.LittleEndian.Uint64(b[i:]) ^ eightZeros
		if (x|(x+eightSixes))&eightHigh != 0 {
			return 0
		}
		return i + eightDigits + 1
	}
	start := i
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	if i == start || i-start > DocumentDigitsMax || i == len(b) || b[i] != '|' {
		return 0
	}
	return i + 1
}

var daysOfMonth = [13]uint32{0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// scanBirthdate returns the index behind the '|' of the birthdate at b[i:], or 0.
func scanBirthdate(b []byte, i int, today Date) int {
	if len(b)-i <= birthdateBytes || b[i+birthdateBytes] != '|' {
		return 0
	}
	x := binary.LittleEndian.Uint64(b[i:]) ^ dateZeros
	tens, ones := uint32(b[i+8]-'0'), uint32(b[i+9]-'0')
	if (x|(x+dateSixes))&dateHigh != 0 || tens > 9 || ones > 9 {
		return 0
	}
	year := uint32(x&0xf)*1000 + uint32(x>>8&0xf)*100 + uint32(x>>16&0xf)*10 + uint32(x>>24&0xf)
	month := uint32(x>>40&0xf)*10 + uint32(x>>48&0xf)
	day := tens*10 + ones
	if month < 1 || month > 12 || day < 1 {
		return 0
	}
	if day > daysOfMonth[month] && !(month == 2 && day == 29 && leap(year)) {
		return 0
	}
	if Date(year*10000+month*100+day) > today {
		return 0
	}
	return i + birthdateBytes + 1
}

func leap(year uint32) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

// scanNumber returns the index behind the '|' of the number at b[i:], or 0,
// and the number.
func scanNumber(b []byte, i int) (next int, number uint32) {
	start := i
	for i < len(b) {
		c := b[i] - '0'
		if c > 9 {
			break
		}
		if i-start == NumberDigitsMax {
			return 0, 0
		}
		number = number*10 + uint32(c)
		i++
	}
	if i == start || i == len(b) || b[i] != '|' {
		return 0, 0
	}
	return i + 1, number
}

// Winners appends the winning lines of a batch that was validated before, as
// it stands in the ledger, to winners, each followed by '\n', and returns the
// grown slice and how many there are. Unlike ParseBatch it depends on no
// clock, so that a replay gives the same whenever it runs. A batch that can't
// have passed ParseBatch is an error that wraps ErrBet.
func Winners(payload []byte, winningNumber uint32, winners []byte) ([]byte, int, error) {
	batch, winners, err := ParseBatch(payload, Rules{Today: dateLast, WinningNumber: winningNumber}, winners)
	return winners, batch.Winners, err
}

// dateLast is later than every birthdate.
const dateLast Date = 9999_12_31
