// Package board is what people watch: the [State] of a draw, and the page that shows it.
//
// The page is HTML, CSS and one ES module without any library. A server serves it live, each event
// a whole State, so a browser that is slow may miss any of them. Written with a State inside it
// ([Write]), it opens from disk without a server.
package board
