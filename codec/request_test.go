package codec

import (
	"errors"
	"strings"
	"testing"
)

func TestParseRequest(t *testing.T) {
	bets := func(a Agency, count, winners int) Request {
		return Request{Kind: RequestBets, Agency: a, Batch: Batch{Agency: a, Count: count, Winners: winners}}
	}
	getWinners := func(a Agency) Request { return Request{Kind: RequestGetWinners, Agency: a} }
	hello := func(a Agency) Request { return Request{Kind: RequestHello, Agency: a} }
	received := func(a Agency) Request { return Request{Kind: RequestReceived, Agency: a} }
	five := "|Pérez|12345678|1990-05-23|7574|1" // and a first name make a bet
	tests := []struct {
		payload string
		want    Request
		code    Code
		line    int
	}{
		{juan, bets(1, 1, 1), CodeNone, 0},
		{juan + "\n" + maria + "\n", bets(1, 2, 1), CodeNone, 0},
		{"", Request{}, CodeEmptyBatch, 0},
		{"\n\n\n", Request{}, CodeEmptyBatch, 0},
		{"x", Request{}, CodeInvalidBatch, 1},
		{juan + "\n\n", Request{}, CodeInvalidBatch, 2},
		{maria + "2\n" + juan, Request{}, CodeInvalidAgency, 0},

		{"GET_WINNERS|1", getWinners(1), CodeNone, 0},
		{"GET_WINNERS|0", getWinners(0), CodeNone, 0},
		{"GET_WINNERS|999999999", getWinners(999_999_999), CodeNone, 0},
		{"GET_WINNERS", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERS|", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERS|01", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERS|abc", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERS|-1", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERS| 1", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERS|1 ", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERS|1\n", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERS|1|", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERS||1", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERS1", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERSX|1", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERS|1000000000", Request{}, CodeInvalidGetWinners, 0},
		{"GET_WINNERS" + five, Request{}, CodeInvalidGetWinners, 0}, // not a bet: it begins with GET_WINNERS
		{"GET_WINNER", Request{}, CodeInvalidBatch, 1},
		{"get_winners|1", Request{}, CodeInvalidBatch, 1},
		{"GET_WINNER" + five, bets(1, 1, 1), CodeNone, 0},
		{juan + "\nGET_WINNERS|1", Request{}, CodeInvalidBatch, 2},

		{"HELLO|1", hello(1), CodeNone, 0},
		{"HELLO|999999999", hello(999_999_999), CodeNone, 0},
		{"HELLO|", Request{}, CodeInvalidHello, 0},
		{"HELLO|01", Request{}, CodeInvalidHello, 0},
		{"HELLO|abc", Request{}, CodeInvalidHello, 0},
		{"HELLO|1\n", Request{}, CodeInvalidHello, 0},
		{"HELLO|1|2", Request{}, CodeInvalidHello, 0},
		{"HELLO|1\r\n", Request{}, CodeInvalidHello, 0},
		{"HELLO|1000000000", Request{}, CodeInvalidHello, 0},
		{"HELLO|Pérez|12345678|1990-05-23|7574", Request{}, CodeInvalidHello, 0}, // five fields
		{"HELLO|1\n" + juan, Request{}, CodeInvalidHello, 0},
		{"HELLO" + five, bets(1, 1, 1), CodeNone, 0},
		{"HELLO" + five + "\n" + maria, bets(1, 2, 1), CodeNone, 0},
		{"HELLO" + five + "|", Request{}, CodeInvalidBatch, 1}, // seven fields
		{"HELLO|||||", Request{}, CodeInvalidBatch, 1},
		{"HELLO", Request{}, CodeInvalidBatch, 1},
		{"hello|1", Request{}, CodeInvalidBatch, 1},
		{juan + "\nHELLO|1", Request{}, CodeInvalidBatch, 2},
		{maria + "\nHELLO" + five, bets(1, 2, 1), CodeNone, 0},

		{"RECEIVED|1", received(1), CodeNone, 0},
		{"RECEIVED|999999999", received(999_999_999), CodeNone, 0},
		{"RECEIVED|01", Request{}, CodeInvalidBatch, 1},
		{"RECEIVED|", Request{}, CodeInvalidBatch, 1},
		{"RECEIVED|1\n", Request{}, CodeInvalidBatch, 1},
		{"RECEIVED|1|2", Request{}, CodeInvalidBatch, 1},
		{"RECEIVED", Request{}, CodeInvalidBatch, 1},
		{"RECEIVED" + five, bets(1, 1, 1), CodeNone, 0},
		{juan + "\nRECEIVED|1", Request{}, CodeInvalidBatch, 2},

		// A server's messages are not requests, but may be first names.
		{"ACK", Request{}, CodeInvalidBatch, 1},
		{"ACK" + five, bets(1, 1, 1), CodeNone, 0},
		{"WELCOME|0|64|65536", Request{}, CodeInvalidBatch, 1},
		{"WELCOME" + five, bets(1, 1, 1), CodeNone, 0},
		{"ERROR_X" + five, bets(1, 1, 1), CodeNone, 0},
		{"ERROR_STORAGE" + five, bets(1, 1, 1), CodeNone, 0},
	}
	for _, test := range tests {
		got, winners, err := ParseRequest([]byte(test.payload), testRules, []byte("kept"))
		var rejected Error
		if e := (*Error)(nil); errors.As(err, &e) {
			rejected = *e
		}
		if got != test.want || (err == nil) != (test.code == CodeNone) || rejected.Code != test.code || rejected.Line != test.line {
			t.Errorf("ParseRequest(%q) = %+v, %v, want %+v, %v at line %d", test.payload, got, err, test.want, test.code, test.line)
		}
		if !strings.HasPrefix(string(winners), "kept") || strings.Count(string(winners), "\n") != got.Batch.Winners {
			t.Errorf("ParseRequest(%q) returns winners %q, want %d after what was there", test.payload, winners, got.Batch.Winners)
		}
	}
}

func TestParseAgency(t *testing.T) {
	for _, s := range []string{"0", "1", "9", "10", "255", "256", "999999999"} {
		a, ok := ParseAgency([]byte(s))
		if again := AppendAgency(nil, a); !ok || string(again) != s {
			t.Errorf("ParseAgency(%q) = %d, %v", s, a, ok)
		}
	}
	for _, s := range []string{"", "00", "01", "0000000001", "1000000000", "9999999999", "abc", "1a", "a1", "/", ":", "-1", "+1", " 1", "1 ", "1\n", "1\r", "1|", "1\x00", "١"} {
		if a, ok := ParseAgency([]byte(s)); ok {
			t.Errorf("ParseAgency(%q) = %d, want none", s, a)
		}
	}
}

func TestAppendRequests(t *testing.T) {
	for _, test := range []struct {
		got  []byte
		want string
	}{
		{AppendHello([]byte("x"), 1), "x7\nHELLO|1"},
		{AppendHello(nil, 999_999_999), "15\nHELLO|999999999"},
		{AppendReceived([]byte("x"), 1), "x10\nRECEIVED|1"},
		{AppendGetWinners([]byte("x"), 1), "x13\nGET_WINNERS|1"},
		{AppendGetWinners(nil, 12), "14\nGET_WINNERS|12"},
	} {
		if string(test.got) != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}

func TestListAgencies(t *testing.T) {
	ids := []Agency{1, 3, 999_999_999, 7}
	for most, want := range map[int]string{
		0: " and 4 more", 1: "1 and 3 more", 3: "1, 3, 999999999 and 1 more", 4: "1, 3, 999999999, 7", 9: "1, 3, 999999999, 7",
	} {
		if got := ListAgencies(ids, most); got != want {
			t.Errorf("at most %d: %q, want %q", most, got, want)
		}
	}
	if got := ListAgencies(nil, 5); got != "" {
		t.Errorf("none: %q", got)
	}
}
