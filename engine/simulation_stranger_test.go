package engine

import (
	"errors"
	"fmt"
	"slices"

	"loteria/codec"
)

// stranger is a connection that belongs to no agency and sends what no agency should, sometimes
// more at once than the window allows. No agency may notice. Each of its messages gets the answer
// of the protocol's table, in order.
type stranger struct {
	world *world
	id    int
	link  *simLink
	left  int // frames still to send
}

// strangeFrames are what strangers send. strangeAnswers are the answers, by payload.
var (
	strangeFrames  = []string{"0\n", "2\n\n\n", "1\nx", "8\nHELLO|99", "7\nHELLO|x", "14\nGET_WINNERS|99", "12\nGET_WINNERS|", "07\n", "9999999\n"}
	strangeAnswers = map[string]codec.Code{
		"":               codec.CodeEmptyBatch,
		"\n\n":           codec.CodeEmptyBatch,
		"x":              codec.CodeInvalidBatch,
		"HELLO|99":       codec.CodeInvalidAgency,
		"HELLO|x":        codec.CodeInvalidHello,
		"GET_WINNERS|99": codec.CodeInvalidAgency,
		"GET_WINNERS|":   codec.CodeInvalidGetWinners,
	}
)

// strangerComes adds a stranger, if there are fewer than two.
func (w *world) strangerComes() {
	if len(w.strangers) == 2 {
		return
	}
	w.linkCount++
	s := &stranger{world: w, id: w.linkCount, left: w.between(1, 12)}
	w.strangers = append(w.strangers, s)
	w.seen[seenStranger]++
}

func (s *stranger) String() string    { return fmt.Sprintf("stranger %d", s.id) }
func (s *stranger) owner() *simAgency { return nil }

func (s *stranger) act() {
	if s.link == nil {
		if s.link = s.world.connect(s); s.link == nil {
			s.end()
		}
		return
	}
	for s.left > 0 {
		s.left--
		s.link.toServer.write([]byte(pick(s.world, s.world.guard.strangeFrames())))
		if s.world.chance(30) {
			return
		}
	}
	if s.world.chance(10) {
		s.end()
	}
}

func (s *stranger) receive([]byte) {}

func (s *stranger) lost() { s.end() }

func (s *stranger) end() {
	if s.link != nil {
		s.link.hangUp()
	}
	s.world.strangers = slices.DeleteFunc(s.world.strangers, func(p process) bool { return p == process(s) })
}

// strangeAsked notes what a stranger has to be told.
func (a *audit) strangeAsked(c *simConn, b []byte) {
	cfg := &c.link.server.cfg
	guard, frameBytesMax := c.link.world.guard, cfg.FrameBytesMax
	if guard != nil {
		frameBytesMax = codec.AuthenticationBytesMax
	}
	unanswered := c.session().Unanswered()
	for a.in = append(a.in, b...); !a.deaf; unanswered++ {
		payload, rest, ok, err := codec.SplitFrame(a.in, frameBytesMax)
		var code codec.Code
		switch {
		case errors.Is(err, codec.ErrFrameTooLarge) && guard != nil:
			code = codec.CodeAuthenticationRequired
		case errors.Is(err, codec.ErrFrameTooLarge):
			code = codec.CodeFrameTooLarge
		case err != nil:
			code = codec.CodeInvalidFrame
		case !ok:
			return
		case unanswered >= cfg.Window:
			code = codec.CodeWindowExceeded
			c.link.world.seen[seenWindowExceeded]++
		case guard != nil:
			code = a.guarded(payload)
		default:
			code = strangeAnswers[string(payload)]
		}
		a.in, a.deaf = rest, code.Closes()
		a.owed = append(a.owed, code)
	}
}

// strangeAnswered checks what a stranger is told.
func (a *audit) strangeAnswered(c *simConn, reply codec.Reply) {
	w := c.link.world
	a.lastSaid = reply.Code.Closes()
	switch reply.Code {
	case codec.CodeTimeout, codec.CodeTooManyConnections, codec.CodeStorage:
		return
	case codec.CodeAuthenticationRequired:
		w.seen[seenAuthenticationRequired]++
	case codec.CodeAuthenticationFailed:
		w.seen[seenAuthenticationFailed]++
	}
	if isError := reply.Kind == codec.ReplyError; !isError && reply.Kind != codec.ReplyChallenge || len(a.owed) == 0 || a.owed[0] != reply.Code {
		w.failf("link %d: a stranger is told %+v, want %v", c.link.id, reply, a.owed)
	}
	a.owed = a.owed[1:]
}
