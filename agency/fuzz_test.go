package agency

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"loteria/codec"
)

// fuzzReplies are payloads that the fuzzed server may send, besides random bytes.
var fuzzReplies = []string{
	"ACK", "WELCOME|0|4|309|00000000", "WELCOME|3|1|65536|own", "WELCOME|9223372036854775807|2147483647|2147483647|00000001",
	"WELCOME|1|2|308|own", "",
	"Juan|Pérez|12345678|1990-05-23|7574|7", "ERROR_LOTTERY_HASNT_ENDED", "ERROR_STORAGE", "ERROR_TIMEOUT", "ERROR_AGENCY_TAKEN_OVER",
	"ERROR_INVALID_BATCH|1|birthdate: 1990-02-30 is not a day", "ERROR_INVALID_BATCH|99999999999999999999|x", "ERROR_INVALID_BATCH|-1|",
	"WELCOME|12|4|65536|own", "WELCOME|3|1|65536|other", "WELCOME|40|1|65536|other", "WELCOME|0|4|309|00000001",
	"ERROR_NOT_LEADER|server2:12345", "ERROR_NOT_LEADER",
}

// FuzzSession drives an agency's session against a server that may say anything: each byte is a
// step, or part of what the server says. The session never panics. The number of durable bets never
// shrinks. It never has more frames unanswered than its window. It sends nothing to a server whose
// bets it doesn't know to be its own. It returns no errors but those of its documentation.
func FuzzSession(f *testing.F) {
	f.Add([]byte("\x00\x01\x06\x02\x01\x06\x01\x03\x06\x00\x04\x06\x06\x06"))
	f.Add([]byte("\x00\x01\x06\x01\x02\x02\x01\x05\x00\x01\x06\x02\x01\x06\x00"))
	f.Add([]byte("\x00\x01\x07\x0cWELCOME|0|4|1|"))
	f.Add([]byte("\x00\x01\x06\x02\x02\x01\x06\x0b"))
	f.Add([]byte("\x00\x01\x06\x12\x00\x01\x06\x01\x02\x03\x01\x06\x13\x00\x01\x06\x01\x01"))
	f.Fuzz(func(t *testing.T, script []byte) {
		const framesMax, betsMax = 3, 200
		s := NewSession(testAgency, framesMax)
		var pushed, stored int64
		finished, asked := false, false // after asked no bets are pushed
		welcome := ""                   // the last WELCOME
		next := func() (b byte) {
			if len(script) > 0 {
				b, script = script[0], script[1:]
			}
			return b
		}
		for len(script) > 0 {
			var err error
			switch next() % 10 {
			case 0:
				s.Connect()
			case 1:
				sent := s.Send(nil)
				for len(sent) > 0 {
					payload, rest, ok, err := codec.SplitFrame(sent, codec.FrameBytesMaxLimit)
					if !ok || err != nil {
						t.Fatalf("sends %q: %v", sent, err)
					}
					sent = rest
					// A session without an input has nothing to compare.
					if got := string(payload); got != "HELLO|7" && (pushed > 0 || finished) && !agrees(t, welcome, pushed) {
						t.Fatalf("%q is sent after %q, with %d bets of the input known", got, welcome, pushed)
					}
				}
			case 2:
				if s.Wants() && pushed < betsMax && !asked {
					n := 1 + int(next()%20)
					err = s.Push(testBatch(pushed, n))
					pushed += int64(n)
				}
			case 3:
				finished = true
				err = s.Finish(pushed)
			case 4:
				s.Ask()
				asked = true
			case 5:
				s.Disconnect()
			case 6:
				reply := testWelcome(t, fuzzReplies[int(next())%len(fuzzReplies)])
				if strings.HasPrefix(reply, "WELCOME|") {
					welcome = reply
				}
				err = s.take(t, []byte(reply))
			case 7:
				n := min(int(next()), len(script))
				if bytes.HasPrefix(script, []byte("WELCOME|")) {
					welcome = string(script[:n])
				}
				err = s.take(t, script[:n])
				script = script[n:]
			case 8:
				s.Confirm()
				asked = true
			case 9:
				if s.Unanswered() == 0 {
					s.Begin()
					pushed, finished, asked = 0, false, false
				}
			}
			if err != nil {
				if rejected := (*RejectedError)(nil); !errors.As(err, &rejected) && !slices.ContainsFunc(
					[]error{ErrLostBets, ErrOtherBets, ErrFrameBytes, ErrProtocol}, func(known error) bool { return errors.Is(err, known) }) {
					t.Fatal(err)
				}
				return
			}
			if s.Stored() < stored {
				t.Fatalf("%d stored, there were %d", s.Stored(), stored)
			}
			stored = s.Stored()
			if s.Unanswered() > framesMax {
				t.Fatalf("%d unanswered, the window is %d", s.Unanswered(), framesMax)
			}
		}
	})
}

// agrees reports whether the bets of the welcome are the first bets of the input, of which known
// bets are pushed.
func agrees(t *testing.T, welcome string, known int64) bool {
	reply, err := codec.ParseReply([]byte(welcome))
	if err != nil {
		t.Fatalf("welcomed by %q: %v", welcome, err)
	}
	w := reply.Welcome
	return w.Stored <= known && w.Checksum == checksum(testLines(w.Stored))
}

// take lets the session receive a payload, as Client does.
func (s *Session) take(t *testing.T, payload []byte) error {
	ev, err := s.Receive(payload)
	if err != nil {
		return err
	}
	switch ev.Kind {
	case EventWinners:
		w, err := parseWinners(ev.Winners)
		if err != nil {
			return err
		}
		checkWinners(t, w, payload)
	case EventRetry:
		s.Disconnect()
	case EventNotLeader:
		if ev.Leader != "" && !codec.IsAddress(ev.Leader) {
			t.Fatalf("sent on to %q", ev.Leader)
		}
		s.Disconnect()
	case EventAcked:
		if ev.Batch == nil || ev.Batch.end() != s.Stored() {
			t.Fatalf("acknowledged %+v with %d stored", ev.Batch, s.Stored())
		}
	}
	return nil
}

// FuzzWinners reads arbitrary bytes as winners. Accepted winners are lines that the codec can
// split, and they re-encode identically.
func FuzzWinners(f *testing.F) {
	for _, payload := range []string{"", "\n", "a|b|c|d|e|1", "a|b|c|d|e|1\nf|g|h|i|j|999999999\n", "a|b|c|d|e|01", "\n\n|||||0", "a|b|c|d|e|f|1"} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		w, err := parseWinners(payload)
		if err == nil {
			checkWinners(t, w, payload)
			return
		}
		if !errors.Is(err, ErrProtocol) {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(payload), "\n"), "\n") {
			if strings.Count(line, "|") != 5 {
				return
			}
			if _, ok := codec.ParseAgency([]byte(line[strings.LastIndexByte(line, '|')+1:])); !ok {
				return
			}
		}
		t.Fatalf("%q is not accepted: %v", payload, err)
	})
}

// checkWinners wants accepted winners to re-encode as their payload.
func checkWinners(t *testing.T, w Winners, payload []byte) {
	t.Helper()
	var again []byte
	count := 0
	for bet := range w.Bets() {
		if count++; count > 1 {
			again = append(again, '\n')
		}
		again = codec.AppendBet(again, bet)
	}
	if count > 0 && bytes.HasSuffix(payload, []byte("\n")) {
		again = append(again, '\n')
	}
	if count != w.Count() || !bytes.Equal(again, payload) || !bytes.Equal(w.Bytes(), payload) {
		t.Fatalf("%q is %d winners and re-encodes as %q", payload, w.Count(), again)
	}
}
