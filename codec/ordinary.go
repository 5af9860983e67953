package codec

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Nearly every line of an agency is ordinary:
//
//   - both names with their '|' fit into 40 bytes, and every character above
//     ASCII is one of U+00C0 to U+00FF (é, ñ, ü), whose first byte is 0xc3;
//   - the document has 8 digits, the number 1 to 7, and it does not win;
//   - the birthdate is in an earlier year than Rules.Today, and no 29 February;
//   - the agency is the batch's, of at most 7 digits.
//
// ordinaryRun.scan validates such lines without a branch that depends on the length of the names or
// on the places of their accents. A byte-wise scan loses most of its time to mispredicted branches
// of that kind. scan never rejects a line: it leaves lines that are not ordinary to scanBet.
//
// There are two implementations, which take the same lines. scanWords reads eight bytes at a time
// and runs anywhere; scanVectors reads 32, on amd64 with AVX2. On names in random order scanBet
// alone takes 46 ns a bet, scanWords 15 and scanVectors 7 (BenchmarkParseBatch).
//
// The cost is in the number of instructions a line, about 200 and 75. That is why scanWords uses
// arrays of known length, and sets a bit before it counts zeros. Both avoid checks, a tenth of the
// time.

// How many bytes scan may read for one line: for both names with their '|'; for document,
// birthdate, number, and the word with the agency; and for all of it.
const (
	ordinaryNameBytesMax = 40
	ordinaryTailBytes    = 40
	ordinaryWindow       = ordinaryNameBytesMax + ordinaryTailBytes
)

// A byte repeated eight times, for arithmetic on all bytes of a word.
const (
	each01 = 0x01_01_01_01_01_01_01_01
	each7f = 0x7f * each01
	each80 = 0x80 * each01
)

// Words to XOR the fields with, first byte lowest. A digit becomes its value and a separator zero.
// After adding 6, the high half of a byte is not zero if its value was over 9.
const (
	zeroDigits  = '0' * each01            // "00000000"
	sixDigits   = 0x06 * each01           //
	highDigits  = 0xf0 * each01           //
	zeroYear    = 0x30302d_30303030_7c    // "|0000-00"
	sixYear     = 0x060600_06060606_00    //
	highYear    = 0xf0f0ff_f0f0f0f0_ff    //
	zeroDay     = 0x7c_3030_2d_3030_2d_30 // "0-00-00|"
	sixDay      = 0x00_0606_00_0606_00_06 //
	highDay     = 0xff_f0f0_ff_f0f0_ff_f0 //
	zeroDigits4 = 0x30303030              // "0000"
	sixDigits4  = 0x06060606              //
	highDigits4 = 0xf0f0f0f0              //
)

// ordinaryRun holds what the ordinary lines of one batch have in common. No line is ordinary for
// the zero value.
type ordinaryRun struct {
	agency Agency
	id     []byte // the agency as lines name it

	year    uint64 // birthdates are before this year, from packYear; if 0, no line is ordinary
	winning uint64 // the winning number, from packDigits

	// How a line ends, with the agency and '\n': its last word has word&endMask == end.
	end, endMask uint64
	endBytes     int
}

// presumeRun returns a run for the agency that a payload's first line seems to name. The run's scan
// of that line then tells whether it really does.
func presumeRun(payload []byte, rules Rules) ordinaryRun {
	line, _, _ := bytes.Cut(payload[:min(len(payload), BetBytesMax)], []byte{'\n'})
	id := line[bytes.LastIndexByte(line, '|')+1:]
	agency, ok := ParseAgency(id)
	if !ok {
		return ordinaryRun{}
	}
	return newOrdinaryRun(rules, agency, id)
}

func newOrdinaryRun(rules Rules, agency Agency, id []byte) ordinaryRun {
	var end, mask [8]byte
	if len(id) >= len(end) {
		return ordinaryRun{}
	}
	end[copy(end[:], id)] = '\n'
	for i := range len(id) + 1 {
		mask[i] = 0xff
	}
	return ordinaryRun{
		agency:   agency,
		id:       id,
		year:     packYear(rules.Today),
		winning:  packDigits(rules.WinningNumber),
		end:      binary.LittleEndian.Uint64(end[:]),
		endMask:  binary.LittleEndian.Uint64(mask[:]),
		endBytes: len(id) + 1,
	}
}

// packYear returns the start of a birthdate in the day's year, such as "|2026", first byte highest.
func packYear(day Date) uint64 {
	year := uint64(day / 10000)
	return '|'<<56 | ('0'+year/1000%10)<<48 | ('0'+year/100%10)<<40 | ('0'+year/10%10)<<32 | ('0'+year%10)<<24
}

// packDigits returns a number's eight digits, one value a byte, the last digit in the highest byte.
// For a number of more digits it returns a word that no line packs to.
func packDigits(number uint32) uint64 {
	var word uint64
	for shift := 56; shift >= 0; shift -= 8 {
		word |= uint64(number%10) << shift
		number /= 10
	}
	if number > 0 {
		return ^uint64(0)
	}
	return word
}

// scanEnd is scan for the end of a payload. scan stops there because its window would reach beyond
// the payload, and because the last line may lack its '\n'.
func (r *ordinaryRun) scanEnd(p []byte) (n, count int) {
	if len(p) >= ordinaryWindow {
		return 0, 0
	}
	var end [2 * ordinaryWindow]byte
	end[copy(end[:], p)] = '\n'
	n, count = r.scan(end[:])
	return min(n, len(p)), count
}

// scanWords is scan with words of eight bytes, for any processor.
func (r *ordinaryRun) scanWords(p []byte) (n, count int) {
	if r.year == 0 {
		return 0, 0
	}
	for ; len(p)-n >= ordinaryWindow; count++ {
		b := (*[ordinaryWindow]byte)(p[n : n+ordinaryWindow])

		// Both names, as bits: pipes has bit k set if b[k] is a '|'. These words also hold bytes
		// after the second '|'. They pass as names if they are a document and a birthdate.
		others, bad, lead := scanNameWord(binary.LittleEndian.Uint64(b[0:]), 0)
		others1, bad1, lead := scanNameWord(binary.LittleEndian.Uint64(b[8:]), lead)
		others2, bad2, lead := scanNameWord(binary.LittleEndian.Uint64(b[16:]), lead)
		pipes := (others | others1<<8 | others2<<16) ^ (1<<24 - 1)
		bad |= bad1 | bad2
		second := bits.TrailingZeros64(pipes&(pipes-1) | 1<<24)
		if second >= 24 {
			others1, bad1, lead = scanNameWord(binary.LittleEndian.Uint64(b[24:]), lead)
			others2, bad2, _ = scanNameWord(binary.LittleEndian.Uint64(b[32:]), lead)
			pipes |= (others1<<24 | others2<<32) ^ (1<<16-1)<<24
			bad |= bad1 | bad2
			if second = bits.TrailingZeros64(pipes&(pipes-1) | 1<<ordinaryNameBytesMax); second >= ordinaryNameBytesMax {
				break
			}
		}
		if bad&each80 != 0 || pipes&(pipes<<1|1) != 0 { // the second: an empty name
			break
		}

		// "12345678|1990-05-23|", as the word "12345678" and the two words of birthdate.
		names := second + 1
		t := (*[ordinaryTailBytes]byte)(b[names:])
		document := binary.LittleEndian.Uint64(t[0:]) ^ zeroDigits
		bad = (document | (document + sixDigits)) & highDigits
		years := binary.LittleEndian.Uint64(t[8:])
		_, month, day, badDate := birthdate(years, binary.LittleEndian.Uint64(t[12:]))
		if bad|badDate != 0 || bits.ReverseBytes64(years) >= r.year || day-1 >= daysOfMonth[month] {
			break
		}

		// Most numbers have four digits. A branch for them gains 10 %, because the start of the
		// next line then doesn't depend on a count. After a shorter number, t[24] may be a '|' of
		// the next line.
		i := 25
		number := uint64(binary.LittleEndian.Uint32(t[20:])) ^ zeroDigits4
		switch {
		case t[24] != '|' || (number|(number+sixDigits4))&highDigits4 != 0:
			var ok bool
			if i, ok = scanNumberWord(binary.LittleEndian.Uint64(t[20:]), r.winning); !ok {
				return n, count
			}
			i += 20
		case number<<32 == r.winning:
			return n, count
		}
		if binary.LittleEndian.Uint64(t[i:])&r.endMask != r.end {
			break
		}
		n += names + i + r.endBytes
	}
	return n, count
}

// scanNameWord checks eight bytes of names. others has a bit for each byte that is not '|', the
// first byte's lowest. In bad, the high bit of a byte is set if the byte is wrong; in lead, if it
// begins a character of two bytes. Their other bits mean nothing. leadBefore is the lead of the
// word before.
//
// It is just small enough for the compiler to inline.
func scanNameWord(word, leadBefore uint64) (others, bad, lead uint64) {
	low := word & each7f // keeps the sums below from carrying into the next byte
	others = ((low ^ '|'*each01) + each7f | word) & each80
	high := ((low ^ 0x43*each01) + each7f) & word // above ASCII, and not 0xc3
	lead = word ^ high
	follow := lead<<8 | leadBefore>>56

	bad = follow&(word<<1) | // follows a lead, but is not 10xxxxxx
		(high ^ follow) | // neither leads nor follows, but is not ASCII; or follows, but is ASCII or 0xc3
		^((low + (0x80-0x20)*each01) ^ (low + (0x80-0x7f)*each01) | word) // ASCII, but not 0x20 to 0x7e

	// The product gathers the high bits of all bytes, in order, in the highest byte.
	return others * 0x0002_0408_1020_4081 >> 56, bad, lead
}

// scanNumberWord reads a number of 1 to 7 digits and its '|', and returns how many bytes they have.
// ok is false if there is no such number, or if the number wins.
func scanNumberWord(word, winning uint64) (n int, ok bool) {
	x := word ^ '|'*each01
	width := bits.TrailingZeros64((x-each01)&^x&each80) / 8 // exact for the first '|'
	if width < 1 || width > 7 {
		return 0, false
	}
	number := (word ^ zeroDigits) << (64 - 8*width)
	return width + 1, (number|(number+sixDigits))&highDigits == 0 && number != winning
}

// birthdate reads "|1990-05-23|" from two overlapping words, "|1990-05" and "0-05-23|". bad is not
// 0 if they don't have that form. It doesn't check that there is such a day.
func birthdate(years, days uint64) (year uint32, month, day uint8, bad uint64) {
	years ^= zeroYear
	days ^= zeroDay
	bad = (years|(years+sixYear))&highYear | (days|(days+sixDay))&highDay
	years = years*10 + years>>8 // two digits into one byte
	days = days*10 + days>>8
	return uint32(years>>8&0xff)*100 + uint32(years>>24&0xff), uint8(days >> 16), uint8(days >> 40), bad
}
