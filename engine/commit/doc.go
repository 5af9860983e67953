// Package commit turns what the event loops read into durable groups.
//
//	loops ──▶ Stage ──▶ Committer: lottery decides, one group, ONE sync ──▶ Log
//	   ◀──────────────── replies, only once the group is durable ◀────────────┘
//
// Each loop has a [Stage], a bounded queue of [Request] values. [Committer.Commit] empties the
// stages of all loops, lets the lottery accept or reject each request in order, writes what was
// accepted to the [Log] as one group, and returns the replies, which may be sent now. While a group
// syncs, the next one fills the stages.
//
// The [ExitRule] counts the agencies' connections and decides when the server has nothing left to
// do.
//
// One goroutine calls the Committer and the ExitRule. Only it touches the lottery and the log, so
// none of them has a lock. A Stage is shared by its loop and the Committer, and has a lock.
package commit
