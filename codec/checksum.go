package codec

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
)

// Checksum is the checksum of a sequence of stored bets: the CRC-32C (Castagnoli) of their lines as
// they are on the wire, each followed by '\n'. It doesn't depend on how the bets were cut into
// batches. The zero value is the checksum of no bets.
//
// It tells an agency whether the server's bets are those of the agency's own file. CRC-32C misses
// an accident with a chance of 1 in 4 billion. It doesn't protect against somebody who forges bets.
type Checksum uint32

// checksumDigits is the length of a Checksum on the wire, in lower-case hexadecimal digits.
const checksumDigits = 2 * crc32.Size

// String returns the checksum as it is on the wire.
func (c Checksum) String() string { return string(c.append(nil)) }

func (c Checksum) append(dst []byte) []byte {
	word := binary.BigEndian.AppendUint32(make([]byte, 0, crc32.Size), uint32(c))
	return hex.AppendEncode(dst, word)
}

func parseChecksum(s string) (c Checksum, ok bool) {
	var b [crc32.Size]byte
	ok = parseHex(b[:], []byte(s))
	return Checksum(binary.BigEndian.Uint32(b[:])), ok
}

// Add returns the checksum of c's bets followed by lines. lines is the payload of a batch, whose
// last line may lack its '\n'. An empty payload adds nothing.
func (c Checksum) Add(lines []byte) Checksum {
	return c.Join(StretchOf(lines, crc32.Update(uint32(c), castagnoli, lines), uint32(c)))
}

// Stretch describes a batch's payload by a CRC-32C of it that was computed before. A server that
// joins stretches needn't read the payload again to compute an agency's Checksum.
type Stretch struct {
	// Sum is crc32.Update(Seed, crc32.MakeTable(crc32.Castagnoli), payload).
	Sum, Seed uint32
	// Bytes is the payload's length, at most math.MaxUint32.
	Bytes int
	// Open is true if the last line lacks its '\n'.
	Open bool
}

// StretchOf describes a batch's payload by sum, its CRC-32C that began with seed. It doesn't keep
// the payload, and reads only its length and its last byte.
func StretchOf(payload []byte, sum, seed uint32) Stretch {
	open := len(payload) > 0 && payload[len(payload)-1] != '\n'
	return Stretch{Sum: sum, Seed: seed, Bytes: len(payload), Open: open}
}

// Join returns the checksum of c's bets followed by the stretch. It takes about as long as the
// checksum of 500 bytes.
func (c Checksum) Join(s Stretch) Checksum {
	// crc32.Update is linear in its start value: two start values give results that differ by the
	// difference of the start values, moved by as many zero bytes as were read.
	sum := s.Sum
	if uint32(c) != s.Seed {
		sum ^= moved(uint32(c)^s.Seed, s.Bytes)
	}
	if s.Open {
		sum = crc32.Update(sum, castagnoli, lineEnd[:])
	}
	return Checksum(sum)
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	lineEnd    = [1]byte{'\n'}
)

// moves are linear maps of a CRC's register: moves[i][n] moves it by n<<(moveBits*i) zero bytes. So
// a batch needs one map for each hexadecimal digit of its length. A map has a table for each four
// bits of the register. Tables for eight bits would be twice as fast alone, but they would push
// other data out of the processor's first-level cache.
var moves = makeMoves()

type move [32 / moveBits][1 << moveBits]uint32

const moveBits = 4

func makeMoves() (all [32 / moveBits][1 << moveBits]move) {
	var one move
	one.fill(func(register uint32) uint32 { return castagnoli[register&0xff] ^ register>>8 })
	for i := range all {
		all[i][0].fill(func(register uint32) uint32 { return register })
		for n := 1; n < len(all[i]); n++ {
			all[i][n].fill(func(register uint32) uint32 { return one.apply(all[i][n-1].apply(register)) })
		}
		last := all[i][len(all[i])-1]
		next := one
		one.fill(func(register uint32) uint32 { return next.apply(last.apply(register)) })
	}
	return all
}

// fill makes m the map of the linear function moved.
func (m *move) fill(moved func(register uint32) uint32) {
	for digit := range m {
		for value := range m[digit] {
			m[digit][value] = moved(uint32(value) << (moveBits * digit))
		}
	}
}

func (m *move) apply(register uint32) uint32 {
	return m[0][register&15] ^ m[1][register>>4&15] ^ m[2][register>>8&15] ^ m[3][register>>12&15] ^
		m[4][register>>16&15] ^ m[5][register>>20&15] ^ m[6][register>>24&15] ^ m[7][register>>28]
}

// moved returns the register after n zero bytes, without the inversions at a CRC's start and end.
func moved(register uint32, n int) uint32 {
	for i, rest := 0, uint32(n); rest != 0; i, rest = i+1, rest>>moveBits {
		if digit := rest & (1<<moveBits - 1); digit != 0 {
			register = moves[i][digit].apply(register)
		}
	}
	return register
}
