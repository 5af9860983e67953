package agency

import (
	"errors"
	"fmt"

	"loteria/codec"
)

// Errors that callers act on. Most come wrapped, with the values found.
var (
	// ErrOption says that an option, the agency's id or the address is not
	// usable. Nothing was opened.
	ErrOption = errors.New("unusable option")
	// ErrUnreachable says that the server was not reachable, or acknowledged no receipt, for as
	// long as WithRetryFor allows. Of several servers none was, or none knew a leader that was. What
	// was acknowledged is safe; start again later.
	ErrUnreachable = errors.New("server is not reachable")
	// ErrNotAsked says that the agency has a secret, but the server doesn't ask for it. It may be
	// the wrong server, and anybody could upload to it as this agency. Only the agency's id was
	// sent.
	ErrNotAsked = errors.New("server does not ask for this agency's secret: check that it is the right server, and that it has SERVER_AGENCY_SECRETS_FILE; or start the agency without a secret")
	// ErrCredentials says that a file of WithTLS can't be read or used, that the agency's certificate
	// is not this agency's, or that it is not valid now. It is final when it comes before the first
	// connection. Later it is a try that failed, since files are renewed while agencies run.
	ErrCredentials = errors.New("the agency's TLS files can't be used")
	// ErrServerCertificate says that the server's certificate has expired or is not valid yet, or that
	// it is another authority's or for another name. ErrUnreachable wraps it and the next two: like a
	// server that is down, such a server may be put right, or another one may answer.
	ErrServerCertificate = errors.New("server's certificate is not to be trusted")
	// ErrCertificateRefused says that the server doesn't take the agency's certificate, or wants one.
	ErrCertificateRefused = errors.New("server refuses the agency's certificate")
	// ErrNoTLS says that what answers at the address doesn't speak TLS as a lottery server does: TLS
	// 1.3 with the protocol codec.TLSProtocol.
	ErrNoTLS = errors.New("server does not speak TLS as agencies do")
	// ErrSpeaksTLS says that the server speaks TLS, and the client was made without WithTLS. Nothing
	// but the agency's id was sent.
	ErrSpeaksTLS = errors.New("the server speaks TLS here: set AGENCY_TLS_CA_FILE (WithTLS), or use the address of SERVER_ADDR")
	// ErrLostBets says that the server has fewer bets of this agency than it acknowledged or
	// reported before, or that it doesn't know of the draw whose winners the agency has. It is
	// another server, or its data was reset.
	ErrLostBets = errors.New("server has lost what it had stored")
	// ErrOtherBets says that the server's bets of this agency are not the first bets of the input,
	// or that they are more than the whole input. The input has changed since it was uploaded, or
	// somebody else uploads under this agency's id. No bet was sent after them.
	ErrOtherBets = errors.New("server has other bets of this agency than the input")
	// ErrFrameBytes says that the server's frame limit is too small for a bet.
	ErrFrameBytes = errors.New("server's frames are too small for a bet")
	// ErrReplyTooLarge says that a reply is over the limit of WithReplyBytesMax.
	ErrReplyTooLarge = errors.New("server's reply is too large")
	// ErrProtocol says that the peer doesn't speak the protocol.
	ErrProtocol = errors.New("not what a lottery server says")
	// ErrIncomplete says that the last Upload failed, so the agency can't report yet that it has no
	// more bets.
	ErrIncomplete = errors.New("the bets are not all uploaded")
	// ErrClosed says that the client was closed.
	ErrClosed = errors.New("client is closed")
)

// RowError says that a row of the input can't be a bet.
type RowError struct {
	Name   string // the input's name, as Upload got it
	Line   int    // the row's line, counted from 1
	Reason string
}

func (e *RowError) Error() string {
	return fmt.Sprintf("%s, line %d: %s", e.Name, e.Line, e.Reason)
}

// RejectedError is a final rejection by the server: another try would end the same way.
type RejectedError struct {
	Code   codec.Code
	Detail string // what the server said besides the code, if anything
	// Name and Line are the input and the line of the row that the server rejects. They are "" and
	// 0 if the rejection is not about a row.
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

// hints say what to do about a rejection, for codes that don't tell.
var hints = map[codec.Code]string{
	codec.CodeInvalidAgency:   "the server expects other agencies: check this agency's id",
	codec.CodeBetsClosed:      "this agency said before that it has no more bets",
	codec.CodeAgencyTakenOver: "another process connected as this agency: run only one",
	codec.CodeFrameTooLarge:   "use smaller batches",
	codec.CodeInvalidFrame:    "if it is the address of SERVER_TLS_ADDR, set AGENCY_TLS_CA_FILE (WithTLS)",

	codec.CodeAuthenticationRequired: "the server wants a proof of who this is: give this agency its secret, AGENCY_SECRET or AGENCY_SECRET_FILE",
	codec.CodeAuthenticationFailed:   "the server knows another secret of this agency, or no such agency: check the agency's id and its secret",
}
