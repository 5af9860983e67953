// Package codec is the wire format between agencies and the server: frames, requests, replies,
// bets. It is pure: no sockets, no clock, no state.
//
// PROTOCOL.md, beside this file, specifies the protocol byte by byte. This package implements it:
//
//	frames           [SplitFrame] takes one off a slice; an incomplete frame is not an error.
//	                 [FrameLen] tells how many bytes a frame has, from its header.
//	requests         [ParseRequest] reads what an agency says, [AppendHello] and others write it.
//	bets             [ParseBet] applies the rules of a bet literally and explains a rejection;
//	                 [ParseBatch] decides the same, many times faster, for a whole payload, and
//	                 picks out the winning lines on the way.
//	replies          [ParseReply] reads what a server says, [AppendAck] and others write it.
//	errors           [Code] is an error of the protocol, [Error] adds its line and reason.
//	addresses        [IsAddress] tells whether a server's address can be said in an error.
//	authentication   [Secret.Prove] and [Secret.Verify].
//	identity         [ParseIdentity] reads who a certificate says that its owner is.
//	checksum         [Checksum] tells whether agency and server have the same bets.
//
// # Ownership
//
// Functions that take a payload never keep it. What they return may alias it where they say so.
// Functions named Append grow and return dst, as append does. All of them may be called from any
// goroutine.
package codec
