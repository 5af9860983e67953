package lottery

import "loteria/codec"

// Session is one connection as the lottery sees it. The zero value is a new
// one; it must not be copied after its first request. It is bound to an agency
// by the first message that is taken from it, and stays so.
type Session struct {
	// Peer is the caller's: whatever tells it whom an effect is for.
	Peer any
	// Number is the caller's: sessions in the order in which their connections
	// were opened. Whoever says Hello for an agency fences off all lower ones,
	// also those that have not named it yet.
	Number uint64

	agency  codec.Agency // 0: not bound yet
	waiting int32        // GET_WINNERS without an answer
	hello   bool         // it has said Hello
	gone    bool         // left, or fenced off by a newer HELLO: nothing more is taken from it

	// The agency's other sessions. nil, nil and not agency.sessions if not bound.
	next, prev *Session
}

// Agency is the agency that the session is bound to; 0 if none.
func (s *Session) Agency() codec.Agency { return s.agency }

// Confirms reports whether the session has said Hello, so that its agency has to confirm that it has
// its winners.
func (s *Session) Confirms() bool { return s.hello }

// Gone reports whether the session has left or been fenced off.
func (s *Session) Gone() bool { return s.gone }

func (s *Session) reject(id codec.Agency, code codec.Code) Effect {
	return Effect{Kind: Reject, Code: code, Session: s, Agency: id}
}

func (l *Lottery) bind(s *Session, id codec.Agency, a *agency) {
	if s.agency != 0 {
		return
	}
	s.agency = id
	s.next = a.sessions
	if s.next != nil {
		s.next.prev = s
	}
	a.sessions = s
}

// unbind takes s off its agency for good. It is idempotent.
func (l *Lottery) unbind(s *Session) {
	if !s.gone && s.agency != 0 {
		a := l.agency(s.agency)
		if s.prev != nil {
			s.prev.next = s.next
		} else {
			a.sessions = s.next
		}
		if s.next != nil {
			s.next.prev = s.prev
		}
		s.next, s.prev = nil, nil
	}
	s.gone = true
	s.waiting = 0
}
