// Package front holds the connections: it reads what peers say, hands it over to be decided, and
// tells them the answers.
//
//	listener ──▶ acceptor ──▶ event loops ──────────────▶ commit.Stage
//	                          session: frames, window,
//	                          time-outs, half frames
//	sockets ◀── one write ◀── loop: answers ◀── mailbox ◀── Front.Deliver
//
// # Reading
//
// The server accepts by itself (acceptor.go), so that limits on connections hold exactly and running
// out of descriptors only means to wait. It gives each connection to the loop with the fewest. gnet
// reads (handler.go, loops.go). The session cuts what came into frames and validates each with codec
// (session.go). Valid requests go to the loop's stage. If the stage is full the loop waits there, and
// TCP makes its peers wait.
//
// With SERVER_AGENCY_SECRETS_FILE a connection has to authenticate first (authentication.go), in
// small frames and within the read timeout. So the lottery never hears of a connection that has not
// proved whose it is.
//
// # Answering
//
// Others tell a loop what to do through its mailbox (mailbox.go). The loop writes all answers of a
// connection that stand together in one write (answer.go), directly to the socket (socket.go). What
// the socket doesn't take waits in the session's backlog (backlog.go).
//
// # The life of a connection
//
// A connection goes through the phases of life.go. An answer that closes is its last: what still
// comes in is dropped, our side is shut once the answer is out, and the peer gets a moment to read
// it and close. gnet closes the socket of a peer that has shut its side, so the session takes a
// duplicate (halfSocket). It stays until the peer was told what it is owed and has taken it.
//
// A connection that stays after the draw would keep the server from ending. So the loop ends it as
// if it had been told its last answer (Loop.hangUp). It also has to take its winners fast enough.
//
// # Bounds
//
// limits.go lists what a peer can run into, and derives what all peers together can make the server
// hold. Half frames are bounded over all loops (partial.go), connections by the admission. What
// strangers can have logged is bounded, too (noise.go).
//
// # Who owns what
//
// An event loop's goroutine owns its sessions, except the commit.Peer in each, which is the
// committer's. Other goroutines reach a loop only through its mailbox.
package front
