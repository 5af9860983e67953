package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"loteria/codec"
	"loteria/engine/lottery"
)

const (
	// lingerMax is how long a peer has to close its side after it was told the
	// last answer, or since it last took some of it. Closing at once could
	// destroy that answer: bytes that still come in make the kernel reset the
	// connection.
	lingerMax = 2 * time.Second
	// askMax is how long an agency that is connected at the draw may take to ask for its winners.
	askMax = time.Minute
	// winnersRateMin is how many bytes of its winners an agency has to take in a second, on average.
	winnersRateMin = 8 << 10
	// flushDelay is how soon a peer who has just taken some of its backlog is
	// offered more. One who has not is offered it at the next tick.
	flushDelay = 5 * time.Millisecond
	// payloadCopyMax is the largest winners payload that is copied into the
	// loop's scratch, to leave with other answers in one write.
	payloadCopyMax = 16 << 10
)

// loop is one event loop: its sessions, its way to the committer and its
// mailbox. Everything but the mailbox belongs to the event loop's goroutine.
type loop struct {
	server   *Server
	log      *zap.Logger // the server's, with the time of clock
	clock    eventClock
	box      inbox
	sessions []*session
	out      []byte      // scratch: answers on their way to one connection
	fields   []zap.Field // scratch: of one log line
	// moving are sessions with a backlog of which their peers have just taken
	// some. A flush is on its way if there are any.
	moving []*session
	load   int // connections, on their way here included; guarded by server.loopsMu
	mail   mailbox
}

func newLoop(s *Server) *loop {
	lp := &loop{server: s}
	lp.log = s.log.WithOptions(zap.WithClock(&lp.clock))
	return lp
}

// eventClock gives log lines the time of what they tell of. One reading of the system's clock serves
// all answers that came together; one for each batch was 0.6 % of the path from socket to ledger.
type eventClock struct{ at time.Time }

// Now implements zapcore.Clock.
func (c *eventClock) Now() time.Time { return c.at }

// NewTicker implements zapcore.Clock.
func (c *eventClock) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }

// mailbox is how others tell a loop to do something. Its order is kept, which
// gnet's own task queues do not promise, and one task in gnet's queue is enough
// however much is in the box. Its size is bounded by what sessions are owed.
type mailbox struct {
	mu        sync.Mutex
	el        gnet.EventLoop // nil before the loops start
	scheduled bool
	replies   []reply
	spare     []reply // for the next replies
	tick      bool
	flush     bool
	shed      bool
	farewell  *farewell
	ran       []func() // called when everything before them is done
}

// farewell ends all sessions of a loop. A code other than CodeNone is told
// to every one of them first.
type farewell struct{ code codec.Code }

// post changes the mailbox and makes sure that the loop looks into it. It
// never waits for the loop.
func (lp *loop) post(change func(*mailbox)) {
	m := &lp.mail
	m.mu.Lock()
	change(m)
	el, schedule := m.el, m.el != nil && !m.scheduled
	m.scheduled = m.scheduled || schedule
	m.mu.Unlock()
	if schedule {
		// The only error is an engine that has stopped: then nobody is left.
		_ = el.Execute(context.Background(), lp)
	}
}

// repliesKeptMax is how many replies a slice may have room for and be used again.
// Only a draw that very many wait for has more.
const repliesKeptMax = stageRequestsMax

// reusable is replies emptied, or nothing if it is larger than is worth keeping.
func reusable(replies []reply) []reply {
	if cap(replies) > repliesKeptMax {
		return nil
	}
	return replies[:0]
}

func (lp *loop) deliver(replies []reply) {
	lp.post(func(m *mailbox) { m.replies = append(m.replies, replies...) })
}

// attach tells the mailbox its event loop.
func (lp *loop) attach(el gnet.EventLoop) {
	lp.mail.mu.Lock()
	lp.mail.el = el
	lp.mail.mu.Unlock()
}

// detach makes the mailbox one that nobody looks into any more: the event loop
// is about to be stopped.
func (lp *loop) detach() { lp.attach(nil) }

// Run empties the mailbox. gnet calls it on the event loop.
func (lp *loop) Run(context.Context) error {
	m := &lp.mail
	m.mu.Lock()
	m.scheduled = false
	replies, tick, flush, shed, bye, ran := m.replies, m.tick, m.flush, m.shed, m.farewell, m.ran
	m.replies, m.tick, m.flush, m.shed, m.farewell, m.ran = m.spare[:0], false, false, false, nil, nil
	m.spare = nil
	m.mu.Unlock()

	if len(replies) > 0 {
		lp.clock.at = lp.server.now()
	}
	lp.box.stage.hold() // or the committer is woken for each agency that has its winners
	for rest := replies; len(rest) > 0; {
		rest = lp.answer(rest)
	}
	lp.box.stage.release()
	for i := range replies { // only now: nobody waits for a line
		lp.logReply(&replies[i])
	}
	if flush {
		lp.flush()
	}
	if tick {
		lp.tick()
	}
	if shed {
		lp.box.shed()
	}
	if bye != nil {
		lp.sayFarewell(bye.code)
	}
	for _, f := range ran {
		f()
	}

	clear(replies) // let sessions and payloads go
	m.mu.Lock()
	m.spare = reusable(replies)
	m.mu.Unlock()
	return nil
}

// answer writes the answers of the session that replies begins with, as far as
// they stand together, in one write, and returns the other replies.
func (lp *loop) answer(replies []reply) []reply {
	s := replies[0].session
	out := lp.out[:0]
	winners, receipt := false, false
	n := 0
	for ; n < len(replies) && replies[n].session == s; n++ {
		r := &replies[n]
		if r.told = !s.closed && !s.lastSaid; !r.told {
			continue
		}
		if r.agency != 0 { // a frame may name agency 0; the session is still its agency's
			s.agency = r.agency
		}
		winners = winners || r.kind == lottery.Winners
		receipt = receipt || r.kind == lottery.Receipt
		for range max(r.times, 1) {
			if len(out) > payloadCopyMax {
				lp.write(s, out)
				out = out[:0]
			}
			s.unanswered--
			out = lp.say(s, r, out)
		}
	}
	lp.out = out[:0]
	lp.write(s, out)
	if s.closed {
		return replies[n:]
	}
	s.told = s.told || winners
	if !s.content && (winners || receipt) {
		left, err := s.untaken()
		if err != nil {
			lp.drop(s)
			return replies[n:]
		}
		s.content, s.lateTicks = true, -lp.credit(left)
	}
	lp.settle(s)
	return replies[n:]
}

// say appends one answer to out. One that is too large to be copied is written
// instead, behind what out had, which is empty then.
func (lp *loop) say(s *session, r *reply, out []byte) []byte {
	switch r.kind {
	case lottery.Ack, lottery.Receipt:
		return codec.AppendAck(out)
	case lottery.Welcome:
		w := lp.server.welcome
		w.Stored, w.Checksum = r.stored, r.checksum
		return codec.AppendWelcome(out, w)
	case lottery.Winners:
		out = codec.AppendFrameHeader(out, len(r.payload))
		if len(r.payload) <= payloadCopyMax {
			return append(out, r.payload...)
		}
		lp.write(s, out)
		lp.writeShared(s, r.payload)
		return out[:0]
	case challenge:
		return codec.AppendChallenge(out, codec.Nonce([]byte(r.detail)))
	case authenticated:
		return codec.AppendAuthenticated(out)
	case lottery.Reject:
		if r.code.Closes() {
			s.lastSaid, s.deaf = true, true
			s.dropPartial(&lp.box)
		}
		return codec.AppendError(out, r.code, r.detail)
	default:
		panic(fmt.Sprintf("engine: reply of kind %d", r.kind))
	}
}

// write sends p unless the session is closed. What the socket doesn't take is
// copied. A write that fails closes the session inside this call; so does a peer
// who does not read what it asked for.
func (lp *loop) write(s *session, p []byte) { lp.writeOr(s, p, false) }

// writeShared is write for what is never changed, and is not copied.
func (lp *loop) writeShared(s *session, p []byte) { lp.writeOr(s, p, true) }

func (lp *loop) writeOr(s *session, p []byte, shared bool) {
	if len(p) == 0 || s.closed {
		return
	}
	if s.backlog != nil {
		if s.backlog.bytes > lp.server.cfg.UnreadBytesMax {
			lp.unread(s, limitUnreadBytes)
			return
		}
		s.backlog.add(p, shared)
		return
	}
	n, err := s.conn.send(p)
	if err != nil {
		lp.drop(s)
		return
	}
	if n < len(p) {
		s.backlog = new(backlog)
		s.backlog.add(p[n:], shared)
		s.stalledTicks, s.stalledBytes = 0, 0
		lp.move(s)
	}
}

// unread closes the session of a peer who does not read its answers.
func (lp *loop) unread(s *session, broken limit) {
	times := lp.server.counters.count(broken)
	lp.server.noise.write(noisyDropped, s.source, zap.Uint32("agencia", uint32(s.agency)),
		zap.String("error", "closed: the peer does not read its answers"), zap.String("limite", limitKeys[broken]),
		zap.Int("bytes", s.backlog.bytes), zap.Int64("veces", times))
	lp.drop(s)
}

// move has the session's backlog flushed soon.
func (lp *loop) move(s *session) {
	if len(lp.moving) == 0 {
		lp.server.later(flushDelay, func() { lp.post(func(m *mailbox) { m.flush = true }) })
	}
	lp.moving = append(lp.moving, s)
}

// flush offers what is left to those who have just taken some.
func (lp *loop) flush() {
	moving := lp.moving
	lp.moving = nil
	for _, s := range moving {
		if s.backlog != nil && !s.closed {
			lp.flushSession(s)
			lp.settle(s)
		}
	}
}

// flushSession gives the socket what it takes of the backlog.
func (lp *loop) flushSession(s *session) {
	progress, err := s.backlog.flush(s.conn)
	switch {
	case err != nil:
		lp.drop(s)
	case s.backlog.bytes == 0:
		s.backlog = nil
	case progress:
		lp.move(s)
	}
}

// settle does what had to wait until the socket has taken everything: a session that was told its
// last answer is shut. Of a peer that has half-closed, the kernel must have acknowledged it, too; then
// it has taken its winners.
func (lp *loop) settle(s *session) {
	if s.closed || s.backlog != nil {
		return
	}
	half := s.half()
	if half {
		unacknowledged, err := s.conn.unacknowledged()
		if err != nil {
			lp.drop(s)
			return
		}
		if unacknowledged > 0 {
			return
		}
	}
	if half && s.told {
		s.taken(&lp.box)
	}
	switch {
	case half && (s.unanswered <= 0 || s.lastSaid):
		lp.drop(s)
	case s.lastSaid && !s.shut && !half:
		s.shut = true
		s.conn.shutWrite()
	}
}

func (lp *loop) tick() {
	lp.box.rules.Today = lp.server.today()
	// From the end, since a session that goes is replaced by the last one.
	for i := len(lp.sessions) - 1; i >= 0; i-- {
		if i >= len(lp.sessions) {
			continue
		}
		s := lp.sessions[i]
		s.tick(lp.server.timeoutTicks, &lp.box)
		if s.backlog != nil {
			lp.flushSession(s)
		}
		lp.hangUp(s)
		if s.lastSaid || s.half() {
			lp.settle(s)
		}
		if !s.closed {
			lp.checkProgress(s)
		}
	}
}

// hangUp ends the session of an agency that stays connected after the draw, however much it asks,
// SERVER_EXIT_GRACE after it has taken its winners; but it gets the time to confirm in any case.
// Otherwise it could keep the server from ending. One that has not asked since the draw may be an
// agency that polls slowly, and gets askMax at least. See session.lateTicks.
func (lp *loop) hangUp(s *session) {
	if !lp.server.drawHeld.Load() || s.agency == 0 || s.closed {
		return
	}
	if s.lateTicks < 0 {
		left, err := s.untaken()
		if err != nil {
			lp.drop(s)
			return
		}
		if left == 0 {
			s.lateTicks = 0
		}
	}
	limit := lp.server.graceTicks
	if !s.content {
		limit = max(limit, lp.server.askTicks)
	}
	if s.lateTicks++; s.lateTicks <= limit {
		return
	}
	s.deaf = true
	s.dropPartial(&lp.box)
	switch {
	case s.unanswered > 0 && !s.lastSaid:
		s.lateTicks = limit // a receipt may be on its way to the disk, and its ACK is owed
	case s.lateTicks > limit+lp.server.ticks(lingerMax):
		if s.backlog != nil {
			lp.unread(s, limitUnreadTime)
		} else {
			lp.drop(s)
		}
	case s.backlog == nil && !s.half() && !s.lastSaid:
		s.lastSaid = true
		lp.settle(s)
	}
}

// credit is how long a peer may take for so many bytes of winners.
func (lp *loop) credit(bytes int) int32 {
	return lp.server.ticks(time.Duration(bytes/winnersRateMin) * time.Second)
}

// checkProgress drops a session whose peer takes nothing of what it is told for
// too long: SERVER_READ_TIMEOUT, or lingerMax if nothing more will be said. In
// the latter case, the peer's closing its side would be progress, too.
func (lp *loop) checkProgress(s *session) {
	over := s.lastSaid || s.half() && s.unanswered <= 0
	if !over && s.backlog == nil {
		return
	}
	left := 0
	if s.backlog != nil {
		left = s.backlog.bytes
	}
	if s.half() || s.told {
		unacknowledged, err := s.conn.unacknowledged()
		if err != nil {
			lp.drop(s)
			return
		}
		left += unacknowledged
	}
	if left < s.stalledBytes {
		s.stalledTicks = 0
	}
	s.stalledBytes = left
	s.stalledTicks++
	switch {
	case over && time.Duration(s.stalledTicks)*lp.server.tickPeriod > lingerMax:
		lp.drop(s)
	case !over && s.stalledTicks > lp.server.timeoutTicks:
		lp.unread(s, limitUnreadTime)
	}
}

// closeHalves closes what gnet doesn't know of. The loop has ended.
func (lp *loop) closeHalves() {
	for _, s := range lp.sessions {
		if s.half() {
			s.conn.close()
		}
	}
}

// sayFarewell ends all sessions, each after everything that was written to it.
func (lp *loop) sayFarewell(code codec.Code) {
	for i := len(lp.sessions) - 1; i >= 0; i-- {
		if i >= len(lp.sessions) {
			continue
		}
		s := lp.sessions[i]
		s.deaf = true
		s.dropPartial(&lp.box)
		if !s.lastSaid {
			s.lastSaid = true
			if code != codec.CodeNone {
				lp.write(s, codec.AppendError(nil, code, ""))
			} else if !s.spoke && !s.closed {
				lp.drop(s) // it has said nothing, so there is nothing to lose
			}
		}
		if !s.closed {
			lp.settle(s)
		}
	}
}

func (lp *loop) add(s *session) {
	s.at = int32(len(lp.sessions))
	lp.sessions = append(lp.sessions, s)
}

// bury forgets a session whose connection is gone.
func (lp *loop) bury(s *session) {
	if s.closed {
		return
	}
	s.closed, s.deaf = true, true
	s.backlog = nil
	s.dropPartial(&lp.box)
	last := len(lp.sessions) - 1
	lp.sessions[s.at] = lp.sessions[last]
	lp.sessions[s.at].at = s.at
	lp.sessions[last] = nil
	lp.sessions = lp.sessions[:last]
	lp.box.stage.add(request{session: s, kind: requestLeave}, nil, nil)
	lp.server.connClosed(s)
}

// drop closes a session without any more waiting.
func (lp *loop) drop(s *session) {
	half := s.half()
	s.conn.close()
	if half {
		lp.bury(s) // gnet knows nothing of it, and calls no OnClose
	}
}

// logReply writes the line of one answer: of a batch always, since it is
// stored or not whoever is told, and of a wrong proof; of others only if the peer
// is told. It runs for every batch, and at the draw for every agency, so fields
// are built in place and only if somebody reads them.
func (lp *loop) logReply(r *reply) {
	noise, at := lp.server.noise, lp.clock.at
	agencia := zap.Uint32("agencia", uint32(r.agency))
	switch {
	case r.code == codec.CodeAuthenticationFailed:
		noise.writeAt(at, noisyProof, r.session.source, agencia, zap.String("error", r.explanation()))
	case r.kind == lottery.Receipt: // Server.served has the line
	case !r.told && (r.kind == lottery.Welcome || r.kind == lottery.Winners || r.count == 0):
	case r.kind == lottery.Ack:
		if entry := lp.log.Check(zapcore.InfoLevel, "apuesta_recibida"); entry != nil {
			lp.fields = append(lp.fields[:0], zap.String("result", "success"), zap.Int("cantidad", r.count), agencia)
			entry.Write(lp.fields...)
		}
	case r.kind == challenge:
		noise.writeAt(at, noisyChallenge, r.session.source, agencia)
	case r.kind == authenticated && lp.server.introduced.first(r.agency):
		if entry := lp.log.Check(zapcore.InfoLevel, "autenticacion"); entry != nil {
			entry.Write(zap.String("result", "success"), agencia)
		}
	case r.kind == authenticated:
		noise.writeAt(at, noisyAuthenticated, r.session.source, agencia)
	case r.kind == lottery.Welcome && lp.server.greeted.first(r.agency):
		if entry := lp.log.Check(zapcore.InfoLevel, "hello"); entry != nil {
			entry.Write(zap.String("result", "success"), agencia, zap.Int64("apuestas", r.stored))
		}
	case r.kind == lottery.Welcome:
		noise.writeAt(at, noisyHello, r.session.source, agencia, zap.Int64("apuestas", r.stored))
	case r.kind == lottery.Winners && lp.server.awarded.first(r.agency):
		if entry := lp.log.Check(zapcore.InfoLevel, "ganadores_enviados"); entry != nil {
			lp.fields = append(lp.fields[:0], zap.String("result", "success"), agencia, zap.Int("cant_ganadores", r.count))
			entry.Write(lp.fields...)
		}
	case r.kind == lottery.Winners:
		noise.writeAt(at, noisyWinners, r.session.source, agencia, zap.Int("cant_ganadores", r.count))
	case r.kind == lottery.Reject && r.count > 0:
		noise.writeAt(at, noisyBatch, r.session.source, zap.Int("cantidad", r.count), agencia, zap.String("error", r.explanation()))
	case r.kind == lottery.Reject && r.code == codec.CodeEmptyBatch && r.agency == 0:
		noise.writeAt(at, noisyHealthRequest, r.session.source, zap.String("error", r.explanation()))
	case r.kind == lottery.Reject && r.code == codec.CodeLotteryHasntEnded:
		noise.writeAt(at, noisyWait, r.session.source, agencia, zap.String("motivo", r.explanation()))
	case r.kind == lottery.Reject:
		noise.writeAt(at, noisyRequest, r.session.source, agencia, zap.String("error", r.explanation()))
	}
}
