package codec

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
)

// Checksum is the checksum of bets that were stored one behind the other: the CRC-32C
// (Castagnoli) of their lines as they stand on the wire, each followed by '\n'. The zero value is
// that of no bets. It doesn't depend on how the bets were cut into batches.
//
// It tells an agency whether the bets that the server has are those of its own file. CRC-32C
// notices an accident, with a chance of 1 in 4 billion to miss it; it is no protection against
// somebody who forges bets.
type Checksum uint32

// checksumDigits is how many lower-case hexadecimal digits a Checksum has on the wire.
const checksumDigits = 2 * crc32.Size

// String is the checksum as it stands on the wire.
func (c Checksum) String() string { return string(c.append(nil)) }

func (c Checksum) append(dst []byte) []byte {
	var b [crc32.Size]byte
	binary.BigEndian.PutUint32(b[:], uint32(c))
	return hex.AppendEncode(dst, b[:])
}

func parseChecksum(s string) (c Checksum, ok bool) {
	var b [crc32.Size]byte
	ok = parseHex(b[:], []byte(s))
	return Checksum(binary.BigEndian.Uint32(b[:])), ok
}

// Add is the checksum of what c is the checksum of, followed by lines: the payload of a batch,
// whose last line may lack its '\n'. An empty payload adds nothing.
func (c Checksum) Add(lines []byte) Checksum {
	return c.Join(Stretch{Sum: crc32.Update(uint32(c), castagnoli, lines), Seed: uint32(c), Bytes: len(lines), Open: isOpen(lines)})
}

// Stretch describes a batch's lines by a CRC-32C that somebody has computed already, so that a
// server needn't read them again to know an agency's Checksum.
type Stretch struct {
	// Sum is crc32.Update(Seed, crc32.MakeTable(crc32.Castagnoli), payload).
	Sum, Seed uint32
	// Bytes is the payload's length, at most math.MaxUint32.
	Bytes int
	// Open says that the last line lacks its '\n'.
	Open bool
}

// StretchOf describes a batch's payload whose checksum sum begins with seed. The payload is not
// kept; only its length and its last byte are looked at.
func StretchOf(payload []byte, sum, seed uint32) Stretch {
	return Stretch{Sum: sum, Seed: seed, Bytes: len(payload), Open: isOpen(payload)}
}

func isOpen(lines []byte) bool { return len(lines) > 0 && lines[len(lines)-1] != '\n' }

// Join is the checksum of what c is the checksum of, followed by the stretch. It takes about as
// long as reading 500 bytes would.
func (c Checksum) Join(s Stretch) Checksum {
	// Update is linear in where it begins: begun elsewhere, the result differs by the difference,
	// moved by as many bytes.
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

// moves are linear maps of a CRC's register: moves[i][n] moves it by n<<(moveBits*i) zero bytes, so
// that a batch takes one map for each hexadecimal digit of its length. A map is a table for each four
// bits of the register: tables for eight would be twice as quick alone, but they would push other
// things out of the processor's first cache.
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

// fill makes m the map that moves a register as that function does.
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

// moved is the register after n zero bytes, without the inversions that a CRC begins and ends with.
func moved(register uint32, n int) uint32 {
	for i, rest := 0, uint32(n); rest != 0; i, rest = i+1, rest>>moveBits {
		if digit := rest & (1<<moveBits - 1); digit != 0 {
			register = moves[i][digit].apply(register)
		}
	}
	return register
}
