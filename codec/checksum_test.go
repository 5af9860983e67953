package codec

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

func TestChecksumOnTheWire(t *testing.T) {
	for _, c := range []struct {
		payload string
		want    string
	}{
		{"", "00000000"},
		// The check value of CRC-32C, of "123456789", is e3069283. With a line end it is:
		{"123456789", "a8dab577"},
		{"Juan|Pérez|12345678|1990-05-23|7574|1", "fa89edbb"},
	} {
		got := Checksum(0).Add([]byte(c.payload))
		if got.String() != c.want {
			t.Errorf("%q: %v, want %v", c.payload, got, c.want)
		}
	}
	if got := Checksum(crc32.Checksum([]byte("123456789"), castagnoli)); got.String() != "e3069283" {
		t.Errorf("the polynomial is not Castagnoli's: %v", got)
	}
}

// The checksum is that of the lines. It doesn't matter how they are cut into batches, whether a
// batch has its last '\n', and which seed its sum begins with.
func FuzzChecksum(f *testing.F) {
	f.Add([]byte("a\nb\nccc"), uint64(1), uint32(0))
	f.Add([]byte("\n\n"), uint64(2), uint32(0x4c4f5445))
	f.Add(bytes.Repeat([]byte("0123456789"), 2000), uint64(3), ^uint32(0))
	f.Fuzz(func(t *testing.T, text []byte, cuts uint64, seed uint32) {
		rnd := rand.New(rand.NewPCG(cuts, 0))
		var (
			all           []byte
			added, joined Checksum
			batch         []byte
		)
		flush := func() {
			payload := batch
			if rnd.IntN(2) == 0 && len(payload) > 0 {
				payload = payload[:len(payload)-1]
				if len(payload) == 0 || payload[len(payload)-1] == '\n' {
					payload = batch // its last line is empty, and no valid batch ends like that
				}
			}
			added = added.Add(payload)
			joined = joined.Join(StretchOf(payload, crc32.Update(seed, castagnoli, payload), seed))
			batch = batch[:0]
		}
		for _, line := range bytes.Split(text, []byte{'\n'}) {
			all = append(append(all, line...), '\n')
			batch = append(append(batch, line...), '\n')
			if rnd.IntN(3) == 0 {
				flush()
			}
		}
		flush()
		want := Checksum(crc32.Checksum(all, castagnoli))
		if added != want || joined != want {
			t.Errorf("added %v, joined %v, want %v", added, joined, want)
		}
	})
}

// Stretches of any length join, even longer ones than a frame can be.
func TestChecksumOfLongStretches(t *testing.T) {
	long := make([]byte, 20<<20)
	for i := range long {
		long[i] = 'a' + byte(i%23)
	}
	const seed, before = 0x4c4f5445, Checksum(0x1234567)
	for _, n := range []int{1, 15, 16, 255, 256, 4095, 4096, 65535, 65536, 1<<20 - 1, FrameBytesMaxLimit, len(long)} {
		got := before.Join(StretchOf(long[:n], crc32.Update(seed, castagnoli, long[:n]), seed))
		if want := before.Add(long[:n]); got != want {
			t.Errorf("%d bytes: %v, want %v", n, got, want)
		}
	}
}

func BenchmarkChecksumJoin(b *testing.B) {
	payload := bytes.Repeat([]byte("0123456789"), 800)
	s := StretchOf(payload, crc32.Update(1, castagnoli, payload), 1)
	var c Checksum
	for i := range b.N {
		s.Bytes = 8000 + i&127
		c = c.Join(s)
	}
	sink = uint32(c)
}

var sink uint32
