/*
Package replica is one server's share in a draw that several servers hold together. They keep one
log, each on its own disk. One of them leads: it decides, and appends what it has decided. A group
is acknowledged once the disks of a majority have it. So the draw goes on while a minority of the
servers is down, and nothing that was acknowledged is lost.

The package is pure: it has no goroutine, clock, socket or file. It is told what happens, and says
what has to be done. A simulation drives it in one goroutine, and so will a server.

# Who does what

	    tick, message, saved                       state machine: lottery, through history
	           │                                              ▲ records, as they commit
	           ▼                                              │
	┌─ Replica ───────────────────────────────────────────────┴──────────────────┐
	│  Leadership: begin, poll ──▶ Node: promises, limits ──▶ raft: who leads,   │
	│      ▲                          │                       what is committed  │
	└──────┼──────────────────────────┼──────────────────────────────────────────┘
	       │                          ├─▶ save      to the Store, in the background
	  committer, while it leads       └─▶ messages  to the other servers

Raft's are the rules of the log: elections, which entries are committed, which ones replace others,
how a server catches up, when a read is safe. They are go.etcd.io/raft, which carries etcd. Ours is
what raft leaves to its user, and what it can't know:

  - [Node]: which messages wait for which save, one save at a time, what is kept in memory, and what
    a server refuses.
  - [Store]: what a server keeps durably, and what a crash may leave of it.
  - [Replica]: the state machine, and when it has to be made anew.
  - [Leadership]: what a leader may do, with the contract of commit.Log.

# The states of a server

	             wins an election                its own entry is committed,
	                                             and the state machine has it
	following ────────────────────▶ elected ──────────────────────────────────▶ leading
	    ▲                              │                                           │
	    └──────────────────────────────┴───────────────────────────────────────────┘
	      hears of a higher term, or for ElectionTicks from no majority

A server that has won an election has all that is committed, but doesn't know how much of its log
that is. So it begins its term with an empty entry, and serves nobody before that one is committed.
Then all before it is committed, too. At that moment its state machine is what the log says, and
the leadership begins: [Work.Begun].

A server that is told that the leader's connection has ended doesn't wait for ElectionTicks: see
[Node.Lost].

A term has one leader at most. The numbers of sessions begin with it, so those of a later leader are
higher.

# What waits for what

  - A message that promises something leaves when what it promises is saved: that entries are there,
    or a vote. Raft marks them. This package adds requests for votes: a candidate that is killed
    must not ask again, in the same term, with a log that has lost what it asked with at first.
  - A leader's entries leave for the others at once, beside its own save.
  - Heartbeats and their answers wait for nothing. So a disk that stalls costs no leader.
  - There is one save at a time. What comes meanwhile is one save afterwards, with all messages that
    wait for any of it.
  - That entries are committed is saved with the next save, which a crash of the machine may undo. An
    empty entry, a membership and an end of the draw have it saved at once, and for good as soon as no
    entries wait to be saved.
  - A leader tells nobody that an end is committed before it has saved that. The others go when they
    hear of it, and then nobody is left who could tell a leader that was killed and has forgotten it.
  - A group is done when it is committed, and on the leader's own disk, so that the leader's scans
    have it. A leader whose disk is slower than those of the others makes everybody wait.
  - An answer that needs no record leaves when a majority has answered a heartbeat that was sent
    after the question. A leader that was deposed without knowing it gets no such majority.

# What a leader can't know

When a leadership ends, a group that was not done may be in the log or not. The later leaders
decide, and they don't know who has sent it. So it is never proposed again by a server: whoever sent it asks
a later leader what the log holds.

For the same reason a deposed leader's state machine is of no use: it has applied what may not be in
the log. The Replica drops it, asks for a new one, and feeds it from the first record on, a bounded
part at each [Replica.Work]. A follower's state machine has only what is committed, so it never has
to be dropped, and a follower that is elected goes on with it.

# The end of a log

A seal is an empty entry, other than the one that begins a term. Every server that knows that it is
committed saves that, and refuses to start with less. [New] compares how much is known to be
committed with how long the log is, and a heartbeat tells a server how much it has acknowledged.
Both fail with [ErrLost]: a server that has lost what it promised must not go on under its id.

# Members that change

Which servers keep the log is in the log: a record of the kind ledger.Members, alone in its entry,
with the whole [Membership] as text. Before the first one, [Config] says it. A change concerns one
server ([Leadership.BeginChange]):

	nobody ── add ──▶ learner ── promote ──▶ voter
	                     └──────── remove ─────┴──▶ gone, for ever

An id that is gone never comes back, because its holder may have promised something: a server that
has lost its disk is replaced by one with a new id.

A membership counts for a server from the moment that it has the entry from a Ready, as committed.
So some servers are ahead of others. That is safe as long as two that take part are never more than
one step apart, because majorities of neighbours have a server in common. A leader proposes a
membership only when it has applied the one before. Whoever has both in its log knows then that the
first is committed, also after a crash that has set back what it knew.

It must not happen that the only server that knows of a new membership is lost, and those that are
left are no majority of the old one. So the leader appends every membership twice. Once the second
is committed, a majority of the new voters knows of the first, and the change is done. None begins
before.

A server hears everyone: a voter may be new to it, and the leader of a server that is to be added
is. Its network has to reach those whom it doesn't know yet as well: it must be able to answer.

A server that was removed gets no entries from then on. It asks for votes, or if it can't, says
something to the voters now and then. Any server that has its removal on disk answers so, and then
it ends with [ErrRemoved]. Until then it votes and acknowledges as before, because the others may
need that until they know. For the same reason a leader that was removed, because it was elected
while that was on its way, goes on sending heartbeats. It takes nothing new.

# What is bounded

	servers                               ServersMax, and GoneMax that are gone
	entries on their way to a server      InflightMax, InflightBytesMax, MessageBytesMax
	entries that are not committed        UncommittedBytesMax; then Propose returns ErrBusy
	entries that are not saved            UnsavedBytesMax; then messages are dropped
	messages that wait for a save         a fixed number; then messages are dropped
	saved entries in memory               RecentBytesMax; older ones are read back
	committed entries in one Ready        ApplyBytesMax
	read barriers                         one
	operations of a leadership            one, and one change of the members

A single entry or message may exceed a limit of bytes when nothing else is there. A follower may be
behind without limit: what it needs is read back from the store of the leader. Nothing is ever
removed from the log.

# Who calls what

One goroutine owns a Replica: it calls all methods, and [Replica.Work] after each. It may leave a
save to another goroutine, which calls only [Store.Save]. Any goroutine may call [Leadership.Scan].

	for event := range events {             // a tick, a message, a save that is done, a request
		tell the replica
		for more := true; more; {
			w := replica.Work()
			send w.Messages, hand w.Save to whoever saves
			if w.Begun != nil { it is the log of a committer from now on }
			more = w.More
		}
		poll the leadership, if something was begun
	}

# What is tested

  - Whole clusters, with everything that breaks: the simulation (simulation_test.go), whose checks
    look at all disks. The same seed is the same run, because testing/cryptotest seeds the one thing
    that raft takes from crypto/rand.
  - Whether the simulation finds mistakes: mutation_test.go.
  - Scenarios to read: testdata/scenarios, which scenario_test.go runs in the simulation, and
    REPLICATION.md explains.
  - That a Leadership is a log: ledgertest.Conform and ledgertest.Check, with three servers.
  - What every Store has to pass: replicatest.Conform. Its store in memory loses and tears saves.

# What is not there yet

  - A leader whose own disk stalls keeps leading. It should hand over.
  - What a slow follower needs is read back in the goroutine that owns the Replica. A disk that is
    slow to read delays heartbeats.
  - Comparing the logs' contents among servers beyond what raft does, which is index and term.
*/
package replica
