package front

import (
	"time"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/lottery"
)

const (
	// flushDelay is how soon a peer that has just taken some of its backlog is offered more. Others
	// are offered more at the next tick.
	flushDelay = 5 * time.Millisecond
	// payloadCopyMax is the largest winners payload that is copied into the loop's scratch, to
	// leave with other answers in one write.
	payloadCopyMax = 16 << 10
)

// Loop is one event loop: its sessions, its way to the committer and its mailbox. Everything except
// mail and load belongs to the event loop's goroutine.
type Loop struct {
	front    *Front
	log      *zap.Logger // the server's, but lines take their time from clock
	clock    eventClock
	rd       reader
	sessions []*Session
	out      []byte      // scratch: answers on their way to one connection
	plain    []byte      // scratch: what has come over TLS; nil until it is needed
	told     []bool      // scratch: by reply, whether the peer could still be told
	fields   []zap.Field // scratch: of one log line
	// moving are the sessions whose sockets have just taken some of their answers, but not all. If
	// there are any, a flush is on its way.
	moving []*Session
	load   int // connections, including those on their way here; guarded by front.mu
	mail   mailbox
}

func newLoop(f *Front, stage stage, limit *partialLimit) *Loop {
	lp := &Loop{front: f}
	lp.log = f.log.WithOptions(zap.WithClock(&lp.clock))
	lp.rd = reader{
		cfg:      &f.cfg,
		stage:    stage,
		counters: &f.counters,
		rules:    codec.Rules{Today: f.today(), WinningNumber: f.cfg.WinningNumber},
		partials: partials{limit: limit},
	}
	return lp
}

// eventClock gives log lines the time of the event they tell of. It is set once for all answers
// that come together: one reading of the system's clock for each batch was 0.6 % of the path from
// socket to ledger.
type eventClock struct{ at time.Time }

// Now implements zapcore.Clock.
func (c *eventClock) Now() time.Time { return c.at }

// NewTicker implements zapcore.Clock.
func (c *eventClock) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }

// settle moves the session on if the socket has taken everything. If the peer has shut its side,
// its system must have acknowledged everything, too. Then it has taken its winners.
func (lp *Loop) settle(s *Session) {
	if s.phase == gone || s.backlog != nil {
		return
	}
	if s.phase.oneSided() {
		unacknowledged, err := s.conn.Unacknowledged()
		if err != nil {
			lp.drop(s)
			return
		}
		if unacknowledged > 0 {
			return
		}
		if s.delivery == untaken {
			s.taken(&lp.rd)
		}
		if s.isCut() {
			lp.drop(s)
			return
		}
		if s.phase == half && s.unanswered <= 0 {
			s.become(lastSaid, &lp.rd)
		}
	}
	if (s.phase == parting || s.phase == leaving) && !s.sealEnd() {
		return
	}
	if s.phase.after(allSent) == gone {
		lp.drop(s)
		return
	}
	s.become(allSent, &lp.rd)
}

// Sessions is how many connections the loop has. Only the event loop may call it.
func (lp *Loop) Sessions() int { return len(lp.sessions) }

// all yields the sessions, which may go meanwhile. It begins at the end, because the last session
// takes the place of one that goes.
func (lp *Loop) all(yield func(*Session) bool) {
	for i := len(lp.sessions) - 1; i >= 0; i-- {
		if i < len(lp.sessions) && !yield(lp.sessions[i]) {
			return
		}
	}
}

func (lp *Loop) tick() {
	lp.rd.rules.Today = lp.front.today()
	for s := range lp.all {
		s.tick(lp.front.timeoutTicks, &lp.rd)
		if s.backlog != nil {
			lp.flushSession(s)
		}
		lp.hangUp(s)
		if s.phase != talking && s.phase != ending {
			lp.settle(s)
		}
		lp.checkProgress(s)
	}
}

// closeHalves closes the half-closed connections, which gnet no longer knows. Call it after the
// event loop has ended.
func (lp *Loop) closeHalves() {
	for _, s := range lp.sessions {
		if s.phase.oneSided() {
			s.conn.Drop()
		}
	}
}

// sayFarewell ends all sessions, each after everything that was written to it.
func (lp *Loop) sayFarewell(code codec.Code) {
	for s := range lp.all {
		if s.phase.answers() {
			s.become(lastSaid, &lp.rd)
			if code != codec.CodeNone {
				lp.write(s, codec.AppendError(nil, code, ""))
			} else if s.said < saidFrame {
				s.sealEnd()
				lp.drop(s) // it has said nothing, so there is nothing to lose
			}
		}
		lp.settle(s)
	}
}

func (lp *Loop) add(s *Session) {
	s.at = int32(len(lp.sessions))
	lp.sessions = append(lp.sessions, s)
}

// bury forgets a session whose connection is gone.
func (lp *Loop) bury(s *Session) {
	if s.phase == gone {
		return
	}
	s.become(closed, &lp.rd)
	s.backlog = nil
	last := len(lp.sessions) - 1
	lp.sessions[s.at] = lp.sessions[last]
	lp.sessions[s.at].at = s.at
	lp.sessions[last] = nil
	lp.sessions = lp.sessions[:last]
	lp.rd.stage.Add(commit.Request{Peer: &s.Peer, Kind: lottery.Leave}, nil, nil)
	lp.front.Abandon(s)
}

// drop closes a session at once.
func (lp *Loop) drop(s *Session) {
	oneSided := s.phase.oneSided()
	s.conn.Drop()
	if oneSided {
		lp.bury(s) // gnet knows nothing of it, and calls no OnClose
	}
}
