package replica_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mutationsEnv turns TestMutations on. Compiling a mutation takes seconds. CI sets it.
//
//	LOTERIA_MUTATIONS=1 go test ./engine/replica -run Mutations -v
const mutationsEnv = "LOTERIA_MUTATIONS"

// mutation puts one mistake into the program. The simulation has to find it within seeds runs, or
// another test has to.
type mutation struct {
	name    string
	changes []change
	seeds   int
	test    string // empty: the simulation
}

type change struct {
	file     string // from this directory
	old, new string // old must be in the file exactly once
}

var mutations = []mutation{
	{
		name: "no barrier at take-over",
		changes: []change{{
			file: "node.go",
			old:  "\t\ts.Role = Elected\n",
			new:  "\t\ts.Role = Leading\n",
		}},
		seeds: 500,
	},
	{
		name: "a leadership begins before the state machine has what is committed",
		changes: []change{{
			file: "replica.go",
			old:  "\t\tif behind {",
			new:  "\t\tif behind && w.Status.Term == 0 {",
		}},
		test: "TestLeaderAgainRebuildsFirst",
	},
	{
		name: "a group is acknowledged before a quorum has it",
		changes: []change{{
			file: "leadership.go",
			old:  "\t\tp.stage = asked\n",
			new:  "\t\tp.stage = asked\n\t\tif !p.read {\n\t\t\tp.stage = done\n\t\t}\n",
		}},
		seeds: 500,
	},
	{
		name: "a follower answers before it has saved",
		changes: []change{{
			file: "node.go",
			old:  "\tfor _, p := range m.GetResponses() {\n\t\tn.next.promise",
			new:  "\tfor _, p := range m.GetResponses() {\n\t\tif p.GetTo() != n.cfg.ID {\n\t\t\tn.outgoing = append(n.outgoing, p)\n\t\t\tcontinue\n\t\t}\n\t\tn.next.promise",
		}},
		seeds: 500,
	},
	{
		name: "a leader counts its own disk before it has saved",
		changes: []change{{
			file: "node.go",
			old:  "\tfor _, p := range m.GetResponses() {\n\t\tn.next.promise",
			new:  "\tfor _, p := range m.GetResponses() {\n\t\tif p.GetTo() == n.cfg.ID && p.GetType() == raftpb.MsgAppResp {\n\t\t\t_ = n.raw.Step(p)\n\t\t\tcontinue\n\t\t}\n\t\tn.next.promise",
		}},
		seeds: 500,
	},
	{
		name: "a leader's entries wait for its own save",
		changes: []change{{
			file: "node.go",
			old:  "case m.GetType() == raftpb.MsgVote:",
			new:  "case m.GetType() == raftpb.MsgVote, m.GetType() == raftpb.MsgApp:",
		}},
		test: "TestLeaderSendsBesideItsSave",
	},
	{
		name: "a candidate asks for votes before it has saved",
		changes: []change{{
			file: "node.go",
			old:  "case m.GetType() == raftpb.MsgVote:",
			new:  "case m.GetType() == raftpb.MsgSnap:",
		}},
		seeds: 500,
	},
	{
		name: "what waits for the next save leaves with this one",
		changes: []change{{
			file: "node.go",
			old:  "return n.keep(s.promises)",
			new:  "all := append(s.promises, n.next.promises...)\n\t\tn.next.promises = nil\n\t\treturn n.keep(all)",
		}},
		seeds: 500,
	},
	{
		name: "a read is answered without asking a quorum",
		changes: []change{{
			file: "leadership.go",
			old:  "\tl.begin(true)\n",
			new:  "\tl.pending = operation{stage: done}\n",
		}},
		seeds: 5000,
	},
	{
		name: "a learner votes",
		changes: []change{{
			file: "node.go",
			old:  "&raftpb.ConfState{Voters: members.Voters(), Learners: members.Learners()}",
			new:  "&raftpb.ConfState{Voters: append(members.Voters(), members.Learners()...)}",
		}},
		seeds: 500,
	},
	{
		name: "a learner that was added votes",
		changes: []change{{
			file: "membership.go",
			old:  "step(raftpb.ConfChangeAddLearnerNode, id)",
			new:  "step(raftpb.ConfChangeAddNode, id)",
		}},
		seeds: 500,
	},
	{
		name: "a learner is promoted before it has caught up",
		changes: []change{{
			file: "change.go",
			old:  "c.what.Kind == Promote && !c.caughtUp(n)",
			new:  "c.what.Kind == Promote && !c.caughtUp(n) && n == nil",
		}},
		seeds: 2000,
	},
	{
		name: "an id is taken again",
		changes: []change{{
			file: "membership.go",
			old:  "(known || m.removed(c.ID))",
			new:  "known",
		}},
		seeds: 500,
	},
	{
		name: "a change begins before the one before is confirmed",
		changes: []change{
			{file: "change.go", old: " || n.changing != 0 || !n.confirmed", new: ""},
			{file: "node.go", old: "\tif !n.confirmed || n.changing != 0 {\n", new: "\tif n == nil {\n"},
		},
		seeds: 500,
	},
	{
		name: "a change is done before a majority knows of it",
		changes: []change{{
			file: "change.go",
			old:  "case l.change.applied && l.replica.node.confirmed:",
			new:  "case l.change.applied:",
		}},
		seeds: 500,
	},
	{
		name: "a server that was removed isn't told",
		changes: []change{{
			file: "node.go",
			old:  "\t\t\tn.sayRemoved(from)\n",
			new:  "",
		}},
		seeds: 500,
	},
	{
		name: "a start goes back by two memberships",
		changes: []change{{
			file: "node.go",
			old:  "state.Commit = max(state.Commit, before)",
			new:  "_ = before",
		}},
		test: "TestStartKeepsMembers", // the simulation needs some 12,000 seeds
	},
	{
		name: "a server is told of its removal by one that may forget it",
		changes: []change{{
			file: "node.go",
			old:  "\tn.next.promise(&raftpb.Message{\n\t\tType: raftpb.MsgPreVoteResp.Enum()",
			new:  "\tn.outgoing = append(n.outgoing, &raftpb.Message{\n\t\tType: raftpb.MsgPreVoteResp.Enum()",
		}, {
			file: "node.go",
			old:  "\t\tReject: new(true), Context: []byte(removedContext),\n\t}, n.cfg.ID)",
			new:  "\t\tReject: new(true), Context: []byte(removedContext),\n\t})",
		}},
		test: "TestRemovedIsToldLast",
	},
	{
		name: "a start cuts off what was promised",
		changes: []change{{
			file: "replicatest/memory.go",
			old:  "\tm.sync()\n\tm.opened++\n",
			new: `	m.sync()
	if n := len(m.durable.entries); uint64(n) > m.durable.state.Commit {
		m.durable.entries = m.durable.entries[:n-1]
		m.written = kept{m.durable.state, slices.Clone(m.durable.entries)}
	}
	m.opened++
`,
		}},
		seeds: 5000,
	},
	{
		name: "a start forgets a vote",
		changes: []change{{
			file: "replicatest/memory.go",
			old:  "\tm.sync()\n\tm.opened++\n",
			new:  "\tm.sync()\n\tm.opened++\n\tm.durable.state.Vote = 0\n\tm.written.state.Vote = 0\n",
		}},
		seeds: 50000,
	},
	{
		name: "a save counts on its own entries",
		changes: []change{{
			file: "node.go",
			old:  "s.state.Commit = max(n.state.Commit, min(s.state.Commit, known))",
			new:  "_ = known",
		}},
		seeds: 500,
	},
	{
		name: "a seal waits for the next save",
		changes: []change{{
			file: "node.go",
			old:  " ||\n\t\tn.known > n.state.Commit",
			new:  "",
		}},
		seeds: 500,
	},
	{
		name: "a deposed leader's state machine is fed on",
		changes: []change{
			{file: "replica.go", old: "\t\t\tr.visit = nil\n", new: ""},
			{file: "replica.go", old: "\t\tr.visit, r.fed, r.seq = r.fresh(), 0, 0\n", new: ""},
		},
		seeds: 500,
	},
	{
		name: "a group is proposed again while its outcome is unknown",
		changes: []change{{
			file: "leadership.go",
			old:  "if l.pending.stage == waiting && !l.lost {",
			new:  "if (l.pending.stage == waiting || l.pending.stage == asked && !l.pending.read) && !l.lost {",
		}},
		seeds: 500,
	},
	{
		name: "entries that were replaced stay in memory",
		changes: []change{{
			file: "storage.go",
			old:  "s.recent[n-1].Index >= entries[0].Index; n--",
			new:  "s.recent[n-1].Index >= entries[0].Index && entries[0].Index == 0; n--",
		}},
		seeds: 2000,
	},
	{
		name: "a save keeps entries that were replaced",
		changes: []change{{
			file: "save.go",
			old:  "s.entries[keep].Index < entries[0].Index {",
			new:  "s.entries[keep].Index > 0 {",
		}},
		test: "TestSaveReplaces",
	},
	{
		name: "what waits for the disk has no limit",
		changes: []change{{
			file: "node.go",
			old:  "return unsaved > 0 && unsaved+",
			new:  "return unsaved > 1<<30 && unsaved+",
		}},
		seeds: 2000,
	},
	{
		name: "everything that is saved stays in memory",
		changes: []change{{
			file: "storage.go",
			old:  "s.recentBytes > s.bytesMax {",
			new:  "s.recentBytes > 1<<30 {",
		}},
		seeds: 500,
	},
}

// Every mutation still finds the code that it changes.
func TestMutationsApply(t *testing.T) {
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) { m.overlay(t, t.TempDir()) })
	}
}

// The simulation notices every mutation.
func TestMutations(t *testing.T) {
	if os.Getenv(mutationsEnv) == "" {
		t.Skipf("compiles the package %d times: set %s=1", len(mutations), mutationsEnv)
	}
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			program := filepath.Join(dir, "mutant.test")
			build := exec.Command("go", "test", "-c", "-overlay", m.overlay(t, dir), "-o", program, ".")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("the mutant doesn't compile: %v\n%s", err, out)
			}
			test, want := "TestSimulation", `seed \d+: `+errViolation.Error()+`.*`
			if m.test != "" {
				test, want = m.test, `\w+_test.go.*`
			}
			run := exec.Command(program, "-test.run", "^"+test+"$", "-test.timeout", "10m")
			run.Env = append(os.Environ(), fmt.Sprintf("%s=%d", seedsEnv, m.seeds))
			out, err := run.CombinedOutput()
			found := regexp.MustCompile(want).Find(out)
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || found == nil {
				t.Fatalf("not noticed in %d seeds: %v\n%s", m.seeds, err, out)
			}
			t.Logf("%.200s", found)
		})
	}
}

// overlay writes the mutated files, and the file that tells the go command to use them. It returns
// the latter's name.
func (m mutation) overlay(t *testing.T, dir string) (name string) {
	t.Helper()
	mutants := map[string]string{}
	for _, c := range m.changes {
		file, err := filepath.Abs(c.file)
		if err != nil {
			t.Fatal(err)
		}
		from, again := mutants[file]
		if !again {
			from = file
			mutants[file] = filepath.Join(dir, fmt.Sprintf("%d_%s", len(mutants), filepath.Base(file)))
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), c.old); n != 1 {
			t.Fatalf("%s has %d places to mutate, want 1; it has changed, so change the mutation:\n%s", c.file, n, c.old)
		}
		if err := os.WriteFile(mutants[file], []byte(strings.Replace(string(source), c.old, c.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": mutants})
	if err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
