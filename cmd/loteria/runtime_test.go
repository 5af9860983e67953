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
		wantProcs, wantPercent int
	}{
		{"", "", procs + serverThreadsSpare, serverGCPercent},
		{"3", "70", procs, 100},
	} {
		t.Setenv("GOMAXPROCS", c.procs)
		t.Setenv("GOGC", c.gc)
		runtime.GOMAXPROCS(procs)
		debug.SetGCPercent(100)
		tuneServer()
		if got := runtime.GOMAXPROCS(0); got != c.wantProcs {
			t.Errorf("GOMAXPROCS=%s: %d, want %d", c.procs, got, c.wantProcs)
		}
		if got := debug.SetGCPercent(100); got != c.wantPercent {
			t.Errorf("GOGC=%s: %d, want %d", c.gc, got, c.wantPercent)
		}
	}
}
