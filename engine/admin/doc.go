// Package admin shows a running server to people and tools over HTTP: metrics, health, and the board
// on which a draw is watched. It listens only if SERVER_HTTP_ADDR is set.
//
// What it shows comes from a [Source]. The server never waits for people who watch: a slow browser
// misses states, and connections are bounded in number, size and time. Only the end of a draw waits
// for Prometheus, if a scrape is due (scrapes.go).
//
//	/healthz          200 while the process serves
//	/readyz           200, or 503 with a line that says why the server isn't ready
//	/metrics          for Prometheus; MetricNames lists the names
//	/api/state        the newest board.State
//	/api/agencies     agencies by id; ?missing=1 only those that are waited for, ?limit=N at most N
//	/board/           the page, see package board
//	/board/events     states as an event stream: event "state", and "bye" with the last one
//	/debug/pprof/     profiles, with Settings.Pprof only
//
// There are only GET and HEAD, no request has a body, and nothing shown is of any person.
//
// # Bounds
//
// Peers are strangers. server.go lists what one can take, and door.go lets in only so many
// connections. The stream (stream.go) encodes a state once for all browsers, and a browser that
// doesn't read costs the kernel's small buffer until writeTimeoutDefault cuts it. A scrape reads the
// Counters once, when it comes (metrics.go). Lines that strangers can cause are bounded (quiet.go).
package admin
