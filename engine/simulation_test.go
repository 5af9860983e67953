package engine

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// The simulation runs whole draws in one goroutine. It has the real agency.Session, handler,
// session, loop, stage, committer, lottery and ledger, and a network and a disk in memory that
// break all the time.
//
//	simulation_test.go          the tests, their seeds and their flag
//	simulation_world_test.go    one run: what happens next, and what breaks
//	simulation_agency_test.go   the agencies' processes, new ones and old ones
//	simulation_stranger_test.go connections of no agency
//	simulation_guard_test.go    draws in which agencies authenticate
//	simulation_network_test.go  connections, and gnet as the handler sees it
//	simulation_server_test.go   the server's lives: start, commit, stop, crash
//	simulation_disk_test.go     the disk, while something is written to it
//	simulation_check_test.go    what has to hold
//	mutation_test.go            whether the simulation notices mistakes
//
// Several servers have a simulation of their own: simulation_cluster_test.go.
//
// The seed decides everything, so a seed is a run: there is no clock, socket or other goroutine in
// it. Only the ledger's random id differs, and only checksums depend on it.
//
// Two things are not simulated: the waits of Server.stop, which take real time, and halfSocket.

// seedsEnv sets how many seeds TestSimulation runs; without it, seedsDefault. In seedsMany, everything
// that can happen has to.
//
//	LOTERIA_SEEDS=1000000 go test ./engine -run '^TestSimulation$' -timeout 2h
const (
	seedsEnv     = "LOTERIA_SEEDS"
	seedsDefault = 1000
	seedsMany    = 2000
)

var (
	seedFlag = flag.Uint64("seed", 0, "replay this seed of the simulation, with a trace (use -v)")
	fromFlag = flag.Uint64("from", 1, "the first seed of a simulation of many")
)

// seedsWanted returns how many seeds a simulation runs: those of seedsEnv, or else byDefault.
func seedsWanted(t *testing.T, byDefault uint64) uint64 {
	v := os.Getenv(seedsEnv)
	if v == "" {
		return byDefault
	}
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n == 0 {
		t.Fatalf("%s=%s: want a number of seeds", seedsEnv, v)
	}
	return n
}

func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		var seen tally
		if err := simulate(*seedFlag, &seen, t.Logf); err != nil {
			t.Fatal(err)
		}
		t.Logf("seen: %v", &seen)
		return
	}
	seeds := seedsWanted(t, seedsDefault)
	seen, seed, err := simulateMany(*fromFlag, seeds)
	if err != nil {
		t.Fatalf("seed %d: %v\nreplay: go test ./engine -run '^TestSimulation$' -seed=%d -v", seed, err, seed)
	}
	t.Logf("%d seeds: %v", seeds, seen)
	// A simulation in which an event never happens proves nothing about it.
	for what, n := range seen {
		if n == 0 && seeds >= seedsMany {
			t.Errorf("in %d seeds this never happened: %v", seeds, event(what))
		}
	}
}

// simulateMany runs so many seeds on all processors, and stops at the first one that fails.
func simulateMany(from, seeds uint64) (all tally, failed uint64, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // much garbage, but a small heap
	var (
		workers sync.WaitGroup
		next    atomic.Uint64 // seeds that are begun
		mu      sync.Mutex
	)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			var seen tally
			for n := next.Add(1); n <= seeds; n = next.Add(1) {
				seed := from + n - 1
				if errSeed := simulate(seed, &seen, nil); errSeed != nil {
					mu.Lock()
					if err == nil || seed < failed {
						failed, err = seed, errSeed
					}
					mu.Unlock()
					next.Store(seeds)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for what, n := range seen {
				all[what] += n
			}
		})
	}
	workers.Wait()
	return all, failed, err
}

// The same seed gives the same trace twice.
func TestSimulationIsDeterministic(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		var traces [2][]string
		for i := range traces {
			var seen tally
			err := simulate(seed, &seen, func(format string, args ...any) {
				traces[i] = append(traces[i], fmt.Sprintf(format, args...))
			})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		for i, line := range traces[0] {
			if i >= len(traces[1]) || traces[1][i] != line {
				t.Fatalf("seed %d differs from itself at line %d: %s", seed, i, line)
			}
		}
	}
}

// errViolation says that something that has to hold did not hold.
var errViolation = errors.New("violation")
