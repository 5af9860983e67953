// Package codec is the wire format between agencies and the server: frames,
// requests, replies, bets. It is pure: no sockets, no clock, no state.
//
// # Frames
//
// Both directions carry frames, back to back, in any fragmentation:
//
//	 length     payload
//	┌────────┬──┬─────────────────────────────────────────────┐
//	│ "38"   │\n│ Juan|Pérez|12345678|1990-05-23|7574|1       │
//	└────────┴──┴─────────────────────────────────────────────┘
//	 ASCII decimal, no sign, no spaces, no leading zeros; "0" is legal
//
// A frame that can't be framed can't be resynchronised: the server answers
// CodeInvalidFrame or CodeFrameTooLarge and closes. [SplitFrame] takes one
// frame off a slice; an incomplete frame is not an error. [FrameLen] tells how
// many bytes a frame needs as soon as its header is there.
//
// # Requests, agency to server
//
//	bets           <first name>|<last name>|<document>|<birthdate>|<number>|<agency>
//	               one bet a line, lines separated by \n, a trailing \n is legal
//	end of bets    GET_WINNERS|<agency>
//	resume         HELLO|<agency>
//
// [ParseRequest] reads them. A payload that begins with GET_WINNERS is never a
// batch; one that begins with HELLO| is a batch only if its first line has six
// fields, as a bet has, or more. An agency's id has one spelling, decimal without
// leading zeros; anything else in its place makes a bet or a message invalid,
// while a well-spelt id that is not expected is the server's to reject, with
// CodeInvalidAgency. If a batch has a line that is not a bet, that is what is
// reported, whatever its agencies are.
//
// Rules of a bet:
//
//	names      1 to 128 bytes of valid UTF-8 without control characters and '|'
//	document   1 to 20 ASCII digits
//	birthdate  a real day YYYY-MM-DD, years 0000 to 9999, not in the future
//	number     1 to 9 ASCII digits, compared as an integer: 07574 wins as 7574 does
//
// [ParseBet] applies them in the plain way and explains itself; [ParseBatch]
// decides the same, many times faster, for a whole payload, and picks out the
// winning lines on the way.
//
// # Replies, server to agency
//
//	ACK                                            the batch is durable
//	WELCOME|<stored>|<window>|<frame bytes max>    answers HELLO
//	<line>\n<line>...                              winners: one frame, possibly empty
//	ERROR_...                                      a Code; to connections that said HELLO
//	                                               ERROR_INVALID_BATCH|<line>|<reason>
//
// # Authentication
//
// A server may share a secret with each agency. It then takes nothing from a
// connection that has not proved which agency's it is, but this:
//
//	A -> S  6\nAUTH|1
//	S -> A  74\nCHALLENGE|<nonce>
//	A -> S  70\nPROOF|<proof>
//	S -> A  13\nAUTHENTICATED
//	A -> S  7\nHELLO|1
//	...
//
//	nonce   32 random bytes, new for every challenge, as 64 lower-case hexadecimal digits
//	proof   HMAC-SHA-256(secret, "LOTERIA PROOF 1\n" + the nonce's 32 bytes + agency), likewise
//	secret  16 to 64 printable ASCII characters without spaces
//	agency  as in AUTH: decimal, without leading zeros
//
// For the secret "sesame-of-agency-1", agency 1 and the nonce 000102...1f the
// proof is
// eb07bde1c4de5fcee42147204333c4a663524671441344fb401468bb72d39c9e.
//
// Behind AUTHENTICATED the connection belongs to that agency and is otherwise
// as it would be without secrets: a message that names another agency gets
// CodeInvalidAgency, and AUTH and PROOF are no messages any more, but batches
// that are not valid. That is what they always are to a server without secrets,
// so an agency that has one and is answered CodeInvalidBatch knows.
//
// Two errors, both of which close, belong to it:
//
//	ERROR_AUTHENTICATION_REQUIRED  anything but the message whose turn it is, or a
//	                               frame longer than any of them, of whatever length
//	ERROR_AUTHENTICATION_FAILED    the proof is wrong, or the server knows no such
//	                               agency: which of them is not told
//
// A connection has one attempt: an agency's secret doesn't change meanwhile.
// It has the time in which any connection must say something, counted from
// connecting, or gets CodeTimeout. An empty payload is answered as ever, with
// CodeEmptyBatch, so a health check needs no secret.
//
// This tells the server who connects. It doesn't encrypt, it doesn't tell the
// agency who answers, and it doesn't guard a connection against someone in its
// middle: for networks that are not trusted, put TLS or a VPN below. Secrets
// should be random, since who listens can try guesses on a proof.
//
// # Ownership
//
// Functions that take a payload never keep it; what they return may alias it
// where they say so. Functions named Append grow and return dst, as append
// does. All of them may be called from any goroutine.
package codec
