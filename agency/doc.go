// Package agency is the client of the lottery: it uploads an agency's bets to
// the server, each exactly once whatever breaks, says that there are no more,
// waits for the winners, and confirms them.
//
//	client, err := agency.Dial(ctx, "localhost:12345", 1)
//	...
//	defer client.Close()
//	progress, err := client.Upload(ctx, "agency-1.csv", file)
//	...
//	winners, err := client.Winners(ctx)
//	... // keep them
//	err = client.Confirm(ctx)
//
// # Input
//
// CSV without a header, five columns: first name, last name, document,
// birthdate, number. Lines end with CRLF or LF, the last one needn't; a byte
// order mark, quoted fields and empty lines are fine. It is read as a stream
// and validated by the rules of package codec, so a bad row is found before
// the server sees it.
//
// The order of the rows is what resuming rests on: an agency that is started
// again must be given the same rows in the same order. It finds out if they are not:
// the server says with every WELCOME how many bets it has and their checksum, and the
// agency computes the same of the rows that it would skip. Before the two are equal it
// sends nothing, see [ErrOtherBets]. Rows may be added behind those that were there.
//
// # How it works
//
//	           rows            batches             frames
//	input ──▶ rowReader ──▶ source ──▶ Session, window ──▶ conn ──▶ server
//	                                        ▲ acknowledgements │
//	                                        └───────────────────┘
//	          └── a goroutine ──┘└── caller's goroutine ──┘└ a goroutine reads ┘
//
// Batches are bounded by bets and by bytes. As many as the window allows, the
// agency's or the server's, whichever is smaller, are unanswered at once. They
// are kept until they are acknowledged.
//
// [Session] is all of the protocol and pure; [Client] gives it sockets and
// time.
//
// # When something breaks
//
// A lost connection, or a server that says it can't go on for now
// (ERROR_TIMEOUT, ERROR_TOO_MANY_CONNECTIONS, ERROR_STORAGE, or
// ERROR_LOTTERY_HASNT_ENDED when it stops), is followed by another try after a
// jittered delay that grows from 50 ms to 2 s. HELLO is answered with how many
// bets are durable, and exactly what comes after them is sent (again). That
// number may fall anywhere, also inside a batch: whoever uploaded before may
// have used other limits. [ErrUnreachable] comes when the server was not
// reachable for as long as [WithRetryFor] allows. All other rejections are
// final, see [RejectedError].
//
// With a secret, see [WithSecret], every connection begins with the proof that
// it is this agency's; package codec says how.
//
// The server counts an agency as served when it confirms its winners. A receipt that
// was not acknowledged is said again on the next connection.
//
// Waiting for the draw has no time limit and sends nothing; TCP keepalive
// finds out within half a minute or so if the server's machine is gone.
// A server that doesn't push its winners is asked again every [WithPollEvery].
//
// # Memory
//
// (window + a few) batches, two read buffers, and the winners.
package agency
