package commit

import (
	"strings"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// Peer is a connection as the committer sees it. It belongs to the committer once a request names
// it. From then on the loop may only use its address. The embedded Session's Peer field is the
// loop's: it leads from a reply back to the connection.
type Peer struct {
	lottery.Session
	counted bool // the exit rule counts this connection as an agency's
}

// The kinds of requests, besides the lottery's own.
const (
	// Answer is a message that the loop answers itself. It goes through the stage so that answers
	// keep the order of the messages.
	Answer lottery.RequestKind = 1<<7 + iota
	// HalfClose says that the peer sends nothing more but may still read what it is owed.
	HalfClose
)

// Request is one message or event of a connection. Its last one is lottery.Leave. It fits a cache
// line. It has all that the committer needs to know of a batch, because the batch's record is in
// the cache of the loop's core.
type Request struct {
	Peer     *Peer
	Detail   string          // of Answer
	Count    int             // of Bets: how many; of Answer: the lines of a batch that was refused, or 0
	records  span            // of Bets: the packed record
	winners  span            // of Bets: the winning lines
	bytes    uint32          // of Bets: all lines
	checksum ledger.Checksum // of these lines
	Agency   codec.Agency
	Kind     lottery.RequestKind
	Reply    lottery.EffectKind // of Answer
	Code     codec.Code         // of Answer, with Reject
	open     bool               // of Bets: the last line lacks its '\n'
}

// lines describes the lines of Bets.
func (r *Request) lines() codec.Stretch {
	sum, seed := r.checksum.CRC32C()
	return codec.Stretch{Sum: sum, Seed: seed, Bytes: int(r.bytes), Open: r.open}
}

// span is a stretch of an intake's records or winners. Both stay below 4 GiB: they hold at most
// what SERVER_QUEUE_BYTES_MAX allows, and one frame.
type span struct{ start, end uint32 }

// of returns the stretch of b, with the capacity to grow into what follows it.
func (s span) of(b []byte) []byte { return b[s.start:s.end] }

// The kinds of replies, besides the kinds of the lottery's effects.
const (
	Challenge     lottery.EffectKind = 1<<7 + iota // the answer to AUTH
	Authenticated                                  // the answer to a right PROOF
)

// Reply is what a loop has to tell a connection: an effect of the lottery, or an answer of the
// loop's own. Of a Reject, Count is how many bets were rejected.
type Reply struct {
	lottery.Effect
	Detail string // of Reject; of Challenge: the nonce's bytes
}

// Explanation is a rejection's code with its detail, for the log.
func (r *Reply) Explanation() string {
	if r.Detail == "" {
		return r.Code.String()
	}
	return r.Code.String() + " " + strings.ReplaceAll(r.Detail, "|", ": ")
}
