// Package member is one server of a replicated draw at work: it gives a replica a clock, a disk and
// the other servers.
//
//	mesh ──▶ Receive ──▶ ┌ the member's goroutine ┐ ──▶ send ──▶ mesh
//	clock ─────────────▶ │ owns the Replica       │
//	Log.Commit ────────▶ │                        │ ──▶ the saver's goroutine ──▶ Store
//	                     └────────────────────────┘
//
// Package replica says what has to happen in which order. Here is what that takes in a process: two
// goroutines, a ticker, bounded queues, and the bytes that a message has between servers.
//
// A [Log] is a leadership as commit.Log has it. Its methods wait, so that a committer needs to know
// nothing of several servers. When the leadership ends they return commit.ErrNotLeader; the next one
// comes with a Log of its own.
package member
