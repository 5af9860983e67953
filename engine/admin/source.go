package admin

import (
	"time"

	"loteria/engine/admin/board"
)

// Source is the server that is watched. Any goroutine may call its methods at any time. None of
// them waits for the committer, the disk or another server.
type Source interface {
	// State is the newest state. It is shared and must not be changed. It is a new one, by pointer,
	// only if something has changed.
	State() *board.State
	// Agencies calls visit with each agency in order of the ids until visit returns false.
	Agencies(visit func(board.Agency) bool)
	// Counters are read from what the server counts anyway. It is called at each scrape.
	Counters() Counters
	// Ready is nil if the server takes bets or serves winners. Otherwise the error says why it
	// doesn't: it replays, it stops, or no server leads.
	Ready() error
}

// Counters are the numbers of a server that only a scrape needs. All but the gauges count since the
// server started.
type Counters struct {
	BetsStored         int64            // in the ledger, with those of earlier starts
	Rejected           map[string]int64 // requests, by the code of the answer, such as ERROR_TIMEOUT
	Commits            int64            // groups
	WrittenBytes       int64            // to the ledger
	Connections        map[string]int64 // open ones, by kind: a gauge
	ConnectionsRefused map[string]int64 // by the limit that refused them
	QueueBytes         int64            // a gauge
	Handshakes         map[string]int64 // TLS handshakes, by result; nil if there is no TLS
	CertificateExpires time.Time        // the server's certificate; zero if there is no TLS: a gauge
	LinesSuppressed    int64            // log lines
}
