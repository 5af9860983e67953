package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// tuneServer leaves what the environment sets.
func TestTuneServer(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	percent := debug.SetGCPercent(100)
	t.Cleanup(func() { runtime.GOMAXPROCS(procs); debug.SetGCPercent(percent) })
	for _, c := range []struct {
		procs, gc              string
		alone                  bool
		wantProcs, wantPercent int
	}{
		{"", "", true, procs + serverThreadsSpare, serverGCPercent},
		{"", "", false, procs + serverThreadsSpare, memberGCPercent},
		{"3", "70", true, procs, 50},
	} {
		t.Setenv("GOMAXPROCS", c.procs)
		t.Setenv("GOGC", c.gc)
		runtime.GOMAXPROCS(procs)
		debug.SetGCPercent(50)
		tuneServer(c.alone)
		if got := runtime.GOMAXPROCS(0); got != c.wantProcs {
			t.Errorf("GOMAXPROCS=%s: %d, want %d", c.procs, got, c.wantProcs)
		}
		if got := debug.SetGCPercent(100); got != c.wantPercent {
			t.Errorf("GOGC=%s: %d, want %d", c.gc, got, c.wantPercent)
		}
	}
}
