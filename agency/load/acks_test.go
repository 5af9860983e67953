package load

import (
	"bytes"
	"strings"
	"testing"
)

func TestAckCounter(t *testing.T) {
	const ack = "3\nACK"
	for _, c := range []struct {
		name, in string
		acks     int
		other    string
	}{
		{"one", ack, 1, ""},
		{"many", strings.Repeat(ack, 700), 700, ""},
		{"a part", ack + "3\nA", 1, ""},
		{"an error", "19\nERROR_EMPTY_BATCH", 0, "19\nERROR_EMPTY_BATCH"},
		{"an error after ACKs", ack + ack + "19\nERROR", 2, "19\nERROR"},
		{"a length that begins like an ACK's", ack + "36\nERROR_LOTTERY", 1, "36\nERROR_LOTTERY"},
		{"a payload as long as an ACK's", ack + "3\nNAK", 1, "3\nNAK"},
		{"an ACK with another last letter", "3\nACH", 0, "3\nACH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for cut := range len(c.in) + 1 {
				if cut > readBytes || len(c.in)-cut > readBytes {
					continue
				}
				var counter ackCounter
				acks, other := counter.take([]byte(c.in[:cut]))
				if other == nil {
					var more int
					more, other = counter.take([]byte(c.in[cut:]))
					acks += more
				} else {
					other = append(other, c.in[cut:]...)
				}
				if acks != c.acks || string(other) != c.other {
					t.Fatalf("cut at %d: %d ACKs and %q, want %d and %q", cut, acks, other, c.acks, c.other)
				}
			}
		})
	}
}

func TestFrameCounter(t *testing.T) {
	stream := []byte("3\nabc0\n12\nhello world!1\nx")
	const frames = 4
	for cut := range len(stream) + 1 {
		var c frameCounter
		first, err1 := c.count(stream[:cut])
		second, err2 := c.count(stream[cut:])
		if err1 != nil || err2 != nil || first+second != frames {
			t.Errorf("cut at %d: %d and %d frames, %v, %v", cut, first, second, err1, err2)
		}
	}
	for _, bad := range []string{"x", "\n", "-1\n", "3\nabcACK", "1234567890\n"} {
		var c frameCounter
		if _, err := c.count([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func FuzzAckCounter(f *testing.F) {
	f.Add([]byte("3\nACK3\nACK"), 3)
	f.Add([]byte("3\nACK19\nERROR_EMPTY_BATCH"), 6)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		in = in[:min(len(in), readBytes)]
		cut = min(max(cut, 0), len(in))
		var whole, parts ackCounter
		acks, other := whole.take(in)
		first, rest := parts.take(in[:cut])
		if rest == nil {
			var second int
			second, rest = parts.take(in[cut:])
			first += second
		} else {
			rest = append(rest, in[cut:]...)
		}
		if acks != first || !bytes.Equal(other, rest) {
			t.Errorf("whole: %d, %q; cut at %d: %d, %q", acks, other, cut, first, rest)
		}
		if back := append(bytes.Repeat(ackFrame, acks), other...); other != nil && !bytes.Equal(back, in) {
			t.Errorf("%q became %q", in, back)
		}
	})
}
