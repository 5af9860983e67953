package codec

import (
	"bytes"
	"fmt"
	"strconv"
)

// Agency is the id of an agency, 0 to 999,999,999. On the wire it is decimal, without leading
// zeros. No server expects agency 0, but a payload may name it.
type Agency uint32

const agencyDigitsMax = 9

// AppendAgency appends the id to dst, as it is on the wire.
func AppendAgency(dst []byte, a Agency) []byte { return strconv.AppendUint(dst, uint64(a), 10) }

// AgenciesListed is how many agencies a message should name before it only counts.
const AgenciesListed = 20

// ListAgencies names agencies for a message: so many at most, and how many more there are.
func ListAgencies(ids []Agency, most int) string {
	var b []byte
	for i, id := range ids {
		if i == most {
			return fmt.Sprintf("%s and %d more", b, len(ids)-i)
		}
		if i > 0 {
			b = append(b, ", "...)
		}
		b = AppendAgency(b, id)
	}
	return string(b)
}

// ParseAgency reads an agency's id; ok is false if b is not one. It doesn't know which agencies a
// server expects.
func ParseAgency(b []byte) (a Agency, ok bool) {
	if len(b) == 0 || len(b) > agencyDigitsMax || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		a = a*10 + Agency(c-'0')
	}
	return a, true
}

// RequestKind is the kind of an agency's request.
type RequestKind uint8

// The kinds of requests.
const (
	RequestBets RequestKind = iota + 1
	RequestGetWinners
	RequestHello
	// RequestReceived says that the agency has its winners. It counts only on a connection that has
	// said HELLO. On any other one the server answers it as the invalid batch that it always was.
	RequestReceived
)

// Request is an agency's request as the server reads it.
type Request struct {
	Kind   RequestKind
	Agency Agency
	// Batch describes the bets of a RequestBets.
	Batch Batch
}

const (
	prefixGetWinners = "GET_WINNERS"
	prefixHello      = "HELLO|"
	prefixReceived   = "RECEIVED|"
)

// AppendGetWinners appends an agency's GET_WINNERS frame to dst.
func AppendGetWinners(dst []byte, a Agency) []byte {
	return appendNamed(dst, prefixGetWinners+"|", a)
}

// AppendHello appends an agency's HELLO frame to dst.
func AppendHello(dst []byte, a Agency) []byte { return appendNamed(dst, prefixHello, a) }

// AppendReceived appends an agency's RECEIVED frame to dst.
func AppendReceived(dst []byte, a Agency) []byte { return appendNamed(dst, prefixReceived, a) }

func appendNamed(dst []byte, prefix string, a Agency) []byte {
	var digits [10]byte
	id := AppendAgency(digits[:0], a)
	dst = AppendFrameHeader(dst, len(prefix)+len(id))
	dst = append(dst, prefix...)
	return append(dst, id...)
}

// ParseRequest reads a request's payload.
//
// It appends the winning lines of a batch to winners, each followed by '\n', and returns the grown
// slice. After an error it returns winners with the length that it had. A valid request allocates
// nothing as long as winners has room. The error is an *Error whose Code is the server's answer;
// one bad line rejects the whole batch.
func ParseRequest(payload []byte, rules Rules, winners []byte) (Request, []byte, error) {
	if rest, ok := bytes.CutPrefix(payload, []byte(prefixGetWinners)); ok {
		id, named := bytes.CutPrefix(rest, []byte{'|'})
		if a, ok := ParseAgency(id); ok && named {
			return Request{Kind: RequestGetWinners, Agency: a}, winners, nil
		}
		return Request{}, winners, &Error{Code: CodeInvalidGetWinners}
	}
	if id, ok := bytes.CutPrefix(payload, []byte(prefixHello)); ok {
		if a, ok := ParseAgency(id); ok {
			return Request{Kind: RequestHello, Agency: a}, winners, nil
		}
		if !isBetLine(payload) {
			return Request{}, winners, &Error{Code: CodeInvalidHello}
		}
	}
	if id, ok := bytes.CutPrefix(payload, []byte(prefixReceived)); ok {
		if a, ok := ParseAgency(id); ok {
			return Request{Kind: RequestReceived, Agency: a}, winners, nil
		}
	}
	batch, winners, err := ParseBatch(payload, rules, winners)
	if err != nil {
		return Request{}, winners, err
	}
	return Request{Kind: RequestBets, Agency: batch.Agency, Batch: batch}, winners, nil
}

// Error says why a request was rejected: the protocol's code and, for an invalid batch, the first
// line that is not a bet and the reason.
type Error struct {
	Code   Code
	Line   int    // counted from 1; 0 if the error is not about a line
	Reason string // UTF-8 without '|' and line ends; empty if Line is 0
}

func (e *Error) Error() string {
	if d := e.Detail(); d != "" {
		return e.Code.String() + "|" + d
	}
	return e.Code.String()
}

// Detail returns what a server sends after the code on connections that said HELLO: "LINE|REASON",
// or "" if the error is not about a line.
func (e *Error) Detail() string {
	if e.Line == 0 {
		return ""
	}
	return strconv.Itoa(e.Line) + "|" + e.Reason
}
