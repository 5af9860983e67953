package front

import (
	"fmt"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/lottery"
)

// answer takes the first reply and all adjacent ones for the same session, sends them in one write
// unless they are large, and returns the rest.
func (lp *Loop) answer(replies []commit.Reply) []commit.Reply {
	s := sessionOf(&replies[0])
	out := lp.out[:0]
	winners, receipt := false, false
	n := 0
	for ; n < len(replies) && sessionOf(&replies[n]) == s; n++ {
		r := &replies[n]
		told := s.phase.answers()
		lp.told = append(lp.told, told)
		if !told {
			continue
		}
		if r.Agency != 0 { // a frame may name agency 0; the session is still its agency's
			s.agency = r.Agency
		}
		winners = winners || r.Kind == lottery.Winners
		receipt = receipt || r.Kind == lottery.Receipt
		for range max(r.Times, 1) {
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
	if s.phase == gone {
		return replies[n:]
	}
	if s.delivery == undelivered && (winners || receipt) {
		left, err := s.untaken()
		if err != nil {
			lp.drop(s)
			return replies[n:]
		}
		s.delivery, s.lateTicks = delivered, -lp.credit(left)
	}
	if winners {
		s.delivery = untaken
	}
	lp.settle(s)
	return replies[n:]
}

// say appends one answer to out and returns it. If the answer is too large to be copied, say writes
// out and then the answer, and returns out emptied.
func (lp *Loop) say(s *Session, r *commit.Reply, out []byte) []byte {
	switch r.Kind {
	case lottery.Ack, lottery.Receipt:
		return codec.AppendAck(out)
	case lottery.Welcome:
		return codec.AppendWelcome(out, codec.Welcome{
			Window: lp.front.cfg.Window, FrameBytesMax: lp.front.cfg.FrameBytesMax,
			Stored: r.Stored, Checksum: r.Checksum,
		})
	case lottery.Winners:
		out = codec.AppendFrameHeader(out, len(r.Payload))
		if len(r.Payload) <= payloadCopyMax {
			return append(out, r.Payload...)
		}
		lp.write(s, out)
		lp.writeShared(s, r.Payload)
		return out[:0]
	case commit.Challenge:
		return codec.AppendChallenge(out, codec.Nonce([]byte(r.Detail)))
	case commit.Authenticated:
		return codec.AppendAuthenticated(out)
	case lottery.Reject:
		if r.Code.Closes() {
			s.become(lastSaid, &lp.rd)
		}
		return codec.AppendError(out, r.Code, r.Detail)
	default:
		panic(fmt.Sprintf("front: reply of kind %d", r.Kind))
	}
}

// write sends p unless the session is gone. It copies what the socket doesn't take. If sending
// fails, or the peer has left too many answers unread, the session is closed inside this call.
func (lp *Loop) write(s *Session, p []byte) { lp.writeOr(s, p, false) }

// writeShared is write for bytes that never change, so it doesn't copy them.
func (lp *Loop) writeShared(s *Session, p []byte) { lp.writeOr(s, p, true) }

func (lp *Loop) writeOr(s *Session, p []byte, shared bool) {
	if len(p) == 0 || s.phase == gone {
		return
	}
	if s.backlog != nil {
		if s.backlog.bytes > lp.front.cfg.UnreadBytesMax {
			lp.unread(s, LimitUnreadBytes)
			return
		}
		s.backlog.add(p, shared)
		return
	}
	n, err := s.conn.Send(p)
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

// unread closes the session of a peer that does not read its answers.
func (lp *Loop) unread(s *Session, broken Limit) {
	times := lp.front.counters.count(broken)
	lp.front.noise.write(noisyDropped, s.source, zap.Uint32("agencia", uint32(s.agency)),
		zap.String("error", "closed: the peer does not read its answers"), zap.String("limite", limitKeys[broken]),
		zap.Int("bytes", s.backlog.bytes), zap.Int64("veces", times))
	lp.drop(s)
}

// move makes flush offer the session's backlog to its socket soon.
func (lp *Loop) move(s *Session) {
	if len(lp.moving) == 0 {
		lp.front.cfg.Later(flushDelay, func() { lp.post(func(m *mailbox) { m.flush = true }) })
	}
	lp.moving = append(lp.moving, s)
}

// flush offers the rest of their backlogs to the sessions in moving.
func (lp *Loop) flush() {
	moving := lp.moving
	lp.moving = nil
	for _, s := range moving {
		if s.backlog != nil {
			lp.flushSession(s)
			lp.settle(s)
		}
	}
}

// flushSession gives the socket as much of the backlog as it takes.
func (lp *Loop) flushSession(s *Session) {
	before := s.unsent()
	err := s.backlog.flush(s.conn)
	switch {
	case err != nil:
		lp.drop(s)
	case s.backlog.bytes == 0:
		s.backlog = nil
	case s.unsent() < before:
		lp.move(s)
	}
}

// logReply writes the log line of one answer. The lines of batches and of wrong proofs are written
// even if the peer could not be told; others only if it was told. logReply runs for every batch,
// and at the draw for every agency, so it allocates nothing.
func (lp *Loop) logReply(r *commit.Reply, told bool) {
	noise, at, from := lp.front.noise, lp.clock.at, sessionOf(r).source
	agencia := zap.Uint32("agencia", uint32(r.Agency))
	switch {
	case r.Code == codec.CodeAuthenticationFailed:
		noise.writeAt(at, noisyProof, from, agencia, zap.String("error", r.Explanation()))
	case r.Kind == lottery.Receipt: // the server's goroutine writes its line
	case !told && (r.Kind == lottery.Welcome || r.Kind == lottery.Winners || r.Count == 0):
	case r.Kind == lottery.Ack:
		lp.logNow(zap.InfoLevel, "apuesta_recibida", zap.Int("cantidad", r.Count), agencia)
	case r.Kind == commit.Challenge:
		noise.writeAt(at, noisyChallenge, from, agencia)
	case r.Kind == commit.Authenticated:
		lp.logFirst(lp.front.introduced, noisyAuthenticated, r, agencia)
	case r.Kind == lottery.Welcome:
		lp.logFirst(lp.front.greeted, noisyHello, r, agencia, zap.Int64("apuestas", r.Stored))
	case r.Kind == lottery.Winners:
		lp.logFirst(lp.front.awarded, noisyWinners, r, agencia, zap.Int("cant_ganadores", r.Count))
	case r.Kind == lottery.Reject && r.Count > 0:
		noise.writeAt(at, noisyBatch, from, zap.Int("cantidad", r.Count), agencia,
			zap.String("error", r.Explanation()))
	case r.Kind == lottery.Reject && r.Code == codec.CodeEmptyBatch && r.Agency == 0:
		noise.writeAt(at, noisyHealthRequest, from, zap.String("error", r.Explanation()))
	case r.Kind == lottery.Reject && r.Code == codec.CodeLotteryHasntEnded:
		noise.writeAt(at, noisyWait, from, agencia, zap.String("motivo", r.Explanation()))
	case r.Kind == lottery.Reject:
		noise.writeAt(at, noisyRequest, from, agencia, zap.String("error", r.Explanation()))
	}
}

// logFirst logs an event that is no noise the first time that it happens to an agency.
func (lp *Loop) logFirst(firsts firsts, e noisyEvent, r *commit.Reply, fields ...zap.Field) {
	if firsts.first(r.Agency) {
		lp.logNow(e.level, e.action, fields...)
	} else {
		lp.front.noise.writeAt(lp.clock.at, e, sessionOf(r).source, fields...)
	}
}

// introduce logs that a peer has proved who it is before it said anything, by its certificate.
func (lp *Loop) introduce(s *Session) {
	agencia := zap.Uint32("agencia", uint32(s.proved))
	if int(s.proved) < len(lp.front.introduced) && lp.front.introduced.first(s.proved) {
		lp.clock.at = lp.front.cfg.Now()
		lp.logNow(noisyAuthenticated.level, noisyAuthenticated.action, agencia)
	} else {
		lp.front.noise.write(noisyAuthenticated, s.source, agencia)
	}
}

// logNow writes a line of a success.
func (lp *Loop) logNow(level zapcore.Level, action string, fields ...zap.Field) {
	if entry := lp.log.Check(level, action); entry != nil {
		lp.fields = append(append(lp.fields[:0], zap.String("result", "success")), fields...)
		entry.Write(lp.fields...)
	}
}
