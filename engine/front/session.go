package front

import (
	"errors"
	"io"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/lottery"
)

// Session is one connection: frames come in, requests go out, and it counts the answers that it is
// owed. It belongs to its event loop, except the embedded commit.Peer, which is the committer's.
// Ten thousand waiting sessions are most of a server's memory, so the fields are ordered to leave
// no gaps.
type Session struct {
	conn   Conn // of no use before Front.Open
	loop   *Loop
	source Source // the peer's; log lines need it after the connection is gone

	// backlog is what the socket has not taken yet; nil if nothing.
	backlog *backlog

	// secure is conn if the connection is over TLS, and otherwise nil.
	secure *secureSocket

	partial *partial // the half frame; nil if there is none
	// quietTicks counts the loop's ticks while the server waits for the peer's first message, its
	// proof, or the rest of a frame. See tick.
	quietTicks int32
	// lateTicks counts the loop's ticks since the draw. It restarts once, when the peer is first
	// told its winners or a receipt: below 0, which bounds the time to take what was said, and at 0
	// once the peer has taken it. See Loop.hangUp.
	lateTicks int32
	// stalledTicks counts the ticks since the peer last took some of its answers. stalledBytes is
	// what it had not taken at the last tick. See Loop.checkProgress.
	stalledTicks int32
	stalledBytes int
	// unanswered is how many frames have no answer yet. It is at most the window, plus one for the
	// error that ends the session.
	unanswered int32
	// agency is the one that the latest answer was for; 0 if there is none yet. Log lines and
	// Loop.hangUp use it.
	agency codec.Agency
	// proved is the agency that has authenticated; 0 if none has, or need not. It is set at most
	// once. handshake is non-nil only between AUTH and PROOF.
	proved    codec.Agency
	at        int32 // index in loop.sessions
	handshake *handshake

	phase    phase
	said     utterance
	delivery delivery
	opened   bool // a loop has it; the acceptor reads it after the loop has set it

	commit.Peer // the committer's, except its address
}

// over says which socket the session's connection is.
func (s *Session) over(c Conn) {
	if by, ok := s.conn.(*relayedSocket); ok {
		by.Conn = c
		return
	}
	s.conn = c
	if s.secure != nil {
		s.secure.Conn, s.conn = c, s.secure
	}
}

// hasEnded reports whether the peer has said that it will say nothing more. end is how its socket has
// ended. Somebody on the way may have cut the connection otherwise.
func (s *Session) hasEnded(end error) bool {
	if s.secure != nil {
		return s.secure.channel.Ended()
	}
	by, ok := s.conn.(*relayedSocket)
	return errors.Is(end, io.EOF) && (!ok || by.agency.Ended())
}

// isCut reports whether another server says that the peer is gone. Nobody else would, if the peer has
// ended its side.
func (s *Session) isCut() bool {
	by, ok := s.conn.(*relayedSocket)
	if !ok {
		return false
	}
	_, err := by.agency.Acknowledged()
	return err != nil
}

// reader is what a loop's sessions share while they read: limits, rules, scratch, and the stage
// that requests go to.
type reader struct {
	cfg      *Config
	stage    stage
	counters *counters
	rules    codec.Rules
	winners  []byte // scratch: the winning lines of one request
	partials partials
}

// stage is where a loop's requests go: see commit.Stage.
type stage interface {
	Add(r commit.Request, payload, winners []byte) bool
	Hold()
	Release()
	Waits() int64
}

// receive takes the next bytes of the connection. It doesn't keep in, which is the loop's read
// buffer. Call reader.shed afterwards.
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
			// total is one byte more than there is, as long as the header isn't whole.
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
			if s.partial != nil { // the session is still heard: it has not dropped p
				rd.partials.drop(p)
			}
		}
	}
}

// frameBytesMax is the largest payload that the connection may send now: until it has
// authenticated, codec.AuthenticationBytesMax.
func (s *Session) frameBytesMax(rd *reader) int {
	if s.stranger(rd) {
		return codec.AuthenticationBytesMax
	}
	return rd.cfg.FrameBytesMax
}

// request handles the message of one frame.
func (s *Session) request(payload []byte, rd *reader) {
	s.said = max(s.said, saidFrame)
	if s.delivery == untaken && s.backlog == nil {
		// A peer that goes on asking has read its winners.
		if n, err := s.conn.Unacknowledged(); n == 0 && err == nil {
			s.taken(rd)
		}
	}
	s.unanswered++
	if int(s.unanswered) > rd.cfg.Window {
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
		e, ok := errors.AsType[*codec.Error](err)
		if !ok {
			panic("front: codec.ParseRequest returned an error that is no *codec.Error: " + err.Error())
		}
		detail, count := "", 0
		if s.said == saidHello {
			detail = e.Detail()
		}
		switch e.Code {
		case codec.CodeEmptyBatch, codec.CodeInvalidBatch, codec.CodeInvalidAgency:
			count = codec.Lines(payload)
		}
		s.reject(e.Code, detail, s.proved, count, rd)
		return
	}
	if s.proved != 0 && s.proved != parsed.Agency {
		s.reject(codec.CodeInvalidAgency, "", parsed.Agency, parsed.Batch.Count, rd)
		return
	}
	r := commit.Request{Peer: &s.Peer, Agency: parsed.Agency, Count: parsed.Batch.Count}
	switch parsed.Kind {
	case codec.RequestReceived:
		if s.said != saidHello {
			s.reject(codec.CodeInvalidBatch, "", s.proved, codec.Lines(payload), rd)
			return
		}
		r.Kind = lottery.Received
	case codec.RequestBets:
		r.Kind = lottery.Bets
	case codec.RequestGetWinners:
		r.Kind = lottery.GetWinners
	case codec.RequestHello:
		r.Kind, s.said = lottery.Hello, saidHello
	}
	rd.stage.Add(r, payload, winners)
}

// taken notes that the peer has the winners that it was told, and tells the committer.
func (s *Session) taken(rd *reader) {
	s.delivery = delivered
	rd.stage.Add(commit.Request{Peer: &s.Peer, Kind: lottery.Taken}, nil, nil)
}

func (s *Session) refuseFrame(err error, rd *reader) {
	code := codec.CodeInvalidFrame
	switch {
	case errors.Is(err, codec.ErrFrameTooLarge) && s.stranger(rd):
		code = codec.CodeAuthenticationRequired // probably a batch of an agency without a secret
	case errors.Is(err, codec.ErrFrameTooLarge):
		code = codec.CodeFrameTooLarge
		rd.counters.count(LimitFrameBytes)
	}
	s.unanswered++
	s.refuse(code, rd)
}

// refuse ends the session with an error that closes. It is said after everything that is still
// owed. The caller has counted it in unanswered.
func (s *Session) refuse(code codec.Code, rd *reader) {
	s.become(silenced, rd)
	s.reject(code, "", s.claimed(), 0, rd)
}

// reject answers a message of so many bets with an error.
func (s *Session) reject(code codec.Code, detail string, a codec.Agency, count int, rd *reader) {
	rd.stage.Add(commit.Request{Peer: &s.Peer, Kind: commit.Answer, Reply: lottery.Reject,
		Code: code, Detail: detail, Agency: a, Count: count}, nil, nil)
}

// sessionOf is the session that a reply is for.
func sessionOf(r *commit.Reply) *Session { return r.Session.Peer.(*Session) }

// Unanswered is how many of the session's frames have no answer yet. Only the event loop may call
// it.
func (s *Session) Unanswered() int { return int(s.unanswered) }

// Loop is the event loop that the session belongs to.
func (s *Session) Loop() *Loop { return s.loop }
