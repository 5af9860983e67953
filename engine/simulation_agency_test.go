package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"loteria/agency"
	"loteria/codec"
)

// simAgency is an agency and what is known of its bets. A new agency speaks the extension and may
// have two processes at once. An old one has one process, which waits for every answer.
type simAgency struct {
	world     *world
	id        codec.Agency
	old       bool
	bets      [][]byte // lines with their '\n'; the document identifies a bet
	won       []byte   // the winning lines, as they have to arrive
	processes []process
	done      bool   // a process that had the winners has ended
	winners   []byte // what the processes got; nil if nothing
	// received says that the winners are where they have to be: a process of an old agency has read
	// them, or one of a new agency has saved them.
	received bool
	// receiptPromised says that the server has acknowledged the receipt.
	receiptPromised bool
	uploaded        bool // of an old agency: all bets are acknowledged
	// newestLink is the last connection that one of its processes has opened to say HELLO.
	newestLink int

	// promised is how many bets the server has said are stored, in an ACK or WELCOME. It is noted
	// when the answer leaves the server, whether it arrives or not. For an old agency, see acked.
	promised int
	// reportRead says that the server has read GET_WINNERS, reportPromised that it has answered it.
	reportRead, reportPromised bool
	// Of an old agency: how often each bet was sent, and how often acknowledged.
	sent, acked []int
}

// process is a process of an agency.
type process interface {
	fmt.Stringer
	owner() *simAgency
	// act does what the process can do by itself.
	act()
	// receive takes bytes that the server has sent.
	receive(b []byte)
	// lost tells the process that its connection is gone.
	lost()
	// end ends the process.
	end()
}

func newSimAgency(w *world, id codec.Agency) *simAgency {
	a := &simAgency{world: w, id: id, old: w.chance(25) && w.guard == nil}
	for i := range w.rng.IntN(simBetsMax) {
		number := w.rng.IntN(60)
		name := bytes.Repeat([]byte{'a' + byte(i%26)}, w.between(1, codec.NameBytesMax))
		line := codec.AppendBet(nil, codec.Bet{
			FirstName: name,
			LastName:  []byte("Pérez"),
			Document:  strconv.AppendInt(nil, simDocument+int64(i), 10),
			Birthdate: []byte("1990-05-23"),
			Number:    strconv.AppendInt(nil, int64(number), 10),
			Agency:    id,
		})
		if number == simWinning {
			a.won = append(append(a.won, line...), '\n')
		}
		a.bets = append(a.bets, append(line, '\n'))
	}
	a.won = bytes.TrimSuffix(a.won, []byte{'\n'})
	a.sent, a.acked = make([]int, len(a.bets)), make([]int, len(a.bets))
	return a
}

func (a *simAgency) String() string {
	return fmt.Sprintf("agency %d: done %v, %d of %d promised, %v", a.id, a.done, a.promised, len(a.bets), a.processes)
}

// act lets a process go on, or starts one if there is none and one is needed.
func (a *simAgency) act() {
	switch {
	case len(a.processes) > 0:
		pick(a.world, a.processes).act()
	case a.done:
	case a.old:
		a.processes = append(a.processes, newOldProcess(a))
	default:
		a.processes = append(a.processes, newNewProcess(a))
	}
}

// crashProcess kills a process of the agency. An old agency doesn't crash while it has bets to
// send, because it could not go on afterwards.
func (a *simAgency) crashProcess() {
	if a.old && !a.uploaded || len(a.processes) == 0 {
		return
	}
	p := pick(a.world, a.processes)
	a.world.tracef("%v crashes", p)
	a.world.seen[seenAgencyCrash]++
	p.end()
}

// takeOver starts a second process beside the first.
func (a *simAgency) takeOver() {
	if a.old || len(a.processes) != 1 {
		return
	}
	a.world.seen[seenTakeover]++
	a.processes = append(a.processes, newNewProcess(a))
}

func (a *simAgency) remove(p process) {
	a.processes = slices.DeleteFunc(a.processes, func(other process) bool { return other == p })
}

// lines returns count bets from first on.
func (a *simAgency) lines(first, count int) []byte {
	return bytes.Join(a.bets[first:first+count], nil)
}

// processEnd is a process's end of its connection, if it has one.
type processEnd struct {
	agency *simAgency
	link   *simLink
	in     []byte // received, but not a whole frame yet
	number int    // identifies the process in traces

	// failures is how many tries in a row have failed. The next one is at step retryAt at the
	// earliest. Otherwise processes that are refused for too many connections would keep the server
	// full.
	failures, retryAt int
}

// Bounds of the steps between two tries.
const (
	simBackoffMin       = 8
	simBackoffDoublings = 6
)

func newProcessEnd(a *simAgency) processEnd {
	a.world.linkCount++
	return processEnd{agency: a, number: a.world.linkCount}
}

func (c *processEnd) owner() *simAgency { return c.agency }

// frame takes the payload of the next whole frame.
func (c *processEnd) frame() (payload []byte, ok bool) {
	payload, rest, ok, err := codec.SplitFrame(c.in, codec.ReplyBytesMaxDefault)
	if err != nil {
		c.agency.world.failf("agency %d: %v", c.agency.id, err)
	}
	c.in = rest
	return payload, ok
}

// connect tries to connect if it is time. It reports whether there is a connection.
func (c *processEnd) connect(p process) bool {
	w := c.agency.world
	if c.link == nil && w.step >= c.retryAt {
		c.link = w.dial(p)
	}
	return c.link != nil
}

func (c *processEnd) backOff() {
	c.hangUp()
	w := c.agency.world
	c.retryAt = w.step + w.rng.IntN(simBackoffMin<<min(c.failures, simBackoffDoublings))
	c.failures++
}

func (c *processEnd) hangUp() {
	if c.link != nil {
		c.link.hangUp()
	}
	c.link, c.in = nil, nil
}

// newProcess drives agency.Session as agency.Client does.
type newProcess struct {
	processEnd
	session *agency.Session
	// The limits of batches, which differ between processes.
	batchBets, batchBytes int

	next     int    // the next bet of the input
	finished bool   // the input's end was seen
	asking   bool   // everything is uploaded
	hold     bool   // the server wants to be asked again
	told     string // the leader's address, of several servers
	turn     int    // counts the tries of servers in turn
	saving   bool   // it has the winners, but has not saved them
	confirms bool   // it has saved them, and tells the server
}

func newNewProcess(a *simAgency) *newProcess {
	w := a.world
	p := &newProcess{
		processEnd: newProcessEnd(a),
		session:    agency.NewSession(a.id, w.between(1, 6)),
		batchBets:  w.between(1, 12),
		batchBytes: w.between(codec.BetBytesMax, 1000),
	}
	p.session.Authenticate(w.guard.secret(a.id))
	p.session.Begin()
	return p
}

func (p *newProcess) String() string { return fmt.Sprintf("process %d.%d", p.agency.id, p.number) }

func (p *newProcess) act() {
	w := p.agency.world
	if p.link == nil {
		if !p.connect(p) {
			return
		}
		p.session.Connect()
		p.agency.newestLink = p.link.id
	}
	if p.saving {
		if w.chance(50) {
			return // saving takes a while
		}
		p.saving, p.confirms, p.agency.received = false, true, true
		p.session.Confirm()
	}
	for !p.asking && p.session.Wants() && w.chance(80) {
		p.push()
	}
	if !p.asking && p.session.Uploaded() {
		p.asking = true
		p.session.Ask()
	}
	if p.hold && w.chance(20) {
		p.hold = false
		p.session.Ask()
	}
	for {
		out := p.session.Send(nil)
		if len(out) == 0 {
			return
		}
		w.tracef("%v sends %q", p, out)
		p.link.toServer.write(out)
	}
}

// push reads another batch from the input.
func (p *newProcess) push() {
	if p.next == len(p.agency.bets) {
		if p.finished {
			return
		}
		p.finished = true
		if err := p.session.Finish(int64(p.next)); err != nil {
			p.agency.world.failf("%v: %v", p, err)
		}
		return
	}
	b := &agency.Batch{First: int64(p.next)}
	for p.next < len(p.agency.bets) && len(b.Rows) < p.batchBets {
		line := p.agency.bets[p.next]
		if len(b.Rows) > 0 && len(b.Lines)+len(line)-1 > p.batchBytes {
			break
		}
		p.next++
		b.Lines, b.Rows = append(b.Lines, line...), append(b.Rows, p.next)
	}
	if err := p.session.Push(b); err != nil {
		p.agency.world.failf("%v: %v", p, err)
	}
}

func (p *newProcess) receive(in []byte) {
	w := p.agency.world
	p.in = append(p.in, in...)
	for {
		payload, ok := p.frame()
		if !ok {
			return
		}
		ev, err := p.session.Receive(payload)
		if rejected := (*agency.RejectedError)(nil); errors.As(err, &rejected) && rejected.Code == codec.CodeAgencyTakenOver {
			w.seen[seenTakenOverTold]++
			w.tracef("%v was taken over", p)
			if p.link.id == p.agency.newestLink {
				w.failf("%v is told that it was taken over, but no process has connected after it", p)
			}
			p.end()
			return
		}
		if err != nil {
			w.failf("%v: %v", p, err)
		}
		switch ev.Kind {
		case agency.EventWelcome:
			p.failures = 0
		case agency.EventHold:
			w.seen[seenHold]++
			p.hold = true
		case agency.EventRetry:
			w.tracef("%v: %v", p, ev.Err)
			p.lost()
			return
		case agency.EventNotLeader:
			w.tracef("%v: %v", p, ev.Err)
			p.lost()
			p.told = ev.Leader
			return
		case agency.EventWinners:
			p.agency.got(ev.Winners)
			p.saving = true
		case agency.EventConfirmed:
			w.seen[seenReceipt]++
			p.agency.done = true
			p.end()
			return
		}
	}
}

func (p *newProcess) lost() {
	p.backOff()
	if p.confirms {
		p.agency.world.seen[seenReceiptAgain]++
	}
	p.session.Disconnect()
	if p.hold {
		p.hold = false
		p.session.Ask()
	}
}

func (p *newProcess) end() {
	if p.saving {
		p.agency.world.seen[seenWinnersUnsaved]++
	}
	p.hangUp()
	p.agency.remove(p)
}

// oldProcess is a process of an agency that was written for the old server: it sends, waits, and if
// it gets no answer it can only send the same again.
type oldProcess struct {
	processEnd
	oneMessage bool // it opens a connection for each message
	newline    bool // it ends the last bet with '\n'
	next       int  // the first bet without an ACK
	count      int  // bets of the batch that waits for an ACK; 0: none
	waiting    bool // for an answer, on this connection
	again      bool // the batch was sent before
	impatient  bool // after a while it asks for its winners again, on another connection
	stays      bool // it closes only when the server does, not when it has its winners
	over       bool // it has its winners
}

func newOldProcess(a *simAgency) *oldProcess {
	p := &oldProcess{processEnd: newProcessEnd(a), oneMessage: a.world.chance(50), newline: a.world.chance(50), impatient: a.world.chance(30), stays: a.world.chance(20)}
	if a.uploaded {
		p.next = len(a.bets)
	}
	return p
}

func (p *oldProcess) String() string { return fmt.Sprintf("old process %d", p.agency.id) }

func (p *oldProcess) act() {
	a, w := p.agency, p.agency.world
	if p.waiting && p.impatient && p.next == len(a.bets) && w.chance(5) {
		w.tracef("%v doesn't wait any longer", p)
		p.lost()
	}
	if p.waiting || p.over {
		return
	}
	a.uploaded = p.next == len(a.bets)
	if !p.connect(p) {
		return
	}
	p.waiting = true
	if p.next == len(a.bets) {
		w.tracef("%v asks for its winners", p)
		p.link.toServer.write(codec.AppendGetWinners(nil, a.id))
		return
	}
	if p.count == 0 {
		p.again = false
		bytes := 0
		for most := w.between(1, 6); p.next+p.count < len(a.bets) && p.count < most; p.count++ {
			if bytes += len(a.bets[p.next+p.count]); p.count > 0 && bytes > codec.BetBytesMax {
				break
			}
		}
	}
	if p.again {
		w.seen[seenLegacyResend]++
	}
	p.again = true
	for i := range p.count {
		a.sent[p.next+i]++
	}
	payload := a.lines(p.next, p.count)
	if !p.newline || len(payload) > codec.BetBytesMax {
		payload = payload[:len(payload)-1]
	}
	w.tracef("%v sends bets %d to %d", p, p.next, p.next+p.count-1)
	p.link.toServer.write(codec.AppendFrame(nil, payload))
}

func (p *oldProcess) receive(in []byte) {
	w := p.agency.world
	p.in = append(p.in, in...)
	payload, ok := p.frame()
	if !ok {
		return
	}
	reply, err := codec.ParseReply(payload)
	switch {
	case p.over && reply.Kind == codec.ReplyError && reply.Code.Closes():
		p.lost()
	case err != nil:
		w.failf("%v: %v", p, err)
	case reply.Kind == codec.ReplyAck && p.waiting && p.count > 0:
		p.next, p.count, p.waiting, p.failures = p.next+p.count, 0, false, 0
		if p.oneMessage {
			p.hangUp()
		}
	case reply.Kind == codec.ReplyWinners && p.waiting && p.next == len(p.agency.bets):
		p.agency.got(reply.Winners)
		p.agency.received = true
		if p.over = p.stays; p.over {
			w.seen[seenOutstayed]++
			return
		}
		p.agency.done = true
		p.end()
	case reply.Kind == codec.ReplyError && reply.Code == codec.CodeLotteryHasntEnded && p.waiting:
		w.seen[seenHold]++
		p.lost()
	case reply.Kind == codec.ReplyError && reply.Code.Closes():
		p.lost()
	default:
		w.failf("%v: %q is no answer to what was asked", p, payload)
	}
}

func (p *oldProcess) lost() {
	if p.over {
		p.agency.done = true
		p.end()
		return
	}
	p.backOff()
	p.waiting = false
}

func (p *oldProcess) end() {
	p.hangUp()
	p.agency.remove(p)
}

// got notes the winners that a process has received.
func (a *simAgency) got(winners []byte) {
	w := a.world
	w.tracef("agency %d has its winners: %q", a.id, winners)
	if a.winners != nil && !bytes.Equal(a.winners, winners) {
		w.failf("agency %d got %q and then %q", a.id, a.winners, winners)
	}
	a.winners = append([]byte{}, winners...)
}
