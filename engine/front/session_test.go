package front

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/lottery"
)

const testWindow = 64

func newTestReader() *reader {
	cfg := testConfig()
	cfg.FrameBytesMax, cfg.Window = 1000, testWindow
	return &reader{
		cfg:      &cfg,
		stage:    new(spy),
		counters: new(counters),
		rules:    codec.Rules{Today: codec.Date(20261123), WinningNumber: cfg.WinningNumber},
		partials: partials{limit: newPartialLimit(cfg.PartialBytesMax)},
	}
}

// heard returns, in words, the requests that a loop's sessions have made since the last call.
func heard(rd *reader) []string {
	var words []string
	taken := rd.stage.(*spy).take()
	for i, r := range taken.requests {
		switch {
		case r.Kind == lottery.Bets:
			words = append(words, fmt.Sprintf("bets %d agency %d %q winners %q", r.Count, r.Agency, taken.payloads[i], taken.winners[i]))
		case r.Kind == lottery.GetWinners:
			words = append(words, fmt.Sprintf("get winners %d", r.Agency))
		case r.Kind == lottery.Hello:
			words = append(words, fmt.Sprintf("hello %d", r.Agency))
		case r.Kind == commit.Answer && r.Reply == lottery.Reject:
			words = append(words, strings.TrimSpace(fmt.Sprintf("refuse %v of %d %s", r.Code, r.Count, r.Detail)))
		case r.Kind == commit.Answer && r.Reply == commit.Challenge:
			words = append(words, fmt.Sprintf("challenge %d with %x", r.Agency, r.Detail))
		case r.Kind == commit.Answer:
			words = append(words, fmt.Sprintf("authenticated %d", r.Agency))
		default:
			words = append(words, fmt.Sprintf("kind %d", r.Kind))
		}
	}
	return words
}

func frames(payloads ...string) []byte {
	var b []byte
	for _, p := range payloads {
		b = codec.AppendFrame(b, []byte(p))
	}
	return b
}

const (
	betJuan  = "Juan|Pérez|12345678|1990-05-23|7574|1"
	betMaria = "María|Gómez|87654321|1985-07-10|2311|1"
)

// conversation has one of every message that a session distinguishes. understood is what becomes of
// them.
var (
	conversation = frames("HELLO|1", betJuan+"\n"+betMaria, "", "\n\n", "GET_WINNERS", "HELLO|x", "Juan|Pérez", betMaria+"\n", "GET_WINNERS|1", betJuan+"\n"+strings.TrimSuffix(betJuan, "1")+"2", "GET_WINNERS|2")
	understood   = []string{
		"hello 1",
		fmt.Sprintf("bets 2 agency 1 %q winners %q", betJuan+"\n"+betMaria, betJuan+"\n"),
		"refuse ERROR_EMPTY_BATCH of 0",
		"refuse ERROR_EMPTY_BATCH of 2",
		"refuse ERROR_INVALID_GET_WINNERS of 0",
		"refuse ERROR_INVALID_HELLO of 0",
		"refuse ERROR_INVALID_BATCH of 1 1|...",
		fmt.Sprintf("bets 1 agency 1 %q winners \"\"", betMaria+"\n"),
		"get winners 1",
		"refuse ERROR_INVALID_AGENCY of 2",
		"get winners 2",
	}
)

// What is understood doesn't depend on how the bytes are cut on their way.
func TestSessionCutEverywhere(t *testing.T) {
	hear := func(cuts ...int) []string {
		rd := newTestReader()
		s := new(Session)
		from := 0
		for _, to := range append(cuts, len(conversation)) {
			// The loop uses its read buffer again, so the session may keep nothing of it.
			in := slices.Clone(conversation[from:to])
			s.receive(in, rd)
			clear(in)
			from = to
		}
		if s.partial != nil {
			t.Errorf("cut at %v: a half frame is left", cuts)
		}
		return heard(rd)
	}
	whole := hear()
	if len(whole) != len(understood) {
		t.Fatalf("understood %q", whole)
	}
	for i, want := range understood {
		if prefix, _, open := strings.Cut(want, "..."); whole[i] != want && !(open && strings.HasPrefix(whole[i], prefix)) {
			t.Errorf("message %d: understood %q, want %q", i, whole[i], want)
		}
	}
	for at := range conversation {
		if got := hear(at); !slices.Equal(got, whole) {
			t.Errorf("cut at %d: understood %q", at, got)
		}
	}
	every := make([]int, len(conversation))
	for i := range every {
		every[i] = i
	}
	if got := hear(every...); !slices.Equal(got, whole) {
		t.Errorf("byte by byte: understood %q", got)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		cuts := make([]int, rng.IntN(12))
		for i := range cuts {
			cuts[i] = rng.IntN(len(conversation))
		}
		slices.Sort(cuts)
		if got := hear(cuts...); !slices.Equal(got, whole) {
			t.Errorf("cut at %v: understood %q", cuts, got)
		}
	}
}

// Only connections that have said HELLO are told the line and the reason.
func TestSessionTellsReasonAfterHello(t *testing.T) {
	rd := newTestReader()
	s := new(Session)
	bad := betJuan + "\n" + strings.Replace(betMaria, "1985-07-10", "1990-02-30", 1)
	s.receive(frames(bad, "HELLO|1", bad), rd)
	got := heard(rd)
	want := []string{"refuse ERROR_INVALID_BATCH of 2", "hello 1", "refuse ERROR_INVALID_BATCH of 2 2|birthdate: 1990-02-30 is not a day"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A malformed frame ends the session. It is refused after what came before it, and nothing after it
// is read.
func TestSessionRefusesInOrder(t *testing.T) {
	for _, test := range []struct {
		name string
		in   string
		want []string
	}{
		{"no length", "7\nHELLO|1x\n7\nHELLO|1", []string{"hello 1", "refuse ERROR_INVALID_FRAME of 0"}},
		{"too large", "7\nHELLO|11001\n", []string{"hello 1", "refuse ERROR_FRAME_TOO_LARGE of 0"}},
		{"too large, refused before the rest comes", "1001\nJuan", []string{"refuse ERROR_FRAME_TOO_LARGE of 0"}},
		{"length of 20 digits", "99999999999999999999\n", []string{"refuse ERROR_FRAME_TOO_LARGE of 0"}},
		{"leading zero", "07\nHELLO|1", []string{"refuse ERROR_INVALID_FRAME of 0"}},
		{"CRLF", "7\r\nHELLO|1", []string{"refuse ERROR_INVALID_FRAME of 0"}},
	} {
		for _, step := range []int{len(test.in), 1} {
			t.Run(fmt.Sprintf("%s, %d at once", test.name, step), func(t *testing.T) {
				rd := newTestReader()
				s := new(Session)
				for part := range slices.Chunk([]byte(test.in), step) {
					s.receive(part, rd)
				}
				s.receive(frames("GET_WINNERS|1"), rd)
				got := heard(rd)
				if test.name == "length of 20 digits" && slices.Equal(got, []string{"refuse ERROR_INVALID_FRAME of 0"}) {
					got = test.want // both errors are true
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
				if s.phase.hears() || s.partial != nil {
					t.Errorf("phase %v, partial %+v", s.phase, s.partial)
				}
			})
		}
	}
}

// One unanswered frame more than the window ends the session. Answers make room.
func TestSessionWindow(t *testing.T) {
	rd := newTestReader()
	rd.cfg.Window = 3
	s := new(Session)
	s.receive(frames("HELLO|1", betJuan, betMaria), rd)
	s.unanswered-- // as when the loop answers
	s.receive(frames(betJuan), rd)
	if got := heard(rd); len(got) != 4 || !s.phase.hears() || s.unanswered != 3 {
		t.Fatalf("inside the window: %q, phase %v, %d unanswered", got, s.phase, s.unanswered)
	}
	s.receive(frames(betJuan, betJuan), rd)
	if got := heard(rd); !slices.Equal(got, []string{"refuse ERROR_WINDOW_EXCEEDED of 0"}) || s.phase.hears() {
		t.Errorf("outside: %q, phase %v", got, s.phase)
	}
	if s.unanswered != 4 {
		t.Errorf("%d unanswered, want the window and one", s.unanswered)
	}
}

// ERROR_TIMEOUT ends a peer that says nothing after connecting, or only half a frame.
func TestSessionTimeout(t *testing.T) {
	const timeoutTicks = 3
	for _, test := range []struct {
		name    string
		before  []string // what comes before each tick
		timeout int      // the tick that refuses, from 1; 0: none
	}{
		{"nothing", []string{"", "", "", "", "", ""}, 4},
		{"whole message, then silence", []string{"7\nHELLO|1", "", "", "", "", ""}, 0},
		{"message in time", []string{"", "", "", "7\nHELLO|1", "", "", ""}, 0},
		{"half a first frame", []string{"7\nHEL", "", "", "", "", ""}, 4},
		{"half a header", []string{"7", "", "", "", "", ""}, 4},
		{"half a frame has its own time", []string{"", "", "7\nHEL", "", "", "", ""}, 6},
		{"a byte a tick", []string{"7", "\n", "H", "E", "L", "L"}, 4},
		{"half a later frame", []string{"7\nHELLO|1", "", "", "13\nGET", "", "", "", ""}, 7},
		{"half a frame that is completed in time", []string{"7\nHEL", "", "", "LO|1", "", "", "", ""}, 0},
		{"a frame and a half at once", []string{"7\nHELLO|113\nGET", "", "", "", ""}, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			rd := newTestReader()
			s := new(Session)
			refusals, at := 0, 0
			for i, in := range test.before {
				s.receive([]byte(in), rd)
				s.tick(timeoutTicks, rd)
				for _, word := range heard(rd) {
					if word == "refuse ERROR_TIMEOUT of 0" {
						refusals++
						at = i + 1
					}
				}
			}
			if at != test.timeout || refusals > 1 {
				t.Errorf("timeout at tick %d (%d times), want %d", at, refusals, test.timeout)
			}
		})
	}
}

// Buffers for half frames are used again, but not more than spareMax are kept.
func TestSessionPartialBuffers(t *testing.T) {
	rd := newTestReader()
	half := []byte("7\nHEL")
	sessions := make([]*Session, spareMax+10)
	for i := range sessions {
		sessions[i] = new(Session)
		sessions[i].receive(half, rd)
	}
	for _, s := range sessions {
		s.receive([]byte("LO|1"), rd)
		if s.partial != nil {
			t.Fatal("a half frame is left")
		}
	}
	if n := len(rd.partials.spare); n != spareMax {
		t.Errorf("%d buffers are kept, want %d", n, spareMax)
	}
	if n := testing.AllocsPerRun(100, func() {
		s := sessions[0]
		s.receive(half, rd)
		s.become(silenced, rd)
		s.phase = talking
	}); n != 0 {
		t.Errorf("%v allocations for a half frame, want a spare buffer", n)
	}
}

// The bytes of spare buffers are bounded, too: buffers of usual frames are kept, those of huge ones
// are not.
func TestSessionPartialBuffersAreSmall(t *testing.T) {
	for _, test := range []struct {
		name       string
		frameBytes int
		kept       bool
	}{
		{"smallest", 1, true},
		{"default limit", codec.FrameBytesMaxDefault, true},
		{"above what is kept", spareBytesMax + 1, false},
		{"largest", codec.FrameBytesMaxLimit, false},
	} {
		for _, end := range []string{"completed", "dropped"} {
			t.Run(test.name+", "+end, func(t *testing.T) {
				rd := newTestReader()
				rd.cfg.FrameBytesMax = codec.FrameBytesMaxLimit
				frame := frames(strings.Repeat("\n", test.frameBytes))
				// A buffer that grows may be larger than one that is made at once.
				part := max(len(frame)/7, 1)
				s := new(Session)
				for in := range slices.Chunk(frame[:len(frame)-1], part) {
					s.receive(in, rd)
				}
				if end == "completed" {
					s.receive(frame[len(frame)-1:], rd)
				} else {
					s.become(silenced, rd)
					s.phase = talking
				}
				if s.partial != nil || (len(rd.partials.spare) == 1) != test.kept || len(rd.partials.spare) > 1 {
					t.Fatalf("%d buffers are kept, want one kept: %v; a half frame is left: %v", len(rd.partials.spare), test.kept, s.partial != nil)
				}
				for _, p := range rd.partials.spare {
					if cap(p.bytes) > spareBytesMax {
						t.Errorf("a buffer of %d bytes is kept, want at most %d", cap(p.bytes), spareBytesMax)
					}
				}
			})
		}
	}
}
