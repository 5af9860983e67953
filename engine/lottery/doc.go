// Package lottery decides which bets are taken, which agencies have reported, when the draw takes
// place, which bets win, which agencies have their winners, and which connection speaks for an
// agency.
//
// It is a state machine without a clock, socket, goroutine, file or randomness. A [Request] goes
// in. An entry for the ledger, if any, and the effects come out; the effects may be released once
// the entry is durable:
//
//	            ┌──────────────── Lottery ────────────────┐
//	Request ──▶ │ agencies: stored, reported, served       │ ──▶ Entry   to the ledger
//	            │ sessions: agency, waiting, fenced off    │ ──▶ Effects after the sync
//	            └──────────────────────────────────────────┘
//
// The durable state (stored bets and their checksums, reports, the draw, winners, agencies served)
// is a pure function of the entries in their order: [Lottery.Replay] of the ledger gives the same
// state that the requests gave. Sessions are not durable; they end with their connections.
//
// The draw has no entry of its own. It takes place at the Reported entry of the last expected
// agency, and nowhere else. Only Served entries follow it.
//
// An agency is served when it has its winners. If the session that reported had said Hello, only
// Received serves the agency. If it had not, Taken also serves it, unless the session that took the
// winners has said Hello. The Reported entry records which rule holds, so it survives a restart.
//
// # Rules for the caller
//
// One goroutine owns a Lottery and its Sessions. The effects of a request must not leave until its
// entry, and every entry before it, are durable. Entries go to the ledger in the order in which
// Apply returned them.
package lottery
