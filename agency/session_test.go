package agency

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"loteria/codec"
)

// A script has lines of "input => what the session does". "bets 3-5" is a frame with the bets 3, 4
// and 5. The checksum of a WELCOME may be "own", that of the input's first bets, or "other", that
// of different bets.
var sessionScripts = []struct{ name, script string }{
	{"from the first bet to the winners", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		push 2 2 => send bets 2-3
		finish 4 =>
		ask =>
		receive ACK => acked bets 0-1
		receive ACK => acked bets 2-3; uploaded; send GET_WINNERS|7
		receive  => winners "" uploaded
	`},
	{"own window", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 1 => send bets 0-0
		push 1 1 => send bets 1-1
		push 2 1 => send bets 2-2
		push 3 1 =>
		receive ACK => acked bets 0-0; send bets 3-3
	`},
	{"the server's window", `
		connect => send HELLO|7
		receive WELCOME|0|1|65536|00000000 => welcome
		push 0 1 => send bets 0-0
		push 1 1 =>
		receive ACK => acked bets 0-0; send bets 1-1
	`},
	{"several frames at once", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 1 => send bets 0-0
		disconnect =>
		push 1 1 =>
		push 2 1 =>
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome; send bets 0-0 bets 1-1 bets 2-2
	`},
	{"a server that knows nothing of a lost connection's frames", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		push 2 2 => send bets 2-3
		receive ACK => acked bets 0-1
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|2|64|65536|own => welcome; send bets 2-3
	`},
	{"a server that stored what it didn't acknowledge", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		push 2 2 => send bets 2-3
		finish 4 =>
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|4|64|65536|own => welcome; uploaded
	`},
	{"sent on by a server that is not the leader", `
		connect => send HELLO|7
		receive ERROR_NOT_LEADER|server2:12345 => not leader "server2:12345"
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
	`},
	{"sent on in the middle of the upload", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		push 2 2 => send bets 2-3
		receive ACK => acked bets 0-1
		receive ERROR_NOT_LEADER => not leader ""
		disconnect =>
		connect => send HELLO|7
		receive ERROR_NOT_LEADER|[::1]:1 => not leader "[::1]:1"
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|3|64|65536|own => welcome; send bets 3-3
	`},
	{"sent on while it waits for the draw, and for the ACK of its receipt", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		ask => send GET_WINNERS|7
		receive ERROR_NOT_LEADER|server2:12345 => not leader "server2:12345"
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome; send GET_WINNERS|7
		receive  => winners ""
		confirm => send RECEIVED|7
		receive ERROR_NOT_LEADER|server3:12345 => not leader "server3:12345"
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome; send RECEIVED|7
		receive ACK => confirmed
	`},
	{"sent to an address that is none", `
		connect => send HELLO|7
		receive ERROR_NOT_LEADER|server2 => error ErrProtocol
	`},
	{"stored inside a batch", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 4 => send bets 0-3
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|3|64|65536|own => welcome; send bets 3-3
		push 4 2 => send bets 4-5
	`},
	{"stored ahead of what was sent", `
		connect => send HELLO|7
		receive WELCOME|5|64|65536|own => welcome
		push 0 2 =>
		push 2 2 =>
		push 4 2 => send bets 5-5
		push 6 1 => send bets 6-6
		finish 7 =>
		receive ACK => acked bets 5-5
		receive ACK => acked bets 6-6; uploaded
	`},
	{"another process went ahead meanwhile", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|5|64|65536|own => welcome
		push 2 2 =>
		push 4 2 => send bets 5-5
	`},
	{"smaller frames after a restart", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 12 => send bets 0-11
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|1|64|309|own => welcome; send bets 1-9 bets 10-11
		push 12 12 => send bets 12-20
		receive ACK => acked bets 1-9; send bets 21-23
	`},
	{"everything is stored already", `
		connect => send HELLO|7
		receive WELCOME|2|64|65536|own => welcome
		push 0 2 =>
		finish 2 => uploaded
		ask => uploaded; send GET_WINNERS|7
	`},
	{"no bets at all", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		finish 0 => uploaded
	`},
	{"lost while waiting for the draw", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		ask => send GET_WINNERS|7
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome; send GET_WINNERS|7
		receive Ana|Paz|1|2000-01-01|7|7 => winners "Ana|Paz|1|2000-01-01|7|7"
	`},
	{"polling", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		ask => send GET_WINNERS|7
		receive ERROR_LOTTERY_HASNT_ENDED => hold
		ask => send GET_WINNERS|7
		receive  => winners ""
	`},
	{"never less than was acknowledged", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		receive ACK => acked bets 0-1
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|1|64|65536|own => error ErrLostBets
	`},
	{"never less than was stored", `
		connect => send HELLO|7
		receive WELCOME|9|64|65536|own => welcome
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|8|64|65536|own => error ErrLostBets
	`},
	{"stored inside a batch, but other bets", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 4 => send bets 0-3
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|3|64|65536|other => error ErrOtherBets
	`},
	{"stored as many bets as were sent, but other ones", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		push 2 2 => send bets 2-3
		finish 4 =>
		ask =>
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|4|64|65536|other => error ErrOtherBets
	`},
	{"other bets instead of those acknowledged", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		push 2 2 => send bets 2-3
		receive ACK => acked bets 0-1
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|2|64|65536|other => error ErrOtherBets
	`},
	{"other bets before the input", `
		connect => send HELLO|7
		receive WELCOME|3|64|65536|other => welcome
		push 0 2 =>
		ask =>
		push 2 2 => error ErrOtherBets
	`},
	{"other bets before the input, up to a batch's end", `
		connect => send HELLO|7
		receive WELCOME|2|64|65536|other => welcome
		push 0 2 => error ErrOtherBets
	`},
	{"a report waits for the input to be compared", `
		connect => send HELLO|7
		receive WELCOME|4|64|65536|own => welcome
		push 0 2 =>
		ask =>
		push 2 2 => send GET_WINNERS|7
	`},
	{"another process went ahead with other bets", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|5|64|65536|other => welcome
		push 2 2 =>
		push 4 2 => error ErrOtherBets
	`},
	{"further ahead with every connection", `
		connect => send HELLO|7
		receive WELCOME|3|64|65536|own => welcome
		push 0 2 =>
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|5|64|65536|own => welcome
		disconnect =>
		push 2 2 =>
		connect => send HELLO|7
		receive WELCOME|6|64|65536|own => welcome
		push 4 4 => send bets 6-7
	`},
	{"an input from its beginning again", `
		connect => send HELLO|7
		receive WELCOME|1|64|65536|own => welcome
		push 0 2 => send bets 1-1
		receive ACK => acked bets 1-1
		finish 2 => uploaded
		begin =>
		push 0 1 =>
		push 1 2 => send bets 2-2
		receive ACK => acked bets 2-2
		finish 3 => uploaded
		ask => uploaded; send GET_WINNERS|7
	`},
	{"another input, shorter than the one before", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		receive ACK => acked bets 0-1
		begin =>
		push 0 1 =>
		finish 1 => error ErrOtherBets
	`},
	{"one bet more after the report", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		finish 2 =>
		ask =>
		receive ACK => acked bets 0-1; uploaded; send GET_WINNERS|7
		disconnect => uploaded
		connect => uploaded; send HELLO|7
		receive WELCOME|3|64|65536|own => error ErrOtherBets
	`},
	{"other bets after the report", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		finish 2 =>
		ask =>
		receive ACK => acked bets 0-1; uploaded; send GET_WINNERS|7
		disconnect => uploaded
		connect => uploaded; send HELLO|7
		receive WELCOME|2|64|65536|other => error ErrOtherBets
	`},
	{"fewer bets after the report", `
		connect => send HELLO|7
		receive WELCOME|2|64|65536|own => welcome
		push 0 2 =>
		finish 2 => uploaded
		ask => uploaded; send GET_WINNERS|7
		disconnect => uploaded
		connect => uploaded; send HELLO|7
		receive WELCOME|1|64|65536|own => error ErrLostBets
	`},
	{"without an input there is nothing to compare", `
		connect => send HELLO|7
		receive WELCOME|3|64|65536|other => welcome
		ask => send GET_WINNERS|7
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|5|64|65536|other => welcome; send GET_WINNERS|7
		receive  => winners ""
		confirm => send RECEIVED|7
		receive ACK => confirmed
	`},
	{"a checksum of no bets", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000001 => error ErrProtocol
	`},
	{"confirmed", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		finish 2 =>
		ask =>
		receive ACK => acked bets 0-1; uploaded; send GET_WINNERS|7
		receive  => winners "" uploaded
		confirm => uploaded; send RECEIVED|7
		receive ACK => confirmed; uploaded
		disconnect => uploaded
		connect => uploaded; send HELLO|7
		receive WELCOME|2|64|65536|own => welcome; uploaded
		confirm => uploaded; send RECEIVED|7
	`},
	{"confirmed on the third connection", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		confirm => send RECEIVED|7
		disconnect =>
		connect => send HELLO|7
		receive ERROR_STORAGE => retry
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome; send RECEIVED|7
		receive ERROR_TIMEOUT => retry
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome; send RECEIVED|7
		receive ACK => confirmed
	`},
	{"confirmed, but the server has other bets", `
		connect => send HELLO|7
		receive WELCOME|2|64|65536|own => welcome
		push 0 2 =>
		finish 2 => uploaded
		confirm => uploaded; send RECEIVED|7
		disconnect => uploaded
		connect => uploaded; send HELLO|7
		receive WELCOME|2|64|65536|other => error ErrOtherBets
	`},
	{"confirmed before the draw", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		confirm => send RECEIVED|7
		receive ERROR_LOTTERY_HASNT_ENDED => error ErrLostBets
	`},
	{"one acknowledgement for one receipt", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		confirm => send RECEIVED|7
		receive ACK => confirmed
		receive ACK => error ErrProtocol
	`},
	{"winners once more, after the receipt", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		confirm => send RECEIVED|7
		ask =>
		receive ACK => confirmed; send GET_WINNERS|7
		receive  => winners ""
	`},
	{"winners once more, in place of a receipt that was lost", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		confirm => send RECEIVED|7
		disconnect =>
		ask =>
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome; send GET_WINNERS|7
		receive  => winners ""
	`},
	{"more stored than there are", `
		connect => send HELLO|7
		receive WELCOME|3|64|65536|own => welcome
		push 0 2 =>
		finish 2 => error ErrOtherBets
	`},
	{"more stored than there are, seen late", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		finish 2 =>
		disconnect =>
		connect => send HELLO|7
		receive WELCOME|3|64|65536|own => error ErrOtherBets
	`},
	{"a bet has to fit", `
		connect => send HELLO|7
		receive WELCOME|0|64|308|00000000 => error ErrFrameBytes
	`},
	{"an ACK too many", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		receive ACK => error ErrProtocol
	`},
	{"an ACK before the welcome", `
		connect => send HELLO|7
		receive ACK => error ErrProtocol
	`},
	{"a second welcome", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		receive WELCOME|0|64|65536|00000000 => error ErrProtocol
	`},
	{"winners that nobody asked for", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		receive Ana|Paz|1|2000-01-01|7|7 => error ErrProtocol
	`},
	{"an unknown error", `
		connect => send HELLO|7
		receive ERROR_TEAPOT => error ErrProtocol
	`},
	{"a bad welcome", `
		connect => send HELLO|7
		receive WELCOME|x|64|65536|00000000 => error ErrProtocol
	`},
	{"a rejected row", `
		connect => send HELLO|7
		receive WELCOME|1|64|65536|own => welcome
		push 0 2 => send bets 1-1
		push 2 3 => send bets 2-4
		receive ACK => acked bets 1-1
		receive ERROR_INVALID_BATCH|2|document: is empty => rejected ERROR_INVALID_BATCH "document: is empty" line 4
	`},
	{"a rejected row of a trimmed batch", `
		connect => send HELLO|7
		receive WELCOME|1|64|65536|own => welcome
		push 0 3 => send bets 1-2
		receive ERROR_INVALID_BATCH|1|x => rejected ERROR_INVALID_BATCH "x" line 2
	`},
	{"a rejection without a line", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		receive ERROR_INVALID_BATCH => rejected ERROR_INVALID_BATCH "" line 0
	`},
	{"a rejection with a line that isn't there", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		receive ERROR_INVALID_BATCH|3|x => rejected ERROR_INVALID_BATCH "3|x" line 0
	`},
	{"with a secret, on every connection", `
		secret sesame-of-agency-7 =>
		connect => send AUTH|7
		receive CHALLENGE|0000000000000000000000000000000000000000000000000000000000000000 => authenticating; send PROOF|58d067ca0b988a0b33b9476d0c81190f6801d688cc3d95512e0ad5584de6bd0f
		receive AUTHENTICATED => authenticating; send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		ask =>
		disconnect =>
		connect => send AUTH|7
		disconnect =>
		connect => send AUTH|7
		receive CHALLENGE|0000000000000000000000000000000000000000000000000000000000000000 => authenticating; send PROOF|58d067ca0b988a0b33b9476d0c81190f6801d688cc3d95512e0ad5584de6bd0f
		disconnect =>
		connect => send AUTH|7
		receive CHALLENGE|0101010101010101010101010101010101010101010101010101010101010101 => authenticating; send PROOF|a49ab254ee0420be7b2276db446205a2531e365679c1e7320f61e02cde1d72b2
		receive AUTHENTICATED => authenticating; send HELLO|7
		receive WELCOME|2|64|65536|own => welcome; send GET_WINNERS|7
		receive  => winners ""
	`},
	{"a wrong secret", `
		secret sesame-of-agency-7 =>
		connect => send AUTH|7
		receive CHALLENGE|0000000000000000000000000000000000000000000000000000000000000000 => authenticating; send PROOF|58d067ca0b988a0b33b9476d0c81190f6801d688cc3d95512e0ad5584de6bd0f
		receive ERROR_AUTHENTICATION_FAILED => rejected ERROR_AUTHENTICATION_FAILED "" line 0
	`},
	{"a secret that nobody asks for", `
		secret sesame-of-agency-7 =>
		connect => send AUTH|7
		receive ERROR_INVALID_BATCH => error ErrNotAsked
	`},
	{"a secret that nobody gave", `
		connect => send HELLO|7
		receive ERROR_AUTHENTICATION_REQUIRED => rejected ERROR_AUTHENTICATION_REQUIRED "" line 0
	`},
	{"a server that is full, with a secret", `
		secret sesame-of-agency-7 =>
		connect => send AUTH|7
		receive ERROR_TOO_MANY_CONNECTIONS => retry
	`},
	{"a server that stops, with a secret", `
		secret sesame-of-agency-7 =>
		connect => send AUTH|7
		receive CHALLENGE|0000000000000000000000000000000000000000000000000000000000000000 => authenticating; send PROOF|58d067ca0b988a0b33b9476d0c81190f6801d688cc3d95512e0ad5584de6bd0f
		receive ERROR_LOTTERY_HASNT_ENDED => retry
	`},
	{"a challenge without a secret", `
		connect => send HELLO|7
		receive CHALLENGE|0000000000000000000000000000000000000000000000000000000000000000 => error ErrProtocol
	`},
	{"authenticated without a challenge", `
		secret sesame-of-agency-7 =>
		connect => send AUTH|7
		receive AUTHENTICATED => error ErrProtocol
	`},
	{"a second challenge", `
		secret sesame-of-agency-7 =>
		connect => send AUTH|7
		receive CHALLENGE|0000000000000000000000000000000000000000000000000000000000000000 => authenticating; send PROOF|58d067ca0b988a0b33b9476d0c81190f6801d688cc3d95512e0ad5584de6bd0f
		receive CHALLENGE|0000000000000000000000000000000000000000000000000000000000000000 => error ErrProtocol
	`},
	{"a welcome in place of a challenge", `
		secret sesame-of-agency-7 =>
		connect => send AUTH|7
		receive WELCOME|0|64|65536|00000000 => error ErrProtocol
	`},
	{"a bad challenge", `
		secret sesame-of-agency-7 =>
		connect => send AUTH|7
		receive CHALLENGE|7 => error ErrProtocol
	`},
	{"stopping while bets are unanswered", `
		connect => send HELLO|7
		receive WELCOME|0|64|65536|00000000 => welcome
		push 0 2 => send bets 0-1
		receive ERROR_LOTTERY_HASNT_ENDED => retry
	`},
}

func TestSessionScripts(t *testing.T) {
	for _, test := range sessionScripts {
		t.Run(test.name, func(t *testing.T) {
			s := NewSession(testAgency, 3)
			for line := range strings.Lines(strings.TrimSpace(test.script)) {
				input, want, _ := strings.Cut(strings.TrimSpace(line), "=>")
				if got, want := sessionStep(t, s, input), strings.TrimSpace(want); got != want {
					t.Fatalf("%s=> %s\nwant %s", input, got, want)
				}
			}
		})
	}
}

// sessionStep gives the session an input and describes the result.
func sessionStep(t *testing.T, s *Session, input string) string {
	t.Helper()
	var out []string
	verb, rest, _ := strings.Cut(strings.TrimSuffix(input, " "), " ")
	var err error
	switch verb {
	case "connect":
		s.Connect()
	case "disconnect":
		s.Disconnect()
	case "push":
		var first, count int
		if _, err := fmt.Sscan(rest, &first, &count); err != nil {
			t.Fatalf("%q: %v", input, err)
		}
		err = s.Push(testBatch(int64(first), count))
	case "secret":
		secret, errSecret := codec.ParseSecret([]byte(rest))
		if errSecret != nil {
			t.Fatalf("%q: %v", input, errSecret)
		}
		s.Authenticate(secret)
	case "finish":
		var total int64
		if _, err := fmt.Sscan(rest, &total); err != nil {
			t.Fatalf("%q: %v", input, err)
		}
		err = s.Finish(total)
	case "ask":
		s.Ask()
	case "begin":
		s.Begin()
	case "confirm":
		s.Confirm()
	case "receive":
		var ev Event
		ev, err = s.Receive([]byte(testWelcome(t, rest)))
		if err == nil {
			out = append(out, describeEvent(t, ev))
		}
	default:
		t.Fatalf("unknown input %q", input)
	}
	if err != nil {
		if sent := s.Send(nil); errors.Is(err, ErrOtherBets) && len(sent) > 0 {
			t.Errorf("%q is sent after %v", sent, err)
		}
		return describeError(err)
	}
	if s.Uploaded() {
		if n := len(out); n > 0 && strings.HasPrefix(out[n-1], "winners") {
			out[n-1] += " uploaded"
		} else {
			out = append(out, "uploaded")
		}
	}
	if frames := describeFrames(t, s.Send(nil)); frames != "" {
		out = append(out, "send "+frames)
	}
	return strings.Join(out, "; ")
}

// testWelcome puts the checksum into a script's WELCOME; other payloads stay as they are.
func testWelcome(t *testing.T, payload string) string {
	begin, sum, ok := cutLast(payload, "|")
	if !ok || sum != "own" && sum != "other" {
		return payload
	}
	var stored int64
	if _, err := fmt.Sscanf(begin, "WELCOME|%d|", &stored); err != nil {
		t.Fatalf("%q: %v", payload, err)
	}
	lines := testLines(stored)
	if sum == "other" {
		lines[0] = string(testLine(otherBet))
	}
	return fmt.Sprintf("%s|%v", begin, checksum(lines))
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// otherBet is the index of a bet that no input has.
const otherBet = 1_000_000

// testLines returns the lines of an input's first bets.
func testLines(bets int64) (lines []string) {
	for i := range bets {
		lines = append(lines, string(testLine(i)))
	}
	return lines
}

func describeEvent(t *testing.T, ev Event) string {
	switch ev.Kind {
	case EventWelcome:
		return "welcome"
	case EventAcked:
		checkBatch(t, ev.Batch)
		return fmt.Sprintf("acked bets %d-%d", ev.Batch.First, ev.Batch.end()-1)
	case EventWinners:
		return fmt.Sprintf("winners %q", ev.Winners)
	case EventConfirmed:
		return "confirmed"
	case EventHold:
		return "hold"
	case EventAuthenticating:
		return "authenticating"
	case EventRetry:
		return "retry"
	case EventNotLeader:
		return fmt.Sprintf("not leader %q", ev.Leader)
	}
	return fmt.Sprintf("event %d", ev.Kind)
}

func describeError(err error) string {
	if rejected := (*RejectedError)(nil); errors.As(err, &rejected) {
		return fmt.Sprintf("rejected %v %q line %d", rejected.Code, rejected.Detail, rejected.Line)
	}
	for name, sentinel := range map[string]error{
		"ErrLostBets": ErrLostBets, "ErrOtherBets": ErrOtherBets, "ErrFrameBytes": ErrFrameBytes, "ErrProtocol": ErrProtocol,
		"ErrNotAsked": ErrNotAsked,
	} {
		if errors.Is(err, sentinel) {
			return "error " + name
		}
	}
	return "error " + err.Error()
}

func describeFrames(t *testing.T, frames []byte) string {
	t.Helper()
	var out []string
	for len(frames) > 0 {
		payload, rest, ok, err := codec.SplitFrame(frames, codec.FrameBytesMaxLimit)
		if err != nil || !ok {
			t.Fatalf("Send appended %q: not whole frames (%v)", frames, err)
		}
		frames = rest
		if !strings.Contains(string(payload), "Ana") {
			out = append(out, string(payload))
			continue
		}
		lines := strings.Split(string(payload), "\n")
		first := testIndex(t, lines[0])
		for i, line := range lines {
			if got := testIndex(t, line); got != first+int64(i) {
				t.Fatalf("frame has bet %d after bet %d", got, first+int64(i)-1)
			}
		}
		out = append(out, fmt.Sprintf("bets %d-%d", first, first+int64(len(lines))-1))
	}
	return strings.Join(out, " ")
}

// testIndex returns the index of a bet that testLine made.
func testIndex(t *testing.T, line string) int64 {
	t.Helper()
	var document int64
	if _, err := fmt.Sscanf(line, "Ana|Paz|%d|", &document); err != nil || string(testLine(document-10000000)) != line {
		t.Fatalf("%q is not a bet of testLine", line)
	}
	return document - 10000000
}

// Every error of the protocol's table is either tried again or final.
func TestSessionErrors(t *testing.T) {
	retried := map[codec.Code]bool{
		codec.CodeTimeout: true, codec.CodeTooManyConnections: true, codec.CodeStorage: true, codec.CodeLotteryHasntEnded: true,
	}
	for _, code := range codec.Codes() {
		t.Run(code.String(), func(t *testing.T) {
			s := NewSession(testAgency, 1)
			s.Connect()
			s.Send(nil)
			ev, err := s.Receive([]byte(code.String()))
			if retried[code] {
				if err != nil || ev.Kind != EventRetry || ev.Err == nil || !strings.Contains(ev.Err.Error(), code.String()) {
					t.Errorf("got %+v, %v, want a retry", ev, err)
				}
				return
			}
			if code == codec.CodeNotLeader {
				if err != nil || ev.Kind != EventNotLeader || ev.Leader != "" || !strings.HasSuffix(ev.Err.Error(), "it knows no leader now") {
					t.Errorf("got %+v, %v, want a leader that isn't known", ev, err)
				}
				return
			}
			var rejected *RejectedError
			if !errors.As(err, &rejected) || rejected.Code != code {
				t.Errorf("got %+v, %v, want a RejectedError", ev, err)
			}
		})
	}
}

func TestSessionPushGap(t *testing.T) {
	s := NewSession(testAgency, 3)
	if err := s.Push(testBatch(0, 2)); err != nil {
		t.Fatal(err)
	}
	for _, first := range []int64{0, 1, 3} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a batch that begins with bet %d after bet 1 was taken", first)
				}
			}()
			_ = s.Push(testBatch(first, 3))
		}()
	}
}
