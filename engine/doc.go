// Package engine is the server of one draw: connections on a few event loops,
// one committer, one ledger.
//
//	 gnet event loops (handler.go, loop.go)          the server's goroutine (server.go)
//	┌──────────────────────────────────────┐        ┌────────────────────────────────────┐
//	│ session: frames, window, time-outs   │ stage  │ committer: lottery decides, records │
//	│ codec: validate, pack the record     ├───────▶│ of the group, ONE sync              │──▶ ledger
//	│                                      │        │                                     │
//	│ loop: answers, one write a session   │◀───────┤ answers, only once durable          │
//	└──────────────────────────────────────┘ mailbox└────────────────────────────────────┘
//
// [Open] listens, takes the ledger and replays it; [Server.Serve] accepts
// connections and returns when there is nothing left to do. Package history reads
// what a ledger holds. codec/PROTOCOL.md says what agencies may rely on.
//
// # What happens to a batch
//
// handler.OnTraffic gives the loop's read buffer to the session, which cuts it
// into frames (session.go), validates each with codec, and packs valid bets as
// a ledger record into its loop's stage (stage.go). The committer takes the
// stages of all loops at once, lets lottery accept or reject each request in
// order (committer.go), and commits what was accepted as one group. While a
// group syncs, the next one fills the stages. Then the answers go to the loops'
// mailboxes, and each loop writes them, one write a connection (loop.go).
//
// # Backpressure
//
// A connection may have as many frames unanswered as the window says; one more
// ends it. A loop whose stage is full waits in OnTraffic, and TCP makes its
// peers wait. That can't deadlock: the committer never waits for a loop, it
// only puts things into mailboxes, and their size is bounded by what the
// windows allow. What a socket doesn't take waits in its session's backlog
// (backlog.go); a peer that lets it grow over SERVER_UNREAD_BYTES_MAX, or takes
// nothing of it for SERVER_READ_TIMEOUT, is closed. Half frames wait in buffers of
// their own (partial.go); when those of all connections take more than
// SERVER_PARTIAL_BYTES_MAX, the peers that have been half sent longest are refused.
// What all of this can add up to is derived in limits.go.
//
// # Connections
//
// The server accepts by itself (acceptor.go), so that limits on connections
// hold exactly and running out of descriptors only means to wait, and gives each
// connection to the loop with the fewest. gnet reads; what is written goes to
// the socket directly (socket.go).
//
// # Secrets
//
// With SERVER_AGENCY_SECRETS_FILE the session lets a stranger say nothing but what
// authenticates it (authentication.go), in small frames and within the read
// timeout. So the lottery never hears of a connection that has not proved whose it
// is, and no winners can be sent to it. The proof is checked on the loop; only
// the answers go through the committer, to keep their order.
//
// # Who owns what
//
// A loop's goroutine owns its sessions, except session.lottery and
// session.counted, which are the committer's. The committer alone touches the
// lottery, the ledger and the exit rule, so none of them has a lock. What
// crosses over goes through a stage, one way, or a mailbox, the other. All of
// them share the log of what strangers can provoke (noise.go), which has a lock
// and is no part of an honest batch's way.
//
// # Closing a connection
//
// An answer that closes is the session's last: what still comes in is dropped,
// our side is shut once the answer is out, and the peer gets a moment to read
// it and close (lingerMax). gnet closes the socket of a peer that has
// half-closed, so the session takes a duplicate (halfSocket). It stays until
// the peer was told what it is owed and has taken it.
//
// A connection that stays after the draw would keep the server from ending, so
// it is ended as if it had been told its last answer (loop.hangUp). It also has to
// take its winners fast enough. What an agency opens that is done doesn't count
// (exitRule), so it can't wait for ever by coming again and again.
//
// # After the draw
//
// The group that holds the draw is sealed before any of its answers leaves. A
// ledger that lost the draw is refused from then on; taken as it is, it could
// draw other winners than the ones that were told.
//
// An agency that says HELLO confirms its winners. For any other one, its session
// looks whether the peer's system has acknowledged them (session.taken). The
// lottery decides which of the two counts. The committer notes all agencies
// that a group serves in one record, so a restart knows them, too.
//
// The exit rule decides when the server ends (exit.go), and the log names whom
// it waits for (missing.go). The rule counts the connections that have named an
// agency which was not done then. One that has half-closed and waits counts as open, unless it has said
// HELLO: such an agency would have to confirm, and can't any more.
package engine
