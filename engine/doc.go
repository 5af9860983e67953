// Package engine is the server of one draw. It puts the rooms together, and holds the server's life
// from its start to its end.
//
//	 front: event loops                              engine: the server's goroutine
//	┌──────────────────────────────────────┐        ┌────────────────────────────────────┐
//	│ session: frames, window, time-outs   │ stage  │ commit: lottery decides, records    │
//	│ codec: validate, pack the record     ├───────▶│ of the group, ONE sync              │──▶ ledger
//	│                                      │        │                                     │
//	│ loop: answers, one write a session   │◀───────┤ answers, only once durable          │
//	└──────────────────────────────────────┘ mailbox└────────────────────────────────────┘
//
// [Open] listens, takes the ledger and replays it; [Server.Serve] accepts connections and returns
// when there is nothing left to do. codec/PROTOCOL.md says what agencies may rely on.
//
// The rooms, from the outside in:
//
//	front     connections: event loops, sessions, limits, secrets, noise
//	commit    requests in, groups out; who may end; what a log has to do
//	history   reading a log: replay, verify, dump, export
//	lottery   the state machine: it has no clock, socket, goroutine or file
//	ledger    the durable log of one server
//	settings  what a variable is
//
// # What happens to a batch
//
// front gives the loop's read buffer to the session, which cuts it into frames and validates each
// with codec. Valid bets are packed as a ledger record into the loop's stage. The committer takes
// the stages of all loops at once, lets lottery accept or reject each request in order, and commits
// what was accepted as one group. While a group syncs, the next one fills the stages. Then the
// answers go to the loops' mailboxes, and each loop writes them, one write a connection.
//
// # Backpressure
//
// A connection may have as many frames unanswered as the window says; one more ends it. A loop whose
// stage is full waits, and TCP makes its peers wait. That can't deadlock: the committer never waits
// for a loop, it only puts things into mailboxes, and their size is bounded by what the windows
// allow.
//
// # Who owns what
//
// A loop's goroutine owns its sessions. The server's goroutine alone calls the committer, which
// alone touches the lottery, the ledger and the exit rule, so none of them has a lock. What crosses
// over goes through a stage, one way, or a mailbox, the other.
//
// # After the draw
//
// The group that holds the draw is sealed before any of its answers leaves. A ledger that lost the
// draw is refused from then on; taken as it is, it could draw other winners than the ones that were
// told.
//
// An agency that says HELLO confirms its winners. For any other one, its session looks whether the
// peer's system has acknowledged them. The lottery decides which of the two counts. The committer
// notes all agencies that a group serves in one record, so a restart knows them, too.
//
// The exit rule (commit/exit.go) decides when the server ends, and the log names the agencies that
// it waits for (missing.go). The rule counts the connections that have named an agency which was not
// done then. One that has half-closed and waits counts as open, unless it has said HELLO: such an
// agency would have to confirm, and can't any more.
package engine
