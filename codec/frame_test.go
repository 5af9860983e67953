package codec

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
)

func TestFrameLen(t *testing.T) {
	const limit = 65536
	most := strconv.Itoa(math.MaxInt / 16)
	tests := []struct {
		in            string
		limit         int
		header, total int
		err           error
	}{
		{"", limit, 0, 1, nil},
		{"3", limit, 0, 2, nil},
		{"65536", limit, 0, 6, nil},
		{"3\n", limit, 2, 5, nil},
		{"3\nACK", limit, 2, 5, nil},
		{"3\nACK9", limit, 2, 5, nil},
		{"0\n", limit, 2, 2, nil},
		{"65535\n", limit, 6, 65541, nil},
		{"65536\n", limit, 6, 65542, nil},
		{"0\n", 0, 2, 2, nil},
		{most + "\n", math.MaxInt / 16, len(most) + 1, len(most) + 1 + math.MaxInt/16, nil},

		{"65537", limit, 0, 0, ErrFrameTooLarge},
		{"65537\n", limit, 0, 0, ErrFrameTooLarge},
		{"100000", limit, 0, 0, ErrFrameTooLarge},
		{"1", 0, 0, 0, ErrFrameTooLarge},
		{most + "0", math.MaxInt / 16, 0, 0, ErrFrameTooLarge},
		{"99999999999999999999", limit, 0, 0, ErrFrameTooLarge},      // 20 digits
		{"18446744073709551619\nACK", limit, 0, 0, ErrFrameTooLarge}, // 2^64 + 3
		{"18446744073709551619\nACK", math.MaxInt / 16, 0, 0, ErrFrameTooLarge},
		{"65537x", limit, 0, 0, ErrFrameTooLarge}, // decided before the 'x' is read

		{"\n", limit, 0, 0, ErrFrameHeader},
		{"\r\n", limit, 0, 0, ErrFrameHeader},
		{"3\r\nACK", limit, 0, 0, ErrFrameHeader},
		{"00", limit, 0, 0, ErrFrameHeader},
		{"00\n", limit, 0, 0, ErrFrameHeader},
		{"03\nACK", limit, 0, 0, ErrFrameHeader},
		{"00000000000000000003\nACK", limit, 0, 0, ErrFrameHeader},
		{"+3\nACK", limit, 0, 0, ErrFrameHeader},
		{"-3\nACK", limit, 0, 0, ErrFrameHeader},
		{" 3\nACK", limit, 0, 0, ErrFrameHeader},
		{"3 \nACK", limit, 0, 0, ErrFrameHeader},
		{"0x3\nACK", limit, 0, 0, ErrFrameHeader},
		{"3|ACK", limit, 0, 0, ErrFrameHeader},
		{"\x003\n", limit, 0, 0, ErrFrameHeader},
		{"3/", limit, 0, 0, ErrFrameHeader},
		{"3:", limit, 0, 0, ErrFrameHeader},
		{"٣\n", limit, 0, 0, ErrFrameHeader},
		{"GET / HTTP/1.1\r\n", limit, 0, 0, ErrFrameHeader},
		{"\x16\x03\x01\x02\x00", limit, 0, 0, ErrFrameHeader}, // TLS
	}
	for _, test := range tests {
		header, total, err := FrameLen([]byte(test.in), test.limit)
		if header != test.header || total != test.total || !errors.Is(err, test.err) {
			t.Errorf("FrameLen(%q, %d) = %d, %d, %v, want %d, %d, %v",
				test.in, test.limit, header, total, err, test.header, test.total, test.err)
		}
	}
}

// split takes all frames off a stream that arrives in pieces, as a connection's reader does.
func split(pieces [][]byte, limit int) (payloads []string, rest []byte, err error) {
	for _, piece := range pieces {
		rest = append(rest, piece...)
		for {
			payload, next, ok, err := SplitFrame(rest, limit)
			if err != nil {
				return payloads, next, err
			}
			if !ok {
				break
			}
			payloads = append(payloads, string(payload))
			rest = next
		}
	}
	return payloads, rest, nil
}

func TestSplitFrameCutAnywhere(t *testing.T) {
	want := []string{"HELLO|1", "", juan + "\n" + maria, "ACK", strings.Repeat("x", 300), "3\nACK", "\n"}
	var stream []byte
	for _, payload := range want {
		stream = AppendFrame(stream, []byte(payload))
	}
	const unfinished = "5\nACK"
	stream = append(stream, unfinished...)
	check := func(pieces ...[]byte) {
		t.Helper()
		got, rest, err := split(pieces, FrameBytesMaxDefault)
		if err != nil || string(rest) != unfinished || strings.Join(got, "¶") != strings.Join(want, "¶") {
			t.Fatalf("cut into %d pieces: %q, rest %q, %v", len(pieces), got, rest, err)
		}
	}
	check(stream)
	for i := range stream {
		check(stream[:i], stream[i:])
		for j := i; j < min(i+12, len(stream)); j++ {
			check(stream[:i], stream[i:j], stream[j:])
		}
	}
	bytewise := make([][]byte, len(stream))
	for i := range stream {
		bytewise[i] = stream[i : i+1]
	}
	check(bytewise...)
}

// The same error comes, after the same frames, wherever the stream is cut.
func TestSplitFrameErrorCutAnywhere(t *testing.T) {
	tests := []struct {
		bad  string
		want error
	}{
		{"03\nACK", ErrFrameHeader},
		{"3\r\nACK", ErrFrameHeader},
		{"\n", ErrFrameHeader},
		{"65537\n", ErrFrameTooLarge},
		{"99999999999999999999\n", ErrFrameTooLarge},
	}
	for _, test := range tests {
		stream := []byte("3\nACK0\n" + test.bad)
		for i := range stream {
			payloads, rest, err := split([][]byte{stream[:i], stream[i:]}, FrameBytesMaxDefault)
			if !errors.Is(err, test.want) || len(payloads) != 2 || !bytes.HasPrefix([]byte(test.bad), rest[:1]) {
				t.Errorf("%q cut at %d: %q, rest %q, %v, want %v", stream, i, payloads, rest, err, test.want)
			}
		}
	}
}

func TestSplitFrameAliases(t *testing.T) {
	b := []byte("3\nACK3\nxyz")
	payload, rest, ok, err := SplitFrame(b, 10)
	if !ok || err != nil || &payload[0] != &b[2] || &rest[0] != &b[5] {
		t.Fatalf("SplitFrame = %q, %q, %v, %v, want parts of the input", payload, rest, ok, err)
	}
	if _ = append(payload, '!'); string(rest) != "3\nxyz" {
		t.Errorf("appending to the payload changed the rest to %q", rest)
	}
}

func TestAppendFrame(t *testing.T) {
	if got := AppendFrame([]byte("before"), nil); string(got) != "before0\n" {
		t.Errorf("an empty frame is %q", got)
	}
	for _, n := range []int{1, 9, 10, 99, 100, 65536} {
		payload := bytes.Repeat([]byte("x"), n)
		got, rest, ok, err := SplitFrame(AppendFrame(nil, payload), n)
		if !ok || err != nil || len(rest) != 0 || !bytes.Equal(got, payload) {
			t.Errorf("a frame of %d bytes comes back as %d bytes, %v, %v", n, len(got), ok, err)
		}
	}
}
