// Package codec is the wire format between agencies and the server: frames,
// requests, replies, bets. It is pure: no sockets, no clock, no state.
//
// PROTOCOL.md, beside this file, documents what agencies and servers say, byte by byte. Its code
// stands here:
//
//	frames           [SplitFrame] takes one off a slice; a frame that is not complete is no error.
//	                 [FrameLen] tells how many bytes a frame needs once its header is there.
//	requests         [ParseRequest] reads what an agency says, [AppendHello] and others write it.
//	bets             [ParseBet] applies the rules of a bet in the plain way and explains itself;
//	                 [ParseBatch] decides the same, many times faster, for a whole payload, and
//	                 picks out the winning lines on the way.
//	replies          [ParseReply] reads what a server says, [AppendAck] and others write it.
//	errors           [Code] is one of the protocol's errors, [Error] one with its reason.
//	authentication   [Secret.Prove] and [Secret.Verify].
//	checksum         [Checksum] tells whether two sides mean the same bets.
//
// # Ownership
//
// Functions that take a payload never keep it; what they return may alias it
// where they say so. Functions named Append grow and return dst, as append
// does. All of them may be called from any goroutine.
package codec
