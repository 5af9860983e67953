// Package channel is TLS for agencies' connections that event loops read.
//
// An event loop has the bytes of a connection only once they have come, and must not wait for more.
// crypto/tls reads from a connection, and waits. The two meet because a [tls.Conn] keeps its state if
// the connection under it says that it would have to wait: a [Channel] is a tls.Conn over memory. What
// comes in is given to it, and what it wants to send is taken from it. Only the handshake is done on
// the socket itself, by a goroutine that may wait.
//
// # What is taken
//
// TLS 1.3 only, with [codec.TLSProtocol] negotiated, and without session tickets: who resumes a
// session would not be asked for a certificate again. If [Files] name an authority for agencies, each
// of them has to show a certificate of it. The one URI of the certificate is the agency's name; see
// [codec.ParseIdentity]. It stands for the AUTH and PROOF of the others.
//
// # What an end means
//
// A peer says that it has ended with close_notify. A connection that ends without it was cut: somebody
// on the way may have done so.
package channel
