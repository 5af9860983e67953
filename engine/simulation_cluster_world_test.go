package engine

import (
	"fmt"
	"strings"
	"testing"

	"loteria/codec"
	"loteria/engine/ledger/ledgertest"
)

// Bounds of one run.
const (
	clusterStepsMax = 100_000 // a run that has not ended by then never will
	clusterChaosMax = 12000   // the most steps in which things break
	clusterDelayMax = 30      // the most steps that a message takes while nothing breaks
	clusterAgencies = 3
	// clusterPatience is how many steps the operator waits for servers that have no majority. It is more
	// than they need to find each other, and than a server that knows of the end waits for the others.
	clusterPatience = 6000 + int(hearMin/simStepPeriod)
	// clusterRestart is in how many steps a server is back that has been killed, on average. It is less
	// than the last leader waits for it.
	clusterRestart = 300
	// clusterStallMax is in how many steps a server hears again that hears nothing when the draw has
	// ended, at most. The last leader waits longer for it.
	clusterStallMax = 1200
)

// cluster is one run. The goroutine that called simulateCluster owns everything in it.
type cluster struct {
	*world
	noticed *clusterTally

	lossy int // how many messages are lost, in percent
	slow  int // how long a save takes at most, in steps; but see clusterServer.slow

	peers    Peers
	servers  []*clusterServer // by id-1
	network  []clusterMessage
	cutUntil map[[2]uint64]int // from, to: no message is delivered until this step
	ledSince int               // step at which some server has led, or the last operator came

	stalled      uint64 // server that hears nothing before the step stalledUntil; 0: none
	stalledUntil int
	beheads      bool // the leader is killed when the first other server has ended

	clusterChecks
}

// clusterEvent is something that must happen now and then if the simulation is any good.
type clusterEvent int

const (
	seenThreeServers clusterEvent = iota
	seenFiveServers
	seenLeadership
	seenTwoLeaderships
	seenDeposed
	seenMachineDropped
	seenGroup
	seenGroupUnknown
	seenClusterDraw
	seenLeaderMoved
	seenCutOneWay
	seenCutBothWays
	seenIsolated
	seenMessageLost
	seenMessageLate
	seenMessageRefused
	seenFrozen
	seenClockStopped
	seenStopped
	seenKill
	seenLeaderKilled
	seenAllKilled
	seenKilledSaving
	seenMachineCrashed
	seenCrashStarting
	seenTornTail
	seenEntriesReplaced
	seenDiskFailed
	seenSlowDisk
	seenGaveUp
	seenSentOn
	seenLeaderUnknown
	seenGoal
	seenUnfinishedEnd
	seenStalled
	seenBeheaded
	seenAbandoned
	seenEndTakenBack
	seenStartedAgain
	seenLeftBehind
	clusterEvents
)

var clusterEventNames = [clusterEvents]string{
	seenThreeServers:    "three servers",
	seenFiveServers:     "five servers",
	seenLeadership:      "leadership",
	seenTwoLeaderships:  "two servers that serve agencies",
	seenDeposed:         "leader that was deposed while it served",
	seenMachineDropped:  "state machine that was dropped",
	seenGroup:           "group",
	seenGroupUnknown:    "group of unknown outcome",
	seenClusterDraw:     "draw",
	seenLeaderMoved:     "leader that was moved",
	seenCutOneWay:       "link cut one way",
	seenCutBothWays:     "link cut both ways",
	seenIsolated:        "server cut off",
	seenMessageLost:     "lost message",
	seenMessageLate:     "late message",
	seenMessageRefused:  "message that was dropped because the disk is behind",
	seenFrozen:          "frozen server",
	seenClockStopped:    "clock that stood still",
	seenStopped:         "server that was told to stop",
	seenKill:            "killed server",
	seenLeaderKilled:    "killed leader",
	seenAllKilled:       "all servers killed",
	seenKilledSaving:    "server killed in a save",
	seenMachineCrashed:  "crashed machine",
	seenCrashStarting:   "crash in a start",
	seenTornTail:        "torn tail",
	seenEntriesReplaced: "entries that were replaced",
	seenDiskFailed:      "failed disk",
	seenSlowDisk:        "slow disk",
	seenGaveUp:          "agency that waited no longer",
	seenSentOn:          "agency that was sent on to the leader",
	seenLeaderUnknown:   "agency that was told of no leader",
	seenGoal:            "server that ended with its goal",
	seenUnfinishedEnd:   "server that ended without its goal",
	seenStalled:         "server that heard nothing when the draw had ended",
	seenBeheaded:        "last leader that was killed when another server had ended",
	seenAbandoned:       "server that ended alone",
	seenEndTakenBack:    "last leader that went on under another one",
	seenStartedAgain:    "servers that were started again",
	seenLeftBehind:      "servers that could not end, because the others had",
}

func (e clusterEvent) String() string { return clusterEventNames[e] }

// clusterTally counts events.
type clusterTally [clusterEvents]int

func (t clusterTally) String() string {
	var words []string
	for e, n := range t {
		words = append(words, fmt.Sprintf("%s %d", clusterEvent(e), n))
	}
	return strings.Join(words, ", ")
}

// simulateCluster runs one seed. An error wraps errViolation.
func simulateCluster(t *testing.T, seed uint64, seen *clusterTally, trace func(string, ...any)) (err error) {
	seedRaft(t, seed)
	c := &cluster{world: newWorld(seed, new(tally), trace), noticed: seen, cutUntil: map[[2]uint64]int{}}
	defer c.violated(&err)
	defer func() {
		for _, s := range c.servers {
			if s.member != nil {
				s.halt()
			}
		}
	}()
	c.setUpCluster()
	for c.step = 0; !c.done(); c.step++ {
		if c.step == clusterStepsMax {
			c.failf("not done after %d steps: %s; %s", c.step, c.waitingFor(), c)
		}
		c.now = c.now.Add(simStepPeriod)
		c.next()
	}
	c.checkAll()
	return nil
}

func (c *cluster) setUpCluster() {
	c.dial = c.dialServer
	c.poll, c.allWinners = c.chance(40), c.chance(30)
	c.flaky, c.lossy, c.slow = c.between(0, 4), c.rng.IntN(12), c.between(1, 60)
	c.chaosUntil = c.rng.IntN(clusterChaosMax)
	for id := 1; id <= c.between(1, clusterAgencies); id++ {
		a := newSimAgency(c.world, codec.Agency(id))
		a.old = false
		c.agencies = append(c.agencies, a)
	}
	servers := 3
	if c.chance(30) {
		servers = 5
		c.noticed[seenFiveServers]++
	} else {
		c.noticed[seenThreeServers]++
	}
	for id := uint64(1); id <= uint64(servers); id++ {
		c.peers = append(c.peers, Peer{ID: id, Addr: fmt.Sprintf("server%d:12346", id), Agencies: clusterAddr(id)})
	}
	c.clusterChecks = newClusterChecks(c)
	c.said = c.checkSaid
	for _, peer := range c.peers {
		c.servers = append(c.servers, newClusterServer(c, peer.ID))
	}
	c.tracef("%d servers, poll %v, all winners %v, flaky %d %%, lossy %d %%, saves take up to %d, chaos until %d",
		servers, c.poll, c.allWinners, c.flaky, c.lossy, c.slow, c.chaosUntil)
	for _, s := range c.servers {
		s.start()
	}
}

// done reports whether every agency has its winners, and every server has ended with its goal.
func (c *cluster) done() bool {
	for _, s := range c.servers {
		if !s.over || s.outcome != nil {
			return false
		}
	}
	return c.world.done() && c.step >= c.chaosUntil
}

func (c *cluster) String() string {
	var words []string
	for _, s := range c.servers {
		words = append(words, s.String())
	}
	return strings.Join(words, "; ")
}

// next is one step of the run, picked at random.
func (c *cluster) next() {
	if c.step == c.chaosUntil {
		c.tracef("nothing breaks any more")
		for _, s := range c.servers {
			if s.member != nil {
				s.disk.Break(ledgertest.Fault{})
			}
		}
	}
	if c.chaos() && c.rng.IntN(1000) < 2*c.flaky {
		c.breakSomething()
		return
	}
	switch n := c.rng.IntN(100); {
	case n < 14:
		pick(c.world, c.servers).tick()
	case n < 50:
		for range 1 + len(c.network)/16 { // a full network takes no longer than an empty one
			c.deliver()
		}
	case n < 70:
		pick(c.world, c.servers).save()
	case n < 97:
		pick(c.world, c.servers).goOn()
	case n < 98:
		c.giveUp()
	default:
		c.operate()
	}
	c.goOn()
}

// giveUp has a process wait no longer for an answer, as Client does after a while.
func (c *cluster) giveUp() {
	if a := pick(c.world, c.agencies); len(a.processes) > 0 && c.chance(15) {
		if p := pick(c.world, a.processes).(*newProcess); p.link != nil && p.session.Hurried() {
			c.noticed[seenGaveUp]++
			c.tracef("%v gives up link %d", p, p.link.id)
			p.lost()
		}
	}
}

// operate does what the operator does: servers that were killed, or have ended without their goal, are
// started again, and all of them if the agencies still wait for something, or some server can't end
// alone.
func (c *cluster) operate() {
	s := pick(c.world, c.servers)
	if s.member == nil && (!s.over || s.outcome != nil) && c.chance(100*50*len(c.servers)/clusterRestart) {
		s.start()
	}
	over, led := true, false
	for _, s := range c.servers {
		over = over && s.over
		led = led || s.leading != nil
	}
	if led {
		c.ledSince = c.step
	}
	leftBehind := c.step-c.ledSince > clusterPatience
	if leftBehind {
		c.noticed[seenLeftBehind]++
		c.tracef("left behind: %s", c)
		if c.allThere {
			c.failf("all servers were there when the draw ended, and some are left behind: %s", c)
		}
	}
	if over && (!c.world.done() || c.chaos() && c.chance(5)) || leftBehind {
		c.noticed[seenStartedAgain]++
		c.tracef("the operator starts all servers again")
		c.ledSince = c.step
		for _, s := range c.servers {
			if s.over {
				s.start()
			}
		}
	}
}

// breakSomething breaks a connection, a process, a link, a server or a disk, or moves the leader.
func (c *cluster) breakSomething() {
	s := pick(c.world, c.servers)
	if leaders := c.leaders(); len(leaders) > 0 && c.chance(50) {
		s = pick(c.world, leaders)
	}
	other := pick(c.world, c.servers)
	until := c.step + c.rng.IntN(1+c.rng.IntN(3000))
	switch n := c.rng.IntN(100); {
	case n < 18:
		if len(c.links) > 0 {
			pick(c.world, c.links).cut()
		}
	case n < 24:
		pick(c.world, c.agencies).crashProcess()
	case n < 34:
		pick(c.world, c.agencies).takeOver()
	case n < 40:
		c.cut(s, other, until)
		c.noticed[seenCutOneWay]++
	case n < 45:
		c.cut(s, other, until)
		c.cut(other, s, until)
		c.noticed[seenCutBothWays]++
	case n < 55:
		// Cut off, with a clock that stands still: if it leads, it won't notice that it doesn't any more.
		until = c.step + 800 + c.rng.IntN(3000)
		s.stoppedUntil = until
		c.isolate(s, true, true, until)
		c.noticed[seenIsolated]++
	case n < 62:
		c.isolate(s, c.chance(80), c.chance(80), until)
	case n < 64:
		s.stoppedUntil = until
		c.noticed[seenClockStopped]++
		c.tracef("the clock of server %d stands still until %d", s.id, until)
	case n < 70:
		s.frozenUntil = until
		c.noticed[seenFrozen]++
		c.tracef("server %d is frozen until %d", s.id, until)
	case n < 78:
		s.kill()
	case n < 80:
		if s.member != nil {
			c.tracef("server %d is told to stop", s.id)
			s.stopping = true
		}
	case n < 82:
		c.noticed[seenAllKilled]++
		for _, s := range c.servers {
			s.kill()
		}
	case n < 86:
		if s.member != nil {
			s.disk.Break(ledgertest.Fault{N: c.between(1, 6)})
			c.tracef("server %d: the disk will break", s.id)
		}
	case n < 92:
		s.slowUntil = until
		c.noticed[seenSlowDisk]++
		c.tracef("server %d: saves are slow until %d", s.id, until)
	default:
		s.transfer(other.id)
	}
}

// leaders are the servers that think they lead.
func (c *cluster) leaders() (all []*clusterServer) {
	for _, s := range c.servers {
		if s.leading != nil {
			all = append(all, s)
		}
	}
	return all
}
