package codec

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// A stream is split as the model splits it. Any cut of it gives the same frames, rest and error.
// The frames and the rest re-encode to the stream.
func FuzzSplitFrame(f *testing.F) {
	f.Add([]byte("7\nHELLO|13\nACK0\n5\nAC"), uint16(10), uint8(9), uint8(3))
	f.Add([]byte("3\nACK00\n"), uint16(100), uint8(6), uint8(0))
	f.Add([]byte("65537\n"), uint16(math.MaxUint16), uint8(4), uint8(1))
	f.Add([]byte("99999999999999999999\nx"), uint16(5), uint8(1), uint8(19))
	f.Fuzz(func(t *testing.T, stream []byte, limit uint16, cut1, cut2 uint8) {
		whole, rest, wholeErr := split([][]byte{stream}, int(limit))
		a := min(int(cut1), len(stream))
		b := min(a+int(cut2), len(stream))
		parts, partsRest, partsErr := split([][]byte{stream[:a], stream[a:b], stream[b:]}, int(limit))
		if !slices.Equal(whole, parts) || !sameFrameError(wholeErr, partsErr) {
			t.Fatalf("%q: whole %q, %v; cut at %d and %d %q, %v", stream, whole, wholeErr, a, b, parts, partsErr)
		}
		if want, err := modelSplit(string(stream), int(limit)); !slices.Equal(whole, want) || !sameFrameError(wholeErr, err) {
			t.Fatalf("%q: %q, %v; want %q, %v", stream, whole, wholeErr, want, err)
		}
		if wholeErr == nil && !bytes.Equal(rest, partsRest) {
			t.Fatalf("%q: rest %q, and %q when cut at %d and %d", stream, rest, partsRest, a, b)
		}
		var again []byte
		for _, payload := range whole {
			if len(payload) > int(limit) {
				t.Fatalf("%q: payload of %d bytes, limit %d", stream, len(payload), limit)
			}
			again = AppendFrame(again, []byte(payload))
		}
		if again = append(again, rest...); !bytes.Equal(again, stream) {
			t.Fatalf("%q re-encodes as %q", stream, again)
		}
	})
}

func sameFrameError(a, b error) bool {
	return errors.Is(a, ErrFrameHeader) == errors.Is(b, ErrFrameHeader) &&
		errors.Is(a, ErrFrameTooLarge) == errors.Is(b, ErrFrameTooLarge)
}

// ParseBatch agrees with the model on the input as a whole batch, and as a line among ordinary
// ones, where the fast path sees it.
func FuzzParseBatch(f *testing.F) {
	for _, payload := range []string{
		"", "\n\n", juan, juan + "\n" + maria + "\n", juan + "\r\n", juan + "\n\n" + maria,
		maria + "2\n" + juan,
		"Agustín Emanuel|Zúñiga y Benítez|30904465|1999-03-17|2201|1",
		"Ñ|€😀|00000000000000000007|2024-02-29|000007574|1",
		"A|B|12345678|2026-11-23|0007574|1\nA|B|12345678|2026-11-24|7574|1",
		"J\u0080|\x7f|12345678|1990-02-30|75740|01",
	} {
		f.Add([]byte(payload), uint32(7574))
	}
	f.Fuzz(func(t *testing.T, payload []byte, winning uint32) {
		rules := Rules{Today: today, WinningNumber: winning}
		checkBatch(t, payload, rules)
		checkAmid(t, string(payload), rules)
	})
}

// ParseRequest tells the other requests from batches as the protocol says. They re-encode
// identically, and all other payloads go to ParseBatch unchanged.
func FuzzParseRequest(f *testing.F) {
	for _, payload := range []string{
		"HELLO|1", "HELLO|01", "HELLO|", "HELLO|1\n" + juan, "HELLO|a|b|c|d|e", "HELLO" + juan[4:],
		"RECEIVED|1", "RECEIVED|01", "RECEIVED|1\n", "RECEIVED" + juan[4:],
		"GET_WINNERS|1", "GET_WINNERS", "GET_WINNERS|", "GET_WINNERS|1\n", "GET_WINNERS" + juan[4:],
		"", "\n", juan, juan + "\n" + maria, "ACK", "WELCOME|0|64|65536", "AUTH|1", "AUTH" + juan[4:],
	} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, winners, err := ParseRequest(payload, testRules, nil)
		var rejected Error
		if e := (*Error)(nil); errors.As(err, &e) {
			rejected = *e
		}
		if (err == nil) != (rejected.Code == CodeNone) || err != nil && got != (Request{}) {
			t.Fatalf("ParseRequest(%q) = %+v, %v", payload, got, err)
		}
		firstLine, _, _ := bytes.Cut(payload, []byte("\n"))
		sixFields := bytes.Count(firstLine, []byte("|")) >= 5
		switch {
		case bytes.HasPrefix(payload, []byte("GET_WINNERS")):
			if err == nil && !bytes.Equal(AppendGetWinners(nil, got.Agency), AppendFrame(nil, payload)) ||
				err == nil && got.Kind != RequestGetWinners ||
				err != nil && rejected.Code != CodeInvalidGetWinners ||
				err != nil && modelAgency(strings.TrimPrefix(string(payload), "GET_WINNERS|")) {
				t.Fatalf("ParseRequest(%q) = %+v, %v", payload, got, err)
			}
		case bytes.HasPrefix(payload, []byte("HELLO|")) && !sixFields:
			if err == nil && !bytes.Equal(AppendHello(nil, got.Agency), AppendFrame(nil, payload)) ||
				err == nil && got.Kind != RequestHello ||
				err != nil && rejected.Code != CodeInvalidHello ||
				err != nil && modelAgency(string(payload[len("HELLO|"):])) {
				t.Fatalf("ParseRequest(%q) = %+v, %v", payload, got, err)
			}
		case bytes.HasPrefix(payload, []byte("RECEIVED|")) && modelAgency(string(payload[len("RECEIVED|"):])):
			if err != nil || got.Kind != RequestReceived || !bytes.Equal(AppendReceived(nil, got.Agency), AppendFrame(nil, payload)) {
				t.Fatalf("ParseRequest(%q) = %+v, %v", payload, got, err)
			}
		default:
			want := model(string(payload), testRules)
			if rejected.Code != want.code || rejected.Line != want.line || string(winners) != want.winners {
				t.Fatalf("ParseRequest(%q) = %+v, winners %q, %v, want %+v", payload, got, winners, err, want)
			}
			batch := Batch{Agency: want.agency, Count: want.count, Winners: want.wins}
			if err == nil && got != (Request{Kind: RequestBets, Agency: want.agency, Batch: batch}) {
				t.Fatalf("ParseRequest(%q) = %+v, want %+v", payload, got, want)
			}
		}
	})
}

// A reply that ParseReply accepts re-encodes to the same bytes.
func FuzzParseReply(f *testing.F) {
	for _, payload := range []string{
		"", "ACK", "WELCOME|0|64|65536", "WELCOME|0|64|65536|00000000", "WELCOME|00|64|65536|0", "WELCOME|2|64|65536|0896aac9", "WELCOME|0|64", "WELCOME" + juan[4:],
		"ERROR_STORAGE", "ERROR_INVALID_BATCH|3|birthdate: 1990-02-30 is not a day", "ERROR_INVALID_BATCH|",
		"ERROR_NOT_LEADER", "ERROR_NOT_LEADER|", "ERROR_NOT_LEADER|server2:12345", "ERROR_NOT_LEADER|[::1]:1", "ERROR_NOT_LEADER|server2", "ERROR_NOT_LEADER" + juan[4:],
		"ERROR_X", "ERROR_X" + juan[4:], juan + "\n" + maria,
		"AUTHENTICATED", "CHALLENGE|" + strings.Repeat("0f", 32), "CHALLENGE|" + strings.Repeat("0F", 32), "CHALLENGE" + juan[4:],
	} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		reply, err := ParseReply(payload)
		if err != nil {
			if !errors.Is(err, ErrReply) || reply.Kind != 0 || len(err.Error()) > 1000 {
				t.Fatalf("ParseReply(%q) = %+v, %v", payload, reply, err)
			}
			return
		}
		frame := appendReply(reply)
		again, rest, ok, err := SplitFrame(frame, len(payload))
		if !ok || err != nil || len(rest) > 0 || !bytes.Equal(again, payload) {
			t.Fatalf("ParseReply(%q) = %+v, which re-encodes as %q", payload, reply, frame)
		}
	})
}

// Encoded replies come back as they were.
func FuzzAppendReply(f *testing.F) {
	f.Add(uint8(0), int64(0), int32(1), int32(1), uint32(0), "")
	f.Add(uint8(CodeNotLeader-1), int64(0), int32(1), int32(1), uint32(0), "server2:12345")
	f.Add(uint8(3), int64(math.MaxInt64), int32(math.MaxInt32), int32(65536), uint32(math.MaxUint32), "3|birthdate: 1990-02-30 is not a day")
	f.Fuzz(func(t *testing.T, code uint8, stored int64, window, frameBytesMax int32, checksum uint32, detail string) {
		replies := []Reply{{Kind: ReplyAck}, {Kind: ReplyChallenge, Nonce: sha256.Sum256([]byte(detail))}}
		if stored >= 0 && window > 0 && frameBytesMax > 0 {
			replies = append(replies, Reply{Kind: ReplyWelcome, Welcome: Welcome{Stored: stored, Window: int(window), FrameBytesMax: int(frameBytesMax), Checksum: Checksum(checksum)}})
		}
		codes := Codes()
		reply := Reply{Kind: ReplyError, Code: codes[int(code)%len(codes)], Detail: detail}
		noAddress := reply.Code == CodeNotLeader && detail != "" && !IsAddress(detail)
		if !noAddress && !isBetLine([]byte(reply.Code.String()+"|"+detail)) { // no server sends such a detail
			replies = append(replies, reply)
		}
		for _, want := range replies {
			frame := appendReply(want)
			payload, _, ok, err := SplitFrame(frame, len(frame))
			if !ok || err != nil {
				t.Fatalf("%+v is encoded as %q: %v", want, frame, err)
			}
			if got, err := ParseReply(payload); err != nil || !sameReply(got, want) {
				t.Fatalf("%+v comes back as %+v, %v", want, got, err)
			}
		}
	})
}
