// Package dataset makes the bets that agencies play with, and opens them.
//
// # What a dataset is
//
// A dataset is one CSV file an agency, agency-<id>.csv, ids from 1, in a zip
// archive or in a folder. A file has five columns and no header:
//
//	first name,last name,document,birthdate,number
//	María José,Núñez,30904465,1984-03-17,7574
//
// It is UTF-8 with CRLF line ends. Names are those of the Río de la Plata, with
// accents, ñ, apostrophes, and compound names with a space; none needs CSV's
// quotes. Documents have 8 digits and grow with the birthdate, as they do in
// Argentina. Birthdates are real days of adults. Numbers are 0 to 9999 without
// leading zeros, and the winning number occurs in the planted winners only, so
// that the outcome of a draw is known beforehand.
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
// No two of its bets are alike, so a bet that was lost or stored twice shows.
//
// [Sized] describes any other size in the same proportions: agencies 6 to 10
// weigh as much as agencies 1 to 5, and so on, and each agency's winners are as
// frequent as its model's, rounded up. Hence every fifth agency has no winner, every
// other agency that has bets has one at least, and [Sized] with the default's
// agencies and bets is the default.
//
// [Spec.WriteAgency] streams one agency's file, in constant memory and without
// allocating per bet; [Spec.WriteZip], [Spec.WriteZipFile] and [Spec.WriteDir]
// write all of them.
//
// # The same seed gives the same bets
//
// On every machine and with every release of Go: the only source of randomness
// is the output of PCG-DXSM, an algorithm with a published definition, and
// everything drawn from it is computed here. (The functions of math/rand/v2 that
// reduce it to a range are not used.) An agency's bets depend on the seed, on its
// id, and on its own bets and winners, never on the other agencies. Another winning
// number changes the numbers and nothing else.
//
// Entries of an archive carry a fixed time, so one release of Go also gives the
// same archive byte for byte. Another release may compress otherwise: compare
// contents, not archives.
//
// A change to the names or to the order of the draws changes every dataset.
// Then make the bundled one again:
//
//	go run ./cmd/loteria dataset --out testdata/dataset.zip --force
//
// # Reading one
//
// [Open] gives an agency its stream of bets, whether its setting names a CSV
// file, an archive or a folder.
package dataset
