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
// # Ownership
//
// Functions that take a payload never keep it; what they return may alias it
// where they say so. Functions named Append grow and return dst, as append
// does. All of them may be called from any goroutine.
package codec
