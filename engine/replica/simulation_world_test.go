package replica_test

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"testing"

	"loteria/engine/replica"
)

// Bounds of one run.
const (
	simStepsMax = 200_000 // a run that has not ended by then never will
	simChaosMax = 16_000  // the most steps in which things break
	simLastMax  = 600     // how many steps clients go on for when nothing breaks any more
)

// world is one run. The goroutine that called simulate owns everything in it.
type world struct {
	rng   *rand.Rand
	trace func(format string, args ...any) // nil: no trace is wanted
	seen  *tally

	flaky      int  // how much breaks, in a thousandth of the steps
	lossy      int  // how many messages are lost, in percent
	busy       int  // how often a client asks for something, in percent
	slow       int  // how long a save takes at most, in steps; but see simServer.slow
	lazy       bool // servers do no more at a time than they have to
	step       int
	chaosUntil int // from this step on nothing breaks

	seed     uint64
	servers  []*simServer // by id, from 1; also those that are gone
	network  []simMessage
	cutUntil map[[2]uint64]int // from, to: no message is delivered until this step

	operator
	checks
}

// event is something that must happen now and then if the simulation is any good.
type event int

const (
	seenThree event = iota
	seenFive
	seenLearner
	seenBegun
	seenEnded
	seenInherited
	seenTwoLeaders
	seenRebuilt
	seenRebuiltAhead
	seenAcknowledged
	seenUnknownKept
	seenUnknownLost
	seenWaited
	seenRead
	seenReadRefused
	seenReadDeposed
	seenSealed
	seenTransfer
	seenCutOneWay
	seenCutBoth
	seenIsolated
	seenLost
	seenDuplicated
	seenStale
	seenPaused
	seenClockStopped
	seenKill
	seenCrash
	seenCrashSaving
	seenTorn
	seenSaveFailed
	seenSlowSave
	seenReplaced
	seenReadBack
	seenFull
	seenWiped
	seenAdded
	seenPromoted
	seenGone
	seenTold
	seenLeaderToGo
	seenGoneElected
	seenStranger
	seenRefused
	seenNoQuorum
	seenAbandoned
	seenChangeUnknown
	seenLeaderLost
	events
)

var eventNames = [events]string{
	seenThree:         "three voters",
	seenFive:          "five voters",
	seenLearner:       "learner",
	seenBegun:         "leadership",
	seenEnded:         "leadership that was lost by a server that lives",
	seenInherited:     "leader that committed what earlier ones had not",
	seenTwoLeaders:    "two servers that think they lead",
	seenRebuilt:       "state machine that was rebuilt",
	seenRebuiltAhead:  "state machine that was dropped with a group of unknown outcome",
	seenAcknowledged:  "group that was acknowledged",
	seenUnknownKept:   "group of unknown outcome that is in the log",
	seenUnknownLost:   "group of unknown outcome that isn't in the log",
	seenWaited:        "group that had to wait for room or for a transfer",
	seenRead:          "read that was answered",
	seenReadRefused:   "read that was refused",
	seenReadDeposed:   "read that was asked of a leader whose successor has begun",
	seenSealed:        "seal",
	seenTransfer:      "leader that was moved",
	seenCutOneWay:     "link cut one way",
	seenCutBoth:       "link cut both ways",
	seenIsolated:      "server cut off",
	seenLost:          "lost message",
	seenDuplicated:    "repeated message",
	seenStale:         "message from before its receiver's start",
	seenPaused:        "paused server",
	seenClockStopped:  "clock that stood still",
	seenKill:          "killed process",
	seenCrash:         "crashed machine",
	seenCrashSaving:   "crash in a save",
	seenTorn:          "torn save",
	seenSaveFailed:    "failed save",
	seenSlowSave:      "slow save",
	seenReplaced:      "entries that were replaced",
	seenReadBack:      "entries that a leader read back from its disk",
	seenFull:          "message that was dropped because the disk is behind",
	seenWiped:         "lost disk",
	seenAdded:         "server that was added",
	seenPromoted:      "learner that was promoted",
	seenGone:          "server that was removed",
	seenTold:          "server that was told that it was removed",
	seenLeaderToGo:    "leader that was to remove itself",
	seenGoneElected:   "server that was elected and had been removed",
	seenStranger:      "entries from a leader who isn't a known member",
	seenRefused:       "wrong change that was refused",
	seenNoQuorum:      "change that would have left no quorum",
	seenAbandoned:     "change that nobody waited for any more",
	seenChangeUnknown: "change of unknown outcome",
	seenLeaderLost:    "leader whose connection ended",
}

func (e event) String() string { return eventNames[e] }

// tally counts events.
type tally [events]int

func (t tally) String() string {
	var words []string
	for e, n := range t {
		words = append(words, fmt.Sprintf("%s %d", event(e), n))
	}
	return strings.Join(words, ", ")
}

// simulate runs one seed. An error wraps errViolation.
func simulate(t *testing.T, seed uint64, seen *tally, trace func(string, ...any)) (err error) {
	seedRaft(t, seed)
	w := &world{rng: rand.New(rand.NewPCG(seed, 0)), seed: seed, seen: seen, trace: trace, cutUntil: map[[2]uint64]int{}, checks: newChecks()}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case violation:
			err = fmt.Errorf("%w: step %d: %s", errViolation, w.step, string(p))
		default:
			err = fmt.Errorf("%w: step %d: panic: %v\n%s", errViolation, w.step, p, debug.Stack())
		}
	}()
	w.setUp(seed)
	for w.step = 0; !w.done(); w.step++ {
		if w.step == simStepsMax {
			w.failf("not done after %d steps: %s", w.step, w)
		}
		w.next()
	}
	w.checkEnd()
	return nil
}

// violation is the value of a panic: what did not hold.
type violation string

func (w *world) failf(format string, args ...any) { panic(violation(fmt.Sprintf(format, args...))) }

func (w *world) tracef(format string, args ...any) {
	if w.trace != nil {
		w.trace("%6d "+format, append([]any{w.step}, args...)...)
	}
}

// chance is true with a probability of percent.
func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func pick[T any](w *world, from []T) T { return from[w.rng.IntN(len(from))] }

func (w *world) chaos() bool { return w.step < w.chaosUntil }

func (w *world) setUp(seed uint64) {
	w.flaky, w.lossy, w.slow = w.rng.IntN(8), w.rng.IntN(12), 1+w.rng.IntN(60)
	w.lazy = w.chance(50)
	w.busy = 3 + w.rng.IntN(60)
	w.chaosUntil = w.rng.IntN(simChaosMax)
	voters := 3
	w.seen[seenThree]++
	if w.chance(40) {
		voters = 5
		w.seen[seenFive]++
		w.seen[seenThree]--
	}
	for id := uint64(1); id <= uint64(voters); id++ {
		w.members.Servers = append(w.members.Servers, replica.Server{ID: id})
	}
	if w.chance(25) {
		w.members.Servers = append(w.members.Servers, replica.Server{ID: uint64(voters + 1), Learner: true})
		w.seen[seenLearner]++
	}
	for _, m := range w.members.Servers {
		s := newSimServer(w, m.ID, seed)
		s.voters, s.learners = w.members.Voters(), w.members.Learners()
		w.servers = append(w.servers, s)
	}
	w.changed, w.confirmed = []memberChange{{0, w.members}}, true
	if w.chance(60) {
		w.plans = 1 + w.rng.IntN(simPlansMax)
	}
	w.tracef("%v, flaky %d, lossy %d %%, saves take up to %d, chaos until %d",
		w.members, w.flaky, w.lossy, w.slow, w.chaosUntil)
	for _, s := range w.servers {
		s.start()
	}
}

func (w *world) server(id uint64) *simServer { return w.servers[id-1] }

// done reports whether all servers have the same log and state, some time after the last fault.
func (w *world) done() bool {
	if w.step < w.chaosUntil+simLastMax || !w.ended {
		return false
	}
	for _, s := range w.servers {
		if !s.gone && !s.settled() {
			return false
		}
	}
	return true
}

func (w *world) String() string {
	var words []string
	for _, s := range w.servers {
		words = append(words, s.String())
	}
	return strings.Join(words, "; ")
}

// next is one step of the run, picked at random.
func (w *world) next() {
	if w.chaos() && w.rng.IntN(1000) < w.flaky {
		w.breakSomething()
		return
	}
	if w.step == w.chaosUntil {
		clear(w.cutUntil)
	}
	switch n := w.rng.IntN(100); {
	case n < 14:
		pick(w, w.servers).tick()
	case n < 62:
		w.deliver()
	case n < 85:
		pick(w, w.servers).save()
	case n < 96:
		pick(w, w.servers).act()
	case n < 97:
		w.operate()
	default:
		if s := pick(w, w.servers); s.replica == nil && !s.gone && (!w.chaos() || w.chance(40)) {
			s.start()
		}
	}
}

// breakSomething breaks a link, a server or a disk, or moves the leader.
func (w *world) breakSomething() {
	s := pick(w, w.servers)
	if leaders := w.leaders(); len(leaders) > 0 && w.chance(50) {
		s = pick(w, leaders)
	}
	until := w.step + w.rng.IntN(1+w.rng.IntN(3000))
	switch n := w.rng.IntN(100); {
	case n < 15:
		other := pick(w, w.servers)
		w.cut(s.id, other.id, until)
		w.seen[seenCutOneWay]++
	case n < 25:
		other := pick(w, w.servers)
		w.cut(s.id, other.id, until)
		w.cut(other.id, s.id, until)
		w.seen[seenCutBoth]++
	case n < 32:
		// Cut off, with a clock that stands still, and with clients that ask later: if it leads, it
		// won't notice that it doesn't any more.
		if leaders := w.leaders(); len(leaders) > 0 {
			s = pick(w, leaders)
		}
		until = w.step + 800 + w.rng.IntN(3000)
		s.stopClock(until)
		s.quietUntil = w.step + w.rng.IntN(until-w.step)
		for _, other := range w.servers {
			w.cut(s.id, other.id, until)
			w.cut(other.id, s.id, until)
		}
		w.seen[seenIsolated]++
	case n < 40:
		outgoing, incoming := w.chance(80), w.chance(80)
		for _, other := range w.servers {
			if outgoing {
				w.cut(s.id, other.id, until)
			}
			if incoming {
				w.cut(other.id, s.id, until)
			}
		}
		w.seen[seenIsolated]++
	case n < 42:
		s.stopClock(until)
	case n < 50:
		s.pausedUntil = until
		w.seen[seenPaused]++
		w.tracef("server %d pauses until %d", s.id, s.pausedUntil)
	case n < 60:
		s.kill()
	case n < 72:
		s.crash()
	case n < 80:
		if s.replica != nil {
			s.disk.Fail(1 + w.rng.IntN(3))
			w.tracef("server %d: a save will fail", s.id)
		}
	case n < 88:
		s.slowUntil = until
		w.seen[seenSlowSave]++
		w.tracef("server %d: saves are slow until %d", s.id, s.slowUntil)
	default:
		if s.leadership != nil {
			s.transfer(pick(w, w.members.Voters()))
		}
	}
}

// leaders are the servers that think they lead.
func (w *world) leaders() (all []*simServer) {
	for _, s := range w.servers {
		if s.leadership != nil {
			all = append(all, s)
		}
	}
	return all
}
