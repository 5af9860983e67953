package engine

import (
	"strings"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// requestKind tells what a loop hands to the committer.
type requestKind uint8

const (
	requestBets requestKind = iota + 1
	requestGetWinners
	requestHello
	requestReceived
	// requestRefuse is a message that the session itself turned away. It goes
	// through the queue so that answers keep the order of the requests.
	requestRefuse
	// requestChallenge and requestAuthenticated answer AUTH and PROOF, which are
	// the session's own affair, too.
	requestChallenge
	requestAuthenticated
	// requestHalfClose says that the peer will send nothing more but may still
	// read what it is owed.
	requestHalfClose
	// requestLeave says that the connection is gone. It is a session's last.
	requestLeave
	// requestTaken says that the peer has taken the winners that it was told, and doesn't confirm.
	requestTaken
)

// request is one entry of a loop's batch. The spans point into that batch. It fits a cache line, and
// tells all that the committer needs to know of a batch's bets: their record is in the loop's cache.
type request struct {
	session  *session
	detail   string          // of requestRefuse; of requestChallenge: the nonce's bytes
	count    int             // bets of requestBets; lines of a batch of requestRefuse, 0 if it was none
	records  span            // of requestBets: its packed ledger record
	winners  span            // of requestBets: its winning lines
	bytes    uint32          // of requestBets: all its lines
	checksum ledger.Checksum // of these
	agency   codec.Agency    // of requestRefuse: 0 stands for the lottery's
	kind     requestKind
	open     bool       // of requestBets: the last line lacks its '\n'
	code     codec.Code // of requestRefuse
}

// lines describes the lines of a requestBets.
func (r *request) lines() codec.Stretch {
	sum, seed := r.checksum.CRC32C()
	return codec.Stretch{Sum: sum, Seed: seed, Bytes: int(r.bytes), Open: r.open}
}

// span is a stretch of a batch's records or winners. Both are smaller than 4 GiB: the most that
// SERVER_QUEUE_BYTES_MAX takes, and a frame.
type span struct{ start, end uint32 }

// of is the stretch of b, with the capacity to grow into what follows it.
func (s span) of(b []byte) []byte { return b[s.start:s.end] }

// What sessions are told that is no effect of the lottery's.
const (
	challenge lottery.EffectKind = 1<<7 + iota
	authenticated
)

// reply is what a loop has to tell one of its sessions.
type reply struct {
	session  *session
	payload  []byte // shared: never changed
	detail   string // of lottery.Reject; of challenge: the nonce's bytes
	stored   int64
	count    int
	agency   codec.Agency
	times    int32              // how many frames this answers; 0 stands for 1
	checksum codec.Checksum     // of lottery.Welcome
	kind     lottery.EffectKind // or challenge, or authenticated
	code     codec.Code
	told     bool // the loop's: it was for a peer who can still hear it
}

// explanation is a rejection's code with its detail, for the log.
func (r *reply) explanation() string {
	if r.detail == "" {
		return r.code.String()
	}
	return r.code.String() + " " + strings.ReplaceAll(r.detail, "|", ": ")
}
