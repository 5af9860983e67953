package lottery

import "loteria/codec"

// Session is one connection as the lottery sees it. The zero value is a new session; it must not be
// copied after its first request. The first message that the lottery takes binds the session to its
// agency for good.
type Session struct {
	// Peer is set by the caller, and tells it which connection an effect is for.
	Peer any
	// Number is set by the caller, and grows in the order in which the connections were opened. A
	// Hello fences off the agency's other sessions, and also every session with a lower Number that
	// names the agency later.
	Number uint64

	agency  codec.Agency // 0: not bound yet
	waiting int32        // GET_WINNERS without an answer
	hello   bool         // it has said Hello
	gone    bool         // it left or was fenced off; nothing more is taken from it

	// Neighbours in the agency's list of open sessions. Both are nil if the session is not in it.
	next, prev *Session
}

// Agency is the agency that the session is bound to; 0 if it is not bound.
func (s *Session) Agency() codec.Agency { return s.agency }

// Confirms reports whether the session has said Hello, and so confirms its winners with Received.
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

// unbind ends s: it leaves its agency's list, and nothing more is taken from it. It is idempotent.
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
