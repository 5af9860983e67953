package codec

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestParseReply(t *testing.T) {
	welcome := func(stored int64, window, frameBytesMax int, checksum Checksum) Reply {
		return Reply{Kind: ReplyWelcome, Welcome: Welcome{Stored: stored, Window: window, FrameBytesMax: frameBytesMax, Checksum: checksum}}
	}
	tests := []struct {
		payload string
		want    Reply
		err     string // a part of the error; empty for none
	}{
		{"ACK", Reply{Kind: ReplyAck}, ""},

		{"WELCOME|0|64|65536|00000000", welcome(0, 64, 65536, 0), ""},
		{"WELCOME|9223372036854775807|2147483647|2147483647|ffffffff", welcome(1<<63-1, 1<<31-1, 1<<31-1, 1<<32-1), ""},
		{"WELCOME|2|64|65536|0896aac9", welcome(2, 64, 65536, 0x0896aac9), ""},
		{"WELCOME|9223372036854775808|64|65536|00000000", Reply{}, `stored is "9223372036854775808"`},
		{"WELCOME|0|2147483648|65536|00000000", Reply{}, "window"},
		{"WELCOME|0|64|2147483648|00000000", Reply{}, "frame bytes max"},
		{"WELCOME|0|0|65536|00000000", Reply{}, "want a positive number"},
		{"WELCOME|0|64|0|00000000", Reply{}, "want a positive number"},
		{"WELCOME|-1|64|65536|00000000", Reply{}, "stored"},
		{"WELCOME|+1|64|65536|00000000", Reply{}, "stored"},
		{"WELCOME|00|64|65536|00000000", Reply{}, "stored"},
		{"WELCOME|0|064|65536|00000000", Reply{}, "window"},
		{"WELCOME||64|65536|00000000", Reply{}, "stored"},
		{"WELCOME|", Reply{}, "with 1 fields, want 4"},
		{"WELCOME|0|64", Reply{}, "with 2 fields, want 4"},
		{"WELCOME|0|64|65536", Reply{}, "with 3 fields, want 4: the server is older"},
		{"WELCOME|0|64|65536||0", Reply{Kind: ReplyWinners, Winners: []byte("WELCOME|0|64|65536||0")}, ""}, // six fields, as a bet has
		{"WELCOME|0|64|65536|", Reply{}, `checksum is "", want 8 lower-case hexadecimal digits`},
		{"WELCOME|0|64|65536|0000000", Reply{}, "checksum"},
		{"WELCOME|0|64|65536|000000000", Reply{}, "checksum"},
		{"WELCOME|0|64|65536|0000000G", Reply{}, "checksum"},
		{"WELCOME|0|64|65536|0000000A", Reply{}, "checksum"},
		{"WELCOME|0|64|65536|0000000a\n", Reply{}, "checksum"},
		{"WELCOME|0|64|" + strings.Repeat("9", 1000) + "|00000000", Reply{}, "frame bytes max is \"" + strings.Repeat("9", 20) + `", want`},

		{"ERROR_INVALID_BATCH", Reply{Kind: ReplyError, Code: CodeInvalidBatch}, ""},
		{"ERROR_INVALID_BATCH|3|birthdate: 1990-02-30 is not a day", Reply{Kind: ReplyError, Code: CodeInvalidBatch, Detail: "3|birthdate: 1990-02-30 is not a day"}, ""},
		{"ERROR_UNHEARD_OF", Reply{}, `unknown error "ERROR_UNHEARD_OF"`},
		{"ERROR_STORAGE\n", Reply{}, "unknown error"},
		{"ERROR_", Reply{}, "unknown error"},
		{"ERROR_STORAGE|", Reply{}, "no detail"},

		{"ERROR_NOT_LEADER", Reply{Kind: ReplyError, Code: CodeNotLeader}, ""},
		{"ERROR_NOT_LEADER|server2:12345", Reply{Kind: ReplyError, Code: CodeNotLeader, Detail: "server2:12345"}, ""},
		{"ERROR_NOT_LEADER|[::1]:12345", Reply{Kind: ReplyError, Code: CodeNotLeader, Detail: "[::1]:12345"}, ""},
		{"ERROR_NOT_LEADER|", Reply{}, "no detail"},
		{"ERROR_NOT_LEADER|server2", Reply{}, `the leader's address is "server2", want HOST:PORT`},
		{"ERROR_NOT_LEADER|server2:0", Reply{}, "want HOST:PORT"},
		{"ERROR_NOT_LEADER|server2:12345\n", Reply{}, "want HOST:PORT"},
		{"ERROR_NOT_LEADER|server2:12345|3", Reply{}, "want HOST:PORT"},
		{"ERROR_NOT_LEADER|" + strings.Repeat("a", 250) + ":12345", Reply{}, `address is "` + strings.Repeat("a", 64) + `", want`},
		{"ERROR_NOT_LEADER\n", Reply{}, "unknown error"},

		{"AUTHENTICATED", Reply{Kind: ReplyAuthenticated}, ""},
		{"CHALLENGE|" + strings.Repeat("0f", 32), Reply{Kind: ReplyChallenge, Nonce: Nonce(bytes.Repeat([]byte{15}, 32))}, ""},
		{"CHALLENGE|" + strings.Repeat("0F", 32), Reply{}, "want 64 lower-case hexadecimal digits"},
		{"CHALLENGE|" + strings.Repeat("0f", 31), Reply{}, "want 64"},
		{"CHALLENGE|" + strings.Repeat("0f", 33), Reply{}, "want 64"},
		{"CHALLENGE|" + strings.Repeat("0g", 32), Reply{}, "want 64"},
		{"CHALLENGE|" + strings.Repeat("9", 1000), Reply{}, "CHALLENGE is \"" + strings.Repeat("9", 80) + `", want`},
		{"CHALLENGE|", Reply{}, "want 64"},

		{"", Reply{Kind: ReplyWinners}, ""},
		{juan, Reply{Kind: ReplyWinners, Winners: []byte(juan)}, ""},
		{juan + "\n" + maria, Reply{Kind: ReplyWinners, Winners: []byte(juan + "\n" + maria)}, ""},
	}
	for _, name := range []string{"ACK", "WELCOME", "ERROR_X", "ERROR_STORAGE", "ERROR_NOT_LEADER", "HELLO", "CHALLENGE", "AUTHENTICATED"} {
		line := name + juan[len("Juan"):]
		tests = append(tests, tests[len(tests)-1])
		tests[len(tests)-1].payload, tests[len(tests)-1].want = line, Reply{Kind: ReplyWinners, Winners: []byte(line)}
	}
	for _, test := range tests {
		got, err := ParseReply([]byte(test.payload))
		if !sameReply(got, test.want) {
			t.Errorf("ParseReply(%q) = %+v, want %+v", test.payload, got, test.want)
		}
		if test.err == "" && err != nil || test.err != "" && (!errors.Is(err, ErrReply) || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("ParseReply(%q): error %v, want an ErrReply with %q", test.payload, err, test.err)
		}
	}
}

func sameReply(a, b Reply) bool {
	return a.Kind == b.Kind && a.Welcome == b.Welcome && a.Code == b.Code && a.Detail == b.Detail &&
		string(a.Winners) == string(b.Winners) && a.Nonce == b.Nonce
}

// appendReply encodes a reply that ParseReply read.
func appendReply(r Reply) []byte {
	switch r.Kind {
	case ReplyAck:
		return AppendAck(nil)
	case ReplyWelcome:
		return AppendWelcome(nil, r.Welcome)
	case ReplyError:
		return AppendError(nil, r.Code, r.Detail)
	case ReplyChallenge:
		return AppendChallenge(nil, r.Nonce)
	case ReplyAuthenticated:
		return AppendAuthenticated(nil)
	default:
		return AppendFrame(nil, r.Winners)
	}
}

func TestRepliesThereAndBack(t *testing.T) {
	replies := []Reply{
		{Kind: ReplyAck},
		{Kind: ReplyWelcome, Welcome: Welcome{Stored: 0, Window: 1, FrameBytesMax: 1}},
		{Kind: ReplyWelcome, Welcome: Welcome{Stored: 1<<63 - 1, Window: 1<<31 - 1, FrameBytesMax: 1<<31 - 1, Checksum: 1<<32 - 1}},
		{Kind: ReplyAuthenticated},
		{Kind: ReplyChallenge},
		{Kind: ReplyChallenge, Nonce: nonceCounting()},
		{Kind: ReplyWinners},
		{Kind: ReplyWinners, Winners: []byte(juan + "\n" + maria)},
	}
	for _, code := range Codes() {
		detail := "3|why: it is so"
		if code == CodeNotLeader {
			detail = "server2:12345"
		}
		replies = append(replies, Reply{Kind: ReplyError, Code: code}, Reply{Kind: ReplyError, Code: code, Detail: detail})
	}
	for _, want := range replies {
		frame := appendReply(want)
		payload, rest, ok, err := SplitFrame(frame, ReplyBytesMaxDefault)
		if !ok || err != nil || len(rest) != 0 {
			t.Fatalf("%q is not one frame: rest %q, %v", frame, rest, err)
		}
		if got, err := ParseReply(payload); err != nil || !sameReply(got, want) {
			t.Errorf("%+v comes back from %q as %+v, %v", want, frame, got, err)
		}
	}
}

func TestCodes(t *testing.T) {
	// The table of PROTOCOL.md has the payload, and whether the connection is closed.
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile("(?m)^\\| `(ERROR_[A-Z_]+)` .* \\| (kept|closed)(?:;.*)? \\|$").FindAllStringSubmatch(string(text), -1)
	codes := Codes()
	if len(codes) != len(table) {
		t.Fatalf("%d codes, the document has %d", len(codes), len(table))
	}
	for i, row := range table {
		if codes[i].String() != row[1] || codes[i].Closes() != (row[2] == "closed") {
			t.Errorf("code %d is %v and closes: %v, want %q", i, codes[i], codes[i].Closes(), row[1:])
		}
	}
	for _, c := range []Code{CodeNone, codeEnd, 255} {
		if !regexp.MustCompile(`^Code\(\d+\)$`).MatchString(c.String()) || c.Closes() {
			t.Errorf("code %d, which is none, is %v and closes: %v", uint8(c), c, c.Closes())
		}
	}
}

// The transcript in PROTOCOL.md parses, and re-encodes byte for byte.
func TestTranscript(t *testing.T) {
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, transcript, found := strings.Cut(string(text), "\n## A transcript\n")
	if !found {
		t.Fatal("PROTOCOL.md has no transcript")
	}
	seen := 0
	for line := range strings.Lines(transcript) {
		line, indented := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "    ")
		if !indented {
			continue
		}
		direction, quoted, ok := strings.Cut(line, "  ")
		if !ok {
			t.Fatalf("transcript: no direction in %q", line)
		}
		frame := []byte(strings.ReplaceAll(quoted, `\n`, "\n"))
		payload, rest, ok, err := SplitFrame(frame, FrameBytesMaxDefault)
		if !ok || err != nil || len(rest) > 0 {
			t.Errorf("%s: not one frame: ok %v, rest %q, %v", line, ok, rest, err)
			continue
		}
		seen++
		if strings.HasPrefix(direction, "S") {
			reply, err := ParseReply(payload)
			if again := appendReply(reply); err != nil || string(again) != string(frame) {
				t.Errorf("%s: comes back as %q, %v", line, again, err)
			}
			continue
		}
		request, _, err := ParseRequest(payload, testRules, nil)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		again := AppendFrame(nil, payload)
		switch request.Kind {
		case RequestHello:
			again = AppendHello(nil, request.Agency)
		case RequestGetWinners:
			again = AppendGetWinners(nil, request.Agency)
		case RequestReceived:
			again = AppendReceived(nil, request.Agency)
		}
		if string(again) != string(frame) {
			t.Errorf("%s: comes back as %q", line, again)
		}
	}
	if seen != 12 {
		t.Errorf("transcript has %d frames, want 12", seen)
	}
}
