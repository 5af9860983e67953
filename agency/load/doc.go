// Package load is a load generator for servers of the lottery. It runs many agencies in one
// process, cheaply enough to share a small machine with the server that it measures.
//
// [Run] connects the agencies, lets them all send at once, and waits until every batch is
// acknowledged. Then they report. Run checks that the winners that come back are those that were
// sent, and confirms them:
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
// Without Rate the load is a closed loop: each agency keeps Window batches unanswered, and a
// batch's latency begins when it is written to the socket. With Rate it is an open loop: each batch
// is due at a fixed time, and its latency begins then, even if the server delays the sending. So a
// stall of the server counts for every batch that it delayed, not only for the one that it hit (Gil
// Tene's "coordinated omission").
//
// Bets per second are the acknowledged bets, divided by the time from the start to the last ACK.
// That time doesn't include connecting, reporting, the draw and the receipts. The draw's time ends
// when the last agency has its winners, before any winners are confirmed.
//
// # What it costs
//
// Frames hold valid bets, are made before the start, and follow one another in memory. A lane sends
// all that its window allows in one write, and counts ACKs by comparing bytes. It does nothing for
// each single bet. Each agency sends its own frames again and again, since two identical bets are
// two bets.
//
// An event loop (gnet) reads agencies that only wait, instead of a goroutine for each. At the draw
// they all get their winners at once, and the measured time until the last one has them includes
// the client's own work. The expected winners are computed before, so checking them is one
// comparison.
//
// # What to compare with
//
// A [Yardstick] receives the same frames, and appends and syncs the same bytes in groups that form
// by the same rule (group commit). It doesn't look at the bets: it is a server without the lottery.
// [ProbeSync] measures how long the disk alone takes for one sync.
package load
