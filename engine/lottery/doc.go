// Package lottery decides: whose bets are taken, who has reported, when the
// draw takes place, who has won, who has their winners, and which connection
// speaks for an agency.
//
// It is a state machine without a clock, socket, goroutine, file or
// randomness. A [Request] goes in; out come the entry that has to be appended
// to the ledger, if any, and the effects that may be released once that entry
// is durable:
//
//	            ┌──────────────── Lottery ────────────────┐
//	Request ──▶ │ agencies: stored, reported, served       │ ──▶ Entry   to the ledger
//	            │ sessions: agency, waiting, fenced off    │ ──▶ Effects after the sync
//	            └──────────────────────────────────────────┘
//
// What is durable (bets stored and their checksums, agencies reported, the draw,
// winners, agencies served) is a pure function of the entries in their order:
// [Lottery.Replay] of the ledger gives the same state that the requests gave.
// Sessions are not durable; they end with their connections.
//
// The draw is no entry of its own. It takes place where the last expected
// agency's Reported entry stands, and nowhere else. Behind it there are only
// Served entries.
//
// An agency is served when it has its winners. If the session that reported had
// said Hello, only Received says so; if not, Taken does, too, of a session that
// has not said Hello itself. The Reported entry remembers which, so it holds
// after a restart.
//
// # What the caller owes
//
// One goroutine owns a Lottery and its Sessions. Effects of a request must not
// leave before its entry, and all entries before it, are durable. Entries go
// to the ledger in the order in which Apply returned them.
package lottery
