// Package commit turns what the event loops read into durable groups.
//
//	loops ──▶ Stage ──▶ Committer: lottery decides, one group, ONE sync ──▶ Log
//	   ◀──────────────── replies, only once the group is durable ◀────────────┘
//
// Each loop has a [Stage], a bounded queue of [Request] values. [Committer.Commit] takes the stages
// of all loops, lets the lottery accept or reject each request in order, writes what was accepted
// to the [Log] as one group, and returns the replies, which may leave now. While a group syncs, the
// next one fills the stages.
//
// The [ExitRule] counts the agencies' connections and decides when the server has nothing left to
// do.
//
// One goroutine calls the Committer and the ExitRule. It alone touches the lottery and the log, so
// none of them has a lock. A Stage belongs to its loop on one side and to the Committer on the
// other.
package commit
