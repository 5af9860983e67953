package ledgertest

import (
	"fmt"
	"hash/crc32"
	"strings"

	"loteria/engine/ledger"
)

// Entry holds the kind, agency, count and payload of a ledger.Record. It outlives the call of
// visit, and entries can be compared with ==.
type Entry struct {
	Kind    ledger.Kind
	Agency  uint32
	Count   uint32
	Payload string
}

// Bets makes a record of one bet with a payload of payloadBytes. Different numbers below 1e8 give
// different records, if the payload is long enough to hold the number.
func Bets(payloadBytes, number int) Entry {
	line := fmt.Sprintf("Juan|Pérez|%08d|1990-05-23|7574|1\n", number)
	payload := strings.Repeat(line, payloadBytes/len(line)+1)[:payloadBytes]
	return Entry{ledger.Bets, uint32(number%5 + 1), 1, payload}
}

// Opened makes a ledger's first record.
func Opened(settings string) Entry { return Entry{ledger.Opened, 0, 1, settings} }

// Reported makes a record that says that an agency has no more bets.
func Reported(agency uint32) Entry { return Entry{ledger.Reported, agency, 0, ""} }

// AppendTo appends the packed entry to a run, as ledger.AppendRecord does.
func (e Entry) AppendTo(run []byte) []byte {
	return ledger.AppendRecord(run, e.Kind, e.Agency, e.Count, []byte(e.Payload))
}

// Run packs entries into one run.
func Run(entries ...Entry) []byte {
	var run []byte
	for _, e := range entries {
		run = e.AppendTo(run)
	}
	return run
}

// Collect returns a visit function that appends the records to *into, which must be empty at first.
// It returns an error if a sequence number is not the next one, or a checksum is wrong.
func Collect(into *[]Entry) func(ledger.Record) error {
	return func(r ledger.Record) error {
		*into = append(*into, Entry{r.Kind, r.Agency, r.Count, string(r.Payload)})
		if r.Seq != uint64(len(*into)) {
			return fmt.Errorf("ledgertest: record %d was visited as number %d", r.Seq, len(*into))
		}
		if sum, seed := r.Checksum.CRC32C(); sum != crc32.Update(seed, castagnoli, r.Payload) {
			return fmt.Errorf("ledgertest: record %d has the checksum of another payload", r.Seq)
		}
		return nil
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Agreement returns how many entries are equal from the beginning of a and b on.
func Agreement(a, b []Entry) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
