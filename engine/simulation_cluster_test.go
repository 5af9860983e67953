package engine

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/cryptotest"
)

// The simulation of a cluster runs whole draws of three and five servers in one goroutine at a time.
// Each server has the real Member but for its sockets, its goroutines and what feeds them: the real
// Replica over a real ledger, and while it leads the real front, committer and lottery. The agencies
// are those of the simulation of one server.
//
//	simulation_cluster_test.go          the tests and their seeds
//	simulation_cluster_world_test.go    one run: what happens next, and what breaks
//	simulation_cluster_server_test.go   a server's lives: follow, lead, end, crash
//	simulation_cluster_network_test.go  messages between servers, and the way of agencies to them
//	simulation_cluster_check_test.go    what has to hold
//
// A server's own goroutine is a coroutine: it runs until it has to wait, also in the middle of a
// Commit, and goes on when the world says so. The seed decides everything, so a seed is a run. Raft
// takes its election time-outs from crypto/rand, which cryptotest seeds for the whole process. So
// runs are not run in parallel.

// clusterSeedsDefault is how many seeds TestClusterSimulation runs without seedsEnv. In
// clusterSeedsMany, everything that can happen has to.
//
//	LOTERIA_SEEDS=10000 go test ./engine -run '^TestClusterSimulation$' -timeout 1h
//
// It uses one processor. Two processes share many seeds with -from.
const (
	clusterSeedsDefault = 200
	clusterSeedsMany    = 5000
	// clusterSeedsAtOnce is how many seeds are a test. Each seed leaves something to its test's end.
	clusterSeedsAtOnce = 1000
)

func TestClusterSimulation(t *testing.T) {
	var seen clusterTally
	if *seedFlag != 0 {
		if err := simulateCluster(t, *seedFlag, &seen, t.Logf); err != nil {
			t.Fatal(err)
		}
		t.Logf("seen: %v", &seen)
		return
	}
	seeds := seedsWanted(t, clusterSeedsDefault)
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // much garbage, but a small heap
	end := *fromFlag + seeds
	for from := *fromFlag; from < end; from += clusterSeedsAtOnce {
		passed := t.Run(fmt.Sprintf("from %d", from), func(t *testing.T) {
			for seed := from; seed < min(from+clusterSeedsAtOnce, end); seed++ {
				if err := simulateCluster(t, seed, &seen, nil); err != nil {
					t.Fatalf("seed %d: %v\nreplay: go test ./engine -run '^TestClusterSimulation$' -seed=%d -v", seed, err, seed)
				}
				if seed%16 == 0 { // a ledger's pool keeps the ledger until the collector has run twice
					runtime.GC()
					runtime.GC()
				}
			}
		})
		if !passed {
			return
		}
	}
	t.Logf("%d seeds: %v", seeds, seen)
	// A simulation in which an event never happens proves nothing about it.
	for what, n := range seen {
		if n == 0 && seeds >= clusterSeedsMany {
			t.Errorf("in %d seeds this never happened: %v", seeds, clusterEvent(what))
		}
	}
}

// The same seed gives the same trace twice.
func TestClusterSimulationIsDeterministic(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		var traces [2][]string
		for i := range traces {
			var seen clusterTally
			err := simulateCluster(t, seed, &seen, func(format string, args ...any) {
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
