package agency

import (
	"fmt"
	"strconv"
	"strings"

	"loteria/codec"
)

// Session is what an agency says to a server and makes of its answers, over
// any number of connections: proof, HELLO, resume, the window, the report, winners, the receipt.
// It is pure: it has no socket, goroutine, clock or randomness, so that a
// simulation can drive it as well as Client does.
//
// Inputs are Connect, Disconnect, Begin, Push, Finish, Ask, Confirm and Receive. After
// any of them Send has the frames that may go out.
//
// No bet is sent, and no report, before the bets that the server has are known to be the first ones
// of the input: their checksums have to be the same.
//
// A Session is not safe for concurrent use.
type Session struct {
	agency codec.Agency
	secret codec.Secret // may be none
	phase  phase
	nonce  codec.Nonce // of phaseChallenged

	window        window
	framesMax     int // the agency's own window
	frameBytesMax int // the server's limit, of the last WELCOME

	// stored is how many bets are known to be durable: what the last WELCOME
	// said and what was acknowledged since; checksum is theirs, as the server has it.
	stored   int64
	checksum codec.Checksum
	// own is the checksum of the input's first ownEnd bets. The window's queue begins there. As long as
	// that is before stored the queue is empty, and what is pushed is read only to be compared.
	own    codec.Checksum
	ownEnd int64
	// begun says that there is an input: else there is nothing to compare with.
	begun bool
	// total is how many bets the input has, -1 until its end was seen.
	total int64

	// asking: GET_WINNERS is to be sent as soon as nothing is unacknowledged.
	asking bool
	// asked: it was sent on this connection and not answered. Nothing else is
	// unanswered then.
	asked bool
	// confirming: RECEIVED is to be said, on each connection, until it is acknowledged.
	confirming bool
	// confirmed: it was sent on this connection and not answered.
	confirmed bool
}

// phase is how far a connection has come.
type phase uint8

// Those from phaseConnected to phaseProved are only gone through with a secret.
const (
	phaseOffline       phase = iota // no connection
	phaseConnected                  // AUTH is to be sent
	phaseNamed                      // AUTH was sent, CHALLENGE is awaited
	phaseChallenged                 // PROOF is to be sent
	phaseProved                     // PROOF was sent, AUTHENTICATED is awaited
	phaseAuthenticated              // HELLO is to be sent
	phaseGreeted                    // HELLO was sent, WELCOME is awaited
	phaseReady
)

// asks reports whether the server owes an answer before bets can be sent.
func (p phase) asks() bool { return p == phaseNamed || p == phaseProved || p == phaseGreeted }

const totalUnknown = -1

// sendBytesMax is what Send appends at most, but for one frame more, in
// bytes: enough to make system calls cheap, and a bound for the buffer.
const sendBytesMax = 256 << 10

// NewSession is an agency that is not connected. framesMax is its window, at
// least 1.
func NewSession(id codec.Agency, framesMax int) *Session {
	return &Session{agency: id, framesMax: framesMax, window: window{framesMax: framesMax}, total: totalUnknown}
}

// Authenticate has every connection that follows begin with a proof that this
// agency knows the secret. A server that doesn't ask for it gets nothing:
// Receive then fails with ErrNotAsked. The zero Secret is none.
func (s *Session) Authenticate(secret codec.Secret) { s.secret = secret }

// EventKind tells what a reply meant.
type EventKind uint8

// The kinds of events.
const (
	// EventWelcome: the session is ready on this connection.
	EventWelcome EventKind = iota + 1
	// EventAcked: Event.Batch is durable.
	EventAcked
	// EventWinners: the draw took place; Event.Winners.
	EventWinners
	// EventHold: the draw hasn't taken place. The server either closes now or
	// has to be asked again, with Ask, after a while.
	EventHold
	// EventAuthenticating: the proof has come a step further, and there is more to
	// Send.
	EventAuthenticating
	// EventConfirmed: the server knows that the agency has its winners.
	EventConfirmed
	// EventRetry: the server can't go on for now, Event.Err says why. Leave
	// this connection and try another one later.
	EventRetry
)

// Event is what a reply meant.
type Event struct {
	Kind EventKind
	// Batch is the acknowledged batch; the session doesn't need it any more.
	Batch *Batch
	// Winners is the payload; it aliases what was received.
	Winners []byte
	Err     error
}

// Connect says that there is a new connection.
func (s *Session) Connect() {
	s.Disconnect()
	s.phase = phaseAuthenticated
	if s.secret.IsSet() {
		s.phase = phaseConnected
	}
}

// Disconnect says that the connection is gone. What was unanswered is kept
// for the next one.
func (s *Session) Disconnect() {
	s.phase = phaseOffline
	s.window.unsend()
	s.asked, s.confirmed = false, false
}

// Begin starts the input from its first bet. Unacknowledged bets of an earlier
// input are forgotten, so there must be no connection that they were sent on.
func (s *Session) Begin() {
	if s.window.sent > 0 {
		panic("agency: Session.Begin with unanswered batches")
	}
	s.window.clear()
	s.begun, s.own, s.ownEnd = true, 0, 0
	s.total = totalUnknown
	s.asking = false
}

// Wants reports whether a batch that is pushed now would be sent now, or is needed to compare what
// is stored. Pushing only then keeps the queue as short as the window.
func (s *Session) Wants() bool { return s.phase == phaseReady && s.window.roomy() }

// Push takes the next batch of the input and owns it until it comes back with
// EventAcked. Batches have to follow each other without gaps. Bets that are stored are compared with
// what the server has, and dropped: the error is ErrOtherBets.
func (s *Session) Push(b *Batch) error {
	s.begun = true
	if err := s.compare(); err != nil {
		return err // no bets, and a checksum
	}
	end := s.ownEnd
	if n := len(s.window.queue); n > 0 {
		end = s.window.queue[n-1].end()
	}
	switch {
	case b.First > end:
		panic(fmt.Sprintf("agency: Session.Push leaves bets %d to %d out", end, b.First))
	case b.end() <= end:
		return nil
	case b.First < end:
		b.skip(int(end - b.First))
	}
	if s.ownEnd < s.stored {
		n := int(min(s.stored-s.ownEnd, int64(b.Count())))
		s.advance(b, n)
		if err := s.compare(); err != nil || n == b.Count() {
			return err
		}
		b.skip(n)
	}
	if s.frameBytesMax == 0 { // never welcomed: the first WELCOME will split it
		s.window.push(b)
		return nil
	}
	for _, part := range b.split(s.frameBytesMax) {
		s.window.push(part)
	}
	return nil
}

// advance takes the first n bets of b, which the queue begins with or would begin with, as those
// behind ownEnd.
func (s *Session) advance(b *Batch, n int) {
	lines := b.Lines
	if n < b.Count() {
		lines = lines[:linesBytes(lines, n)]
	}
	s.own = s.own.Add(lines)
	s.ownEnd += int64(n)
}

// compare compares the stored bets with the input's, once the input was read as far.
func (s *Session) compare() error {
	if !s.begun || s.ownEnd < s.stored || s.own == s.checksum {
		return nil
	}
	return fmt.Errorf("%w: the %d that are stored for agency %d are not the first %d of the input; %s",
		ErrOtherBets, s.stored, s.agency, s.stored, otherBetsAdvice)
}

// settled reports whether the stored bets are known to be the input's first ones, or there is no
// input.
func (s *Session) settled() bool { return !s.begun || s.ownEnd >= s.stored }

const otherBetsAdvice = "the input has changed since it was uploaded, or somebody else uploads as this agency: give it the input that was uploaded before, or find out who the other one is"

// Finish says that the input has total bets, all of which were pushed. The
// error is ErrOtherBets.
func (s *Session) Finish(total int64) error {
	s.begun, s.total = true, total
	if err := s.checkTotal(); err != nil {
		return err
	}
	return s.compare()
}

func (s *Session) checkTotal() error {
	if s.total != totalUnknown && s.stored > s.total {
		return fmt.Errorf("%w: %d are stored for agency %d, %d are in the input; %s",
			ErrOtherBets, s.stored, s.agency, s.total, otherBetsAdvice)
	}
	return nil
}

// Ask wants the winners. It also tells the server that this agency has no
// more bets. It is sent when everything pushed is acknowledged.
func (s *Session) Ask() { s.asking = true }

// Confirm says that the agency has its winners where they have to be. It is sent on this connection
// and on those that follow, until EventConfirmed.
func (s *Session) Confirm() { s.confirming = true }

// Send appends the frames that may be sent now to dst, and takes them as sent.
// It appends no more than about 256 kB: call it until it appends nothing.
func (s *Session) Send(dst []byte) []byte {
	switch s.phase {
	case phaseConnected:
		s.phase = phaseNamed
		return codec.AppendAuth(dst, s.agency)
	case phaseChallenged:
		s.phase = phaseProved
		return codec.AppendProof(dst, s.secret.Prove(s.nonce, s.agency))
	case phaseAuthenticated:
		s.phase = phaseGreeted
		return codec.AppendHello(dst, s.agency)
	case phaseReady:
	default:
		return dst
	}
	for start := len(dst); len(dst)-start < sendBytesMax; {
		b := s.window.next()
		if b == nil {
			break
		}
		dst = codec.AppendFrame(dst, b.payload())
	}
	if len(s.window.queue) > 0 || s.asked || s.confirmed {
		return dst // one thing at a time, or a window of 1 would be exceeded
	}
	switch {
	case s.confirming:
		s.confirmed = true
		dst = codec.AppendReceived(dst, s.agency)
	case s.asking && s.settled():
		s.asked = true
		dst = codec.AppendGetWinners(dst, s.agency)
	}
	return dst
}

// Receive takes the payload of a server's frame. An error is final: a
// *RejectedError, ErrNotAsked, ErrLostBets, ErrLostDraw, ErrOtherBets, ErrFrameBytes
// or ErrProtocol.
func (s *Session) Receive(payload []byte) (Event, error) {
	reply, err := codec.ParseReply(payload)
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	switch {
	case reply.Kind == codec.ReplyError:
		return s.receiveError(reply)
	case reply.Kind == codec.ReplyChallenge && s.phase == phaseNamed:
		s.phase, s.nonce = phaseChallenged, reply.Nonce
		return Event{Kind: EventAuthenticating}, nil
	case reply.Kind == codec.ReplyAuthenticated && s.phase == phaseProved:
		s.phase = phaseAuthenticated
		return Event{Kind: EventAuthenticating}, nil
	case reply.Kind == codec.ReplyWelcome && s.phase == phaseGreeted:
		return s.receiveWelcome(reply.Welcome)
	case reply.Kind == codec.ReplyAck && s.window.oldest() != nil:
		b := s.window.answered()
		s.advance(b, b.Count())
		s.stored, s.checksum = s.ownEnd, s.own
		return Event{Kind: EventAcked, Batch: b}, nil
	case reply.Kind == codec.ReplyAck && s.confirmed:
		s.confirming, s.confirmed = false, false
		return Event{Kind: EventConfirmed}, nil
	case reply.Kind == codec.ReplyWinners && s.asked:
		s.asking, s.asked = false, false
		return Event{Kind: EventWinners, Winners: reply.Winners}, nil
	}
	return Event{}, fmt.Errorf("%w: %.64q answers nothing that was asked", ErrProtocol, payload)
}

func (s *Session) receiveWelcome(w codec.Welcome) (Event, error) {
	switch {
	case w.Stored < s.stored:
		return Event{}, fmt.Errorf("%w: it has %d of agency %d, %d were acknowledged; check that it is the right server and what became of its data",
			ErrLostBets, w.Stored, s.agency, s.stored)
	case w.FrameBytesMax < codec.BetBytesMax:
		return Event{}, fmt.Errorf("%w: %d bytes at most, a bet may have %d; raise SERVER_FRAME_BYTES_MAX",
			ErrFrameBytes, w.FrameBytesMax, codec.BetBytesMax)
	}
	s.phase = phaseReady
	s.stored, s.checksum = w.Stored, w.Checksum
	s.frameBytesMax = w.FrameBytesMax
	s.window.framesMax = min(s.framesMax, w.Window)
	for _, b := range s.window.queue {
		if s.ownEnd < s.stored {
			s.advance(b, int(min(s.stored-s.ownEnd, int64(b.Count()))))
		}
	}
	s.window.refit(w.Stored, w.FrameBytesMax)
	if err := s.checkTotal(); err != nil {
		return Event{}, err
	}
	return Event{Kind: EventWelcome}, s.compare()
}

func (s *Session) receiveError(reply codec.Reply) (Event, error) {
	switch reply.Code {
	case codec.CodeLotteryHasntEnded:
		if s.asked {
			s.asking, s.asked = false, false
			return Event{Kind: EventHold}, nil
		}
		if s.confirmed {
			return Event{}, ErrLostDraw
		}
		fallthrough // it is stopping
	case codec.CodeTimeout, codec.CodeTooManyConnections, codec.CodeStorage:
		return Event{Kind: EventRetry, Err: fmt.Errorf("server says %s", reply.Code)}, nil
	case codec.CodeInvalidBatch:
		if s.phase == phaseNamed {
			return Event{}, ErrNotAsked
		}
	}
	rejected := &RejectedError{Code: reply.Code, Detail: reply.Detail}
	if b := s.window.oldest(); b != nil && reply.Code == codec.CodeInvalidBatch {
		line, reason, _ := strings.Cut(reply.Detail, "|")
		if n, err := strconv.Atoi(line); err == nil && 1 <= n && n <= b.Count() {
			rejected.Line, rejected.Detail = b.Rows[n-1], reason
		}
	}
	return Event{}, rejected
}

// Ready reports whether this connection was welcomed.
func (s *Session) Ready() bool { return s.phase == phaseReady }

// Stored is how many of the agency's bets are known to be durable.
func (s *Session) Stored() int64 { return s.stored }

// Uploaded reports whether the input has ended and all of it is durable.
func (s *Session) Uploaded() bool { return s.stored == s.total && s.settled() }

// Confirming reports whether a receipt is not acknowledged yet.
func (s *Session) Confirming() bool { return s.confirming }

// Unanswered is how many frames of this connection wait for an answer.
func (s *Session) Unanswered() int {
	n := s.window.sent
	for _, owed := range [...]bool{s.asked, s.confirmed, s.phase.asks()} {
		if owed {
			n++
		}
	}
	return n
}

// Hurried reports whether an answer is due that doesn't take as long as it
// takes: any but the winners, which come when all agencies are done.
func (s *Session) Hurried() bool { return s.window.sent > 0 || s.confirmed || s.phase.asks() }
