package engine

import (
	"errors"
	"io"
	"slices"

	"github.com/panjf2000/gnet/v2"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/front"
	"loteria/engine/front/fronttest"
)

var errReset = errors.New("connection reset by peer")

// simPipe is one direction of a connection.
type simPipe struct {
	inFlight []byte // written, but not read yet, in order
	arrived  int    // how many of them the reader's system has acknowledged
	lost     int    // bytes that were written and will never arrive
	ended    bool   // nothing more is added: the end comes after inFlight
	reset    bool   // the end is a reset: something may be lost
	unread   bool   // the reader is gone
}

func (p *simPipe) write(b []byte) {
	if p.ended || p.unread {
		p.lost += len(b)
		return
	}
	p.inFlight = append(p.inFlight, b...)
}

// arrive makes the reader's system acknowledge some of what is in flight, or all.
func (p *simPipe) arrive(w *world) {
	more := len(p.inFlight) - p.arrived
	if w.chance(20) {
		more = w.rng.IntN(more + 1)
	}
	p.arrived += more
}

// unacknowledged is how many of the written bytes the reader's system has not acknowledged.
func (p *simPipe) unacknowledged() int { return len(p.inFlight) - p.arrived + p.lost }

// lose ends the pipe. A part of what is in flight is never delivered.
func (p *simPipe) lose(w *world) {
	p.ended, p.reset = true, true
	arrives := p.arrived + w.rng.IntN(len(p.inFlight)-p.arrived+1)
	p.lost += len(p.inFlight) - arrives
	p.inFlight = p.inFlight[:arrives]
}

// read takes n bytes.
func (p *simPipe) read(n int) []byte {
	b := p.inFlight[:n:n]
	p.inFlight = p.inFlight[n:]
	p.arrived = max(p.arrived-n, 0)
	return b
}

// hangUp is called by the reader, which reads nothing more. It reports whether nothing was left
// unread.
func (p *simPipe) hangUp() (readAll bool) {
	readAll = len(p.inFlight) == 0
	p.lost += len(p.inFlight) - p.arrived
	p.inFlight, p.arrived, p.unread = nil, 0, true
	return readAll
}

// simLink is one connection.
type simLink struct {
	world              *world
	server             *simServer
	id                 int
	slow               bool     // it rarely gets a turn as long as things break
	process            process  // nil when the agency's end is closed
	conn               *simConn // nil when the server's end is closed
	toServer, toAgency simPipe
}

// connect opens a connection to the server, if it listens.
func (w *world) connect(p process) *simLink {
	if w.server == nil {
		return nil
	}
	return w.connectTo(w.server, p)
}

// connectTo opens a connection to a server that listens.
func (w *world) connectTo(s *simServer, p process) *simLink {
	w.linkCount++
	l := &simLink{world: w, server: s, id: w.linkCount, process: p, slow: w.chance(10)}
	for _, lp := range s.loops {
		if !w.ready(lp, 4) {
			return nil
		}
	}
	sess, _, admitted := s.front.Admit(front.Source{})
	if !admitted {
		w.refuse(l)
		return l
	}
	c := &simConn{Conn: fronttest.Conn{Session: sess}, link: l, loop: s.loops[slices.Index(s.front.Loops(), sess.Loop())]}
	if a := p.owner(); a != nil {
		c.audit.agency = a.id
	}
	l.conn = c
	w.links = append(w.links, l)
	c.loop.conns = append(c.loop.conns, c)
	w.tracef("link %d: %v connects", l.id, p)
	if s.front.Open(sess, c) == gnet.Close && l.conn != nil {
		c.Drop()
	}
	return l
}

// refuse does what the acceptor does with one connection too many.
func (w *world) refuse(l *simLink) {
	w.seen[seenTooMany]++
	w.links = append(w.links, l)
	w.tracef("link %d: %v is refused", l.id, l.process)
	l.toAgency.write(codec.AppendError(nil, codec.CodeTooManyConnections, ""))
	l.toAgency.ended, l.toServer.unread = true, true
}

// cut breaks a connection. Each end learns of it after what still comes through.
func (l *simLink) cut() {
	l.world.tracef("link %d is cut", l.id)
	l.world.seen[seenCut]++
	l.toServer.lose(l.world)
	l.toAgency.lose(l.world)
}

// hangUp closes the agency's end. Its system sends a FIN if it had read everything, else a reset.
// In either case the network may lose what is still in flight.
func (l *simLink) hangUp() {
	w := l.world
	l.process = nil
	readAll := l.toAgency.hangUp()
	if !readAll && l.conn != nil && l.conn.audit.winnersSaid {
		w.seen[seenWinnersUnread]++
	}
	if !readAll || w.chance(30) {
		l.toServer.lose(w)
	}
	l.toServer.ended = true
	if l.conn != nil {
		w.seen[seenZombie]++
	}
	l.forget()
}

// forget removes a connection once both ends have closed it.
func (l *simLink) forget() {
	if l.process != nil || l.conn != nil {
		return
	}
	for i, other := range l.world.links {
		if other == l {
			l.world.links = append(l.world.links[:i], l.world.links[i+1:]...)
			return
		}
	}
}

// somewhere offers the links to use, from a random one on, until it returns true.
func (w *world) somewhere(use func(*simLink) bool) {
	if len(w.links) == 0 {
		return
	}
	start := w.rng.IntN(len(w.links))
	for i := range w.links {
		if l := w.links[(start+i)%len(w.links)]; l.slow && w.chaos() && w.chance(97) {
			continue
		}
		if use(w.links[(start+i)%len(w.links)]) {
			return
		}
	}
}

// deliverToServer lets an event loop read from a socket that has bytes or an end.
func (w *world) deliverToServer() {
	w.somewhere(func(l *simLink) bool {
		c, p := l.conn, &l.toServer
		switch {
		case c == nil || len(p.inFlight) == 0 && !p.ended:
			return false
		case !w.ready(c.loop, 2):
			w.seen[seenStageFull]++
			return false
		case len(p.inFlight) == 0:
			err := io.EOF
			if p.reset {
				err = errReset
			}
			w.tracef("link %d: the server reads its end: %v", l.id, err)
			c.closeFor(err)
			return true
		}
		n := w.portion(len(p.inFlight))
		for n > 0 && !c.fits(p.inFlight[:n]) {
			n /= 2
		}
		if n == 0 {
			w.seen[seenStageFull]++
			return false
		}
		c.In = p.read(n)
		w.tracef("link %d: the server reads %q", l.id, c.In)
		c.audit.asked(c, c.In)
		if l.server.handler.OnTraffic(c) == gnet.Close && !c.closed {
			c.Drop()
		}
		w.checkLoop(c.loop)
		return true
	})
}

// portion picks how many of n bytes come at once.
func (w *world) portion(n int) int {
	switch w.rng.IntN(4) {
	case 0:
		return w.between(1, min(n, 8))
	case 1:
		return w.between(1, n)
	default:
		return n
	}
}

// deliverToAgency lets a process read from its socket.
func (w *world) deliverToAgency() {
	w.somewhere(func(l *simLink) bool {
		p := &l.toAgency
		switch {
		case l.process == nil || len(p.inFlight) == 0 && !p.ended:
			return false
		case len(p.inFlight) == 0:
			w.tracef("link %d: %v reads its end", l.id, l.process)
			l.process.lost()
			return true
		}
		b := p.read(w.portion(len(p.inFlight)))
		w.tracef("link %d: %v reads %q", l.id, l.process, b)
		l.process.receive(b)
		return true
	})
}

// acknowledge lets bytes arrive at an agency's system.
func (w *world) acknowledge() {
	w.somewhere(func(l *simLink) bool {
		l.toAgency.arrive(w)
		return true
	})
}

// takeFromSocket makes room in a socket that takes no more.
func (w *world) takeFromSocket() {
	w.somewhere(func(l *simLink) bool {
		c := l.conn
		if c == nil || !c.full {
			return false
		}
		c.full = false
		return true
	})
}

// simConn is the server's end of a connection. To the handler it is gnet's connection, to the
// session it is the socket.
type simConn struct {
	fronttest.Conn
	link   *simLink
	loop   *simLoop
	full   bool // the socket takes no more
	closed bool
	audit  audit
}

func (c *simConn) session() *front.Session { return c.Session.(*front.Session) }

func (c *simConn) Dup() (int, error) { return -1, errors.ErrUnsupported }

func (c *simConn) Unacknowledged() (int, error) { return c.link.toAgency.unacknowledged(), nil }
func (c *simConn) ShutWrite()                   { c.link.toAgency.ended = true }

func (c *simConn) Send(b []byte) (int, error) {
	w := c.link.world
	if c.closed {
		w.failf("link %d: a write to a closed connection: %q", c.link.id, b)
	}
	if c.link.toServer.ended && w.chance(20) {
		w.seen[seenWriteError]++
		w.tracef("link %d: a write fails", c.link.id)
		return 0, errReset
	}
	n := len(b)
	if c.full {
		n = 0
	} else if w.chance(15) {
		n = w.rng.IntN(len(b))
	}
	c.full = n < len(b)
	w.tracef("link %d: the server says %q", c.link.id, b[:n])
	c.audit.answered(c, b[:n])
	c.link.toAgency.write(b[:n])
	if w.chance(50) {
		c.link.toAgency.arrive(w)
	}
	if !c.audit.winnersSaid && c.full && c.link.server.committer.Lottery().Drawn() {
		w.seen[seenBufferedWinners]++
	}
	return n, nil
}

// Drop closes the server's end because the server wants to.
func (c *simConn) Drop() { c.closeFor(nil) }

// closeFor closes the server's end. err is the error of reading, or nil.
func (c *simConn) closeFor(err error) {
	if c.closed {
		return
	}
	l, w := c.link, c.link.world
	c.closed = true
	c.loop.remove(c)
	w.tracef("link %d: the server closes", l.id)
	l.server.handler.OnClose(c, err)
	w.checkLoop(c.loop)
	l.serverGone(len(l.toServer.inFlight) > 0)
}

// serverGone closes the server's end. With a reset, answers can get lost.
func (l *simLink) serverGone(reset bool) {
	if reset {
		l.toAgency.lose(l.world)
	}
	l.toAgency.ended = true
	l.toServer.hangUp()
	l.conn.closed = true
	l.conn = nil
	l.forget()
}

// fits reports whether the loop can hand over all messages that b would complete, without waiting
// for the committer.
func (c *simConn) fits(b []byte) bool {
	records, count := 0, 0
	for rest := append(c.audit.in[:len(c.audit.in):len(c.audit.in)], b...); ; count++ {
		payload, after, ok, err := codec.SplitFrame(rest, codec.FrameBytesMaxLimit)
		if err != nil || !ok {
			break
		}
		records, rest = records+len(payload)+40, after
	}
	// One record may take an empty intake over its limit.
	return count == 0 || c.loop.stage.HasRoom(count+len(c.loop.conns)+2, records) && (count == 1 || records <= c.link.server.stageBytes)
}

// simLoop is an event loop. Its tasks run when the world says so.
type simLoop struct {
	fronttest.Loop
	server    *simServer
	stage     *commit.Stage
	conns     []*simConn
	answering bool // answers may be among its tasks
}

func (lp *simLoop) remove(c *simConn) {
	for i, other := range lp.conns {
		if other == c {
			lp.conns = append(lp.conns[:i], lp.conns[i+1:]...)
			return
		}
	}
}

// ready reports whether the loop could hand over that many requests, and two for each connection,
// without waiting for the committer.
func (w *world) ready(lp *simLoop, requests int) bool {
	return !lp.server.frozen && lp.stage.HasRoom(requests+2*len(lp.conns), 0)
}

// runLoop lets an event loop do its tasks.
func (w *world) runLoop() {
	if len(w.loops) == 0 {
		return
	}
	lp := pick(w, w.loops)
	if !lp.Busy() || !w.ready(lp, 0) {
		return
	}
	w.runTasks(lp)
}

func (w *world) runTasks(lp *simLoop) {
	lp.answering = false
	if _, err := lp.Run(); err != nil {
		w.failf("a loop's task: %v", err)
	}
	w.checkLoop(lp)
}
