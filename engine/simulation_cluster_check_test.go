package engine

import (
	"bytes"
	"fmt"
	"slices"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
	"loteria/engine/replica"
)

// clusterChecks is what a run has seen, and compares with.
type clusterChecks struct {
	log      []replica.Entry // what is committed, as the first server that knew it had it
	contents *contents       // what log holds
	model    *lottery.Lottery
	visits   []func(ledger.Record) error // take log's records
	digests  []clusterDigest             // of model, by entry
	ends     map[uint64]clusterEnd       // term: how the draw has ended in it
	allThere bool                        // all servers were there when the last end was committed

	leaderOf  map[uint64]uint64    // term: server
	checkedUp map[uint64]uint64    // server: index up to which its log was compared
	sessions  map[uint64][2]uint64 // term: its first session number and its last

	transferTerm, transferTo uint64
}

func newClusterChecks(c *cluster) clusterChecks {
	k := clusterChecks{
		contents: c.newContents(), model: lottery.New(c.rules()),
		ends: map[uint64]clusterEnd{}, leaderOf: map[uint64]uint64{}, checkedUp: map[uint64]uint64{},
		sessions: map[uint64][2]uint64{},
	}
	settings := history.Settings{Agencies: len(c.agencies), WinningNumber: simWinning}
	reader := history.Replay(k.model, settings)
	reader.OnEnded = func(e history.End) error {
		if _, again := c.ends[e.Term]; again {
			return nil
		}
		c.ends[e.Term] = clusterEnd{uint64(len(c.log)), fmt.Sprint(commit.Outcome(k.model, e.Overdue))}
		c.allThere = !c.chaos() && !slices.ContainsFunc(c.servers, func(s *clusterServer) bool {
			return s.member == nil || s.stopping
		})
		if c.allThere && c.chance(30) {
			c.stall(pick(c.world, c.servers))
		}
		c.beheads = c.allThere && c.chance(30)
		return nil
	}
	k.visits = []func(ledger.Record) error{reader.Visit, c.visit(k.contents)}
	first, _ := ledger.Unpack(settings.AppendRecord(nil))
	for _, visit := range k.visits {
		if err := visit(first); err != nil {
			c.failf("the first record: %v", err)
		}
	}
	k.digests = []clusterDigest{digestOf(k.model)}
	return k
}

// clusterEnd is an end of the draw.
type clusterEnd struct {
	index   uint64 // of the entry that says so
	outcome string
}

// clusterDigest is a lottery's state, in a form that can be compared.
type clusterDigest struct {
	bets      int64
	won       int
	missing   int
	unserved  int
	checksums [clusterAgencies]codec.Checksum
}

func digestOf(l *lottery.Lottery) clusterDigest {
	d := clusterDigest{bets: l.Bets(), won: l.Won(), missing: l.Missing(), unserved: l.Unserved()}
	for i := range d.checksums {
		d.checksums[i] = l.Checksum(codec.Agency(i + 1))
	}
	return d
}

// checkTerm is called when a server's status changes. A term has one leader.
func (c *cluster) checkTerm(s *clusterServer) {
	if s.status.Role == replica.Following {
		return
	}
	if other, known := c.leaderOf[s.status.Term]; known && other != s.id {
		c.failf("servers %d and %d both lead term %d", other, s.id, s.status.Term)
	}
	c.leaderOf[s.status.Term] = s.id
}

// checkBegun is called when a leadership begins. It knows all that is committed.
func (c *cluster) checkBegun(s *clusterServer) {
	c.noticed[seenLeadership]++
	term := s.leading.Term()
	if c.transferTo == s.id && term == c.transferTerm+1 {
		c.noticed[seenLeaderMoved]++
	}
	for _, other := range c.servers {
		if other != s && other.serving != nil {
			c.noticed[seenTwoLeaderships]++
		}
	}
	committed := s.replica.Committed()
	if committed == 0 || c.log[committed-1].Term != term {
		c.failf("server %d begins to lead term %d, and knows of no committed entry of it", s.id, term)
	}
	if got, want := digestOf(s.member.machine.state), c.digests[committed]; got != want {
		c.failf("server %d begins to lead with %+v, want %+v", s.id, got, want)
	}
}

// checkSession is called for each session. Numbers grow from term to term.
func (c *cluster) checkSession(s *clusterServer, number uint64) {
	term := s.serving.ledger.Term()
	for other, numbers := range c.sessions {
		if other < term && numbers[1] >= number || other > term && numbers[0] <= number {
			c.failf("session %d of term %d, and term %d has %v", number, term, other, numbers)
		}
	}
	numbers, known := c.sessions[term]
	if !known {
		numbers[0] = number
	}
	numbers[1] = number
	c.sessions[term] = numbers
}

// checkCommitted compares what a server calls committed with what others did.
func (c *cluster) checkCommitted(s *clusterServer) {
	committed := s.replica.Committed()
	first := c.checkedUp[s.id] + 1
	if first > committed {
		return
	}
	entries, err := s.store.Entries(first, committed, 1<<30)
	if err != nil || len(entries) != int(committed-first+1) {
		c.failf("server %d: %d entries from %d to %d: %v", s.id, len(entries), first, committed, err)
	}
	for _, e := range entries {
		c.checkEntry(s, e)
	}
	c.checkedUp[s.id] = committed
}

func (c *cluster) checkEntry(s *clusterServer, e replica.Entry) {
	if e.Index <= uint64(len(c.log)) {
		if want := c.log[e.Index-1]; want.Term != e.Term || !bytes.Equal(want.Records, e.Records) {
			c.failf("server %d has committed entry %d of term %d, others have committed one of term %d", s.id, e.Index, e.Term, want.Term)
		}
		return
	}
	c.tracef("entry %d of term %d is committed: %d bytes", e.Index, e.Term, len(e.Records))
	c.log = append(c.log, e)
	for rest := e.Records; len(rest) > 0; {
		var r ledger.Record
		r, rest = ledger.Unpack(rest)
		for _, visit := range c.visits {
			if err := visit(r); err != nil {
				c.failf("the log can't be replayed at entry %d: %v", e.Index, err)
			}
		}
	}
	c.digests = append(c.digests, digestOf(c.model))
	for i, a := range c.agencies {
		c.checkStored(a, c.contents.stored[i])
	}
}

// checkOpened is called when a server has opened its ledger. It has all that it has ever called
// committed.
func (c *cluster) checkOpened(s *clusterServer) {
	last := c.checkedUp[s.id]
	if n, err := s.store.LastIndex(); err != nil || n < last {
		c.failf("server %d starts with %d entries, and had %d that were committed: %v", s.id, n, last, err)
	}
	if last == 0 {
		return
	}
	entries, err := s.store.Entries(1, last, 1<<30)
	if err != nil {
		c.failf("server %d: %v", s.id, err)
	}
	for _, e := range entries {
		c.checkEntry(s, e)
	}
}

// checkSaid is called when a server has said something to an agency. The log holds what it implies.
func (c *cluster) checkSaid(a *simAgency) {
	i := a.id - 1
	if stored := len(c.contents.stored[i]); stored < a.promised {
		c.failf("agency %d is told that %d bets are stored, and the log has %d", a.id, a.promised, stored)
	}
	switch {
	case a.reportPromised && !c.contents.reported[i]:
		c.failf("agency %d is told something about its report, which the log doesn't have", a.id)
	case a.receiptPromised && !c.contents.served[i]:
		c.failf("agency %d is told that its receipt is stored, and the log doesn't have it", a.id)
	case c.promised && !c.contents.drawn():
		c.failf("agency %d is told its winners, and there was no draw", a.id)
	}
}

// checkLeader is called when a leader has committed a group.
func (c *cluster) checkLeader(s *clusterServer, l *lottery.Lottery) {
	for _, a := range c.agencies {
		if l.Served(a.id) && !a.received {
			c.failf("server %d takes agency %d for served, but it has not received its winners", s.id, a.id)
		}
	}
}

// onDraw is called when a leader announces the draw.
func (c *cluster) onDraw(l *lottery.Lottery) {
	c.noticed[seenClusterDraw]++
	c.drawn++
	c.tracef("the draw: %d bets, %d won", l.Bets(), l.Won())
	c.checkDraw(l)
	// A leader may hear late that its draw is committed. Another one may have gone on by then.
	if !c.contents.drawn() || !slices.Contains(c.digests, digestOf(l)) {
		c.failf("the draw of %+v, and the log has %+v", digestOf(l), c.digests[len(c.log)])
	}
}

// checkEnd is called when a server ends because the draw has ended in a term.
func (c *cluster) checkEnd(s *clusterServer, term uint64, outcome error) {
	want, known := c.ends[term]
	if !known || fmt.Sprint(outcome) != want.outcome {
		c.failf("server %d ends with %v in term %d, want %q (%v)", s.id, outcome, term, want.outcome, known)
	}
	for _, e := range c.log[want.index:s.replica.Committed()] {
		if len(e.Records) > 0 && e.Term != term { // it may say the end again
			c.failf("server %d ends with the end of term %d, and knows that term %d has gone on", s.id, term, e.Term)
		}
	}
}

// checkAll checks a run in which every agency has its winners, and every server has ended.
func (c *cluster) checkAll() {
	if !c.contents.drawn() {
		c.failf("all agencies have their winners, but there was no draw")
	}
	for i, a := range c.agencies {
		c.checkStored(a, c.contents.stored[i])
		if len(c.contents.stored[i]) != len(a.bets) || !c.contents.served[i] {
			c.failf("agency %d has %d of %d bets stored, and is served: %v", a.id, len(c.contents.stored[i]), len(a.bets), c.contents.served[i])
		}
		want := c.contents.won[i]
		if c.allWinners {
			want = c.contents.all
		}
		if want = bytes.TrimSuffix(want, []byte{'\n'}); !bytes.Equal(a.winners, want) {
			c.failf("agency %d got the winners %q, want %q", a.id, a.winners, want)
		}
	}
	for _, s := range c.servers {
		if s.exported != c.servers[0].exported {
			c.failf("server %d exports other files than server 1", s.id)
		}
	}
}

// export writes what the server would into its files.
func (s *clusterServer) export() {
	var bets, winners bytes.Buffer
	scan := func(visit func(ledger.Record) error) (ledger.Tail, error) {
		return scanFrom(s.member.first, visit, func(visit func(ledger.Record) error) (ledger.Tail, error) {
			return replica.Scan(s.store, s.replica.Committed(), visit)
		})
	}
	_, err := history.Export(scan, &bets, &winners)
	s.check(err)
	s.exported = [2]string{bets.String(), winners.String()}
}
