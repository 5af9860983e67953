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

// RequestKind is the kind of a request.
type RequestKind uint8

// The kinds of requests.
const (
	// Bets is a valid batch.
	Bets RequestKind = iota + 1
	// GetWinners ends the agency's bets and asks for its winners.
	GetWinners
	// Hello begins an agency's conversation.
	Hello
	// Received confirms that the agency has its winners.
	Received
	// Taken says that the peer has taken the winners that it was told. It counts for agencies that
	// don't confirm.
	Taken
	// Answer is a message that the loop answers itself. It goes through the stage so that answers
	// keep the order of the messages.
	Answer
	// HalfClose says that the peer sends nothing more but may still read what it is owed.
	HalfClose
	// Leave says that the connection is gone. It is a connection's last request.
	Leave
)

// Request is one message or event of a connection. It fits a cache line. It has all that the
// committer needs to know of a batch, because the batch's record is in the cache of the loop's
// core.
type Request struct {
	Peer     *Peer
	Detail   string          // of Answer
	Count    int             // of Bets: how many; of Answer: the lines of a batch that was refused, or 0
	records  span            // of Bets: the packed record
	winners  span            // of Bets: the winning lines
	bytes    uint32          // of Bets: all lines
	checksum ledger.Checksum // of these lines
	Agency   codec.Agency
	Kind     RequestKind
	Reply    ReplyKind  // of Answer
	Code     codec.Code // of Answer, with Reject
	open     bool       // of Bets: the last line lacks its '\n'
}

// lines describes the lines of Bets.
func (r *Request) lines() codec.Stretch {
	sum, seed := r.checksum.CRC32C()
	return codec.Stretch{Sum: sum, Seed: seed, Bytes: int(r.bytes), Open: r.open}
}

// Refusal makes the request that answers a message with an error.
func Refusal(p *Peer, code codec.Code, detail string) Request {
	return Request{Peer: p, Kind: Answer, Reply: Reject, Code: code, Detail: detail}
}

// span is a stretch of an intake's records or winners. Both stay below 4 GiB: they hold at most
// what SERVER_QUEUE_BYTES_MAX allows, and one frame.
type span struct{ start, end uint32 }

// of returns the stretch of b, with the capacity to grow into what follows it.
func (s span) of(b []byte) []byte { return b[s.start:s.end] }

// ReplyKind is the kind of a reply.
type ReplyKind uint8

// The kinds of replies: the lottery's, and two of the loop's own.
const (
	Ack     = ReplyKind(lottery.Ack)
	Welcome = ReplyKind(lottery.Welcome)
	Winners = ReplyKind(lottery.Winners)
	Reject  = ReplyKind(lottery.Reject)
	Receipt = ReplyKind(lottery.Receipt)

	Challenge     ReplyKind = 1 << 7   // the answer to AUTH
	Authenticated ReplyKind = 1<<7 + 1 // the answer to a right PROOF
)

// Reply is what a loop has to tell a connection.
type Reply struct {
	To       *lottery.Session
	Payload  []byte // of Winners; shared, never changed
	Detail   string // of Reject; of Challenge: the nonce's bytes
	Stored   int64  // of Welcome: the agency's bets
	Count    int    // of Ack and Reject: bets; of Winners: winning lines
	Agency   codec.Agency
	Times    int32          // how many frames this answers; 0 stands for 1
	Checksum codec.Checksum // of Welcome
	Kind     ReplyKind
	Code     codec.Code // of Reject
}

// Explanation is a rejection's code with its detail, for the log.
func (r *Reply) Explanation() string {
	if r.Detail == "" {
		return r.Code.String()
	}
	return r.Code.String() + " " + strings.ReplaceAll(r.Detail, "|", ": ")
}
