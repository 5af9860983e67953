package engine

import (
	"strings"

	"loteria/codec"
	"loteria/engine/lottery"
)

// requestKind tells what a loop hands to the committer.
type requestKind uint8

const (
	requestBets requestKind = iota + 1
	requestGetWinners
	requestHello
	// requestRefuse is a message that the session itself turned away. It goes
	// through the queue so that answers keep the order of the requests.
	requestRefuse
	// requestHalfClose says that the peer will send nothing more but may still
	// read what it is owed.
	requestHalfClose
	// requestLeave says that the connection is gone. It is a session's last.
	requestLeave
	// requestServed says that the agency's winners are in its socket.
	requestServed
)

// request is one entry of a loop's batch. The spans point into that batch.
type request struct {
	session *session
	kind    requestKind
	code    codec.Code // of requestRefuse
	agency  codec.Agency
	count   int  // bets of requestBets; lines of a batch of requestRefuse, 0 if it was none
	records span // of requestBets: its packed ledger record
	winners span // of requestBets: its winning lines
	detail  string
}

// span is a stretch of a batch's records or winners.
type span struct{ start, end int }

// of is the stretch of b, with the capacity to grow into what follows it.
func (s span) of(b []byte) []byte { return b[s.start:s.end] }

// reply is what a loop has to tell one of its sessions.
type reply struct {
	session *session
	kind    lottery.EffectKind
	code    codec.Code
	count   int
	agency  codec.Agency
	stored  int64
	payload []byte // shared: never changed
	detail  string
}

// explanation is a rejection's code with its detail, for the log.
func (r *reply) explanation() string {
	if r.detail == "" {
		return r.code.String()
	}
	return r.code.String() + " " + strings.ReplaceAll(r.detail, "|", ": ")
}
