// Package history reads a ledger as what its records mean: it checks it ([Verify]), rebuilds a lottery
// from it ([Replay]), and writes it as CSV ([Export]) or record by record ([Dump]). It also packs the
// records that are no bets, so that what a record means stands in one place:
//
//	ledger.Opened    the draw's settings; the first record and no other
//	ledger.Bets      a batch: its agency, how many bets, and their lines
//	ledger.Reported  an agency has sent all its bets; the count is 1 if it confirms its winners
//	ledger.Served    agencies that have their winners
//
// The draw has no record: it takes place where the last agency reports.
//
// A log is read through a [Log], so it may be a directory's or whoever else's that holds one.
package history
