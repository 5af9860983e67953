package engine

import (
	"testing"

	"loteria/engine/mutationtest"
)

// tooEarly makes the replies of a kind leave before their group is durable.
func tooEarly(kind string) []mutationtest.Change {
	return []mutationtest.Change{{
		File: "commit/committer.go",
		Old:  "\tswitch {\n\tcase len(c.runs) > 0:",
		New: `	late := g.Replies[:0:0]
	for _, r := range g.Replies {
		if r.Kind == ` + kind + ` {
			c.Early([]Reply{r})
		} else {
			late = append(late, r)
		}
	}
	g.Replies = late
	switch {
	case len(c.runs) > 0:`,
	},
		{File: "commit/committer.go", Old: "type Committer struct {", New: "type Committer struct {\n\tEarly func([]Reply)"},
		{File: "server.go", Old: "\tif state.Drawn() {\n\t\ts.front.Drawn()", New: "\ts.committer.Early = s.front.Deliver\n\tif state.Drawn() {\n\t\ts.front.Drawn()"},
	}
}

var mutations = []mutationtest.Mutation{
	{
		Name: "ack before sync",
		Changes: []mutationtest.Change{{
			File: "ledger/ledger.go",
			Old:  "if l.durability == Fsync {\n\t\tif err := l.sync()",
			New:  "if l.durability == Fsync+9 {\n\t\tif err := l.sync()",
		}},
		Seeds: 500,
	},
	{
		Name: "no directory sync at rotation",
		Changes: []mutationtest.Change{{
			File: "ledger/ledger.go",
			Old:  "if err := l.fsys.SyncDir(l.dir); err != nil {\n\t\treturn err\n\t}\n\tl.path, l.groupFirst = path, l.next\n\tl.segments++",
			New:  "l.path, l.groupFirst = path, l.next\n\tl.segments++",
		}},
		Seeds: 2000,
	},
	{
		Name: "no sync of a sealed segment",
		Changes: []mutationtest.Change{{
			File: "ledger/ledger.go",
			Old:  "if err := l.live.Sync(); err != nil {\n\t\treturn err\n\t}\n\tsealed := ",
			New:  "sealed := ",
		}},
		Seeds: 2000,
	},
	{
		Name: "a restart believes a sync that failed",
		Changes: []mutationtest.Change{{
			File: "ledger/ledger.go",
			Old:  "if err := l.rewrite(&p.r, newest, offset); err != nil {\n\t\treturn err\n\t}",
			New:  "_ = newest",
		}},
		Seeds: 5000,
	},
	{
		Name: "a restart believes a directory that was not synced",
		Changes: []mutationtest.Change{{
			File: "ledger/ledger.go",
			Old:  "if err := l.fsys.SyncDir(l.dir); err != nil {\n\t\treturn err\n\t}\n\tl.next, l.chain",
			New:  "l.next, l.chain",
		}},
		Seeds: 20000,
	},
	{
		Name: "remains of a torn write stay",
		Changes: []mutationtest.Change{{
			File: "ledger/ledger.go",
			Old:  "if err := live.Truncate(offset); err != nil {",
			New:  "if err := error(nil); err != nil {",
		}},
		Seeds: 100000,
	},
	{
		Name: "the tail rule cuts an acknowledged record of the last group",
		Changes: []mutationtest.Change{{
			File: "ledger/tail.go",
			Old:  "return judgement{refused, d.reason}, nil",
			New:  "return judgement{torn, d.reason}, nil",
		}},
		Seeds: 500,
	},
	{
		Name: "the tail rule cuts an acknowledged record of an earlier group",
		Changes: []mutationtest.Change{{
			File: "ledger/tail.go",
			Old:  "if later != 0 {",
			New:  "if later == 1<<63 {",
		}},
		Seeds: 500,
	},
	{
		Name: "no fencing of a session that was taken over",
		Changes: []mutationtest.Change{{
			File: "lottery/lottery.go",
			Old:  "l.unbind(older)\n\t\t\teffects",
			New:  "effects",
		}},
		Seeds: 500,
	},
	{
		Name: "an older connection's messages count after a newer one's HELLO",
		Changes: []mutationtest.Change{{
			File: "lottery/lottery.go",
			Old:  "s.Number < a.fence",
			New:  "s.Number < a.fence-a.fence",
		}},
		Seeds: 5000,
	},
	{
		Name:    "stored counted before it is durable",
		Changes: tooEarly("lottery.Welcome"),
		Seeds:   5000,
	},
	{
		Name: "winners count as taken once they are in the socket",
		Changes: []mutationtest.Change{{
			File: "front/loop.go",
			Old:  "\tif s.phase.after(allSent) == gone {",
			New:  "\tif s.delivery == untaken {\n\t\ts.taken(&lp.rd)\n\t}\n\tif s.phase.after(allSent) == gone {",
		}},
		Seeds: 500,
	},
	{
		Name: "winners count as taken when the connection is reset",
		Changes: []mutationtest.Change{{
			File: "front/handler.go",
			Old:  "if shut && sess.delivery == untaken && sess.backlog == nil {",
			New:  "if sess.delivery == untaken && sess.backlog == nil {",
		}},
		Seeds: 5000,
	},
	{
		Name: "winners count as taken before the peer's system has all of them",
		Changes: []mutationtest.Change{{
			File: "front/handler.go",
			Old:  "if n, err := sess.conn.Unacknowledged(); n == 0 && err == nil {",
			New:  "if _, err := sess.conn.Unacknowledged(); err == nil {",
		}},
		Seeds: 5000,
	},
	{
		Name: "winners count as taken before the socket has all of them",
		Changes: []mutationtest.Change{{
			File: "front/handler.go",
			Old:  "sess.delivery == untaken && sess.backlog == nil {",
			New:  "sess.delivery == untaken {",
		}},
		Seeds: 5000,
	},
	{
		Name: "an agency that has to confirm counts as served when it closes",
		Changes: []mutationtest.Change{{
			File: "lottery/lottery.go",
			Old:  "if a.served || a.confirms || s.hello {",
			New:  "if a.served {",
		}},
		Seeds: 2000,
	},
	{
		Name:    "a receipt is answered before it is durable",
		Changes: tooEarly("lottery.Receipt"),
		Seeds:   5000,
	},
	{
		Name: "the ledger does not say which agencies are served",
		Changes: []mutationtest.Change{{
			File: "commit/committer.go",
			Old:  "if len(g.Served) > 0 {",
			New:  "if len(g.Served) > 1<<30 {",
		}},
		Seeds: 500,
	},
	{
		Name: "a restart forgets which agencies are served",
		Changes: []mutationtest.Change{{
			File: "lottery/lottery.go",
			Old:  "case entry == ServedEntry:\n\t\tl.serve(a)",
			New:  "case entry == ServedEntry:",
		}},
		Seeds: 500,
	},
	{
		Name: "a server that starts after the draw waits for ever for the first agency to come",
		Changes: []mutationtest.Change{{
			File: "commit/exit_rule.go",
			Old:  "case x.open > 0, !drawn && !x.came:",
			New:  "case x.open > 0, !x.came:",
		}},
		Seeds: 500,
	},
	{
		Name: "a server ends after the draw although agencies are not served",
		Changes: []mutationtest.Change{{
			File: "commit/exit_rule.go",
			Old:  "case drawn && x.lottery.Unserved() == 0 && x.absent == 0:",
			New:  "case drawn:",
		}},
		Seeds: 500,
	},
	{
		Name: "an agency that stays connected keeps the server from ending",
		Changes: []mutationtest.Change{{
			File: "front/timeouts.go",
			Old:  "if s.lateTicks++; s.lateTicks <= limit {",
			New:  "if s.lateTicks++; s.lateTicks <= 1<<30 {",
		}},
		Seeds: 500,
	},
	{
		Name: "the checksum forgets a batch that was stored before a restart",
		Changes: []mutationtest.Change{{
			File: "lottery/lottery.go",
			Old:  "l.store(a, count, lines, winners)",
			New:  "l.store(a, count, codec.Stretch{Sum: uint32(a.checksum), Seed: uint32(a.checksum)}, winners)",
		}},
		Seeds: 500,
	},
	{
		Name: "a wrong proof is accepted",
		Changes: []mutationtest.Change{{
			File: "front/authentication.go",
			Old:  "case !rd.cfg.Secrets.verify(s.handshake.agency, s.handshake.nonce, proof):",
			New:  "case proof == codec.Proof{}:",
		}},
		Seeds: 5000,
	},
	{
		Name: "a message before the proof is accepted",
		Changes: []mutationtest.Change{{
			File: "front/authentication.go",
			Old:  "func (s *Session) stranger(rd *reader) bool { return rd.cfg.Secrets != nil && s.proved == 0 }",
			New:  "func (s *Session) stranger(rd *reader) bool { return rd.cfg.Secrets != nil && s.proved == 0 && s.handshake == nil }",
		}},
		Seeds: 500,
	},
	{
		Name: "an agency sends again bets that WELCOME has counted",
		Changes: []mutationtest.Change{{
			File: "../agency/window.go",
			Old:  "b.skip(int(stored - b.First))",
			New:  "_ = stored",
		}},
		Seeds: 500,
	},
	{
		Name: "a deposed leader answers without a read barrier",
		Changes: []mutationtest.Change{{
			File: "commit/committer.go",
			Old:  "case len(g.Replies) > 0:",
			New:  "case len(g.Replies) > 1<<30:",
		}},
		Seeds: 5000, Test: "TestClusterSimulation",
	},
	{
		Name: "a cluster acknowledges before a quorum has the group",
		Changes: []mutationtest.Change{{
			File: "replica/leadership.go",
			Old:  "\t\tp.stage = asked\n",
			New:  "\t\tp.stage = asked\n\t\tif !p.read {\n\t\t\tp.stage = done\n\t\t}\n",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "numbers of sessions don't begin with the term",
		Changes: []mutationtest.Change{{
			File: "front/front.go",
			Old:  "f.cfg.Term<<numberBits+f.accepted",
			New:  "f.accepted",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "a server of several doesn't sync its entries",
		Changes: []mutationtest.Change{{
			File: "ledger/entrylog.go",
			Old:  "return e.l.sync()",
			New:  "return nil",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "a follower answers before it has saved",
		Changes: []mutationtest.Change{{
			File: "replica/node.go",
			Old:  "\tfor _, p := range m.GetResponses() {\n\t\tn.next.promise",
			New:  "\tfor _, p := range m.GetResponses() {\n\t\tif p.GetTo() != n.cfg.ID {\n\t\t\tn.outgoing = append(n.outgoing, p)\n\t\t\tcontinue\n\t\t}\n\t\tn.next.promise",
		}},
		Seeds: 5000, Test: "TestClusterSimulation",
	},
	{
		Name: "a start cuts off what was promised but isn't known to be committed",
		Changes: []mutationtest.Change{{
			File: "ledger/entryread.go",
			Old:  "\tif w.all {\n\t\tp.tail.Entries",
			New: `	if w.all {
		if s := w.state; last > s.Commit && w.left == 0 {
			last, s.last, s.lastChain = s.Commit, s.Commit, s.commitChain
			w.index.cut(last)
		}
		p.tail.Entries`,
		}},
		Seeds: 5000, Test: "TestClusterSimulation",
	},
	{
		Name: "a new leader serves before its own entry is committed",
		Changes: []mutationtest.Change{{
			File: "replica/node.go",
			Old:  "\t\ts.Role = Elected\n",
			New:  "\t\ts.Role = Leading\n",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "a deposed leader takes its last group for stored",
		Changes: []mutationtest.Change{{
			File: "replica/leadership.go",
			Old:  "\tcase l.pending.stage != idle && l.lost:\n\t\terr = commit.ErrNotLeader",
			New:  "\tcase l.pending.stage != idle && l.lost:\n\t\terr = nil",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "answers leave although the log has refused their group",
		Changes: []mutationtest.Change{{
			File: "commit/committer.go",
			Old:  "if err := c.log.Commit(c.runs); err != nil {",
			New:  "if err := c.log.Commit(c.runs); err != nil && len(g.Replies) == 0 {",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "a leadership is kept after it is lost",
		Changes: []mutationtest.Change{{
			File: "replica/replica.go",
			Old:  "if r.status.Role == Leading && r.status.Term == l.term {",
			New:  "if r.status.Term >= l.term {",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "the end of an earlier life counts as one of now",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "if end != nil && !end.stay && status.Leader != 0 && status.Term == end.term {",
			New:  "if end != nil && !end.stay {",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "an end counts although the draw has gone on",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "\t\tnow.end = nil\n",
			New:  "",
		}},
		Test: "TestDrawGoesOnBehindTheEnd",
	},
	{
		Name: "a leader ends although the log doesn't have its end",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "\t\tr.concluded = err == nil\n\t\treturn err\n",
			New:  "\t\tr.concluded = err == nil || errors.Is(err, commit.ErrNotLeader)\n\t\treturn nil\n",
		}},
		Seeds: 5000, Test: "TestClusterSimulation",
	},
	{
		Name: "a last leader ends although another one goes on",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "if _, another := m.otherLeader(); another || len(m.begun) > 0 {",
			New:  "if _, another := m.otherLeader(); another && g == nil || len(m.begun) > 0 {",
		}},
		Seeds: 5000, Test: "TestClusterSimulation",
	},
	{
		Name: "the last leader doesn't wait for the other servers",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "if waiting == 0 ||",
			New:  "if waiting >= 0 ||",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "the last leader leaves a server behind that takes three seconds to start again",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "connected == 0 && took >= hearMin",
			New:  "connected == 0 && took >= 2*time.Second",
		}},
		Test: "TestLastLeaderWaits",
	},
	{
		Name: "the last leader leaves a server behind that comes back late, and needs an election",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "g.away[id], g.since = false, now",
			New:  "g.away[id] = false",
		}},
		Test: "TestLastLeaderWaits",
	},
	{
		Name: "servers that know of the end leave the last ones without a majority",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "return len(m.peers) > pairMax || m.learns",
			New:  "return m.learns",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "an end that tells servers to stay lets them go",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "end != nil && !end.stay &&",
			New:  "end != nil &&",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "servers go before all of them have the end",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "if all, err := m.await(&g, o); !all {",
			New:  "if all, err := true, error(nil); !all {",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "servers go when all have the end, but may not know that it is committed",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "if g.stay && r.log.Seal() == nil {",
			New:  "if g.stay {",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "a server that doesn't know yet that it leads sends agencies away",
		Changes: []mutationtest.Change{{
			File: "servers.go",
			Old:  "leader != 0 && leader != m.cfg.ID",
			New:  "leader != m.cfg.ID",
		}},
		Test: "TestAgenciesWaitForTheDoor",
	},
	{
		Name: "a last leader whose disk has failed waits for the others",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "if err := o.stopped(); err != nil {",
			New:  "if err := o.stopped(); err != nil && m == nil {",
		}},
		Test: "TestLastLeaderWithABrokenDiskEnds",
	},
	{
		Name: "agencies may come over TLS while a server that has ended exports",
		Changes: []mutationtest.Change{{
			File: "server.go",
			Old:  "errors.Join(s.serve(ctx), s.secure.close(), s.exports.await())",
			New:  "errors.Join(s.serve(ctx), s.exports.await(), s.secure.close())",
		}},
		Test: "TestClosedBeforeTheExport",
	},
	{
		Name: "a server goes alone although another one has just got its vote",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "m.alone.IsZero() || election {",
			New:  "m.alone.IsZero() || election && end == nil {",
		}},
		Test: "TestAbandonedServerEnds",
	},
	{
		Name: "others hear of the end before the leader's disk knows of it",
		Changes: []mutationtest.Change{{
			File: "replica/node.go",
			Old:  "n.understated(n.outgoing), nil",
			New:  "n.outgoing, nil",
		}},
		Seeds: 5000, Test: "TestClusterSimulation",
	},
	{
		Name: "what is committed is lost with the machine",
		Changes: []mutationtest.Change{{
			File: "ledger/entrylog.go",
			Old:  "\t\treturn e.sealed()\n",
			New:  "\t\treturn e.state.hint(e.promised(state))\n",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "a last leader that leads anew waits for servers that wait for it",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "another || len(m.begun) > 0 {",
			New:  "another {",
		}},
		Test: "TestLastLeaderLeadsAnew",
	},
	{
		Name: "a leader's broken disk is told to agencies",
		Changes: []mutationtest.Change{{
			File: "member.go",
			Old:  "if err != nil && !errors.Is(err, commit.ErrNotLeader) {\n\t\treturn fmt",
			New:  "if err != nil && errors.Is(err, commit.ErrNotLeader) {\n\t\treturn fmt",
		}},
		Seeds: 500, Test: "TestClusterSimulation",
	},
	{
		Name: "a server over TLS doesn't say its end",
		Changes: []mutationtest.Change{{
			File: "front/secure_socket.go",
			Old:  "		c.channel.SealEnd()\n",
			New:  "		_ = c.channel\n",
		}},
		Test: "TestTranscripts/.*/.*/TLS",
	},
}

// Every mutation still finds the code that it changes.
func TestMutationsApply(t *testing.T) { mutationtest.Apply(t, mutations) }

// The simulation notices every mutation.
func TestMutations(t *testing.T) {
	mutationtest.Run(t, mutations, mutationtest.Simulation{SeedsEnv: seedsEnv, Violation: errViolation})
}
