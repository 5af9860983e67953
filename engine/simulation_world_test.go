package engine

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// Bounds of one run.
const (
	simStepsMax   = 60_000 // a run that has not ended by then never will
	simChaosMax   = 1500   // the most steps in which things break
	simAgencies   = 5
	simBetsMax    = 40 // of an agency
	simStepPeriod = time.Millisecond
	// simStageRequests leaves room for two requests of every connection. What a loop says of its
	// own accord must never wait, because nothing else runs meanwhile.
	simStageRequests = 200
	simWinning       = 7
	simDocument      = 1000 // of an agency's first bet
)

// world is one run. The goroutine that called simulate owns everything in it.
type world struct {
	rng   *rand.Rand
	trace func(format string, args ...any) // nil: no trace is wanted
	seen  *tally

	// Settings of this draw, the same in all of the server's lives.
	poll, allWinners bool
	volatile         bool      // SERVER_DURABILITY=os: the machine never crashes
	flaky            int       // how much breaks, in percent of the steps
	guard            *simGuard // nil: nobody has to authenticate

	now        time.Time
	chaosUntil int // from this step on nothing breaks
	step       int
	disk       *simDisk
	agencies   []*simAgency
	strangers  []process
	links      []*simLink
	linkCount  int

	dial  func(p process) *simLink // opens a connection for a process; nil if it can't
	said  func(a *simAgency)       // a server has told an agency something; nil: nobody asks
	loops []*simLoop               // of all servers that serve agencies

	server     *simServer // nil while it is down
	ledger     *ledger.Ledger
	life       int  // how often the server was started
	committing bool // the committer is at work; loops and agencies go on meanwhile

	drawn    int  // how often a draw was announced
	promised bool // some agency was told of the draw, so there was one
}

// event is something that must happen now and then if the simulation is any good.
type event int

const (
	seenDraw event = iota
	seenCut
	seenZombie
	seenTakeover
	seenTakenOverTold
	seenAgencyCrash
	seenProcessCrash
	seenMachineCrash
	seenCrashWhileCommitting
	seenCrashWhileStarting
	seenCrashUnanswered
	seenStorageError
	seenTorn
	seenRotation
	seenGoalReached
	seenUnfinished
	seenTimeout
	seenTooMany
	seenHold
	seenLegacyResend
	seenBufferedWinners
	seenStageFull
	seenWriteError
	seenBitRot
	seenLostSector
	seenStranger
	seenWindowExceeded
	seenSignal
	seenReceipt
	seenReceiptAgain
	seenWinnersUnread
	seenWinnersUnsaved
	seenOutstayed
	seenShed
	seenAuthenticated
	seenAuthenticationRequired
	seenAuthenticationFailed
	events
)

var eventNames = [events]string{
	seenDraw:                 "draw",
	seenCut:                  "connection cut",
	seenZombie:               "agency back before its old connection is gone",
	seenTakeover:             "second process of an agency",
	seenTakenOverTold:        "process that was told of a takeover",
	seenAgencyCrash:          "agency crash",
	seenProcessCrash:         "server crash",
	seenMachineCrash:         "machine crash",
	seenCrashWhileCommitting: "crash in a commit",
	seenCrashWhileStarting:   "crash in a start",
	seenCrashUnanswered:      "crash between sync and answers",
	seenStorageError:         "storage error",
	seenTorn:                 "torn tail",
	seenRotation:             "rotation",
	seenGoalReached:          "server that ended with its goal",
	seenUnfinished:           "server that ended without its goal",
	seenTimeout:              "time-out",
	seenTooMany:              "too many connections",
	seenHold:                 "hold in poll mode",
	seenLegacyResend:         "old agency that sent a batch again",
	seenBufferedWinners:      "winners that the socket didn't take at once",
	seenStageFull:            "full stage",
	seenWriteError:           "failed write",
	seenBitRot:               "flipped bit",
	seenLostSector:           "lost sector",
	seenStranger:             "stranger",
	seenWindowExceeded:       "window exceeded",
	seenSignal:               "server told to stop",
	seenShed:                 "half frame too many",

	seenReceipt:        "receipt that was acknowledged",
	seenReceiptAgain:   "receipt that was said again",
	seenWinnersUnread:  "winners that a process never read",
	seenWinnersUnsaved: "winners that a process didn't save",
	seenOutstayed:      "agency that stayed connected after the draw",

	seenAuthenticated:          "agency that authenticated",
	seenAuthenticationRequired: "stranger that didn't authenticate",
	seenAuthenticationFailed:   "stranger that failed to authenticate",
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

func newWorld(seed uint64, seen *tally, trace func(string, ...any)) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 0)), seen: seen, trace: trace, now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
	w.dial = w.connect
	return w
}

// violated turns a panic into an error, which wraps errViolation. It has to be deferred.
func (w *world) violated(err *error) {
	switch p := recover().(type) {
	case nil:
	case violation:
		*err = fmt.Errorf("%w: step %d: %s", errViolation, w.step, string(p))
	default:
		*err = fmt.Errorf("%w: step %d: panic: %v\n%s", errViolation, w.step, p, debug.Stack())
	}
}

// simulate runs one seed. An error wraps errViolation.
func simulate(seed uint64, seen *tally, trace func(string, ...any)) (err error) {
	w := newWorld(seed, seen, trace)
	defer w.violated(&err)
	w.guard = newSimGuard(seed)
	w.setUp()
	for w.step = 0; !w.done(); w.step++ {
		if w.step == simStepsMax {
			w.failf("not done after %d steps: %s", w.step, w.waitingFor())
		}
		w.now = w.now.Add(simStepPeriod)
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
		w.trace("%5d "+format, append([]any{w.step}, args...)...)
	}
}

// chance is true with a probability of percent.
func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

// between is a random number from low to high, both included.
func (w *world) between(low, high int) int { return low + w.rng.IntN(high-low+1) }

func (w *world) chaos() bool { return w.step < w.chaosUntil }

func (w *world) setUp() {
	w.poll, w.allWinners, w.volatile = w.chance(40), w.chance(30), w.chance(10)
	w.flaky = w.between(0, 5)
	w.chaosUntil = w.rng.IntN(simChaosMax)
	w.disk = newSimDisk(w)
	for id := 1; id <= w.between(1, simAgencies); id++ {
		w.agencies = append(w.agencies, newSimAgency(w, codec.Agency(id)))
	}
	w.tracef("poll %v, all winners %v, volatile %v, guarded %v, flaky %d %%, chaos until %d", w.poll, w.allWinners, w.volatile, w.guard != nil, w.flaky, w.chaosUntil)
}

func (w *world) rules() lottery.Rules {
	return lottery.Rules{Agencies: len(w.agencies), Poll: w.poll, AllWinners: w.allWinners}
}

// done reports whether every agency has its winners and no process is left.
func (w *world) done() bool {
	for _, a := range w.agencies {
		if !a.done || len(a.processes) > 0 {
			return false
		}
	}
	return true
}

func (w *world) waitingFor() string {
	var words []string
	for _, a := range w.agencies {
		words = append(words, a.String())
	}
	if w.server == nil {
		words = append(words, "server down")
	}
	return strings.Join(words, "; ")
}

// next is one step of the run, picked at random.
func (w *world) next() {
	if w.server == nil {
		if w.chance(10) {
			w.start()
			return
		}
	} else if w.chaos() && w.rng.IntN(100) < w.flaky {
		w.breakSomething()
		return
	}
	switch n := w.rng.IntN(100); {
	case n < 12:
		w.commit()
	case n < 15:
		w.tick()
	default:
		w.goOn()
	}
}

// goOn is a step of anything except the committer. It also happens while a group is being
// committed, because loops and agencies don't wait for that.
func (w *world) goOn() {
	switch n := w.rng.IntN(100); {
	case n < 30:
		pick(w, w.agencies).act()
	case n < 33:
		if len(w.strangers) > 0 {
			pick(w, w.strangers).act()
		}
	case n < 58:
		w.deliverToServer()
	case n < 78:
		w.deliverToAgency()
	case n < 92:
		w.runLoop()
	case n < 97:
		w.acknowledge()
	default:
		w.takeFromSocket()
	}
}

func pick[T any](w *world, from []T) T { return from[w.rng.IntN(len(from))] }

// breakSomething breaks a connection, a process, the server or the disk, or brings a stranger.
func (w *world) breakSomething() {
	switch n := w.rng.IntN(100); {
	case n < 40:
		if len(w.links) > 0 {
			pick(w, w.links).cut()
		}
	case n < 55:
		pick(w, w.agencies).crashProcess()
	case n < 68:
		pick(w, w.agencies).takeOver()
	case n < 73:
		w.strangerComes()
	case n < 79:
		w.crash()
	case n < 82:
		w.signal()
	default:
		// One of the next operations fails. Most of them are a commit's.
		w.disk.breakAt(w.between(1, 12), w.chance(80))
		w.tracef("the disk will break")
	}
}

// crash ends the server between two steps. Answers that wait for their loop are lost, although
// their group is durable.
func (w *world) crash() {
	for _, lp := range w.loops {
		if lp.answering {
			w.seen[seenCrashUnanswered]++
			break
		}
	}
	w.tracef("the server crashes")
	w.serverGone()
}
