// Package front holds the connections: it reads what peers say, hands it to the committer, and
// sends the answers.
//
//	listener ──▶ acceptor ──▶ event loops ──────────────▶ commit.Stage
//	                          session: frames, window,
//	                          time-outs, half frames
//	sockets ◀── one write ◀── loop: answers ◀── mailbox ◀── Front.Deliver
//
// # Reading
//
// The front accepts connections itself, not through gnet (acceptor.go). So the limits on
// connections hold exactly, and it only waits when descriptors run out. Each connection goes to the
// loop with the fewest. gnet reads (handler.go, eventloops.go). The session cuts the bytes into frames
// and validates each with codec (session.go). Requests go to the loop's stage. If the stage is
// full, the loop waits there, and TCP makes its peers wait.
//
// With SERVER_AGENCY_SECRETS_FILE a connection has to authenticate first (authentication.go), in
// small frames and within the read timeout. Until then none of its messages reaches the lottery.
//
// A connection that came to SERVER_TLS_ADDR has its TLS handshake before a loop gets it (acceptor.go,
// package channel). What it says is deciphered before anything else sees it, and what it is told is
// sealed when the socket takes it (secure_socket.go). A certificate stands for the authentication.
//
// # Answering
//
// Other goroutines tell a loop what to do through its mailbox (mailbox.go). The loop sends adjacent
// answers to a connection in one write (answers.go), directly to the socket (socket.go). What the
// socket doesn't take waits in the session's backlog (backlog.go).
//
// # The life of a connection
//
// A connection goes through the phases of phase.go. An answer that closes is its last. From then on
// the loop drops what still comes in. It shuts our side once the answer is out, and gives the peer
// a moment to read it and close. gnet closes the socket of a peer that has shut its side, so the
// session keeps a duplicate (halfSocket) until the peer has taken everything it is owed.
//
// An agency that stays connected after the draw would keep the server from ending. So the loop
// hangs up on it after a while (Loop.hangUp). It also has to take its winners fast enough.
//
// # Bounds
//
// limits.go lists the limits that a peer can run into, and derives how much memory all peers
// together can make the server hold. Half frames are bounded over all loops (half_frames.go),
// connections in admission.go. The log lines that strangers can cause are bounded, too (noise.go).
//
// # Who owns what
//
// An event loop's goroutine owns its sessions, except the commit.Peer in each, which is the
// committer's. Other goroutines reach a loop only through its mailbox.
package front
