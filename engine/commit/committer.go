package commit

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"loteria/codec"
	"loteria/engine/history"
	"loteria/engine/lottery"
)

// Settings configure a committer.
type Settings struct {
	Agencies int // how many agencies are expected
	Loops    int // how many stages to make
	// QueueBytesMax bounds the records of all stages, including those that are being committed.
	QueueBytesMax int
	// RequestsMax bounds the requests that wait in a stage; 0 stands for the constant RequestsMax.
	RequestsMax int
	Grace       time.Duration // of the exit rule
	Deadline    time.Time     // of the exit rule; zero is none
	// Clock gives groups their Since. Any loop's goroutine calls it, once a group. It may be nil.
	Clock func() time.Time
}

// Committer decides requests in one order, makes them durable as a group, and only then returns
// their replies. It is the only owner of the lottery and the log. It has no goroutine of its own:
// one goroutine calls all its methods, except Close and those that say otherwise.
type Committer struct {
	log     Log
	lottery *lottery.Lottery
	exit    *ExitRule

	stages []*Stage
	taken  []*intake // by stage: what is being committed
	wake   chan struct{}

	runs    [][]byte // the group's records, adjacent ones merged
	own     []byte   // the records that the committer packs: reports and served agencies
	effects []lottery.Effect
	group   Group
	total   Totals

	committing atomic.Int64   // bytes of records
	rejected   []atomic.Int64 // requests, by code
}

// Group is the result of one commit. The slices are the committer's, and valid until its next call
// of Commit or Dismiss.
type Group struct {
	Replies  []Reply        // in order
	Reported []codec.Agency // agencies whose reports became durable
	Served   []codec.Agency // agencies that have their winners, which became durable
	Drawn    bool           // the group holds the draw
	// Since is when the group's first request was handed over. It is zero without Settings.Clock, and
	// if there was no request.
	Since time.Time
}

// Totals count what was committed since the start.
type Totals struct {
	Groups        int64
	Bytes         int64 // of records
	GroupBytesMax int64
}

func (t *Totals) add(runs [][]byte) {
	var size int64
	for _, run := range runs {
		size += int64(len(run))
	}
	t.Groups++
	t.Bytes += size
	t.GroupBytesMax = max(t.GroupBytesMax, size)
}

// New makes the committer of a log. state is the lottery after the log's replay; it is the
// committer's from now on.
func New(log Log, state *lottery.Lottery, s Settings) *Committer {
	c := &Committer{
		log: log, lottery: state, exit: newExitRule(state, s.Agencies, s.Grace, s.Deadline),
		wake: make(chan struct{}, 1), rejected: make([]atomic.Int64, len(codec.Codes())+1),
	}
	bytesMax, requestsMax := s.QueueBytesMax/(intakes*s.Loops), cmp.Or(s.RequestsMax, RequestsMax)
	for range s.Loops {
		stage := newStage(c.wake, bytesMax, requestsMax)
		stage.clock = s.Clock
		c.stages = append(c.stages, stage)
		c.taken = append(c.taken, new(intake))
	}
	return c
}

// Stages are the queues from the loops, one for each. The slice is the committer's.
func (c *Committer) Stages() []*Stage { return c.stages }

// Wake receives when some loop has handed over requests that no Commit has taken.
func (c *Committer) Wake() <-chan struct{} { return c.wake }

// Lottery is the state after the committed requests. Call only its methods that read.
func (c *Committer) Lottery() *lottery.Lottery { return c.lottery }

// Exit is the rule that ends the server.
func (c *Committer) Exit() *ExitRule { return c.exit }

// Totals counts what was committed since the start.
func (c *Committer) Totals() Totals { return c.total }

// QueueBytes is how many bytes of records wait for the disk, including those that are being
// committed. Any goroutine may ask.
func (c *Committer) QueueBytes() int64 {
	bytes := c.committing.Load()
	for _, stage := range c.stages {
		bytes += stage.bytes()
	}
	return bytes
}

// Rejected is how many requests were rejected with that code since the start. Any goroutine may ask.
func (c *Committer) Rejected(code codec.Code) int64 { return c.rejected[code].Load() }

// Commit takes what the loops have handed over and makes it durable as one group. If the group
// holds the draw, Commit seals the log, too.
//
// An error is the log's. With an error the group has no replies and no draw, because nobody may be
// told of them. Reported is what had become durable before the error.
func (c *Committer) Commit(now time.Time) (Group, error) {
	g := &c.group
	*g = Group{Replies: Reusable(g.Replies), Reported: g.Reported[:0], Served: g.Served[:0]}
	var bytes int
	for i, stage := range c.stages {
		c.taken[i].reset()
		in := stage.take(c.taken[i])
		c.taken[i] = in
		bytes += len(in.records)
		if !in.since.IsZero() && (g.Since.IsZero() || in.since.Before(g.Since)) {
			g.Since = in.since
		}
	}
	c.committing.Store(int64(bytes))
	defer c.committing.Store(0)
	c.runs, c.own, c.effects = c.runs[:0], c.own[:0], c.effects[:0]
	if cap(c.effects) > RequestsMax {
		c.effects = nil
	}
	for _, in := range c.taken {
		for i := range in.requests {
			c.decide(in, &in.requests[i], now)
		}
	}
	if len(g.Served) > 0 {
		// One record for all, after the group's others: after the draw nothing else changes.
		start := len(c.own)
		c.own = history.AppendServed(c.own, g.Served)
		c.append(c.own[start:])
	}
	switch {
	case len(c.runs) > 0:
		if err := c.log.Commit(c.runs); err != nil {
			return Group{}, err
		}
		c.total.add(c.runs)
	case len(g.Replies) > 0:
		if err := c.log.Read(); err != nil {
			return Group{}, err
		}
	}
	if g.Drawn {
		if err := c.log.Seal(); err != nil {
			return Group{Reported: g.Reported}, err
		}
	}
	return *g, nil
}

// Dismiss returns the replies to all connections that wait for the draw: the server stops before
// it. They are valid until the next call of Commit or Dismiss.
func (c *Committer) Dismiss() []Reply {
	c.group.Replies = c.group.Replies[:0]
	c.take(c.lottery.Dismiss(nil))
	return c.group.Replies
}

// Close closes all stages: nothing more can be handed over. Any goroutine may call it.
func (c *Committer) Close() {
	for _, stage := range c.stages {
		stage.Close()
	}
}

// Reusable returns replies emptied, or nil if it is too large to be worth keeping: only a draw that
// very many connections wait for makes it so.
func Reusable(replies []Reply) []Reply {
	if cap(replies) > RequestsMax {
		return nil
	}
	return replies[:0]
}

func (c *Committer) decide(in *intake, r *Request, now time.Time) {
	p := r.Peer
	request := lottery.Request{Kind: r.Kind, Session: &p.Session, Agency: r.Agency}
	switch r.Kind {
	case lottery.Bets:
		request.Count, request.Lines, request.Winners = r.Count, r.lines(), r.winners.of(in.winners)
	case lottery.Taken:
		request.Agency = p.Agency()
	case lottery.Leave:
		c.uncount(p, now)
	case Answer:
		c.answer(r)
		return
	case HalfClose:
		// An agency can wait on half a connection, but can't confirm on one.
		if p.Confirms() {
			c.uncount(p, now)
		}
		return
	}
	var entry lottery.Entry
	entry, c.effects = c.lottery.Apply(request, c.effects[:0])
	switch entry {
	case lottery.BetsEntry:
		c.append(r.records.of(in.records))
	case lottery.ReportedEntry:
		start := len(c.own)
		c.own = history.AppendReported(c.own, r.Agency, p.Confirms())
		c.append(c.own[start:])
		c.group.Reported = append(c.group.Reported, r.Agency)
	case lottery.ServedEntry:
		c.group.Served = append(c.group.Served, request.Agency)
	}
	confirmed := r.Kind == lottery.Received || r.Kind == lottery.Taken
	if confirmed && p.Agency() == request.Agency && !p.Gone() && c.lottery.Served(request.Agency) {
		c.exit.content(request.Agency)
	}
	for i := range c.effects {
		if e := &c.effects[i]; e.Kind == lottery.Reject && e.Session == request.Session {
			e.Count = r.Count
		}
	}
	c.take(c.effects)
	named := r.Kind != lottery.Leave && r.Kind != lottery.Taken && p.Agency() != 0 && !p.Gone()
	if named && !p.counted && !c.exit.done(p.Agency()) {
		p.counted = true
		c.exit.opened()
	}
}

// answer passes on an answer of the loop's own, in its place among the replies.
func (c *Committer) answer(r *Request) {
	p := r.Peer
	if p.Gone() {
		return
	}
	reply := Reply{Detail: r.Detail, Effect: lottery.Effect{
		Session: &p.Session, Kind: r.Reply, Code: r.Code, Count: r.Count,
		Agency: cmp.Or(r.Agency, p.Agency()),
	}}
	c.countRejected(&reply.Effect)
	c.group.Replies = append(c.group.Replies, reply)
}

func (c *Committer) countRejected(e *lottery.Effect) {
	if e.Kind == lottery.Reject {
		c.rejected[e.Code].Add(int64(max(e.Times, 1)))
	}
}

func (c *Committer) uncount(p *Peer, now time.Time) {
	if p.counted {
		p.counted = false
		c.exit.closed(now)
	}
}

// append adds packed records to the group. Records that are adjacent in memory, as those of an
// intake are, become one run and so one write.
func (c *Committer) append(records []byte) {
	if n := len(c.runs); n > 0 {
		last := c.runs[n-1]
		if end := len(last) + len(records); cap(last) >= end && &last[:end][len(last)] == &records[0] {
			c.runs[n-1] = last[:end]
			return
		}
	}
	c.runs = append(c.runs, records)
}

// take turns effects into the group's replies, and notes the draw.
func (c *Committer) take(effects []lottery.Effect) {
	g := &c.group
	g.Replies = slices.Grow(g.Replies, len(effects))
	for i := range effects {
		if effects[i].Kind == lottery.Draw {
			g.Drawn = true
		} else {
			c.countRejected(&effects[i])
			g.Replies = append(g.Replies, Reply{Effect: effects[i]})
		}
	}
}
