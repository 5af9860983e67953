package front

// phase is how far the life of a connection has come. Only Session.become changes it.
type phase uint8

const (
	talking   phase = iota // both sides speak
	ending                 // what the peer says is dropped; it is still owed answers
	parting                // the last answer is said, and the socket has not taken all of it
	lingering              // our side is shut; the peer's close is awaited
	half                   // the peer has shut its side; it is still owed something
	leaving                // like half, and the last answer is said
	gone                   // the connection is closed
	phases                 // how many there are
)

// event is something that can move a connection to another phase.
type event uint8

const (
	silenced event = iota // what the peer says no longer counts
	lastSaid              // the last answer is said
	allSent               // the socket has taken all, and a half-closed peer's system has it
	peerShut              // the peer has shut its side, and is still owed something
	closed                // the connection is closed
	events                // how many there are
)

var transitions = [phases][events]phase{
	// silenced, lastSaid, allSent, peerShut, closed
	talking:   {ending, parting, talking, half, gone},
	ending:    {ending, parting, ending, half, gone},
	parting:   {parting, parting, lingering, leaving, gone},
	lingering: {lingering, lingering, lingering, leaving, gone},
	half:      {half, leaving, half, half, gone},
	leaving:   {leaving, leaving, gone, leaving, gone},
	gone:      {gone, gone, gone, gone, gone},
}

// after is the phase that follows p when e happens.
func (p phase) after(e event) phase { return transitions[p][e] }

// hears reports whether what the peer says counts.
func (p phase) hears() bool { return p == talking }

// answers reports whether the peer can still be told something.
func (p phase) answers() bool { return p == talking || p == ending || p == half }

// oneSided reports whether the peer has shut its side. Then gnet has closed its socket, and the
// session has a duplicate. See halfSocket.
func (p phase) oneSided() bool { return p == half || p == leaving }

// become moves the session to the phase that follows e. A half frame is dropped when the peer is no
// longer heard, and our side is shut when the last answer is sent.
func (s *Session) become(e event, rd *reader) {
	was := s.phase
	s.phase = was.after(e)
	if !s.phase.hears() && s.partial != nil {
		rd.partials.drop(s.partial)
	}
	if s.phase == lingering && was != lingering {
		s.conn.ShutWrite()
	}
}

// utterance is the most that a peer has said so far.
type utterance uint8

const (
	saidNothing utterance = iota
	saidBytes             // its accept_connections line is written
	saidFrame             // a whole frame
	saidHello             // HELLO: rejections of its batches carry their reason
)

// delivery is how far the winners have come on a connection.
type delivery uint8

const (
	undelivered delivery = iota
	untaken              // they are said, but the peer is not known to have taken them
	delivered            // the peer needs nothing more: it has taken them, or has a receipt
)
