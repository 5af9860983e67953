// Package history knows what the records of a ledger mean. It checks a ledger ([Verify]), rebuilds
// a lottery from it ([Replay]), writes it as CSV ([Export]) and lists its records ([Dump]). It also
// packs all records except bets:
//
//	ledger.Opened    the draw's settings; only the first record has this kind
//	ledger.Bets      a batch: its agency, the number of bets, and their lines
//	ledger.Reported  an agency has sent all its bets; the count is 1 if it confirms its winners
//	ledger.Served    agencies that have their winners
//	ledger.Ended     the servers of the draw have ended, in a ledger that several servers keep; where
//	                 they have to wait for each other, it comes twice, and the first says so
//	ledger.Mark      an entry begins, in a ledger that several servers keep: it means nothing here
//	ledger.Members   which servers keep such a ledger from here on: it means nothing here, either
//
// The draw has no record: it takes place at the report of the last agency.
//
// The functions read a ledger through a [Log], so it need not be in a directory.
package history
