package codec

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Code is an error that a server sends, one of the table in PROTOCOL.md.
type Code uint8

// The protocol's errors. CodeNone means no error.
const (
	CodeNone Code = iota
	CodeInvalidFrame
	CodeFrameTooLarge
	CodeEmptyBatch
	CodeInvalidBatch
	CodeInvalidAgency
	CodeInvalidGetWinners
	CodeInvalidHello
	CodeBetsClosed
	CodeLotteryHasntEnded
	CodeWindowExceeded
	CodeAgencyTakenOver
	CodeTooManyConnections
	CodeTimeout
	CodeStorage
	CodeAuthenticationRequired
	CodeAuthenticationFailed
	CodeNotLeader
	codeEnd
)

var codePayloads = [codeEnd]string{
	CodeInvalidFrame:           "ERROR_INVALID_FRAME",
	CodeFrameTooLarge:          "ERROR_FRAME_TOO_LARGE",
	CodeEmptyBatch:             "ERROR_EMPTY_BATCH",
	CodeInvalidBatch:           "ERROR_INVALID_BATCH",
	CodeInvalidAgency:          "ERROR_INVALID_AGENCY",
	CodeInvalidGetWinners:      "ERROR_INVALID_GET_WINNERS",
	CodeInvalidHello:           "ERROR_INVALID_HELLO",
	CodeBetsClosed:             "ERROR_BETS_CLOSED",
	CodeLotteryHasntEnded:      "ERROR_LOTTERY_HASNT_ENDED",
	CodeWindowExceeded:         "ERROR_WINDOW_EXCEEDED",
	CodeAgencyTakenOver:        "ERROR_AGENCY_TAKEN_OVER",
	CodeTooManyConnections:     "ERROR_TOO_MANY_CONNECTIONS",
	CodeTimeout:                "ERROR_TIMEOUT",
	CodeStorage:                "ERROR_STORAGE",
	CodeAuthenticationRequired: "ERROR_AUTHENTICATION_REQUIRED",
	CodeAuthenticationFailed:   "ERROR_AUTHENTICATION_FAILED",
	CodeNotLeader:              "ERROR_NOT_LEADER",
}

// Codes lists every error of the protocol.
func Codes() []Code {
	codes := make([]Code, 0, codeEnd-1)
	for c := CodeNone + 1; c < codeEnd; c++ {
		codes = append(codes, c)
	}
	return codes
}

// String returns the code's payload on the wire, such as ERROR_EMPTY_BATCH.
func (c Code) String() string {
	if c == CodeNone || c >= codeEnd {
		return fmt.Sprintf("Code(%d)", uint8(c))
	}
	return codePayloads[c]
}

// Closes reports whether a server closes the connection after this error.
func (c Code) Closes() bool {
	switch c {
	case CodeInvalidFrame, CodeFrameTooLarge, CodeWindowExceeded, CodeAgencyTakenOver,
		CodeTooManyConnections, CodeTimeout, CodeStorage,
		CodeAuthenticationRequired, CodeAuthenticationFailed, CodeNotLeader:
		return true
	}
	return false
}

// ErrReply says that a server's payload is not a reply of the protocol.
var ErrReply = errors.New("not a reply of the protocol")

// ReplyKind is the kind of a server's reply.
type ReplyKind uint8

// The kinds of replies.
const (
	ReplyAck ReplyKind = iota + 1
	ReplyWelcome
	ReplyWinners
	ReplyError
	ReplyChallenge
	ReplyAuthenticated
)

// Reply is a server's reply as an agency reads it.
type Reply struct {
	Kind    ReplyKind
	Welcome Welcome // of ReplyWelcome
	Code    Code    // of ReplyError
	// Detail is of ReplyError: what follows the code's '|', if anything. That of CodeNotLeader is
	// empty or an address, see [IsAddress].
	Detail  string
	Winners []byte // of ReplyWinners: the payload itself, which it aliases
	Nonce   Nonce  // of ReplyChallenge
}

// Welcome is the server's answer to a HELLO.
type Welcome struct {
	Stored        int64 // how many bets of the agency are durable
	Window        int   // how many frames may be unanswered at once
	FrameBytesMax int   // the largest payload that the server takes, in bytes
	// Checksum is the checksum of the agency's durable bets, in the order in which they were
	// stored.
	Checksum Checksum
}

const (
	payloadAck    = "ACK"
	prefixWelcome = "WELCOME|"
	prefixError   = "ERROR_"
)

// AppendAck appends an ACK frame to dst.
func AppendAck(dst []byte) []byte { return append(dst, "3\nACK"...) }

// AppendError appends an error frame to dst. If detail is not empty, it follows the code and a '|'.
// The detail of CodeNotLeader is the leader's address, see [IsAddress], or empty if the server
// doesn't know the leader now.
func AppendError(dst []byte, code Code, detail string) []byte {
	payload := code.String()
	if detail != "" {
		payload += "|" + detail
	}
	return append(AppendFrameHeader(dst, len(payload)), payload...)
}

// AppendWelcome appends a WELCOME frame to dst.
func AppendWelcome(dst []byte, w Welcome) []byte {
	var room [len(prefixWelcome) + 3*20 + checksumDigits]byte // three numbers of at most 19 digits, three '|'
	p := append(room[:0], prefixWelcome...)
	p = strconv.AppendInt(p, w.Stored, 10)
	p = append(p, '|')
	p = strconv.AppendInt(p, int64(w.Window), 10)
	p = append(p, '|')
	p = strconv.AppendInt(p, int64(w.FrameBytesMax), 10)
	p = append(p, '|')
	p = w.Checksum.append(p)
	return AppendFrame(dst, p)
}

// ParseReply reads a server's payload. A payload that is no other reply is an agency's winners,
// whose lines it doesn't check. A winning bet whose first name looks like another reply differs
// from that reply by its six fields. The error wraps ErrReply: an unknown error, an empty detail, a
// leader's address that is none, a WELCOME that is not three numbers and a checksum, or a CHALLENGE
// that is not a nonce.
func ParseReply(payload []byte) (Reply, error) {
	switch {
	case string(payload) == payloadAck:
		return Reply{Kind: ReplyAck}, nil
	case bytes.HasPrefix(payload, []byte(prefixWelcome)) && !isBetLine(payload):
		w, err := parseWelcome(string(payload[len(prefixWelcome):]))
		if err != nil {
			return Reply{}, err
		}
		return Reply{Kind: ReplyWelcome, Welcome: w}, nil
	case string(payload) == payloadAuthenticated:
		return Reply{Kind: ReplyAuthenticated}, nil
	case bytes.HasPrefix(payload, []byte(prefixChallenge)) && !isBetLine(payload):
		r := Reply{Kind: ReplyChallenge}
		if !parseHex(r.Nonce[:], payload[len(prefixChallenge):]) {
			return Reply{}, fmt.Errorf("%w: CHALLENGE is %.80q, want %d lower-case hexadecimal digits", ErrReply, payload[len(prefixChallenge):], 2*NonceBytes)
		}
		return r, nil
	case bytes.HasPrefix(payload, []byte(prefixError)) && !isBetLine(payload):
		name, detail, more := strings.Cut(string(payload), "|")
		if more && detail == "" {
			return Reply{}, fmt.Errorf("%w: %.64q has a vertical bar and no detail", ErrReply, payload)
		}
		for c := CodeNone + 1; c < codeEnd; c++ {
			if codePayloads[c] == name {
				if c == CodeNotLeader && more && !IsAddress(detail) {
					return Reply{}, fmt.Errorf("%w: the leader's address is %.64q, want HOST:PORT", ErrReply, detail)
				}
				return Reply{Kind: ReplyError, Code: c, Detail: detail}, nil
			}
		}
		return Reply{}, fmt.Errorf("%w: unknown error %.64q", ErrReply, name)
	}
	return Reply{Kind: ReplyWinners, Winners: payload}, nil
}

// isBetLine tells a bet whose first name looks like another message from that message: only a bet
// has six fields or more in its first line.
func isBetLine(payload []byte) bool {
	line, _, _ := bytes.Cut(payload, []byte{'\n'})
	return bytes.Count(line, []byte{'|'}) >= betFields-1
}

func parseWelcome(s string) (Welcome, error) {
	fields := strings.Split(s, "|")
	const welcomeFields = 4
	switch {
	case len(fields) == welcomeFields-1:
		return Welcome{}, fmt.Errorf("%w: WELCOME with %d fields, want %d: the server is older than this agency", ErrReply, len(fields), welcomeFields)
	case len(fields) != welcomeFields:
		return Welcome{}, fmt.Errorf("%w: WELCOME with %d fields, want %d", ErrReply, len(fields), welcomeFields)
	}
	stored, ok := parseDecimal(fields[0], math.MaxInt64)
	if !ok {
		return Welcome{}, fmt.Errorf("%w: WELCOME stored is %.20q, want a number", ErrReply, fields[0])
	}
	window, ok := parseDecimal(fields[1], math.MaxInt32)
	if !ok || window == 0 {
		return Welcome{}, fmt.Errorf("%w: WELCOME window is %.20q, want a positive number", ErrReply, fields[1])
	}
	frameBytesMax, ok := parseDecimal(fields[2], math.MaxInt32)
	if !ok || frameBytesMax == 0 {
		return Welcome{}, fmt.Errorf("%w: WELCOME frame bytes max is %.20q, want a positive number", ErrReply, fields[2])
	}
	checksum, ok := parseChecksum(fields[3])
	if !ok {
		return Welcome{}, fmt.Errorf("%w: WELCOME checksum is %.20q, want %d lower-case hexadecimal digits", ErrReply, fields[3], checksumDigits)
	}
	return Welcome{Stored: stored, Window: int(window), FrameBytesMax: int(frameBytesMax), Checksum: checksum}, nil
}

// parseDecimal reads a number of 0 to most, without sign and leading zeros.
func parseDecimal(s string, most int64) (n int64, ok bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && 0 <= n && n <= most && strconv.FormatInt(n, 10) == s
}
