package engine

import (
	"context"
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
	// outboundBytesMax is how much a peer may leave unread before it is owed
	// more. One answer may be larger: an agency's winners are one frame.
	outboundBytesMax = 1 << 20
	// payloadCopyMax is the largest winners payload that is copied into the
	// loop's scratch, to leave with other answers in one write.
	payloadCopyMax = 16 << 10
)

// loop is one event loop: its sessions, its way to the committer and its
// mailbox. Everything but the mailbox belongs to the event loop's goroutine.
type loop struct {
	server   *Server
	box      inbox
	sessions []*session
	out      []byte      // scratch: answers on their way to one connection
	fields   []zap.Field // scratch: of one log line
	mail     mailbox
}

// mailbox is how others tell a loop to do something. Its order is kept, which
// gnet's own task queues do not promise, and one task in gnet's queue is enough
// however much is in the box. Its size is bounded by what sessions are owed.
type mailbox struct {
	mu        sync.Mutex
	el        gnet.EventLoop // nil before the loop's first connection
	scheduled bool
	replies   []reply
	spare     []reply // for the next replies
	tick      bool
	farewell  *farewell
	ran       []func() // called when everything before them is done
}

// farewell ends all sessions of a loop. A code other than CodeNone is told
// to every one of them first.
type farewell struct{ code codec.Code }

// post changes the mailbox and makes sure that the loop looks into it. It
// never waits for the loop. Without a connection there is nobody to tell.
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

func (lp *loop) deliver(replies []reply) {
	lp.post(func(m *mailbox) { m.replies = append(m.replies, replies...) })
}

// attach tells the mailbox its event loop, known from its first connection.
func (lp *loop) attach(el gnet.EventLoop) {
	lp.mail.mu.Lock()
	lp.mail.el = el
	lp.mail.mu.Unlock()
}

// Run empties the mailbox. gnet calls it on the event loop.
func (lp *loop) Run(context.Context) error {
	m := &lp.mail
	m.mu.Lock()
	m.scheduled = false
	replies, tick, bye, ran := m.replies, m.tick, m.farewell, m.ran
	m.replies, m.tick, m.farewell, m.ran = m.spare[:0], false, nil, nil
	m.spare = nil
	m.mu.Unlock()

	for rest := replies; len(rest) > 0; {
		rest = lp.answer(rest)
	}
	if tick {
		lp.tick()
	}
	if bye != nil {
		lp.sayFarewell(bye.code)
	}
	for _, f := range ran {
		f()
	}

	clear(replies) // let sessions and payloads go
	m.mu.Lock()
	m.spare = replies[:0]
	m.mu.Unlock()
	return nil
}

// answer writes the answers of the session that replies begins with, as far as
// they stand together, in one write, and returns the other replies.
func (lp *loop) answer(replies []reply) []reply {
	s := replies[0].session
	out := lp.out[:0]
	winners := false
	n := 0
	for ; n < len(replies) && replies[n].session == s; n++ {
		r := &replies[n]
		told := !s.closed && !s.lastSaid
		lp.logReply(r, told)
		if !told {
			continue
		}
		s.agency = r.agency
		if len(out) > payloadCopyMax {
			lp.write(s, out)
			out = out[:0]
		}
		s.unanswered--
		switch r.kind {
		case lottery.Ack:
			out = codec.AppendAck(out)
		case lottery.Welcome:
			w := lp.server.welcome
			w.Stored = r.stored
			out = codec.AppendWelcome(out, w)
		case lottery.Winners:
			winners = true
			out = codec.AppendFrameHeader(out, len(r.payload))
			if len(r.payload) <= payloadCopyMax {
				out = append(out, r.payload...)
				break
			}
			lp.write(s, out)
			lp.write(s, r.payload)
			out = out[:0]
		case lottery.Reject:
			out = codec.AppendError(out, r.code, r.detail)
			if r.code.Closes() {
				s.lastSaid, s.deaf = true, true
				s.dropPartial(&lp.box)
			}
		}
	}
	lp.out = out[:0]
	lp.write(s, out)
	if s.closed {
		return replies[n:]
	}
	if winners {
		s.owesOut = true
	}
	lp.settle(s)
	return replies[n:]
}

// write sends p unless the session is closed. A write that fails closes it,
// inside this call; so does a peer who reads nothing of what it asked for.
func (lp *loop) write(s *session, p []byte) {
	if len(p) == 0 || s.closed {
		return
	}
	if unread := s.conn.OutboundBuffered(); unread > outboundBytesMax {
		lp.server.log.Warn("conexion", zap.String("result", "fail"), zap.Uint32("agencia", uint32(s.agency)),
			zap.String("error", "closed: the peer does not read its answers"), zap.Int("bytes", unread))
		lp.drop(s)
		return
	}
	if _, err := s.conn.Write(p); err != nil && !s.closed {
		// gnet's connections have called OnClose by now. A half-closed one is ours.
		lp.bury(s)
	}
}

// settle does what had to wait until the socket has taken everything: the
// winners count as served, and a session that was told its last answer is shut.
func (lp *loop) settle(s *session) {
	half, isHalf := s.conn.(*halfConn)
	buffered := s.conn.OutboundBuffered()
	if isHalf && half.gone() {
		lp.bury(s)
		return
	}
	if buffered > 0 {
		return
	}
	if s.owesOut {
		s.owesOut = false
		lp.box.stage.add(request{session: s, kind: requestServed}, nil, nil)
	}
	if isHalf {
		if s.unanswered <= 0 || s.lastSaid {
			half.close()
			lp.bury(s)
		}
		return
	}
	if s.lastSaid && !s.shut {
		s.shut = true
		shutWrite(s.conn)
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
		if s.owesOut || s.lastSaid || s.half() {
			lp.settle(s)
		}
		if s.closed {
			continue
		}
		if s.lastSaid || s.half() && s.unanswered <= 0 {
			lp.linger(s)
		}
	}
}

// linger drops a session that was told everything, once its peer has neither
// closed nor taken anything for lingerMax.
func (lp *loop) linger(s *session) {
	left := s.conn.OutboundBuffered()
	if left < s.lingerBytes {
		s.lingerTicks = 0
	}
	s.lingerBytes = left
	if s.lingerTicks++; time.Duration(s.lingerTicks)*lp.server.tickPeriod > lingerMax {
		lp.drop(s)
	}
}

// closeHalves closes what gnet doesn't know of. The loop has ended.
func (lp *loop) closeHalves() {
	for _, s := range lp.sessions {
		if half, ok := s.conn.(*halfConn); ok {
			half.close()
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
	s.at = len(lp.sessions)
	lp.sessions = append(lp.sessions, s)
}

// bury forgets a session whose connection is gone.
func (lp *loop) bury(s *session) {
	if s.closed {
		return
	}
	s.closed, s.deaf = true, true
	s.dropPartial(&lp.box)
	last := len(lp.sessions) - 1
	lp.sessions[s.at] = lp.sessions[last]
	lp.sessions[s.at].at = s.at
	lp.sessions[last] = nil
	lp.sessions = lp.sessions[:last]
	lp.box.stage.add(request{session: s, kind: requestLeave}, nil, nil)
	lp.server.connClosed()
}

// drop closes a session without any more waiting.
func (lp *loop) drop(s *session) {
	if half, ok := s.conn.(*halfConn); ok {
		half.close()
		lp.bury(s)
		return
	}
	if err := lp.mail.el.Close(s.conn.(gnet.Conn)); err != nil {
		lp.server.log.Debug("connection", zap.String("result", "fail"), zap.Error(err))
	}
}

// logReply writes the line of one answer: of a batch always, since it is
// stored or not whoever is told; of others only if the peer is told. It runs for
// every batch, so fields are built in place and only if somebody reads them.
func (lp *loop) logReply(r *reply, told bool) {
	log := lp.server.log
	switch {
	case !told && (r.kind == lottery.Welcome || r.kind == lottery.Winners || r.count == 0):
	case r.kind == lottery.Ack:
		if entry := log.Check(zapcore.InfoLevel, "apuesta_recibida"); entry != nil {
			lp.fields = append(lp.fields[:0], zap.String("result", "success"), zap.Int("cantidad", r.count), zap.Uint32("agencia", uint32(r.agency)))
			entry.Write(lp.fields...)
		}
	case r.kind == lottery.Welcome:
		log.Info("hello", zap.String("result", "success"), zap.Uint32("agencia", uint32(r.agency)), zap.Int64("apuestas", r.stored))
	case r.kind == lottery.Winners:
		log.Info("ganadores_enviados", zap.String("result", "success"), zap.Uint32("agencia", uint32(r.agency)), zap.Int("cant_ganadores", r.count))
	case r.kind == lottery.Reject && r.count > 0:
		log.Info("apuesta_recibida", zap.String("result", "fail"), zap.Int("cantidad", r.count), zap.Uint32("agencia", uint32(r.agency)), zap.String("error", r.explanation()))
	case r.kind == lottery.Reject && r.code == codec.CodeEmptyBatch && r.agency == 0:
		log.Debug("solicitud", zap.String("result", "fail"), zap.String("error", r.explanation())) // a health check
	case r.kind == lottery.Reject:
		log.Info("solicitud", zap.String("result", "fail"), zap.Uint32("agencia", uint32(r.agency)), zap.String("error", r.explanation()))
	}
}
