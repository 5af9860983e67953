package engine

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"loteria/codec"
)

// clusterMessage is a message between servers on its way.
type clusterMessage struct {
	*raftpb.Message
	due  int    // step
	life [2]int // of its sender and its receiver, when it was sent
}

// cut has no message delivered from one server to another before the step until.
func (c *cluster) cut(from, to *clusterServer, until int) {
	if from != to {
		c.cutUntil[[2]uint64{from.id, to.id}] = until
		c.tracef("nothing gets from server %d to %d until %d", from.id, to.id, until)
	}
}

// isolate cuts a server off.
func (c *cluster) isolate(s *clusterServer, outgoing, incoming bool, until int) {
	for _, other := range c.servers {
		if outgoing {
			c.cut(s, other, until)
		}
		if incoming {
			c.cut(other, s, until)
		}
	}
}

// stall has a server hear nothing for a while. The others don't notice.
func (c *cluster) stall(s *clusterServer) {
	c.noticed[seenStalled]++
	c.stalled, c.stalledUntil = s.id, c.step+c.rng.IntN(clusterStallMax)
	c.tracef("server %d hears nothing until %d", s.id, c.stalledUntil)
}

// isCut reports whether nothing gets from one server to another.
func (c *cluster) isCut(from, to uint64) bool {
	return c.chaos() && c.step < c.cutUntil[[2]uint64{from, to}]
}

// send takes a message. It loses, repeats and delays it, which also reorders it.
func (c *cluster) send(m *raftpb.Message) {
	from, to := c.servers[m.GetFrom()-1], c.servers[m.GetTo()-1]
	copies := 1
	if to.id == c.stalled && c.step < c.stalledUntil {
		c.noticed[seenMessageLost]++
		return
	}
	if c.chaos() {
		switch {
		case c.chance(c.lossy):
			c.noticed[seenMessageLost]++
			return
		case c.chance(3):
			copies = 2
		}
	}
	for range copies {
		delay := c.rng.IntN(clusterDelayMax)
		if c.chaos() && c.chance(3) {
			delay = c.rng.IntN(100 * clusterDelayMax)
			c.noticed[seenMessageLate]++
		}
		c.network = append(c.network, clusterMessage{m, c.step + delay, [2]int{from.life, to.life}})
	}
}

// deliver gives a message that is due to its receiver, unless it can't get there.
func (c *cluster) deliver() {
	if len(c.network) == 0 {
		return
	}
	from := c.rng.IntN(len(c.network))
	for i := range c.network {
		at := (from + i) % len(c.network)
		m := c.network[at]
		sender, s := c.servers[m.GetFrom()-1], c.servers[m.GetTo()-1]
		if m.due > c.step || s.frozen() {
			continue
		}
		c.network[at] = c.network[len(c.network)-1]
		c.network = c.network[:len(c.network)-1]
		// No connection outlives both its ends.
		stale := m.life[0] != sender.life && m.life[1] != s.life
		if c.isCut(sender.id, s.id) || !s.works() || stale {
			c.noticed[seenMessageLost]++
			return
		}
		s.receive(m.Message)
		return
	}
}

// connected reports whether two servers are, as far as either notices.
func (c *cluster) connected(a, b uint64) bool {
	return !c.isCut(a, b) && !c.isCut(b, a) && c.servers[a-1].member != nil && c.servers[b-1].member != nil
}

// clusterAddr is where agencies find a server.
func clusterAddr(id uint64) string { return fmt.Sprintf("server%d:12345", id) }

// dialServer opens a connection to the server that a process was told of, or to the next one. It
// returns nil if that one isn't there.
func (c *cluster) dialServer(p process) *simLink {
	n := p.(*newProcess) // the others come in the simulation of one server
	at := slices.IndexFunc(c.servers, func(s *clusterServer) bool { return clusterAddr(s.id) == n.told })
	if n.told = ""; at < 0 {
		n.turn++
		at = n.turn % len(c.servers)
	}
	s := c.servers[at]
	switch {
	case s.serving != nil:
		l := c.connectTo(s.serving, p)
		if l != nil && l.conn != nil {
			c.checkSession(s, l.conn.session().Number)
		}
		return l
	case s.follows && !s.frozen():
		return c.direct(s, p)
	default:
		return nil
	}
}

// direct does what the relay does with an agency that says HELLO.
func (c *cluster) direct(s *clusterServer, p process) *simLink {
	_, addr, _ := s.member.Leader()
	c.linkCount++
	l := &simLink{world: c.world, id: c.linkCount, process: p}
	c.tracef("link %d: %v connects to server %d, and is sent on to %q", l.id, p, s.id, addr)
	if addr == "" {
		c.noticed[seenLeaderUnknown]++
	} else {
		c.noticed[seenSentOn]++
	}
	c.links = append(c.links, l)
	l.toAgency.write(codec.AppendError(nil, codec.CodeNotLeader, addr))
	l.toAgency.ended, l.toServer.unread = true, true
	return l
}
