package agency

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"loteria/codec"
)

// modelServer is a very simple server: a list of bets.
type modelServer struct {
	t        *testing.T
	seed     uint64
	lines    []string
	total    int64
	other    bool // some bets are not the agency's, which has to notice
	reported bool
	window   int
	frameMax int

	secret codec.Secret // the zero value if there is none
	nonce  codec.Nonce  // of the last challenge
	proved bool         // on this connection

	greeted bool // this connection said HELLO
	left    bool // this connection was sent on, and nothing is answered any more
	sentOn  int  // connections that were sent on
}

func (m *modelServer) stored() int64 { return int64(len(m.lines)) }

// spoil replaces one of the agency's bets by somebody else's, or appends one.
func (m *modelServer) spoil(rng *rand.Rand) {
	m.other = true
	line := string(testLine(otherBet))
	if i := rng.IntN(len(m.lines) + 1); i < len(m.lines) {
		m.lines[i] = line
	} else {
		m.lines = append(m.lines, line)
	}
}

// connected begins another connection.
func (m *modelServer) connected() { m.proved, m.greeted, m.left = false, false, false }

// sendOn ends a connection that has said HELLO: another server leads from now on, or has led
// already. The bets are those of all servers together.
func (m *modelServer) sendOn(rng *rand.Rand) []byte {
	m.left = true
	m.sentOn++
	leader := ""
	if rng.IntN(2) == 0 {
		leader = "server2:12345"
	}
	_, payload, _ := strings.Cut(string(codec.AppendError(nil, codec.CodeNotLeader, leader)), "\n")
	return []byte(payload)
}

// answer answers a frame's payload. With hold, GET_WINNERS is answered that the draw hasn't taken
// place.
func (m *modelServer) answer(payload []byte, hold bool) []byte {
	switch text := string(payload); {
	case text == "AUTH|7" && m.secret.IsSet():
		m.nonce[0]++ // never the same twice in a row
		_, challenge, _ := strings.Cut(string(codec.AppendChallenge(nil, m.nonce)), "\n")
		return []byte(challenge)
	case strings.HasPrefix(text, "PROOF|") && m.secret.IsSet():
		if p, ok := codec.ParseProof(payload); !ok || !m.secret.Verify(m.nonce, testAgency, p) {
			m.t.Fatalf("seed %d: %q is no proof", m.seed, payload)
		}
		m.proved = true
		return []byte("AUTHENTICATED")
	case m.secret.IsSet() && !m.proved:
		m.t.Fatalf("seed %d: %q without a proof", m.seed, payload)
		return nil
	case text == "HELLO|7":
		m.greeted = true
		_, welcome, _ := strings.Cut(string(codec.AppendWelcome(nil,
			codec.Welcome{Stored: m.stored(), Window: m.window, FrameBytesMax: m.frameMax, Checksum: checksum(m.lines)})), "\n")
		return []byte(welcome)
	case m.other:
		m.t.Fatalf("seed %d: %q is sent after bets of somebody else", m.seed, payload)
	case text == "GET_WINNERS|7":
		if m.stored() != m.total {
			m.t.Fatalf("seed %d: reported with %d of %d bets stored", m.seed, m.stored(), m.total)
		}
		if hold {
			return []byte(codec.CodeLotteryHasntEnded.String())
		}
		m.reported = true
		return testLine(0)
	case text == "RECEIVED|7":
		if !m.reported {
			m.t.Fatalf("seed %d: winners are confirmed before they were sent", m.seed)
		}
		return []byte("ACK")
	}
	if len(payload) > m.frameMax {
		m.t.Fatalf("seed %d: a payload of %d bytes, at most %d", m.seed, len(payload), m.frameMax)
	}
	for line := range strings.SplitSeq(string(payload), "\n") {
		if got := testIndex(m.t, line); got != m.stored() {
			m.t.Fatalf("seed %d: stores bet %d, next is %d", m.seed, got, m.stored())
		}
		m.lines = append(m.lines, line)
	}
	return []byte("ACK")
}

// Each bet is stored once and in order. The test takes random steps with an agency and the model
// server: the agency is cut off, sent on to another server with the same bets, and started again
// with other limits. In every third run somebody else may upload as this agency while it is cut
// off. It must notice before it sends anything more.
func TestSessionRandom(t *testing.T) {
	const seeds = 3000
	noticed, sentOn := 0, 0
	for seed := range uint64(seeds) {
		noticedNow, sentOnNow := runSession(t, seed)
		if noticedNow {
			noticed++
		}
		sentOn += sentOnNow
	}
	if sentOn < seeds {
		t.Errorf("%d connections were sent on in %d runs", sentOn, seeds)
	}
	if noticed < seeds/10 {
		t.Errorf("bets of somebody else were noticed in only %d runs", noticed)
	}
}

// runSession ends when the winners are confirmed, or when the agency notices bets of somebody else.
// sentOn is how many connections were sent on to another server.
func runSession(t *testing.T, seed uint64) (noticed bool, sentOn int) {
	const chaosSteps, stepsMax = 150, 5000
	var (
		rng      = rand.New(rand.NewPCG(seed, 1))
		server   = &modelServer{t: t, seed: seed, total: rng.Int64N(60)}
		session  *Session
		next     int64 // index of the next bet of the input
		online   bool
		toServer [][]byte // payloads on the wire
		toAgency [][]byte
	)
	if seed%2 == 1 {
		server.secret = testSecret(t, "sesame-of-agency-7")
	}
	// judge reports whether err says that the agency has noticed bets of somebody else. It fails
	// for any other error.
	judge := func(err error) bool {
		if err != nil && (!errors.Is(err, ErrOtherBets) || !server.other) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		return err != nil
	}
	restartAgency := func() {
		session = NewSession(testAgency, 1+rng.IntN(5))
		session.Authenticate(server.secret)
		next, online, toServer, toAgency = 0, false, nil, nil
	}
	// store makes the server receive some of the frames. Their answers are lost.
	store := func() {
		for range rng.IntN(len(toServer) + 1) {
			server.answer(toServer[0], false)
			toServer = toServer[1:]
		}
	}
	cut := func() {
		session.Disconnect()
		if !server.left {
			store()
		}
		online, toServer, toAgency = false, nil, nil
		if seed%3 == 0 && !server.other && rng.IntN(10) == 0 {
			server.spoil(rng)
		}
	}
	restartAgency()
	for step := 0; ; step++ {
		if step == stepsMax {
			t.Fatalf("seed %d: no winners after %d steps; %d of %d stored", seed, step, server.stored(), server.total)
		}
		if step < chaosSteps {
			switch rng.IntN(40) {
			case 0:
				cut()
				restartAgency()
			case 1, 2, 3:
				cut()
			}
		}
		switch rng.IntN(3) {
		case 0: // the agency
			if !online {
				online = true
				server.window = 1 + rng.IntN(5)
				server.frameMax = codec.BetBytesMax + rng.IntN(300)
				server.connected()
				session.Connect()
			}
			if session.Wants() && next < server.total {
				n := min(1+rng.Int64N(30), server.total-next)
				if judge(session.Push(testBatch(next, int(n)))) {
					return true, server.sentOn
				}
				if next += n; next == server.total && judge(session.Finish(next)) {
					return true, server.sentOn
				}
			}
			if server.total == 0 && !session.Uploaded() && judge(session.Finish(0)) {
				return true, server.sentOn
			}
			if session.Uploaded() && !session.Confirming() {
				session.Ask()
			}
			for frames := session.Send(nil); len(frames) > 0; {
				payload, rest, _, err := codec.SplitFrame(frames, codec.FrameBytesMaxLimit)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				toServer, frames = append(toServer, payload), rest
			}
			if n := len(toServer) + len(toAgency); !server.left && (n > max(1, min(server.window, session.framesMax)) || n != session.Unanswered()) {
				t.Fatalf("seed %d: %d frames unanswered, the session says %d, windows are %d and %d",
					seed, n, session.Unanswered(), server.window, session.framesMax)
			}
		case 1: // the server
			hello := len(toServer) > 0 && string(toServer[0]) == "HELLO|7"
			switch {
			case server.left:
			case step < chaosSteps && online && (hello || server.greeted) && rng.IntN(10) == 0:
				if server.greeted {
					store()
				}
				toAgency = append(toAgency, server.sendOn(rng))
			case len(toServer) > 0:
				toAgency = append(toAgency, server.answer(toServer[0], rng.IntN(2) == 0))
				toServer = toServer[1:]
			}
		case 2: // the wire
			if len(toAgency) == 0 {
				continue
			}
			ev, err := session.Receive(toAgency[0])
			toAgency = toAgency[1:]
			if judge(err) {
				return true, server.sentOn
			}
			switch ev.Kind {
			case EventNotLeader:
				if !server.left {
					t.Fatalf("seed %d: %v, and no server said so", seed, ev.Err)
				}
				cut()
			case EventWinners:
				if server.stored() != server.total || session.Stored() != server.total {
					t.Fatalf("seed %d: winners with %d of %d stored, the session says %d", seed, server.stored(), server.total, session.Stored())
				}
				session.Confirm()
			case EventConfirmed:
				return false, server.sentOn
			}
			if session.Stored() > server.stored() {
				t.Fatalf("seed %d: the session says %d stored, there are %d", seed, session.Stored(), server.stored())
			}
		}
	}
}
