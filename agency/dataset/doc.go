// Package dataset makes the bets that agencies play with, and opens them.
//
// # What a dataset is
//
// A dataset has one CSV file for each agency, agency-<id>.csv with ids from 1, in a zip archive or
// in a folder. A file has five columns and no header:
//
//	first name,last name,document,birthdate,number
//	María José,Núñez,30904465,1984-03-17,7574
//
// A file is UTF-8 with CRLF line ends. Names are those of the Río de la Plata, with accents, ñ,
// apostrophes, and compound names with a space; none needs CSV's quotes. Documents have 8 digits
// and grow with the birthdate, as they do in Argentina. Birthdates are real days, of adults.
// Numbers are 0 to 9999 without leading zeros. Only the planted winners play the winning number, so
// the outcome of a draw is known beforehand.
//
// # Making one
//
// [Default] describes the bundled dataset, testdata/dataset.zip:
//
//	agency   bets     winners
//	1        26,936   2
//	2        25,518   3
//	3        16,014   3
//	4         9,238   2
//	5           991   0
//	total    78,697   10
//
// No two of its bets are equal, so tests notice a bet that was lost or stored twice.
//
// [Sized] describes any other size in the same proportions. Agencies 6 to 10 have the proportions
// of agencies 1 to 5, and so on. Each agency has the share of winners of its model among agencies 1
// to 5, rounded up. So every fifth agency has no winner, and every other agency with bets has at
// least one. [Sized] with the default's agencies and bets is the default.
//
// [Spec.WriteAgency] streams one agency's file, in constant memory and without an allocation for
// each bet; [Spec.WriteZip], [Spec.WriteZipFile] and [Spec.WriteDir] write all of them.
//
// # The same seed gives the same bets
//
// This holds on every machine and with every release of Go. The only source of randomness is the
// output of PCG-DXSM, an algorithm with a published definition. This package computes everything
// else, and doesn't use the functions of math/rand/v2 that reduce a random word to a range. An
// agency's bets depend on the seed, on its id, and on its own numbers of bets and winners, but not
// on the other agencies. Another winning number changes only the numbers.
//
// The entries of an archive have a fixed time, so one release of Go also gives the same archive
// byte for byte. Another release may compress differently: compare contents, not archives.
//
// A change to the names or to the order of the random draws changes every dataset. Then make the
// bundled one again:
//
//	go run ./cmd/loteria dataset --out testdata/dataset.zip --force
//
// # Reading one
//
// [Open] returns an agency's stream of bets, from a CSV file, an archive or a folder.
package dataset
