// Package admin shows a running server to people and tools over HTTP: metrics, health, and the board
// on which a draw is watched. It listens only if SERVER_HTTP_ADDR is set.
//
// What it shows comes from a [Source]. The server never waits for who watches: a slow browser misses
// states, and connections are bounded in number, size and time.
package admin
