package codec

import (
	"strings"
	"testing"
)

// A server allocates nothing for a valid frame.
func TestNoAllocations(t *testing.T) {
	batch := []byte(strings.Repeat(maria+"\n", 100) + "Ñ|€😀|7|2024-02-29|000007574|1\n" + juan + "\n")
	winners := make([]byte, 0, 1024)
	request := func(payload []byte) func() {
		return func() {
			if _, _, err := ParseRequest(payload, testRules, winners); err != nil {
				t.Fatal(err)
			}
		}
	}
	stream := AppendFrame(AppendFrame(nil, batch), batch)
	out := make([]byte, 0, 1024)
	tests := []struct {
		name string
		run  func()
	}{
		{"ParseRequest of a batch", request(batch)},
		{"ParseRequest of HELLO", request([]byte("HELLO|1"))},
		{"ParseRequest of GET_WINNERS", request([]byte("GET_WINNERS|1"))},
		{"ReplayBatch", func() {
			if _, _, err := ReplayBatch(batch, 7574, winners); err != nil {
				t.Fatal(err)
			}
		}},
		{"SplitFrame", func() {
			for rest := stream; len(rest) > 0; {
				var ok bool
				if _, rest, ok, _ = SplitFrame(rest, FrameBytesMaxDefault); !ok {
					t.Fatal("no frame")
				}
			}
		}},
		{"SplitFrame of half a frame", func() {
			if _, _, ok, err := SplitFrame(stream[:20], FrameBytesMaxDefault); ok || err != nil {
				t.Fatal(ok, err)
			}
		}},
		{"SplitBet", func() {
			if _, err := SplitBet(batch[:len(maria)]); err != nil {
				t.Fatal(err)
			}
		}},
		{"replies", func() {
			b := AppendAck(out)
			b = AppendError(b, CodeBetsClosed, "")
			b = AppendWelcome(b, Welcome{Stored: 1 << 40, Window: 64, FrameBytesMax: 65536, Checksum: 1<<32 - 1})
			if len(b) > cap(out) {
				t.Fatal("out is too small")
			}
		}},
	}
	for _, test := range tests {
		if n := testing.AllocsPerRun(100, test.run); n != 0 {
			t.Errorf("%s: %v allocations, want none", test.name, n)
		}
	}
}
