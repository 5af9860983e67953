package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"loteria/engine/commit"
	"loteria/engine/ledger"
	"loteria/engine/replica"
	"loteria/engine/replica/replicatest"
)

// scenarioSeeds is how many runs there are of each scenario. They differ in the order of messages,
// and in how long servers wait for a leader.
const scenarioSeeds = 20

const (
	// scenarioTickSteps is how many steps of the simulation a tick takes. All messages arrive within
	// a tick.
	scenarioTickSteps = 50
	// scenarioWaitTicks is how long something has to stay undone that waits. It is shorter than the
	// time after which a leader that hears nobody gives up.
	scenarioWaitTicks = 5
	// scenarioTicksMax is how long something may take that has to happen.
	scenarioTicksMax = 500
)

var errScenario = errors.New("the scenario went otherwise")

// TestScenarios runs testdata/scenarios/*.txt. REPLICATION.md describes their language.
//
//	go test ./engine/replica -run TestScenarios -v
//	go test ./engine/replica -run TestScenarios/old-leader-returns -v
//
// A scenario runs in the simulation, and everything that has to hold in that has to hold here: see
// simulation_check_test.go.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	page, err := os.ReadFile("REPLICATION.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(page, []byte("("+file+")")) {
				t.Errorf("REPLICATION.md doesn't list %s", file)
			}
			say := t.Logf
			for seed := uint64(1); seed <= scenarioSeeds; seed++ {
				if err := runScenario(t, string(text), seed, say); err != nil {
					t.Fatalf("%s, seed %d: %v", file, seed, err)
				}
				say = func(string, ...any) {}
			}
		})
	}
}

// A scenario that says something wrong fails.
func TestScenariosNoticeMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"elect 1\nexpect leader 2":                                     "line 2: expect leader 2: server 1 leads",
		"elect 1\ncommit a at 1 -> waits":                              "line 2: commit a at 1 -> waits: it is done",
		"elect 1\ncommit a at 2 -> done":                               "line 2: commit a at 2 -> done: it is not leader",
		"elect 1\ncut 1 from 2 3\ncommit a at 1 -> done":               "it is not leader",
		"elect 1\ncut 1 from 2 3\nread at 1 -> done":                   "it is not leader",
		"elect 1\ncommit a at 1 -> done\nexpect log of 1: b":           "line 3: expect log of 1: b: it is a",
		"elect 1\ncommit a at 1 -> done\nexpect disk of 1: a a":        "line 3: expect disk of 1: a a: it is a",
		"elect 1\ncut 3 from 1 2\ncommit a at 1\nexpect logs equal":    "line 4: expect logs equal: it doesn't happen",
		"kill 2\nkill 3\nelect 1":                                      "line 3: elect 1: it doesn't happen",
		"elect 1\nkill 1\nstart 1 -> lost":                             "line 3: start 1 -> lost: it is not refused",
		"elect 1\ncommit a at 1\nkill 2\nforget 1 at 2\nstart 2\nwait": "lacks entries that this server had acknowledged",
		"elect 1\nexpect read back from disk":                          "no leader has",
		"elect 1\ncommit a at 1\ncommit a at 1\n":                      "line 3: commit a at 1: there is an a already",
		"elect 4\nwait": "line 1: elect 4: a server is 1, 2 or 3",
		"sleep":         "line 1: sleep: there is no such step",
		"elect 1":       "a scenario expects something",
	} {
		err := runScenario(t, text, 1, t.Logf)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// scenario is a run of one.
type scenario struct {
	*world
	ticks   int
	numbers map[string]int  // group: its number in the simulation
	slow    map[uint64]bool // servers whose saves don't end
	stopped map[uint64]bool // servers whose clocks stand still
	waiting map[string]*simServer
}

// runScenario runs a scenario's steps. It says each one, and when it is done.
func runScenario(t *testing.T, text string, seed uint64, say func(string, ...any)) (err error) {
	seedRaft(t, seed)
	r := &scenario{
		world: &world{
			rng: rand.New(rand.NewPCG(seed, 0)), seen: new(tally), slow: 1, seed: seed,
			cutUntil: map[[2]uint64]int{}, checks: newChecks(),
		},
		numbers: map[string]int{}, slow: map[uint64]bool{}, stopped: map[uint64]bool{},
		waiting: map[string]*simServer{},
	}
	step := ""
	defer func() {
		switch p := recover().(type) {
		case nil:
		case violation:
			err = fmt.Errorf("%w: %s: %s", errScenario, step, string(p))
		default:
			err = fmt.Errorf("%w: %s: panic: %v\n%s", errScenario, step, p, debug.Stack())
		}
	}()
	r.members.Servers = []replica.Server{{ID: 1}, {ID: 2}, {ID: 3}}
	r.changed, r.confirmed = []memberChange{{0, r.members}}, true
	for _, m := range r.members.Servers {
		s := newSimServer(r.world, m.ID, seed)
		s.voters, s.clock = r.members.Voters(), 100
		r.servers = append(r.servers, s)
	}
	for _, s := range r.servers {
		s.start()
	}
	expects := false
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		step = fmt.Sprintf("line %d: %s", number, line)
		expects = expects || strings.HasPrefix(line, "expect ") || strings.Contains(line, "->")
		r.do(line)
		say("%4d ticks  %s", r.ticks, line)
	}
	if !expects {
		return fmt.Errorf("%w: a scenario expects something", errScenario)
	}
	return nil
}

// do does a step. It fails the run if that isn't possible, or goes otherwise.
func (r *scenario) do(line string) {
	line, want, _ := strings.Cut(line, " -> ")
	line, names, _ := strings.Cut(line, ":")
	words := strings.Fields(line)
	var ids []uint64
	for _, word := range words {
		if id, err := strconv.ParseUint(word, 10, 64); err == nil {
			ids = append(ids, id)
		}
	}
	at := func(i int) *simServer {
		if i >= len(ids) || ids[i] == 0 || ids[i] > uint64(len(r.servers)) {
			r.failf("a server is 1, 2 or 3")
		}
		return r.server(ids[i])
	}
	verb := words[0]
	if verb == "expect" && len(words) > 1 {
		verb += " " + words[1]
	}
	switch verb {
	case "elect":
		r.elect(at(0))
	case "commit":
		r.commit(at(0), words[1], want)
	case "read":
		r.read(at(0), want)
	case "cut": // 1 from 2 3, or 1 to 2
		for i := 1; i < len(ids); i++ {
			r.cutUntil[[2]uint64{at(0).id, at(i).id}] = scenarioForever
			if slices.Contains(words, "from") {
				r.cutUntil[[2]uint64{ids[i], ids[0]}] = scenarioForever
			}
		}
	case "heal":
		clear(r.cutUntil)
	case "kill":
		at(0).kill()
	case "crash":
		at(0).crash()
	case "start":
		r.start(at(0), want)
	case "slow":
		r.slow[at(0).id] = true
	case "fast":
		r.slow[at(0).id] = false
	case "stop":
		r.stopped[at(0).id] = true
	case "go":
		r.stopped[at(0).id] = false
	case "forget": // 1 at 2
		r.forget(at(1), int(ids[0]))
	case "wait":
		for range scenarioWaitTicks * 5 {
			r.tick()
		}
	case "expect leader":
		r.expectLeader(at(0))
	case "expect no":
		r.expect(func() string {
			if leaders := r.leaders(); len(leaders) > 0 {
				return fmt.Sprintf("server %d leads", leaders[0].id)
			}
			return ""
		})
	case "expect log":
		s := at(0)
		r.expectNames(names, func() []replica.Entry {
			_, entries := s.disk.Durable()
			return entries[:s.replica.Committed()]
		})
	case "expect disk":
		s := at(0)
		r.expectNames(names, func() []replica.Entry { _, entries := s.disk.Durable(); return entries })
	case "expect logs":
		r.expectEqual()
	case "expect read": // back from disk
		if r.seen[seenReadBack] == 0 {
			r.failf("no leader has")
		}
	default:
		r.failf("there is no such step")
	}
}

const scenarioForever = 1 << 40

// tick lets a tick of time pass. Everything that can happen in it happens.
func (r *scenario) tick() {
	r.ticks++
	r.step += scenarioTickSteps
	for range len(r.network) {
		r.deliver()
	}
	for _, s := range r.servers {
		if !r.slow[s.id] {
			s.save()
		}
		if !r.stopped[s.id] {
			s.tick()
		}
	}
}

// until lets time pass until something has happened.
func (r *scenario) until(happened func() bool) {
	for range scenarioTicksMax {
		if happened() {
			return
		}
		r.tick()
	}
	r.failf("it doesn't happen in %d ticks: %s", scenarioTicksMax, r.world)
}

// expect lets time pass until nothing is wrong.
func (r *scenario) expect(wrong func() string) {
	for range scenarioTicksMax {
		if wrong() == "" {
			return
		}
		r.tick()
	}
	r.failf("%s", wrong())
}

// elect lets time pass until a server leads. If another one is elected first, it hands over, so that
// the same text is the same run.
func (r *scenario) elect(s *simServer) {
	r.until(func() bool {
		if s.leadership == nil {
			for _, other := range r.leaders() {
				if !r.stopped[other.id] && other.handsOver <= 0 {
					other.transfer(s.id)
				}
			}
		}
		return s.leadership != nil
	})
}

// commit begins to commit a group with this name, and waits for the outcome.
func (r *scenario) commit(s *simServer, name, want string) {
	if r.waiting[name] == nil && r.numbers[name] != 0 {
		r.failf("there is an %s already", name)
	}
	if s.leadership == nil && r.waiting[name] == nil {
		r.want("not leader", want)
		return
	}
	if r.waiting[name] == nil {
		r.number++
		r.numbers[name] = r.number
		group := s.machine.group(r.world, r.number)
		s.check(s.machine.take(group))
		r.begin(s, simCommit, r.number, func() error { return s.leadership.BeginCommit([][]byte{group}) })
	}
	r.outcome(s, want, func() bool { return r.isAcked[r.numbers[name]] })
	delete(r.waiting, name)
	if s.op != nil {
		r.waiting[name] = s
	}
}

// read asks a server that leads, or thinks so, for an answer that needs no record.
func (r *scenario) read(s *simServer, want string) {
	if s.leadership == nil {
		r.want("not leader", want)
		return
	}
	answered := r.seen[seenRead]
	if s.op != nil && s.op.kind != simRead {
		r.failf("server %d waits for something else", s.id)
	}
	if s.op == nil {
		r.begin(s, simRead, 0, s.leadership.BeginRead)
	}
	r.outcome(s, want, func() bool { return r.seen[seenRead] > answered })
}

func (r *scenario) begin(s *simServer, kind simKind, number int, begin func() error) {
	applied, _ := s.replica.Applied()
	op := &simOperation{kind: kind, number: number, acked: len(r.acked), applied: applied}
	err := begin()
	if s.op = op; err != nil {
		if !errors.Is(err, commit.ErrNotLeader) {
			r.failf("%v", err)
		}
		s.finish(err)
	}
	s.work()
}

// outcome waits for the outcome of what a server has begun, and compares it. Done is what happens if
// nothing is said.
func (r *scenario) outcome(s *simServer, want string, done func() bool) {
	if want == "waits" {
		for range scenarioWaitTicks {
			r.tick()
		}
	} else {
		r.until(func() bool { return s.op == nil })
	}
	switch {
	case s.op != nil:
		r.want("waits", want)
	case done():
		r.want("done", want)
	default:
		r.want("not leader", want)
	}
}

func (r *scenario) want(got, want string) {
	if want == "" {
		want = "done"
	}
	if got != want {
		r.failf("it is %s", got)
	}
}

// start starts a server. If it has lost what it had promised, it has to be refused, at once or when
// it hears of the leader.
func (r *scenario) start(s *simServer, want string) {
	if want != "lost" {
		s.start()
		return
	}
	defer func() {
		p := recover()
		said, refused := p.(violation)
		if !refused || !strings.Contains(string(said), replica.ErrLost.Error()) {
			panic(p)
		}
		s.disk.Kill()
		s.ended()
	}()
	s.start()
	for range scenarioTicksMax {
		r.tick()
	}
	r.failf("it is not refused")
}

// forget takes the last entries from a disk, and what it knew of them, as if it had said that they
// are saved and had not saved them.
func (r *scenario) forget(s *simServer, n int) {
	if s.replica != nil {
		r.failf("server %d runs", s.id)
	}
	state, entries := s.disk.Durable()
	keep := len(entries) - n
	state.Commit = min(state.Commit, uint64(keep))
	s.disk = replicatest.NewMemory(s.id)
	store := s.disk.Open()
	s.check(store.Save(replica.State{Term: state.Term, Vote: state.Vote}, entries[:keep]))
	s.check(store.Save(state, nil))
	r.checkedUp[s.id] = min(r.checkedUp[s.id], uint64(keep))
}

func (r *scenario) expectLeader(s *simServer) {
	r.expect(func() string {
		switch leaders := r.leaders(); {
		case s.leadership != nil:
			return ""
		case len(leaders) == 0:
			return "nobody leads"
		default:
			return fmt.Sprintf("server %d leads", leaders[0].id)
		}
	})
}

// expectNames waits until a log has the groups with these names, and no others.
func (r *scenario) expectNames(want string, log func() []replica.Entry) {
	want = strings.Join(strings.Fields(want), " ")
	r.expect(func() string {
		if got := r.namesOf(log()); got != want {
			return "it is " + got
		}
		return ""
	})
}

// namesOf returns the names of the groups in a log.
func (r *scenario) namesOf(log []replica.Entry) string {
	var names []string
	for _, e := range log {
		for rest := e.Records; len(rest) > 0; {
			var record ledger.Record
			record, rest = ledger.Unpack(rest)
			if record.Kind != ledger.Bets {
				continue
			}
			number, err := numberOf(record.Payload)
			if err != nil {
				r.failf("%v", err)
			}
			for name, n := range r.numbers {
				if n == number {
					names = append(names, name)
				}
			}
		}
	}
	return strings.Join(names, " ")
}

// expectEqual waits until all servers that run have the whole log, and compares their disks.
func (r *scenario) expectEqual() {
	r.until(func() bool {
		return !slices.ContainsFunc(r.servers, func(s *simServer) bool { return s.replica != nil && !s.settled() })
	})
	for _, s := range r.servers {
		_, entries := s.disk.Durable()
		if s.replica != nil && !slices.EqualFunc(entries, r.log, func(a, b replica.Entry) bool {
			return a.Index == b.Index && a.Term == b.Term && bytes.Equal(a.Records, b.Records)
		}) {
			r.failf("server %d has another log", s.id)
		}
	}
}
