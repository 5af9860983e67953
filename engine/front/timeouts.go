package front

import (
	"time"

	"loteria/codec"
)

const (
	// lingerMax is how long a peer may take to close its side, from the last answer or from when it
	// last took some of that. Closing at once could destroy the answer: bytes that still come in
	// make the kernel reset the connection.
	lingerMax = 2 * time.Second
	// askMax is how long an agency that is connected at the draw may take to ask for its winners.
	askMax = time.Minute
	// winnersRateMin is how many bytes of its winners an agency has to take in a second, on
	// average.
	winnersRateMin = 8 << 10
)

// tick is called periodically. It refuses a peer that keeps the server waiting for more than
// timeoutTicks ticks. A stranger does so until it has authenticated, whatever else it says.
func (s *Session) tick(timeoutTicks int32, rd *reader) {
	if !s.phase.hears() || s.said >= saidFrame && s.partial == nil && !s.stranger(rd) {
		return
	}
	if s.quietTicks++; s.quietTicks > timeoutTicks {
		s.outstay(LimitReadTime, rd)
	}
}

// outstay refuses a peer with ERROR_TIMEOUT, and counts the limit that it has broken.
func (s *Session) outstay(broken Limit, rd *reader) {
	rd.counters.count(broken)
	s.unanswered++
	s.refuse(codec.CodeTimeout, rd)
}

// hangUp ends the session of an agency that stays connected after the draw, whatever it still asks:
// otherwise it could keep the server from ending. The agency may stay for SERVER_EXIT_GRACE after
// it has taken its winners, and for lingerMax at least, so that it can confirm them. If it has not
// been told its winners, it may be polling slowly, and may stay for askMax at least. See
// Session.lateTicks.
func (lp *Loop) hangUp(s *Session) {
	if !lp.front.drawn.Load() || s.agency == 0 || s.phase == gone {
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
	limit := lp.front.graceTicks
	linger := lp.front.ticks(lingerMax)
	if s.delivery == undelivered {
		limit = max(limit, lp.front.askTicks)
	}
	if s.lateTicks++; s.lateTicks <= limit {
		return
	}
	if s.delivery == undelivered && s.unanswered > 0 && s.phase.hears() && s.lateTicks <= limit+linger {
		return // its winners may be on their way, and it may want to confirm them
	}
	s.become(silenced, &lp.rd)
	switch {
	case s.unanswered > 0 && s.phase.answers():
		s.lateTicks = limit // a receipt may be on its way to the disk: its ACK is owed
	case s.lateTicks > limit+linger:
		if s.backlog != nil {
			lp.unread(s, LimitUnreadTime)
		} else {
			lp.drop(s)
		}
	case s.backlog == nil && s.phase == ending:
		s.become(lastSaid, &lp.rd)
		lp.settle(s)
	}
}

// credit is how many ticks a peer may take for so many bytes of winners.
func (lp *Loop) credit(bytes int) int32 {
	return lp.front.ticks(time.Duration(bytes/winnersRateMin) * time.Second)
}

// checkProgress drops a session whose peer has taken nothing of its answers for
// SERVER_READ_TIMEOUT. Once nothing more will be said, it drops a session for which nothing has
// changed for lingerMax.
func (lp *Loop) checkProgress(s *Session) {
	over := !s.phase.answers() || s.phase == half && s.unanswered <= 0
	if s.phase == gone || !over && s.backlog == nil {
		return
	}
	left := s.unsent()
	if s.phase.oneSided() || s.delivery == untaken {
		unacknowledged, err := s.conn.Unacknowledged()
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
	case over && time.Duration(s.stalledTicks)*lp.front.tickPeriod > lingerMax:
		lp.drop(s)
	case !over && s.stalledTicks > lp.front.timeoutTicks:
		lp.unread(s, LimitUnreadTime)
	}
}
