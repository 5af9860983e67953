package codec

import (
	"encoding/binary"
	"unicode/utf8"
)

// scanBet validates the first five fields of the bet that b begins with. It returns the index where
// the sixth field begins, and the bet's number. The index is 0 if the line is not a bet. The line
// ends at the first '\n' or at the end of b; no field of a valid bet holds a '\n'.
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

// plain marks the ASCII bytes that a name may contain.
var plain = func() (t [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		t[c] = c != '|'
	}
	return t
}()

// firstGraphic is the first character above ASCII that is not a control character (C1).
const firstGraphic = 0xa0

// scanName returns the index after the '|' of the name at b[i:], or 0 if there is no valid name.
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
			i += 2 // a shortcut: nearly all non-ASCII letters in these names have two bytes
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

// scanDocument returns the index after the '|' of the document at b[i:], or 0.
func scanDocument(b []byte, i int) int {
	start := i
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	if i == start || i-start > DocumentDigitsMax || i == len(b) || b[i] != '|' {
		return 0
	}
	return i + 1
}

// daysOfMonth is 0 for bytes that are not a month. It has all 256 bytes so that indexing needs no
// bounds check.
var daysOfMonth = [256]uint8{
	1: 31, 2: 28, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31,
}

// scanBirthdate returns the index after the '|' of the birthdate at b[i:], or 0. b[i-1] must be the
// '|' before it.
func scanBirthdate(b []byte, i int, today Date) int {
	if len(b)-i <= birthdateBytes {
		return 0
	}
	year, month, day, bad := birthdate(binary.LittleEndian.Uint64(b[i-1:]), binary.LittleEndian.Uint64(b[i+3:]))
	if bad != 0 {
		return 0
	}
	days := daysOfMonth[month]
	if month == 2 && leap(year) {
		days++
	}
	if day-1 >= days || Date(year*10000+uint32(month)*100+uint32(day)) > today { // day-1 wraps for 0
		return 0
	}
	return i + birthdateBytes + 1
}

func leap(year uint32) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

// scanNumber returns the index after the '|' of the number at b[i:], or 0, and the number.
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
