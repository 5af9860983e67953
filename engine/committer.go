package engine

import (
	"fmt"
	"slices"
	"time"

	"loteria/codec"
	"loteria/engine/history"
	"loteria/engine/lottery"
)

// Log is the durable log that the committer needs: a ledger in one file
// system today, an ordered, replicated stream one day. One goroutine calls it.
type Log interface {
	// Commit appends the packed records in runs, in order, and returns when
	// they are durable. The runs are the caller's again afterwards. Any error
	// is final.
	Commit(runs [][]byte) error
	// Seal has a log that lacks any of what was committed so far be refused from now on. Any error is
	// final.
	Seal() error
}

// committer decides requests in one order, makes them durable as a group, and
// only then lets their answers go. It is the lottery's one owner. It has no
// goroutine of its own: group is called by the server's.
type committer struct {
	log     Log
	lottery *lottery.Lottery
	exit    exitRule

	runs    [][]byte // the group's records, adjacent ones merged
	own     []byte   // packed records that no loop packed
	effects []lottery.Effect
	replies []reply        // of the group, in order
	reports []codec.Agency // of the group: who has reported
	served  []codec.Agency // of the group: who has their winners
	drawn   bool           // the group holds the draw
	total   totals

	// Called when what they tell of is durable, before any answer leaves.
	onReport func(codec.Agency)
	onDraw   func(bets int64, won int)
}

// totals are what was committed since the start.
type totals struct {
	groups        int64
	bytes         int64 // of records
	groupBytesMax int64
}

func (t *totals) add(runs [][]byte) {
	var size int64
	for _, run := range runs {
		size += int64(len(run))
	}
	t.groups++
	t.bytes += size
	t.groupBytesMax = max(t.groupBytesMax, size)
}

// group commits what the loops have handed over, as one group. On return every
// answer of the group is in c.replies; with an error none of them may leave.
func (c *committer) group(batches []*batch, now time.Time) error {
	c.runs, c.own, c.effects, c.replies, c.drawn = c.runs[:0], c.own[:0], c.effects[:0], reusable(c.replies), false
	c.reports, c.served = c.reports[:0], c.served[:0]
	if cap(c.effects) > repliesKeptMax {
		c.effects = nil
	}
	for _, b := range batches {
		for i := range b.requests {
			c.decide(b, &b.requests[i], now)
		}
	}
	if len(c.served) > 0 {
		// In one record, and behind the group's others: nothing else changes after the draw.
		start := len(c.own)
		c.own = history.AppendServed(c.own, c.served)
		c.append(c.own[start:])
	}
	if len(c.runs) > 0 {
		if err := c.log.Commit(c.runs); err != nil {
			return storageError(err)
		}
		c.total.add(c.runs)
	}
	for _, id := range c.reports {
		c.onReport(id)
	}
	if c.drawn {
		if err := c.log.Seal(); err != nil {
			return storageError(err)
		}
		c.onDraw(c.lottery.Bets(), c.lottery.Won())
	}
	return nil
}

func (c *committer) decide(b *batch, r *request, now time.Time) {
	s := r.session
	request := lottery.Request{Session: &s.lottery, Agency: r.agency}
	switch r.kind {
	case requestBets:
		request.Kind, request.Count, request.Winners = lottery.Bets, r.count, r.winners.of(b.winners)
		request.Lines = r.lines()
	case requestGetWinners:
		request.Kind = lottery.GetWinners
	case requestHello:
		request.Kind = lottery.Hello
	case requestReceived:
		request.Kind = lottery.Received
	case requestTaken:
		request.Kind, request.Agency = lottery.Taken, s.lottery.Agency()
	case requestRefuse:
		c.reply(r, lottery.Reject)
		return
	case requestChallenge:
		c.reply(r, challenge)
		return
	case requestAuthenticated:
		c.reply(r, authenticated)
		return
	case requestHalfClose:
		// An agency can wait with half a connection, but it can't confirm with one.
		if s.lottery.Confirms() {
			c.uncount(s, now)
		}
		return
	case requestLeave:
		c.uncount(s, now)
		request.Kind = lottery.Leave
	default:
		panic(fmt.Sprintf("engine: request of kind %d", r.kind))
	}
	var entry lottery.Entry
	entry, c.effects = c.lottery.Apply(request, c.effects[:0])
	switch entry {
	case lottery.BetsEntry:
		c.append(r.records.of(b.records))
	case lottery.ReportedEntry:
		start := len(c.own)
		c.own = history.AppendReported(c.own, r.agency, s.lottery.Confirms())
		c.append(c.own[start:])
		c.reports = append(c.reports, r.agency)
	case lottery.ServedEntry:
		c.served = append(c.served, request.Agency)
	}
	confirmed := request.Kind == lottery.Received || request.Kind == lottery.Taken
	if confirmed && s.lottery.Agency() == request.Agency && !s.lottery.Gone() && c.lottery.Served(request.Agency) {
		c.exit.content(request.Agency)
	}
	for i := range c.effects {
		if e := &c.effects[i]; e.Kind == lottery.Reject && e.Session == request.Session {
			e.Count = r.count
		}
	}
	c.take(c.effects)
	named := r.kind != requestLeave && r.kind != requestTaken && s.lottery.Agency() != 0 && !s.lottery.Gone()
	if named && !s.counted && !c.exit.done(s.lottery.Agency()) {
		s.counted = true
		c.exit.opened()
	}
}

// reply passes on what the session itself has decided, in its place.
func (c *committer) reply(r *request, kind lottery.EffectKind) {
	s := r.session
	if s.lottery.Gone() {
		return
	}
	agency := r.agency
	if agency == 0 {
		agency = s.lottery.Agency()
	}
	c.replies = append(c.replies, reply{session: s, kind: kind, code: r.code, count: r.count, agency: agency, detail: r.detail})
}

func (c *committer) uncount(s *session, now time.Time) {
	if s.counted {
		s.counted = false
		c.exit.closed(now)
	}
}

// append adds packed records to the group. Records that lie behind one another
// in memory, as those of a batch do, become one write.
func (c *committer) append(records []byte) {
	if n := len(c.runs); n > 0 {
		last := c.runs[n-1]
		if end := len(last) + len(records); cap(last) >= end && &last[:end][len(last)] == &records[0] {
			c.runs[n-1] = last[:end]
			return
		}
	}
	c.runs = append(c.runs, records)
}

func (c *committer) take(effects []lottery.Effect) {
	c.replies = slices.Grow(c.replies, len(effects))
	for i := range effects {
		e := &effects[i]
		if e.Kind == lottery.Draw {
			c.drawn = true
			continue
		}
		c.replies = append(c.replies, reply{
			session:  e.Session.Peer.(*session),
			kind:     e.Kind,
			code:     e.Code,
			count:    e.Count,
			agency:   e.Agency,
			times:    e.Times,
			stored:   e.Stored,
			checksum: e.Checksum,
			payload:  e.Payload,
		})
	}
}
