package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

const (
	// serverThreadsSpare is how many threads more than processors may run the
	// server's goroutines. Event loops and the committer are in system calls most
	// of the time; with a slot for each the runtime needn't take theirs away and
	// give it back. 5 agencies with window 1 on 2 processors: 1.1 to 1.9 times the
	// bets, 0.7 to 0.9 of the processor time.
	serverThreadsSpare = 2
	// serverGCPercent is how much garbage the heap may hold. Only connecting makes
	// any, so collecting early costs nothing that can be measured: 10,000 agencies
	// that wait take 930 bytes each, with the runtime's 100 % 1,500; agencies with a
	// connection for every message get as many bets through as before.
	serverGCPercent = 10
)

// tuneServer sets the Go runtime up for a server, except for what the
// environment says.
func tuneServer() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + serverThreadsSpare)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(serverGCPercent)
	}
}
