package commit

import (
	"strings"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// Peer is a connection as the committer sees it. It belongs to the committer once a request names
// it; the loop only hands out its address. The session's Peer field is the loop's: it leads from a
// reply back to the connection.
type Peer struct {
	lottery.Session
	counted bool // the exit rule counts this connection as an agency's
}

// RequestKind tells requests apart.
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
	// Taken says that the peer has taken the winners that it was told, and doesn't confirm them.
	Taken
	// Answer is a message that the loop has answered by itself. It goes through the queue so that
	// answers keep the order of the messages.
	Answer
	// HalfClose says that the peer sends nothing more but may still read what it is owed.
	HalfClose
	// Leave says that the connection is gone. It is a connection's last request.
	Leave
)

// Request is one message or event of a connection. It fits a cache line. It tells the committer all
// it needs to know of a batch: the batch's record lies in the loop's cache.
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

// Refusal is the request that answers code, in its place among the answers.
func Refusal(p *Peer, code codec.Code, detail string) Request {
	return Request{Peer: p, Kind: Answer, Reply: Reject, Code: code, Detail: detail}
}

// span is a stretch of an intake's records or winners. Both stay below 4 GiB: they hold at most
// what SERVER_QUEUE_BYTES_MAX allows, and one frame.
type span struct{ start, end uint32 }

// of returns the stretch of b, with the capacity to grow into what follows it.
func (s span) of(b []byte) []byte { return b[s.start:s.end] }

// ReplyKind says what a connection is told.
type ReplyKind uint8

// The kinds of replies: the lottery's, and two that concern only the connection.
const (
	Ack     = ReplyKind(lottery.Ack)
	Welcome = ReplyKind(lottery.Welcome)
	Winners = ReplyKind(lottery.Winners)
	Reject  = ReplyKind(lottery.Reject)
	Receipt = ReplyKind(lottery.Receipt)

	Challenge     ReplyKind = 1 << 7 // the answer to AUTH
	Authenticated ReplyKind = 1<<7 + 1
)

// Reply is what a loop has to tell a connection.
type Reply struct {
	To       *lottery.Session
	Payload  []byte // of Winners; shared, never changed
	Detail   string // of Reject; of Challenge: the nonce's bytes
	Stored   int64  // of Welcome
	Count    int
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
