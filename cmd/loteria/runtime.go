package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

const (
	// serverThreadsSpare is by how much GOMAXPROCS exceeds the number of processors. Event loops
	// and the committer are in system calls most of the time. With a slot for each, the runtime
	// doesn't have to take their slots away and give them back. 5 agencies with window 1 on 2
	// processors: 1.1 to 1.9 times the bets, 0.7 to 0.9 of the processor time.
	serverThreadsSpare = 2
	// serverGCPercent is the server's GOGC. Only connecting makes garbage, so collecting early
	// costs nothing that can be measured: 10,000 agencies that wait take 930 bytes each, and 1,500
	// with Go's default of 100; agencies with a connection for every message upload as fast as
	// before.
	serverGCPercent = 10
	// memberGCPercent is that of a server that holds the draw together with others. It keeps each
	// group until the others have it, so a busy one makes garbage as fast as bets come: collecting
	// as early as a server alone takes nearly twice the processor time. More than 100 takes more
	// memory, and no less time.
	memberGCPercent = 100
)

// tuneServer sets GOMAXPROCS and GOGC for a server, unless the environment sets them.
func tuneServer(alone bool) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + serverThreadsSpare)
	}
	if os.Getenv("GOGC") == "" {
		percent := serverGCPercent
		if !alone {
			percent = memberGCPercent
		}
		debug.SetGCPercent(percent)
	}
}
