package replica_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"testing"
	"testing/cryptotest"
)

// The simulation runs whole clusters in one goroutine. It has the real Replica, Node, raft and
// lottery, and a network and disks in memory that break all the time.
//
//	simulation_test.go          the tests, their seeds and their flag
//	simulation_world_test.go    one run: what happens next, and what breaks
//	simulation_network_test.go  messages, and what becomes of them
//	simulation_server_test.go   a server's lives, its disk and what it does as leader
//	simulation_operator_test.go changes of the members, and lost disks that make them necessary
//	simulation_machine_test.go  the state machine, and the records that it takes
//	simulation_check_test.go    what has to hold
//	mutation_test.go            whether the simulation notices mistakes
//
// The seed decides everything, so a seed is a run. There is no clock, socket or other goroutine in
// it. Raft takes its election time-outs from crypto/rand, which cryptotest seeds for the whole
// process. So runs are not run in parallel.

// seedsEnv sets how many seeds TestSimulation runs; without it, seedsDefault.
//
//	LOTERIA_SEEDS=10000 go test ./engine/replica -run Simulation -timeout 1h
const (
	seedsEnv     = "LOTERIA_SEEDS"
	seedsDefault = 400
)

var seedFlag = flag.Uint64("seed", 0, "replay this seed of the simulation, with a trace (use -v)")

func TestSimulation(t *testing.T) {
	var seen tally
	if *seedFlag != 0 {
		if err := simulate(t, *seedFlag, &seen, t.Logf); err != nil {
			t.Fatal(err)
		}
		t.Logf("seen: %v", &seen)
		return
	}
	seeds := uint64(seedsDefault)
	if v := os.Getenv(seedsEnv); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil || n == 0 {
			t.Fatalf("%s=%s: want a number of seeds", seedsEnv, v)
		}
		seeds = n
	}
	if raceDetector {
		seeds = min(seeds, seedsDefault/10)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // much garbage, but a small heap
	for seed := uint64(1); seed <= seeds; seed++ {
		if err := simulate(t, seed, &seen, nil); err != nil {
			t.Fatalf("seed %d: %v\nreplay: go test ./engine/replica -run Simulation -seed=%d -v", seed, err, seed)
		}
	}
	t.Logf("%d seeds: %v", seeds, seen)
	// A simulation in which an event never happens proves nothing about it.
	for what, n := range seen {
		if n == 0 && seeds >= seedsDefault {
			t.Errorf("in %d seeds this never happened: %v", seeds, event(what))
		}
	}
}

// The same seed gives the same trace twice.
func TestSimulationIsDeterministic(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		var traces [2][]string
		for i := range traces {
			var seen tally
			err := simulate(t, seed, &seen, func(format string, args ...any) {
				traces[i] = append(traces[i], fmt.Sprintf(format, args...))
			})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if len(traces[0]) != len(traces[1]) {
			t.Errorf("seed %d: %d lines, then %d", seed, len(traces[0]), len(traces[1]))
		}
		for i, line := range traces[0] {
			if i >= len(traces[1]) || traces[1][i] != line {
				t.Fatalf("seed %d differs from itself at line %d: %s", seed, i, line)
			}
		}
	}
}

// seedRaft makes raft's choices depend on the seed alone.
func seedRaft(t *testing.T, seed uint64) { cryptotest.SetGlobalRandom(t, seed) }

// errViolation says that something that has to hold did not hold.
var errViolation = errors.New("violation")
