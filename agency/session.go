package agency

import (
	"fmt"
	"strconv"
	"strings"

	"loteria/codec"
)

// Session is the agency's side of the protocol over any number of connections: proof, HELLO,
// resume, window, report, winners, receipt. It is pure: it has no socket, goroutine, clock or
// randomness, so a simulation can drive it as Client does.
//
// Its inputs are Connect, Disconnect, Begin, Push, Finish, Ask, Confirm and Receive. After any of
// them Send returns the frames that may be sent.
//
// The server's bets must be exactly the first bets of the input. A Session checks that with the
// checksum of every WELCOME. Until the input was pushed as far as the server's bets go, and is
// equal to them, it sends no bet, report or receipt. A session without an input, no Push and no
// Finish since Begin, has nothing to compare.
//
// A Session is not safe for concurrent use.
type Session struct {
	agency codec.Agency
	secret codec.Secret // the zero value if there is none
	phase  phase
	nonce  codec.Nonce // of phaseChallenged

	window        window
	framesMax     int // the agency's own window
	frameBytesMax int // the server's limit, from the last WELCOME; 0 before the first one

	// stored describes the bets that are known to be durable: those of the last WELCOME and those
	// acknowledged since.
	stored prefix
	// own describes the input's bets before the window's queue. It has at most as many bets as
	// stored. While it has fewer, the queue is empty.
	own prefix
	// total is how many bets the input has; -1 until its end is known.
	total int64

	// asking: GET_WINNERS is to be sent as soon as nothing is unacknowledged.
	asking bool
	// asked: GET_WINNERS was sent on this connection and is unanswered. No other frame is
	// unanswered then.
	asked bool

	// confirming: RECEIVED is to be sent as soon as nothing is unanswered, until it is
	// acknowledged.
	confirming bool
	// confirmed: RECEIVED was sent on this connection and is unanswered. No earlier frame is
	// unanswered then.
	confirmed bool
}

// prefix describes the first bets of an agency.
type prefix struct {
	bets int64
	sum  codec.Checksum
}

// with extends p by the bets of b, to at most bets bets in all. b begins where p ends.
func (p prefix) with(b *Batch, bets int64) prefix {
	lines, count := b.Lines, min(b.end(), bets)-p.bets
	if count <= 0 {
		return p
	}
	if b.end() > bets {
		lines = lines[:linesBytes(lines, int(count))]
	}
	return prefix{bets: p.bets + count, sum: p.sum.Add(lines)}
}

// phase is how far a connection has come.
type phase uint8

// Only a session with a secret goes through phaseConnected to phaseProved.
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

// sendBytesMax limits what Send appends, in bytes; the last frame may exceed it. It is large enough
// to make system calls cheap, and bounds the buffer.
const sendBytesMax = 256 << 10

// NewSession returns the session of an agency that is not connected. framesMax is the agency's
// window, at least 1.
func NewSession(id codec.Agency, framesMax int) *Session {
	return &Session{agency: id, framesMax: framesMax, window: window{framesMax: framesMax}, total: totalUnknown}
}

// Authenticate makes every later connection begin with a proof that this agency knows the secret.
// If a server doesn't ask for the proof, Receive fails with ErrNotAsked and no bet is sent. The
// zero Secret stands for no secret.
func (s *Session) Authenticate(secret codec.Secret) { s.secret = secret }

// EventKind is the meaning of a reply.
type EventKind uint8

// The kinds of events.
const (
	// EventWelcome: the session is ready on this connection.
	EventWelcome EventKind = iota + 1
	// EventAcked: Event.Batch is durable.
	EventAcked
	// EventWinners: the draw took place; Event.Winners.
	EventWinners
	// EventConfirmed: the server knows, durably, that this agency has its winners.
	EventConfirmed
	// EventHold: the draw hasn't taken place. The server either closes now, or has to be asked
	// again, with Ask, after a while.
	EventHold
	// EventAuthenticating: the authentication is one step further, and Send has the next message.
	EventAuthenticating
	// EventRetry: the server can't go on for now, Event.Err says why. Give this connection up and
	// try another one later.
	EventRetry
	// EventNotLeader: another server holds the draw, Event.Leader is its address. Give this
	// connection up and connect to that server. Event.Err says it for people.
	EventNotLeader
)

// Event is what a reply meant.
type Event struct {
	Kind EventKind
	// Batch is the acknowledged batch, of EventAcked. It is the caller's again.
	Batch *Batch
	// Winners is the payload, of EventWinners. It aliases what was received.
	Winners []byte
	// Leader is the address HOST:PORT of the server that leads, of EventNotLeader. It is empty if
	// no leader is known now; then try another server after a moment.
	Leader string
	// Err is the reason, of EventRetry and EventNotLeader.
	Err error
}

// Connect says that there is a new connection.
func (s *Session) Connect() {
	s.Disconnect()
	s.phase = phaseAuthenticated
	if s.secret.IsSet() {
		s.phase = phaseConnected
	}
}

// Disconnect says that the connection is gone. Unanswered batches are kept for the next one.
func (s *Session) Disconnect() {
	s.phase = phaseOffline
	s.window.unsend()
	s.asked, s.confirmed = false, false
}

// Begin starts an input from its first bet. It forgets the input before, and what was to be asked
// or confirmed. It panics if batches of the input before are unanswered on this connection.
func (s *Session) Begin() {
	if s.window.sent > 0 {
		panic("agency: Session.Begin with unanswered batches")
	}
	s.window.clear()
	s.own = prefix{}
	s.total = totalUnknown
	s.asking, s.confirming = false, false
}

// Wants reports whether a batch that is pushed now could be sent at once. Pushing only then keeps
// the queue as short as the window.
func (s *Session) Wants() bool { return s.phase == phaseReady && s.window.roomy() }

// Push takes the next batch of the input, which has at least one bet. The session owns the batch
// until it comes back with EventAcked. The first batch begins with the input's first bet, and each
// later one where the one before ended; Push panics otherwise. Bets that are stored already are
// dropped. The error is ErrOtherBets; after it nothing more is sent on this connection.
func (s *Session) Push(b *Batch) error {
	end := s.own.bets
	if n := len(s.window.queue); n > 0 {
		end = s.window.queue[n-1].end()
	}
	if b.First != end {
		panic(fmt.Sprintf("agency: Session.Push of a batch that begins with bet %d, want %d", b.First, end))
	}
	if s.own.bets < s.stored.bets {
		s.own = s.own.with(b, s.stored.bets)
		if err := s.compare(); err != nil || s.own.bets == b.end() {
			return err
		}
		b.skip(int(s.own.bets - b.First))
	}
	if s.frameBytesMax == 0 { // the first WELCOME will split it
		s.window.push(b)
		return nil
	}
	for _, part := range b.split(s.frameBytesMax) {
		s.window.push(part)
	}
	return nil
}

// Finish says that the input has total bets, and that all of them were pushed. The error is
// ErrOtherBets.
func (s *Session) Finish(total int64) error {
	s.total = total
	return s.compare()
}

// compare fails if the stored bets can't be the first bets of the input, as far as it is known.
func (s *Session) compare() error {
	switch {
	case s.own == s.stored:
		return nil
	case s.own.bets == s.stored.bets:
		return fmt.Errorf("%w: the %d stored for agency %d are not the first %d of the input; %s",
			ErrOtherBets, s.stored.bets, s.agency, s.own.bets, otherBetsHint)
	case s.total != totalUnknown:
		return fmt.Errorf("%w: %d stored for agency %d, %d in the input; %s",
			ErrOtherBets, s.stored.bets, s.agency, s.total, otherBetsHint)
	}
	return nil // there is more of the input to come
}

const otherBetsHint = "the input has changed since it was uploaded, or somebody else uploads as this agency: " +
	"give it the input that was uploaded before, or find out who the other one is"

// agrees reports whether the stored bets are known to be the input's, or there is no input.
// Otherwise nothing may be sent after HELLO.
func (s *Session) agrees() bool {
	read := s.own.bets > 0 || len(s.window.queue) > 0 || s.total != totalUnknown
	return s.own == s.stored || !read
}

// Ask asks for the winners, and so tells the server that this agency has no more bets. GET_WINNERS
// is sent when every pushed batch is acknowledged. Ask cancels an earlier Confirm.
func (s *Session) Ask() { s.asking, s.confirming = true, false }

// Confirm says that the agency has its winners where they have to be. RECEIVED is sent when nothing
// is unanswered, and again on every later connection until EventConfirmed. No bets may follow it.
// Confirm cancels an earlier Ask.
func (s *Session) Confirm() { s.asking, s.confirming = false, true }

// Send appends to dst the frames that may be sent now, and counts them as sent. It appends no more
// than about 256 kB: call it until it appends nothing.
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
	if !s.agrees() {
		return dst
	}
	for start := len(dst); len(dst)-start < sendBytesMax; {
		b := s.window.next()
		if b == nil {
			break
		}
		dst = codec.AppendFrame(dst, b.payload())
	}
	switch {
	case len(s.window.queue) > 0 || s.asked || s.confirmed:
	case s.asking:
		s.asked = true
		dst = codec.AppendGetWinners(dst, s.agency)
	case s.confirming:
		s.confirmed = true
		dst = codec.AppendReceived(dst, s.agency)
	}
	return dst
}

// Receive takes the payload of a server's frame. An error is final: a
// *RejectedError, ErrNotAsked, ErrLostBets, ErrOtherBets, ErrFrameBytes or
// ErrProtocol.
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
	case reply.Kind == codec.ReplyAck && s.confirmed:
		s.confirming, s.confirmed = false, false
		return Event{Kind: EventConfirmed}, nil
	case reply.Kind == codec.ReplyAck && s.window.oldest() != nil:
		b := s.window.answered()
		s.own = s.own.with(b, b.end())
		s.stored = s.own
		return Event{Kind: EventAcked, Batch: b}, nil
	case reply.Kind == codec.ReplyWinners && s.asked:
		s.asking, s.asked = false, false
		return Event{Kind: EventWinners, Winners: reply.Winners}, nil
	}
	return Event{}, fmt.Errorf("%w: %.64q answers nothing that was asked", ErrProtocol, payload)
}

func (s *Session) receiveWelcome(w codec.Welcome) (Event, error) {
	switch {
	case w.Stored < s.stored.bets:
		return Event{}, fmt.Errorf("%w: it has %d bets of agency %d, %d were acknowledged; %s",
			ErrLostBets, w.Stored, s.agency, s.stored.bets, lostBetsHint)
	case w.Stored == 0 && w.Checksum != 0:
		return Event{}, fmt.Errorf("%w: WELCOME has the checksum %s of no bets", ErrProtocol, w.Checksum)
	case w.FrameBytesMax < codec.BetBytesMax:
		return Event{}, fmt.Errorf("%w: %d bytes at most, a bet may have %d; raise SERVER_FRAME_BYTES_MAX",
			ErrFrameBytes, w.FrameBytesMax, codec.BetBytesMax)
	}
	s.phase = phaseReady
	s.stored = prefix{bets: w.Stored, sum: w.Checksum}
	s.frameBytesMax = w.FrameBytesMax
	s.window.framesMax = min(s.framesMax, w.Window)
	for _, b := range s.window.queue {
		s.own = s.own.with(b, w.Stored)
	}
	s.window.refit(w.Stored, w.FrameBytesMax)
	return Event{Kind: EventWelcome}, s.compare()
}

const lostBetsHint = "check that it is the right server and what became of its data"

func (s *Session) receiveError(reply codec.Reply) (Event, error) {
	switch reply.Code {
	case codec.CodeLotteryHasntEnded:
		if s.asked {
			s.asking, s.asked = false, false
			return Event{Kind: EventHold}, nil
		}
		if s.confirmed {
			// A server that stops says this only to agencies that wait for the draw.
			return Event{}, fmt.Errorf("%w: it says that the draw, whose winners agency %d has, hasn't taken place; %s",
				ErrLostBets, s.agency, lostBetsHint)
		}
		fallthrough // it is stopping
	case codec.CodeTimeout, codec.CodeTooManyConnections, codec.CodeStorage:
		return Event{Kind: EventRetry, Err: fmt.Errorf("server says %s", reply.Code)}, nil
	case codec.CodeNotLeader:
		who := reply.Detail + " leads"
		if reply.Detail == "" {
			who = "it knows no leader now"
		}
		return Event{Kind: EventNotLeader, Leader: reply.Detail,
			Err: fmt.Errorf("server says %s: %s", reply.Code, who)}, nil
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
func (s *Session) Stored() int64 { return s.stored.bets }

// Uploaded reports whether the input has ended and all of it is durable.
func (s *Session) Uploaded() bool { return s.own.bets == s.total && s.own == s.stored }

// Confirming reports whether Confirm was called and RECEIVED is not acknowledged yet.
func (s *Session) Confirming() bool { return s.confirming }

// Unanswered is how many frames of this connection wait for an answer.
func (s *Session) Unanswered() int {
	n := s.window.sent
	if s.asked || s.confirmed || s.phase.asks() {
		n++
	}
	return n
}

// Hurried reports whether the server owes an answer that it should give at once: any but the
// winners, which come when all agencies have reported.
func (s *Session) Hurried() bool { return s.window.sent > 0 || s.confirmed || s.phase.asks() }
