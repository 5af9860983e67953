// Package mesh carries messages between the servers of one draw.
//
//	server 1                                                server 2
//	Send ──▶ lane (bounded) ──▶ one connection a lane ──▶ deliver
//	deliver ◀── one connection a lane ◀── lane (bounded) ◀── Send
//
// Each server dials each other one, twice: a lane for messages that must not wait, such as
// heartbeats, and a lane for large ones. A connection carries messages one way only. So a server
// that is dialled never says more than that it takes the connection, and a stranger on its port
// learns nothing.
//
// # What it promises
//
// Messages of a lane arrive in order, whole, at most once, from the server that they say they are
// from. Any of them may be lost: a message is dropped if there is no connection, if its lane is
// full, or with a connection that breaks. Nothing is kept for a later connection, because consensus
// says everything again, and old messages would only delay new ones.
//
// A stream ([Mesh.Open]) is a connection of its own, with bytes both ways, for a server that passes an
// agency's connection on to another one.
//
// # Which servers there are
//
// [Mesh.SetServers] changes that while all goes on. To a server that is not there, messages are
// dropped, as to one that can't be reached: who sends needn't know of a change at the same moment.
//
// # Who may connect
//
// With an [Identity] both sides of a connection authenticate with TLS 1.3. A server's certificate is
// signed by the identity's authority, and its one URI names the server: spiffe://DOMAIN/server/ID.
// Without an identity, connections are plain, and whoever can connect can claim to be any server.
//
// The first bytes of a connection say which mesh, which lane, from whom and to whom. Until they are
// there, a connection has helloTimeout, and there are at most strangersMax of them: one more closes
// the oldest.
//
// # Bounds
//
// A message has at most MessageBytesMax bytes. A lane holds at most Settings.LaneBytesMax of them, or one
// message. A receiver holds one message of each connection. A peer that takes nothing of what is
// sent for writeTimeout is dialled again.
package mesh
