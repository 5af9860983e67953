// Package relay serves agencies at a server that doesn't lead.
//
// Of the servers of one draw only the leader answers agencies. Another one tells an agency that says
// HELLO where the leader is, and passes the connection of any other agency on: byte for byte, both
// ways, so that an agency of the old kind works with the address of any server.
//
//	agency ──▶ first message ──┬── HELLO or AUTH ──▶ ERROR_NOT_LEADER|address, and the end
//	                           ├── empty ──▶ ERROR_EMPTY_BATCH: a health check asks this server
//	                           └── any other ◀──────▶ a stream to the leader
//
// Whether an agency is of the old kind shows in its first message. So at most headBytesMax bytes of
// it are held, whatever length it announces.
//
// While nobody is known to lead, an agency that says HELLO is told so and comes again. The others
// wait, because they know nothing of leaders, but for no longer than a peer may be silent.
//
// A connection that is passed on ends when its leader ends it, or when another server leads.
//
// What this server and the leader's own kernel have taken of the answers, the agency need not have. So
// the relay reports, beside what the agency says, what the agency's system has acknowledged, and that
// the agency has ended; see report.go. A connection that breaks, or whose relay does, has not ended.
// The leader judges by that as if the agency were its own: one that is cut off before it has its
// winners is missing at the end.
package relay
