package commit

import (
	"fmt"
	"slices"
	"time"

	"loteria/codec"
	"loteria/engine/history"
	"loteria/engine/lottery"
)

// Settings are what a committer is made with.
type Settings struct {
	Agencies int // expected ones
	Loops    int // how many stages it has
	// QueueBytesMax bounds the records that wait in all stages, those that are being committed
	// included.
	QueueBytesMax int
	// RequestsMax bounds the requests that wait in a stage; 0 stands for the constant RequestsMax.
	RequestsMax int
	Grace       time.Duration // of the exit rule
	Deadline    time.Time     // of the exit rule; zero is none
}

// Committer decides requests in one order, makes them durable as a group, and only then lets their
// replies go. It is the one owner of the lottery and the log. It has no goroutine of its own: one
// goroutine calls all its methods.
type Committer struct {
	log     Log
	lottery *lottery.Lottery
	exit    *ExitRule

	stages []*Stage
	taken  []*intake // by stage: what is being committed
	wake   chan struct{}

	runs    [][]byte // the group's records, adjacent ones merged
	own     []byte   // packed records that no loop packed
	effects []lottery.Effect
	group   Group
	total   Totals
}

// Group is what one commit has come to. The slices are the committer's, and valid until its next
// commit.
type Group struct {
	Replies  []Reply        // in order
	Reported []codec.Agency // agencies whose reports are durable now
	Served   []codec.Agency // agencies of which it is durable now that they have their winners
	Drawn    bool           // the group holds the draw
}

// Totals are what was committed since the start.
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

// New makes the committer of a log, and of the lottery that its replay came to.
func New(log Log, state *lottery.Lottery, s Settings) *Committer {
	c := &Committer{
		log: log, lottery: state, exit: newExitRule(state, s.Agencies, s.Grace, s.Deadline),
		wake: make(chan struct{}, 1),
	}
	if s.RequestsMax == 0 {
		s.RequestsMax = RequestsMax
	}
	for range s.Loops {
		c.stages = append(c.stages, newStage(c.wake, s.QueueBytesMax/(intakes*s.Loops), s.RequestsMax))
		c.taken = append(c.taken, new(intake))
	}
	return c
}

// Stages are the queues from the loops, one for each.
func (c *Committer) Stages() []*Stage { return c.stages }

// Wake receives when some loop has handed over what no Commit has taken.
func (c *Committer) Wake() <-chan struct{} { return c.wake }

// Lottery is the state that the committed requests came to. Only its methods that read may be
// called.
func (c *Committer) Lottery() *lottery.Lottery { return c.lottery }

// Exit is the rule that ends the server.
func (c *Committer) Exit() *ExitRule { return c.exit }

// Totals are what was committed since the start.
func (c *Committer) Totals() Totals { return c.total }

// Commit takes what the loops have handed over and makes it durable as one group. A group that
// holds the draw is sealed, too.
//
// The error is the log's. It leaves no replies, and no draw: none of it may be told to anybody.
// Reported is what had become durable before the error.
func (c *Committer) Commit(now time.Time) (Group, error) {
	for i, stage := range c.stages {
		c.taken[i].reset()
		c.taken[i] = stage.take(c.taken[i])
	}
	g := &c.group
	*g = Group{Replies: Reusable(g.Replies), Reported: g.Reported[:0], Served: g.Served[:0]}
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
		// In one record, and behind the group's others: nothing else changes after the draw.
		start := len(c.own)
		c.own = history.AppendServed(c.own, g.Served)
		c.append(c.own[start:])
	}
	if len(c.runs) > 0 {
		if err := c.log.Commit(c.runs); err != nil {
			return Group{}, err
		}
		c.total.add(c.runs)
	}
	if g.Drawn {
		if err := c.log.Seal(); err != nil {
			return Group{Reported: g.Reported}, err
		}
	}
	return *g, nil
}

// Dismiss returns the replies to all that wait for the draw, for a server that stops before it. They
// are valid until the next commit.
func (c *Committer) Dismiss() []Reply {
	c.group.Replies = c.group.Replies[:0]
	c.take(c.lottery.Dismiss(nil))
	return c.group.Replies
}

// Close closes all stages: nothing that is handed over from now on is stored or answered. Any
// goroutine may call it.
func (c *Committer) Close() {
	for _, stage := range c.stages {
		stage.Close()
	}
}

// Reusable is replies emptied, or nil if it is larger than is worth keeping: only a draw that very
// many wait for has so many.
func Reusable(replies []Reply) []Reply {
	if cap(replies) > RequestsMax {
		return nil
	}
	return replies[:0]
}

func (c *Committer) decide(in *intake, r *Request, now time.Time) {
	p := r.Peer
	request := lottery.Request{Session: &p.Session, Agency: r.Agency}
	switch r.Kind {
	case Bets:
		request.Kind, request.Count, request.Winners = lottery.Bets, r.Count, r.winners.of(in.winners)
		request.Lines = r.lines()
	case GetWinners:
		request.Kind = lottery.GetWinners
	case Hello:
		request.Kind = lottery.Hello
	case Received:
		request.Kind = lottery.Received
	case Taken:
		request.Kind, request.Agency = lottery.Taken, p.Agency()
	case Answer:
		c.answer(r)
		return
	case HalfClose:
		// An agency can wait with half a connection, but it can't confirm with one.
		if p.Confirms() {
			c.uncount(p, now)
		}
		return
	case Leave:
		c.uncount(p, now)
		request.Kind = lottery.Leave
	default:
		panic(fmt.Sprintf("commit: request of kind %d", r.Kind))
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
	confirmed := request.Kind == lottery.Received || request.Kind == lottery.Taken
	if confirmed && p.Agency() == request.Agency && !p.Gone() && c.lottery.Served(request.Agency) {
		c.exit.content(request.Agency)
	}
	for i := range c.effects {
		if e := &c.effects[i]; e.Kind == lottery.Reject && e.Session == request.Session {
			e.Count = r.Count
		}
	}
	c.take(c.effects)
	named := r.Kind != Leave && r.Kind != Taken && p.Agency() != 0 && !p.Gone()
	if named && !p.counted && !c.exit.done(p.Agency()) {
		p.counted = true
		c.exit.opened()
	}
}

// answer passes on what the loop has answered by itself, in its place.
func (c *Committer) answer(r *Request) {
	p := r.Peer
	if p.Gone() {
		return
	}
	agency := r.Agency
	if agency == 0 {
		agency = p.Agency()
	}
	c.group.Replies = append(c.group.Replies, Reply{
		To: &p.Session, Kind: r.Reply, Code: r.Code, Count: r.Count, Agency: agency, Detail: r.Detail,
	})
}

func (c *Committer) uncount(p *Peer, now time.Time) {
	if p.counted {
		p.counted = false
		c.exit.closed(now)
	}
}

// append adds packed records to the group. Records that lie behind one another in memory, as those
// of an intake do, become one write.
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

// take makes replies of effects.
func (c *Committer) take(effects []lottery.Effect) {
	g := &c.group
	g.Replies = slices.Grow(g.Replies, len(effects))
	for i := range effects {
		e := &effects[i]
		if e.Kind == lottery.Draw {
			g.Drawn = true
			continue
		}
		g.Replies = append(g.Replies, Reply{
			To:       e.Session,
			Kind:     ReplyKind(e.Kind),
			Code:     e.Code,
			Count:    e.Count,
			Agency:   e.Agency,
			Times:    e.Times,
			Stored:   e.Stored,
			Checksum: e.Checksum,
			Payload:  e.Payload,
		})
	}
}
