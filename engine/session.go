package engine

import (
	"errors"

	"loteria/codec"
	"loteria/engine/lottery"
)

// session is one connection: frames in, requests out, and how many answers it
// is owed. It belongs to its event loop; only lottery and counted are the
// committer's. Ten thousand that wait are most of a server's memory, so fields
// stand where they leave no gaps.
type session struct {
	conn   conn // nil before OnOpen
	loop   *loop
	source source // the peer; it outlives the connection, as rejected batches do in the log

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
	// or need not. It is fixed once it is set. handshake is nil but on the way there.
	proved    codec.Agency
	at        int32 // index in loop.sessions
	handshake *handshake

	opened    bool // a loop has it
	announced bool // its accept_connections line is written
	spoke     bool // a whole frame has come
	hello     bool // said HELLO, so rejections of batches carry their reason
	deaf      bool // what still comes is dropped: the last answer is on its way
	lastSaid  bool // the last answer has been written; the peer's close is awaited
	shut      bool // our side of the connection is shut
	closed    bool // the connection is gone; nobody can be told anything
	told      bool // winners were said, and the peer is not known to have taken them
	content   bool // winners were said on this connection, or a receipt: the peer needs nothing more

	counted bool // the exit rule counts this socket as an agency's

	lottery lottery.Session
}

// inbox is what a loop's sessions share while they read: limits, rules,
// scratch, and where requests go.
type inbox struct {
	stage         *stage
	counters      *counters
	rules         codec.Rules
	secrets       *secrets // nil: nobody has to authenticate
	nonce         func() codec.Nonce
	frameBytesMax int
	window        int32
	winners       []byte // scratch of one request
	partials      partials
}

// receive takes the next bytes of the connection. in is the loop's read
// buffer and is not kept. Behind it, shed has to be called.
func (s *session) receive(in []byte, box *inbox) {
	for len(in) > 0 && !s.deaf {
		if s.partial == nil {
			payload, rest, ok, err := codec.SplitFrame(in, s.frameBytesMax(box))
			switch {
			case err != nil:
				s.refuseFrame(err, box)
			case ok:
				in = rest
				s.request(payload, box)
			default:
				box.partials.begin(s, in, box)
				if !s.stranger(box) {
					s.quietTicks = 0
				}
				return
			}
			continue
		}
		p := s.partial
		_, total, err := codec.FrameLen(p.bytes, s.frameBytesMax(box))
		if err == nil {
			// One byte at a time as long as the header isn't whole, then the rest.
			n := min(total-len(p.bytes), len(in))
			box.partials.grow(p, n, total)
			p.bytes = append(p.bytes, in[:n]...)
			in = in[n:]
		}
		payload, _, ok, err := codec.SplitFrame(p.bytes, s.frameBytesMax(box))
		switch {
		case err != nil:
			s.refuseFrame(err, box)
		case ok:
			s.request(payload, box)
			s.dropPartial(box)
		}
	}
}

// frameBytesMax is the largest payload that the connection may send now.
func (s *session) frameBytesMax(box *inbox) int {
	if s.stranger(box) {
		return codec.AuthenticationBytesMax
	}
	return box.frameBytesMax
}

// request hands one frame's message over.
func (s *session) request(payload []byte, box *inbox) {
	s.spoke = true
	if s.told && s.backlog == nil {
		// Whoever asks on has read what came before.
		if n, err := s.conn.unacknowledged(); n == 0 && err == nil {
			s.taken(box)
		}
	}
	s.unanswered++
	if s.unanswered > box.window {
		box.counters.count(limitWindow)
		s.refuse(codec.CodeWindowExceeded, box)
		return
	}
	if s.stranger(box) {
		s.authenticate(payload, box)
		return
	}
	parsed, winners, err := codec.ParseRequest(payload, box.rules, box.winners[:0])
	box.winners = winners
	if err != nil {
		var e *codec.Error
		if !errors.As(err, &e) {
			panic("engine: codec.ParseRequest returned an error that is no *codec.Error: " + err.Error())
		}
		detail := ""
		if s.hello {
			detail = e.Detail()
		}
		r := refusal(s, e.Code, detail)
		r.agency = s.proved
		switch e.Code {
		case codec.CodeEmptyBatch, codec.CodeInvalidBatch, codec.CodeInvalidAgency:
			r.count = codec.Lines(payload)
		}
		box.stage.add(r, nil, nil)
		return
	}
	if s.proved != 0 && s.proved != parsed.Agency {
		r := refusal(s, codec.CodeInvalidAgency, "")
		r.agency, r.count = parsed.Agency, parsed.Batch.Count
		box.stage.add(r, nil, nil)
		return
	}
	r := request{session: s, agency: parsed.Agency}
	switch parsed.Kind {
	case codec.RequestReceived:
		if !s.hello {
			r.kind, r.code, r.count = requestRefuse, codec.CodeInvalidBatch, codec.Lines(payload)
			r.agency = s.proved
			break
		}
		r.kind = requestReceived
	case codec.RequestBets:
		r.kind, r.count = requestBets, parsed.Batch.Count
	case codec.RequestGetWinners:
		r.kind = requestGetWinners
	case codec.RequestHello:
		r.kind = requestHello
		s.hello = true
	}
	box.stage.add(r, payload, winners)
}

// taken says that the peer has the winners that it was told.
func (s *session) taken(box *inbox) {
	s.told = false
	box.stage.add(request{session: s, kind: requestTaken}, nil, nil)
}

func (s *session) refuseFrame(err error, box *inbox) {
	code := codec.CodeInvalidFrame
	switch {
	case errors.Is(err, codec.ErrFrameTooLarge) && s.stranger(box):
		code = codec.CodeAuthenticationRequired // a batch, of an agency that knows nothing of secrets
	case errors.Is(err, codec.ErrFrameTooLarge):
		code = codec.CodeFrameTooLarge
		box.counters.count(limitFrameBytes)
	}
	s.unanswered++
	s.refuse(code, box)
}

// refuse ends the session with an error that closes, said after everything
// that is still owed.
func (s *session) refuse(code codec.Code, box *inbox) {
	s.deaf = true
	s.dropPartial(box)
	r := refusal(s, code, "")
	r.agency = s.claimed()
	box.stage.add(r, nil, nil)
}

// tick is called periodically. It refuses a peer who keeps the server waiting
// for timeoutTicks ticks. A stranger does so until it has authenticated, whatever
// it says meanwhile.
func (s *session) tick(timeoutTicks int32, box *inbox) {
	if s.deaf || s.spoke && s.partial == nil && !s.stranger(box) {
		return
	}
	if s.quietTicks++; s.quietTicks > timeoutTicks {
		s.outstay(limitReadTime, box)
	}
}

// outstay refuses a peer whose time is over, by the limit that it has broken.
func (s *session) outstay(broken limit, box *inbox) {
	box.counters.count(broken)
	s.unanswered++
	s.refuse(codec.CodeTimeout, box)
}

func (s *session) dropPartial(box *inbox) {
	if s.partial != nil {
		box.partials.drop(s.partial)
	}
}
