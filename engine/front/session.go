package front

import (
	"errors"

	"loteria/codec"
	"loteria/engine/commit"
)

// Session is one connection: frames in, requests out, and how many answers it
// is owed. It belongs to its event loop; only lottery and counted are the
// committer's. Ten thousand that wait are most of a server's memory, so fields
// stand where they leave no gaps.
type Session struct {
	conn   Conn // nil before OnOpen
	loop   *Loop
	source Source // the peer; it outlives the connection, as rejected batches do in the log

	// backlog is what the socket has not taken yet; nil if nothing.
	backlog *backlog

	partial *partial // nil: no frame is half sent
	// quietTicks counts the loop's ticks since the session owes us something: a
	// first message, its proof, or the rest of a frame. See tick.
	quietTicks int32
	// lateTicks counts the loop's ticks since the draw was held, and anew since the peer was first told
	// all that it needs: from 0 when it has taken that, and from below 0 until then, which bounds
	// how long that may last. See loop.hangUp.
	lateTicks int32
	// stalledTicks counts the ticks since the peer last took some of what it was
	// told; stalledBytes is what it had not taken then. See loop.checkProgress.
	stalledTicks int32
	stalledBytes int
	// unanswered is how many frames have no answer yet. It is never more than
	// the window, and one for the message that breaks it.
	unanswered int32
	// agency is whom the latest answer was for, for log lines; 0 is nobody.
	agency codec.Agency
	// proved is the agency that the connection has proved to be; 0 if it has not,
	// or need not. It is fixed once it is set. handshake is non-nil only between AUTH and PROOF.
	proved    codec.Agency
	at        int32 // index in loop.sessions
	handshake *handshake

	phase    phase
	said     utterance
	delivery delivery
	opened   bool // a loop has it; written once, and read by the acceptor behind that

	commit.Peer // the committer's, but for its address
}

// inbox is what a loop's sessions share while they read: limits, rules,
// scratch, and where requests go.
type reader struct {
	stage         stage
	counters      *counters
	rules         codec.Rules
	secrets       *Secrets // nil: nobody has to authenticate
	nonce         func() codec.Nonce
	frameBytesMax int
	window        int32
	winners       []byte // scratch of one request
	partials      partials
}

// stage is where a loop's requests go: see commit.Stage.
type stage interface {
	Add(r commit.Request, payload, winners []byte) bool
	Hold()
	Release()
	Waits() int64
}

// receive takes the next bytes of the connection. in is the loop's read
// buffer and is not kept. Behind it, shed has to be called.
func (s *Session) receive(in []byte, rd *reader) {
	for len(in) > 0 && s.phase.hears() {
		if s.partial == nil {
			payload, rest, ok, err := codec.SplitFrame(in, s.frameBytesMax(rd))
			switch {
			case err != nil:
				s.refuseFrame(err, rd)
			case ok:
				in = rest
				s.request(payload, rd)
			default:
				rd.partials.begin(s, in, rd)
				if !s.stranger(rd) {
					s.quietTicks = 0
				}
				return
			}
			continue
		}
		p := s.partial
		_, total, err := codec.FrameLen(p.bytes, s.frameBytesMax(rd))
		if err == nil {
			// One byte at a time as long as the header isn't whole, then the rest.
			n := min(total-len(p.bytes), len(in))
			rd.partials.grow(p, n, total)
			p.bytes = append(p.bytes, in[:n]...)
			in = in[n:]
		}
		payload, _, ok, err := codec.SplitFrame(p.bytes, s.frameBytesMax(rd))
		switch {
		case err != nil:
			s.refuseFrame(err, rd)
		case ok:
			s.request(payload, rd)
			if s.partial != nil { // it is still heard
				rd.partials.drop(p)
			}
		}
	}
}

// frameBytesMax is the largest payload that the connection may send now.
func (s *Session) frameBytesMax(rd *reader) int {
	if s.stranger(rd) {
		return codec.AuthenticationBytesMax
	}
	return rd.frameBytesMax
}

// request hands one frame's message over.
func (s *Session) request(payload []byte, rd *reader) {
	s.said = max(s.said, saidFrame)
	if s.delivery == untaken && s.backlog == nil {
		// Whoever asks on has read what came before.
		if n, err := s.conn.Unacknowledged(); n == 0 && err == nil {
			s.taken(rd)
		}
	}
	s.unanswered++
	if s.unanswered > rd.window {
		rd.counters.count(LimitWindow)
		s.refuse(codec.CodeWindowExceeded, rd)
		return
	}
	if s.stranger(rd) {
		s.authenticate(payload, rd)
		return
	}
	parsed, winners, err := codec.ParseRequest(payload, rd.rules, rd.winners[:0])
	rd.winners = winners
	if err != nil {
		var e *codec.Error
		if !errors.As(err, &e) {
			panic("front: codec.ParseRequest returned an error that is no *codec.Error: " + err.Error())
		}
		detail := ""
		if s.said == saidHello {
			detail = e.Detail()
		}
		r := commit.Refusal(&s.Peer, e.Code, detail)
		r.Agency = s.proved
		switch e.Code {
		case codec.CodeEmptyBatch, codec.CodeInvalidBatch, codec.CodeInvalidAgency:
			r.Count = codec.Lines(payload)
		}
		rd.stage.Add(r, nil, nil)
		return
	}
	if s.proved != 0 && s.proved != parsed.Agency {
		r := commit.Refusal(&s.Peer, codec.CodeInvalidAgency, "")
		r.Agency, r.Count = parsed.Agency, parsed.Batch.Count
		rd.stage.Add(r, nil, nil)
		return
	}
	r := commit.Request{Peer: &s.Peer, Agency: parsed.Agency}
	switch parsed.Kind {
	case codec.RequestReceived:
		if s.said != saidHello {
			r = commit.Refusal(&s.Peer, codec.CodeInvalidBatch, "")
			r.Agency, r.Count = s.proved, codec.Lines(payload)
			break
		}
		r.Kind = commit.Received
	case codec.RequestBets:
		r.Kind, r.Count = commit.Bets, parsed.Batch.Count
	case codec.RequestGetWinners:
		r.Kind = commit.GetWinners
	case codec.RequestHello:
		r.Kind = commit.Hello
		s.said = saidHello
	}
	rd.stage.Add(r, payload, winners)
}

// taken says that the peer has the winners that it was told.
func (s *Session) taken(rd *reader) {
	s.delivery = delivered
	rd.stage.Add(commit.Request{Peer: &s.Peer, Kind: commit.Taken}, nil, nil)
}

func (s *Session) refuseFrame(err error, rd *reader) {
	code := codec.CodeInvalidFrame
	switch {
	case errors.Is(err, codec.ErrFrameTooLarge) && s.stranger(rd):
		code = codec.CodeAuthenticationRequired // a batch, of an agency that knows nothing of secrets
	case errors.Is(err, codec.ErrFrameTooLarge):
		code = codec.CodeFrameTooLarge
		rd.counters.count(LimitFrameBytes)
	}
	s.unanswered++
	s.refuse(code, rd)
}

// refuse ends the session with an error that closes, said after everything
// that is still owed.
func (s *Session) refuse(code codec.Code, rd *reader) {
	s.become(silenced, rd)
	r := commit.Refusal(&s.Peer, code, "")
	r.Agency = s.claimed()
	rd.stage.Add(r, nil, nil)
}

// tick is called periodically. It refuses a peer who keeps the server waiting
// for timeoutTicks ticks. A stranger does so until it has authenticated, whatever
// it says meanwhile.
func (s *Session) tick(timeoutTicks int32, rd *reader) {
	if !s.phase.hears() || s.said >= saidFrame && s.partial == nil && !s.stranger(rd) {
		return
	}
	if s.quietTicks++; s.quietTicks > timeoutTicks {
		s.outstay(LimitReadTime, rd)
	}
}

// outstay refuses a peer whose time is over, by the limit that it has broken.
func (s *Session) outstay(broken Limit, rd *reader) {
	rd.counters.count(broken)
	s.unanswered++
	s.refuse(codec.CodeTimeout, rd)
}

// sessionOf is the session that a reply is for.
func sessionOf(r *commit.Reply) *Session { return r.To.Peer.(*Session) }

// Unanswered is how many of the session's frames have no answer yet. It belongs to the event loop.
func (s *Session) Unanswered() int { return int(s.unanswered) }

// Loop is the event loop that the session belongs to.
func (s *Session) Loop() *Loop { return s.loop }
