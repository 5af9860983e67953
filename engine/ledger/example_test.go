package ledger_test

import (
	"fmt"
	"log"
	"os"

	"loteria/engine/ledger"
)

// A server replays what is stored, then appends.
func Example() {
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	for range 2 {
		l, err := ledger.Open(dir, ledger.Options{}, func(r ledger.Record) error {
			fmt.Printf("%d %v agency %d: %d bets %q\n", r.Seq, r.Kind, r.Agency, r.Count, r.Payload)
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
		run := ledger.AppendRecord(nil, ledger.Bets, 1, 1, []byte("Juan|Pérez|12345678|1990-05-23|7574|1"))
		run = ledger.AppendRecord(run, ledger.Reported, 1, 0, nil)
		if err := l.Commit([][]byte{run}); err != nil {
			log.Fatal(err)
		}
		fmt.Println("durable:", l.Stats().Seq)
		if err := l.Close(); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// durable: 2
	// 1 bets agency 1: 1 bets "Juan|Pérez|12345678|1990-05-23|7574|1"
	// 2 reported agency 1: 0 bets ""
	// durable: 4
}
