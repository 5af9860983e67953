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
//
// # Who may take part
//
// A server that has voted, or said that its disk has an entry, must keep that. If it loses its
// directory and begins anew under its id, the others count on what is gone, and committed entries
// can be lost. So each directory has a [Register] beside the ledger. It is a text, with a
// checksum:
//
//	loteria register 1
//	id 2
//	incarnation 5d1c...            made with the directory, at random
//	admitted yes                   it may vote, and say what its disk has
//	server 1 89ab...               the other servers that it knows, and with which directory
//	server 3 several               of this one, it has heard of two directories: it is refused
//	checksum 0a1b2c3d
//
// A server that isn't admitted asks the others to take note of its incarnation. Another one writes
// it down before it says yes, and says yes again to the same one. If it knows another incarnation,
// it says no, for ever, and one no is enough: [ErrKnown]. A server is admitted by the yeses of
//
//   - all others: so a new cluster begins, whose servers answer each other before they are
//     admitted;
//   - or a majority of the others, of servers that are admitted themselves: so one joins later. A
//     server that has lost its directory, or its memory of others with it, isn't one of these.
//
// For three servers that is both others in any case; for five, all four or three that take part.
// With a yes comes who else the other server knows. The one that is admitted knows them, too, from
// then on, or else nobody would be left who remembers once all servers have been replaced. Two
// majorities of the others have one in common. So among those that admit a server there is always
// one that remembers whoever was admitted before, unless more directories are lost than the
// cluster may lose. A test goes through all states of 3 to 6 servers.
//
// What it doesn't do: an older copy of a whole directory passes as the server's own, until its
// replica finds out what is missing (replica.ErrLost), if ever. Two servers may lose no directory,
// as for everything else. Servers must be added one at a time, each admitted before the next one
// asks. A server that was added is known for sure only to a majority of the others: so a cluster
// of five may become one of three, but one of nine must not at once. If a new draw can't begin,
// because a directory was emptied before all servers were admitted, empty those of all servers.
//
// A server begins in this order:
//
//	register := OpenRegister(...)
//	kept := ledger.OpenEntryLog(dir, ledger.EntryOptions{Create: !register.Admitted(), ...})
//	listen; each message goes to register.Receive, and to the member if it isn't the register's
//	register.Join(...)
//	Start(...)
//
// Then a directory with an admitted register and no ledger is refused with ledger.ErrNone, and one
// with a ledger that has promised something and no admitted register with [ErrRegister].
//
// Servers are added and removed at work ([Member.Change]). The network is told ([Settings.Changed]).
package member
