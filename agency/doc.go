// Package agency is the client of the lottery. It uploads an agency's bets to the server, each
// exactly once whatever breaks, reports that there are no more, waits for the winners, and confirms
// them.
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
// The input is CSV without a header, with five columns: first name, last name, document, birthdate,
// number. Lines end with CRLF or LF; the last line may lack its end. A byte order mark, quoted
// fields and empty lines are allowed. The input is read as a stream and validated by the rules of
// package codec, so a bad row is found before the server sees it.
//
// Resuming depends on the order of the rows: an agency that is started again must be given the same
// rows in the same order. The agency checks that. Every WELCOME says how many bets the server has
// and their checksum, and the agency computes the checksum of the rows that it would skip. It sends
// no bet until the two are equal, see [ErrOtherBets]. New rows may be added at the end.
//
// # How it works
//
//	           rows            batches             frames
//	input ──▶ rowReader ──▶ source ──▶ Session, window ──▶ conn ──▶ server
//	                                        ▲ acknowledgements │
//	                                        └───────────────────┘
//	          └── a goroutine ──┘└── caller's goroutine ──┘└ a goroutine reads ┘
//
// Batches are limited in bets and in bytes. The window limits how many batches are unanswered at
// once; the smaller one of the agency's and the server's counts. Batches are kept until they are
// acknowledged.
//
// [Session] is the whole protocol, and pure; [Client] adds sockets and time.
//
// # When something breaks
//
// The client tries again after a lost connection, and after an answer that says that the server
// can't go on for now (ERROR_TIMEOUT, ERROR_TOO_MANY_CONNECTIONS, ERROR_STORAGE, or
// ERROR_LOTTERY_HASNT_ENDED when it stops). The delay is jittered, and grows from 50 ms to 2 s. The
// answer to HELLO says how many bets are durable, and the client sends exactly the bets after them.
// That number may fall inside a batch, because an earlier process may have used other limits for
// its batches. [ErrUnreachable] comes when the server was not reachable for as long as
// [WithRetryFor] allows. All other rejections are final, see [RejectedError].
//
// With a secret, see [WithSecret], every connection begins with a proof that it is this agency's;
// package codec says how.
//
// With [WithTLS], connections are TLS 1.3. A certificate that the server asks for, and gets, says who
// this is in place of the secret. The files are read for each connection, so an agency that runs for
// long goes on with renewed ones. What one side doesn't like about the other is a try that failed, as
// if the server were down: it is logged each time, and [ErrUnreachable] wraps it at last. Only what is
// wrong with the agency's own files when it starts is final at once, see [ErrCredentials].
//
// The server counts an agency as served when it confirms its winners. The client repeats an
// unacknowledged receipt on the next connection.
//
// Waiting for the draw has no time limit and sends nothing. TCP keepalive notices within about half
// a minute that the server's machine is gone. A server that doesn't push its winners is asked again
// every [WithPollEvery].
//
// # Several servers
//
// Several servers may hold one draw together; one of them, the leader, answers agencies. Dial takes
// all their addresses. A connection that fails or breaks, or whose server can't go on, is followed
// at once by a try with the next address. Only a round over all of them without progress is
// followed by the delay above. The address that has just failed is the last of its round, even if
// it worked before: its server may be dead or paused, and asking it again could cost a time-out,
// while every server that is alive says who leads.
//
// A server that is not the leader says ERROR_NOT_LEADER and the leader's address. The client goes
// there at once, whether the address is in its list or not. It does so at most 4 times in a row
// without progress, and backs off then, so that servers that send it in circles can't make it spin.
// If no leader is known now, it tries the next address after about 200 ms. The HELLO on the next
// connection tells what is stored, as after any cut.
//
// With several addresses the client is less patient: 1 s for a try to connect in place of 5 s, 5 s
// for an answer in place of 15 s, and about 10 s until the keepalive notices that a machine is gone.
// With one address nothing of this changes anything, unless its server says ERROR_NOT_LEADER.
//
// # Memory
//
// A client holds about window + 10 batches, two read buffers, and the winners.
package agency
