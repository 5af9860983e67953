package agency

import (
	"errors"
	"fmt"

	"loteria/codec"
)

// Conditions that callers act on; all are wrapped with the values found.
var (
	// ErrOption says that an option, the agency's id or the address is not
	// usable. Nothing was opened.
	ErrOption = errors.New("unusable option")
	// ErrUnreachable says that the server was not reachable for as long as
	// WithRetryFor allows, or took no receipt for so long. What was acknowledged is
	// safe; start again later.
	ErrUnreachable = errors.New("server is not reachable")
	// ErrNotAsked says that the agency has a secret, and the server doesn't ask for
	// it: anybody could be that server's agency, and it may not be the right one.
	// Nothing but the agency's id was sent.
	ErrNotAsked = errors.New("server does not ask for this agency's secret: check that it is the right server, and that it has SERVER_AGENCY_SECRETS_FILE; or start the agency without a secret")
	// ErrLostBets says that the server has fewer bets of this agency than it
	// acknowledged or reported before, or doesn't know of the draw whose winners
	// the agency has: it is another server, or its data was reset.
	ErrLostBets = errors.New("server has lost what it had stored")
	// ErrOtherBets says that the bets which the server has stored of this agency are
	// not the input's first bets, or, once all of the input was uploaded, not exactly
	// the input's: the input has changed since it was uploaded, or somebody else
	// uploads under this agency's id. Nothing was sent behind them.
	ErrOtherBets = errors.New("server has other bets of this agency than the input")
	// ErrFrameBytes says that the server's frame limit is too small for a bet.
	ErrFrameBytes = errors.New("server's frames are too small for a bet")
	// ErrReplyTooLarge says that a reply is over the limit of WithReplyBytesMax.
	ErrReplyTooLarge = errors.New("server's reply is too large")
	// ErrProtocol says that the peer doesn't speak the protocol.
	ErrProtocol = errors.New("not what a lottery server says")
	// ErrIncomplete says that the last Upload failed, so that the agency can't
	// say yet that it has no more bets.
	ErrIncomplete = errors.New("the bets are not all uploaded")
	// ErrClosed says that the client was closed.
	ErrClosed = errors.New("client is closed")
)

// RowError is a row of the input that can't be a bet.
type RowError struct {
	Name   string // the input, as it was named to Upload
	Line   int    // the row's line, from 1
	Reason string
}

func (e *RowError) Error() string {
	return fmt.Sprintf("%s, line %d: %s", e.Name, e.Line, e.Reason)
}

// RejectedError is a final rejection by the server: trying again would end
// the same way.
type RejectedError struct {
	Code   codec.Code
	Detail string // what the server said beside the code, if anything
	// Name and Line are the input and the line of the row that the server
	// rejects; empty and 0 where the rejection is not about a row.
	Name string
	Line int
}

func (e *RejectedError) Error() string {
	s := "server rejects: " + e.Code.String()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Line > 0 {
		s = fmt.Sprintf("%s, line %d: %s", e.Name, e.Line, s)
	}
	if hint := hints[e.Code]; hint != "" {
		s += " (" + hint + ")"
	}
	return s
}

// hints say what to do about a rejection where the code doesn't.
var hints = map[codec.Code]string{
	codec.CodeInvalidAgency:   "the server expects other agencies: check this agency's id",
	codec.CodeBetsClosed:      "this agency said before that it has no more bets",
	codec.CodeAgencyTakenOver: "another process connected as this agency: run only one",
	codec.CodeFrameTooLarge:   "use smaller batches",

	codec.CodeAuthenticationRequired: "the server wants a proof of who this is: give this agency its secret, AGENCY_SECRET or AGENCY_SECRET_FILE",
	codec.CodeAuthenticationFailed:   "the server knows another secret of this agency, or no such agency: check the agency's id and its secret",
}
