package replica_test

import (
	"testing"

	"loteria/engine/mutationtest"
)

var mutations = []mutationtest.Mutation{
	{
		Name: "no barrier at take-over",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "\t\ts.Role = Elected\n",
			New:  "\t\ts.Role = Leading\n",
		}},
		Seeds: 500,
	},
	{
		Name: "a leadership begins before the state machine has what is committed",
		Changes: []mutationtest.Change{{
			File: "replica.go",
			Old:  "\t\tif behind {",
			New:  "\t\tif behind && w.Status.Term == 0 {",
		}},
		Test: "TestLeaderAgainRebuildsFirst",
	},
	{
		Name: "a group is acknowledged before a quorum has it",
		Changes: []mutationtest.Change{{
			File: "leadership.go",
			Old:  "\t\tp.stage = asked\n",
			New:  "\t\tp.stage = asked\n\t\tif !p.read {\n\t\t\tp.stage = done\n\t\t}\n",
		}},
		Seeds: 500,
	},
	{
		Name: "a follower answers before it has saved",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "\tfor _, p := range m.GetResponses() {\n\t\tn.next.promise",
			New:  "\tfor _, p := range m.GetResponses() {\n\t\tif p.GetTo() != n.cfg.ID {\n\t\t\tn.outgoing = append(n.outgoing, p)\n\t\t\tcontinue\n\t\t}\n\t\tn.next.promise",
		}},
		Seeds: 500,
	},
	{
		Name: "a leader counts its own disk before it has saved",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "\tfor _, p := range m.GetResponses() {\n\t\tn.next.promise",
			New:  "\tfor _, p := range m.GetResponses() {\n\t\tif p.GetTo() == n.cfg.ID && p.GetType() == raftpb.MsgAppResp {\n\t\t\t_ = n.raw.Step(p)\n\t\t\tcontinue\n\t\t}\n\t\tn.next.promise",
		}},
		Seeds: 500,
	},
	{
		Name: "a leader's entries wait for its own save",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "case m.GetType() == raftpb.MsgVote:",
			New:  "case m.GetType() == raftpb.MsgVote, m.GetType() == raftpb.MsgApp:",
		}},
		Test: "TestLeaderSendsBesideItsSave",
	},
	{
		Name: "a candidate asks for votes before it has saved",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "case m.GetType() == raftpb.MsgVote:",
			New:  "case m.GetType() == raftpb.MsgSnap:",
		}},
		Seeds: 500,
	},
	{
		Name: "what waits for the next save leaves with this one",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "return n.keep(s.promises)",
			New:  "all := append(s.promises, n.next.promises...)\n\t\tn.next.promises = nil\n\t\treturn n.keep(all)",
		}},
		Seeds: 500,
	},
	{
		Name: "a read is answered without asking a quorum",
		Changes: []mutationtest.Change{{
			File: "leadership.go",
			Old:  "\tl.begin(true)\n",
			New:  "\tl.pending = operation{stage: done}\n",
		}},
		Seeds: 5000,
	},
	{
		Name: "a learner votes",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "&raftpb.ConfState{Voters: members.Voters(), Learners: members.Learners()}",
			New:  "&raftpb.ConfState{Voters: append(members.Voters(), members.Learners()...)}",
		}},
		Seeds: 500,
	},
	{
		Name: "a learner that was added votes",
		Changes: []mutationtest.Change{{
			File: "membership.go",
			Old:  "step(raftpb.ConfChangeAddLearnerNode, id)",
			New:  "step(raftpb.ConfChangeAddNode, id)",
		}},
		Seeds: 500,
	},
	{
		Name: "a learner is promoted before it has caught up",
		Changes: []mutationtest.Change{{
			File: "change.go",
			Old:  "c.what.Kind == Promote && !c.caughtUp(n)",
			New:  "c.what.Kind == Promote && !c.caughtUp(n) && n == nil",
		}},
		Seeds: 2000,
	},
	{
		Name: "an id is taken again",
		Changes: []mutationtest.Change{{
			File: "membership.go",
			Old:  "(known || m.removed(c.ID))",
			New:  "known",
		}},
		Seeds: 500,
	},
	{
		Name: "a change begins before the one before is confirmed",
		Changes: []mutationtest.Change{
			{File: "change.go", Old: " || n.changing != 0 || !n.confirmed", New: ""},
			{File: "node.go", Old: "\tif !n.confirmed || n.changing != 0 {\n", New: "\tif n == nil {\n"},
		},
		Seeds: 500,
	},
	{
		Name: "a change is done before a majority knows of it",
		Changes: []mutationtest.Change{{
			File: "change.go",
			Old:  "case l.change.applied && l.replica.node.confirmed:",
			New:  "case l.change.applied:",
		}},
		Seeds: 500,
	},
	{
		Name: "a server that was removed isn't told",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "\t\t\tn.sayRemoved(from)\n",
			New:  "",
		}},
		Seeds: 500,
	},
	{
		Name: "a start goes back by two memberships",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "state.Commit = max(state.Commit, before)",
			New:  "_ = before",
		}},
		Test: "TestStartKeepsMembers", // the simulation needs some 12,000 seeds
	},
	{
		Name: "a server is told of its removal by one that may forget it",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "\tn.next.promise(&raftpb.Message{\n\t\tType: raftpb.MsgPreVoteResp.Enum()",
			New:  "\tn.outgoing = append(n.outgoing, &raftpb.Message{\n\t\tType: raftpb.MsgPreVoteResp.Enum()",
		}, {
			File: "node.go",
			Old:  "\t\tReject: new(true), Context: []byte(removedContext),\n\t}, n.cfg.ID)",
			New:  "\t\tReject: new(true), Context: []byte(removedContext),\n\t})",
		}},
		Test: "TestRemovedIsToldLast",
	},
	{
		Name: "a start cuts off what was promised",
		Changes: []mutationtest.Change{{
			File: "replicatest/memory.go",
			Old:  "\tm.sync()\n\tm.sure =",
			New: `	m.sync()
	if n := len(m.durable.entries); uint64(n) > m.durable.state.Commit {
		m.durable.entries = m.durable.entries[:n-1]
		m.written = kept{m.durable.state, slices.Clone(m.durable.entries)}
	}
	m.sure =`,
		}},
		Seeds: 5000,
	},
	{
		Name: "a start forgets a vote",
		Changes: []mutationtest.Change{{
			File: "replicatest/memory.go",
			Old:  "\tm.sync()\n\tm.sure =",
			New:  "\tm.sync()\n\tm.durable.state.Vote = 0\n\tm.written.state.Vote = 0\n\tm.sure =",
		}},
		Seeds: 50000,
	},
	{
		Name: "a save counts on its own entries",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "s.state.Commit = max(n.state.Commit, min(s.state.Commit, known))",
			New:  "_ = known",
		}},
		Seeds: 500,
	},
	{
		Name: "a seal waits for the next save",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  " ||\n\t\tn.known > n.sure",
			New:  "",
		}},
		Seeds: 500,
	},
	{
		Name: "a leader says that an end is committed before its own store knows",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "n.understated(n.outgoing), nil",
			New:  "n.outgoing, nil",
		}},
		Test: "TestLeaderSaysAnEndLast",
	},
	{
		Name: "a deposed leader's state machine is fed on",
		Changes: []mutationtest.Change{
			{File: "replica.go", Old: "\t\t\tr.visit = nil\n", New: ""},
			{File: "replica.go", Old: "\t\tr.visit, r.fed, r.seq = r.fresh(), 0, 0\n", New: ""},
		},
		Seeds: 500,
	},
	{
		Name: "a group is proposed again while its outcome is unknown",
		Changes: []mutationtest.Change{{
			File: "leadership.go",
			Old:  "if l.pending.stage == waiting && !l.lost {",
			New:  "if (l.pending.stage == waiting || l.pending.stage == asked && !l.pending.read) && !l.lost {",
		}},
		Seeds: 500,
	},
	{
		Name: "entries that were replaced stay in memory",
		Changes: []mutationtest.Change{{
			File: "storage.go",
			Old:  "s.recent[n-1].Index >= entries[0].Index; n--",
			New:  "s.recent[n-1].Index >= entries[0].Index && entries[0].Index == 0; n--",
		}},
		Seeds: 2000,
	},
	{
		Name: "a save keeps entries that were replaced",
		Changes: []mutationtest.Change{{
			File: "save.go",
			Old:  "s.entries[keep].Index < entries[0].Index {",
			New:  "s.entries[keep].Index > 0 {",
		}},
		Test: "TestSaveReplaces",
	},
	{
		Name: "every entry of a save has a sync of its own",
		Changes: []mutationtest.Change{{
			File: "../ledger/entrylog.go",
			Old:  "const togetherMin = 4",
			New:  "const togetherMin = 1 << 30",
		}},
		Test: "TestCatchingUpTakesFewSyncs",
	},
	{
		Name: "nothing says that entries share a sync",
		Changes: []mutationtest.Change{{
			File: "../ledger/entrylog.go",
			Old:  "early.together = together",
			New:  "_ = early",
		}},
		Test: "TestLedgerIsAStore",
	},
	{
		Name: "what waits for the disk has no limit",
		Changes: []mutationtest.Change{{
			File: "node.go",
			Old:  "return unsaved > 0 && unsaved+",
			New:  "return unsaved > 1<<30 && unsaved+",
		}},
		Seeds: 2000,
	},
	{
		Name: "everything that is saved stays in memory",
		Changes: []mutationtest.Change{{
			File: "storage.go",
			Old:  "s.recentBytes > s.bytesMax {",
			New:  "s.recentBytes > 1<<30 {",
		}},
		Seeds: 500,
	},
}

// Every mutation still finds the code that it changes.
func TestMutationsApply(t *testing.T) { mutationtest.Apply(t, mutations) }

// The simulation, or another test, notices every mutation.
func TestMutations(t *testing.T) {
	mutationtest.Run(t, mutations, mutationtest.Simulation{SeedsEnv: seedsEnv, Violation: errViolation})
}
