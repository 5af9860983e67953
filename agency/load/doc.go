// Package load is a load generator for servers of the lottery: many agencies
// in one process, cheap enough to share a small machine with the server that
// it measures.
//
// [Run] connects the agencies, lets them all send at once, waits until every
// batch is acknowledged, lets them report, checks that the winners that come
// back are the ones that were sent, and confirms them:
//
//	corpus ──▶ lane, one a connection ──▶ server
//	(frames,     window of unanswered       │
//	 made once)  frames, one write for      │ ACKs
//	             all that may be sent  ◀────┘
//	                  │
//	                  └──▶ recorder (HdrHistogram)
//
// # What is measured
//
// Without Rate the load is a closed loop: each agency keeps Window batches
// unanswered, and a batch's latency begins when it is handed to the socket.
// With Rate it is an open loop: each batch has a time when it is due, whatever
// the server does meanwhile, and its latency begins then. So a stall of the
// server is counted for every batch that it delayed, not only for the one that
// it hit (Gil Tene's "coordinated omission").
//
// Bets per second are bets acknowledged, divided by the time from the start to
// the last ACK. Connecting, reporting, the draw and the receipts are not in it; the
// draw's time ends when the last agency has its winners, before any is confirmed.
//
// # What it costs
//
// Frames are valid bets, made before the start, and lie behind one another in
// memory. A lane sends all that its window allows in one write and counts ACKs
// by comparing bytes; nothing is done for each bet. Each agency sends its own
// frames again and again: two identical bets are two bets.
//
// Agencies that only wait are read by an event loop (gnet), not by a goroutine
// each: at the draw all of them get their winners at once, and the time until the
// last one has them is the server's and the client's together. What they have to
// get is worked out before; then it is one comparison.
//
// # What to compare with
//
// A [Yardstick] receives the same frames, and appends and syncs the same bytes
// in groups that form by the same rule, without looking at them: what is left
// when a lottery's server does nothing of a lottery. [ProbeSync] measures what
// the disk alone needs for one sync.
package load
