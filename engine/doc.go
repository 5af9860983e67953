// Package engine is the server of one draw, alone or as one of several. It connects the packages below
// it, and runs the server from its start to its end.
//
//	 front: event loops                              engine: the server's goroutine
//	┌──────────────────────────────────────┐        ┌────────────────────────────────────┐
//	│ session: frames, window, time-outs   │ stage  │ commit: lottery decides, records    │
//	│ codec: validate, pack the record     ├───────▶│ of the group, ONE sync              │──▶ ledger
//	│                                      │        │                                     │
//	│ loop: answers, one write a session   │◀───────┤ answers, only once durable          │
//	└──────────────────────────────────────┘ mailbox└────────────────────────────────────┘
//
// [Open] listens, takes the ledger and replays it. [Server.Serve] accepts connections and returns
// when there is nothing left to do. codec/PROTOCOL.md says what agencies may rely on.
//
// The packages, from the outside in:
//
//	front     connections: event loops, sessions, limits, secrets, noise
//	channel   TLS for connections that event loops read, and whose certificates count
//	commit    requests in, groups out; when the server may end; what a log has to do
//	history   reading a log: replay, verify, dump, export
//	lottery   the state machine: it has no clock, socket, goroutine or file
//	ledger    the durable log, of one server or of several
//	settings  reading and checking variables
//	admin     HTTP for those who watch; admin/board is the page, and the state that it shows
//
// and for several servers:
//
//	member    a server at work: the clock, disk and network of a replica
//	replica   who leads, and what is committed: a state machine over raft
//	relay     agencies at a server that doesn't lead
//	mesh      connections between servers
//
// # Several servers
//
// [Join] makes a [Member]. It follows or leads, and changes between the two until the draw has ended:
//
//	follow   the member feeds a lottery with what is committed; relay has the agencies' address
//	lead     a Server has the address, with the lottery as it was fed, over a log that commits
//	         where a majority of the servers has it
//
// So a server that takes over replays nothing. One that has lost its leadership drops its lottery,
// which is ahead of the log, and says nothing more to its agencies: they go to the next leader, and
// what the log holds decides.
//
// The leader's exit rule says when the draw has ended. The leader then writes that into the log
// (ledger.Ended), and every server ends when it hears of it, with the same outcome; the leader goes
// last. The record has the leader's term: servers that are started again find it in their logs, and
// it ends nobody then, because agencies may come again, too.
//
// If the first of more than three servers went at once, the leader could be left without a majority,
// and couldn't tell a server that has not heard yet. So the leader of so many first says that all stay.
// When each of the others that is there knows it, it says the end again, and they go.
//
// # What happens to a batch
//
// front gives the loop's read buffer to the session, which cuts it into frames and validates each
// with codec. Valid bets are packed as a ledger record into the loop's stage. The committer takes
// the stages of all loops, lets lottery accept or reject each request in order, and commits what
// was accepted as one group. While a group syncs, the next one fills the stages. Once the group is
// durable, the answers go to the loops' mailboxes, and each loop sends adjacent answers of a
// connection in one write.
//
// # Backpressure
//
// A connection may have as many unanswered frames as the window says; one more ends it. A loop
// whose stage is full waits, and TCP makes its peers wait. That can't deadlock: the committer never
// waits for a loop. It only puts things into mailboxes, and the windows bound their size.
//
// # Who owns what
//
// A loop's goroutine owns its sessions. The server's goroutine calls the committer. Only it touches
// the lottery, the ledger and the exit rule, so none of them has a lock. Requests go to the
// committer through a stage. Answers go to a loop through its mailbox.
//
// # Who watches
//
// If SERVER_HTTP_ADDR is set, the goroutine that owns the lottery copies it now and then (view.go): at
// once if something has happened to an agency, else a few times a second, and never for more than its
// share of the time. What is shown (watch.go) is made of the newest copy and of atomic counters, in
// the goroutines of those who ask. So the committer waits for none of them. A server that replays what
// it has shown already, because another one leads now, shows it no second time.
//
// # After the draw
//
// The group that holds the draw is sealed before any of its answers leaves. From then on a ledger
// that has lost the draw is refused. Otherwise it could draw again, with winners other than those
// that were told.
//
// An agency that says HELLO confirms its winners. For any other agency, the session checks whether
// the peer's system has acknowledged them. The lottery decides which of the two counts. The
// committer writes all agencies that a group serves into one record, so a restart knows them, too.
//
// The exit rule (commit/exit_rule.go) decides when the server ends, and the log names the agencies that
// it waits for (missing.go). The rule counts the connections that have named an agency that was not
// done at that time. A half-closed connection that waits counts as open, unless it has said HELLO:
// its agency would have to confirm, and can't any more.
package engine
