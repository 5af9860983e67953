package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"loteria/engine"
	"loteria/engine/history"
)

// ask runs `loteria cluster status` at a server.
func (d *serversDraw) ask(t *testing.T, i int) (status engine.ClusterStatus, code int, said string) {
	t.Helper()
	p, err := startLoteria(d.dir, "cluster status --json", "SERVER_DATA_DIR="+d.dataDir(i))
	if err != nil {
		t.Fatal(err)
	}
	if code, err = p.wait(); err != nil {
		t.Fatal(err)
	}
	if said = p.stdout.String(); said != "" {
		if err := json.Unmarshal([]byte(said), &status); err != nil {
			t.Fatalf("%s: %v", said, err)
		}
	}
	return status, code, said + p.stderr.String()
}

// awaitStatus asks a server until the answer is as wanted.
func (d *serversDraw) awaitStatus(t *testing.T, i int, is func(engine.ClusterStatus, int) bool) engine.ClusterStatus {
	t.Helper()
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	timeout := time.After(eventTimeout)
	for {
		status, code, said := d.ask(t, i)
		if is(status, code) {
			return status
		}
		select {
		case <-looks.C:
		case <-timeout:
			t.Fatalf("server %d says %s", i+1, said)
		}
	}
}

// Every server tells who leads, and how far each server is. A leader that is stopped hands over. A
// server that knows no leader says so.
func TestClusterStatus(t *testing.T) {
	t.Parallel() // it mostly waits
	if testing.Short() {
		t.Skip("takes seconds: it waits for elections")
	}
	d := newServersDraw(t, rand.New(rand.NewPCG(1, 0)))
	if _, code, said := d.ask(t, 0); code != exitInput {
		t.Errorf("without a server it ends with %d: %s", code, said)
	}
	if err := d.startServers(); err != nil {
		t.Fatal(err)
	}
	all := func(s engine.ClusterStatus, code int) bool {
		for _, server := range s.Servers {
			if !server.Connected || server.Has == nil || s.Behind(server) > 0 {
				return false
			}
		}
		return code == exitDone && s.Leader != 0
	}
	first := d.awaitStatus(t, 0, all)
	for i := range serversCount {
		got := d.awaitStatus(t, i, all)
		if got.Leader != first.Leader || got.Server != first.Leader || got.Term != first.Term || len(got.Servers) != serversCount {
			t.Errorf("server %d says %+v, and server 1 %+v", i+1, got, first)
		}
	}
	end := func(i int) {
		t.Helper()
		_ = d.servers[i].cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
		if code, err := d.servers[i].wait(); err != nil || code != exitDone {
			t.Fatalf("server %d ended with %d, %v", i+1, code, err)
		}
	}
	old := int(first.Leader) - 1
	end(old)
	other := (old + 1) % serversCount
	second := d.awaitStatus(t, other, func(s engine.ClusterStatus, code int) bool {
		return code == exitDone && s.Leader != 0 && s.Leader != first.Leader
	})
	for _, server := range second.Servers {
		if server.Connected == (server.ID == first.Leader) {
			t.Errorf("server %d is gone: %+v", first.Leader, second)
		}
	}
	last := int(second.Leader) - 1
	end(last)
	left := 3 - old - last
	d.awaitStatus(t, left, func(s engine.ClusterStatus, code int) bool {
		return code == exitUnfinished && s.Leader == 0 && s.Server == uint64(left+1)
	})
	end(left)
}

// cluster runs `loteria cluster` at a server, and returns its exit code and what it said.
func (d *serversDraw) cluster(t *testing.T, i int, words string) (code int, said string) {
	t.Helper()
	p, err := startLoteria(d.dir, "cluster "+words, "SERVER_DATA_DIR="+d.dataDir(i))
	if err != nil {
		t.Fatal(err)
	}
	if code, err = p.wait(); err != nil {
		t.Fatal(err)
	}
	return code, p.stdout.String() + p.stderr.String()
}

// damage flips a bit of a ledger, in one of its first entries.
func damage(t *testing.T, dataDir string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(history.Dir(dataDir), "*.ledger"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no ledger: %v", err)
	}
	f, err := os.OpenFile(segments[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	const at = 500
	var b [1]byte
	_, errRead := f.ReadAt(b[:], at)
	b[0] ^= 0x10
	_, errWrite := f.WriteAt(b[:], at)
	if err := errors.Join(errRead, errWrite, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// A server whose ledger is damaged doesn't start. One that has lost its disk is refused under its id. A new one takes its place while bets keep
// coming: it follows, votes, and has the same bets in the end. With the lost one removed, the draw
// goes on without another one.
func TestLostDisk(t *testing.T) {
	t.Parallel() // it mostly waits
	if testing.Short() {
		t.Skip("takes seconds: real servers are replaced in it")
	}
	d := newServersDraw(t, rand.New(rand.NewPCG(3, 0)))
	if err := d.startServers(); err != nil {
		t.Fatal(err)
	}
	for i := range serversAgencies - 1 {
		if err := d.startAgency(i); err != nil {
			t.Fatal(err)
		}
	}
	status := d.awaitStatus(t, 0, func(s engine.ClusterStatus, code int) bool { return code == exitDone && s.Committed > 10 })
	leader := int(status.Leader) - 1
	lost, other := (leader+1)%serversCount, (leader+2)%serversCount
	d.servers[lost].kill()
	damage(t, d.dataDir(lost))
	if err := d.startServer(lost); err != nil {
		t.Fatal(err)
	}
	if code, err := d.servers[lost].wait(); err != nil || code != exitStorage ||
		!strings.Contains(d.servers[lost].stdout.String(), "`loteria cluster add`") {
		t.Fatalf("a server with a damaged ledger ended with %d, %v: %s", code, err, d.servers[lost].stdout)
	}
	if err := os.RemoveAll(d.dataDir(lost)); err != nil {
		t.Fatal(err)
	}
	if err := d.startServer(lost); err != nil {
		t.Fatal(err)
	}
	if code, err := d.servers[lost].wait(); err != nil || code != exitInput ||
		!strings.Contains(d.servers[lost].stdout.String(), "it has taken part before") {
		t.Fatalf("a server without its disk ended with %d, %v: %s", code, err, d.servers[lost].stdout)
	}
	peer := func(i int) string { return fmt.Sprintf("%d=%s%d:4122", i+1, d.host, i+1) }
	const added = serversCount
	newcomer, err := d.start(added+1, "server", "SERVER_ADDR="+d.addr(added), "SERVER_DATA_DIR="+d.dataDir(added), "SERVER_JOIN=on",
		"SERVER_ID=4", "SERVER_PEERS="+strings.Join([]string{peer(leader), peer(other), peer(added)}, ","), "SERVER_AGENCIES=5")
	if err != nil {
		t.Fatal(err)
	}
	if code, said := d.cluster(t, other, fmt.Sprintf("add %d=%s%d:4122", lost+1, d.host, added+1)); code != exitInput || !strings.Contains(said, "the id is, or was, that of another server") {
		t.Errorf("to add a server under the id of the lost one ended with %d: %s", code, said)
	}
	for range 2 { // the second time, there is nothing left to do
		if code, said := d.cluster(t, other, "add "+peer(added)); code != exitDone {
			t.Fatalf("to add a server ended with %d: %s", code, said)
		}
	}
	if code, said := d.cluster(t, leader, fmt.Sprintf("remove %d", lost+1)); code != exitDone {
		t.Fatalf("to remove the lost server ended with %d: %s", code, said)
	}
	d.awaitStatus(t, other, func(s engine.ClusterStatus, code int) bool {
		return len(s.Servers) == serversCount && !slices.ContainsFunc(s.Servers, func(s engine.ServerStatus) bool { return !s.Votes || !s.Connected })
	})
	// The new one counts: without another one of the first servers, the draw goes on.
	d.servers[leader].kill()
	if err := d.startAgency(serversAgencies - 1); err != nil {
		t.Fatal(err)
	}
	d.awaitStatus(t, other, func(s engine.ClusterStatus, code int) bool {
		return code == exitDone && s.Leader != status.Leader
	})
	if err := d.startServer(leader); err != nil {
		t.Fatal(err)
	}
	// The new server stands in for the lost one from here on.
	d.servers[lost] = newcomer
	d.dirs[lost] = d.dataDir(added)
	d.wait(t)
}

// A leader that is to be removed lets another one lead first, and ends.
func TestRemovedLeader(t *testing.T) {
	t.Parallel() // it mostly waits
	if testing.Short() {
		t.Skip("takes seconds: it waits for elections")
	}
	d := newServersDraw(t, rand.New(rand.NewPCG(4, 0)))
	if err := d.startServers(); err != nil {
		t.Fatal(err)
	}
	status := d.awaitStatus(t, 0, func(s engine.ClusterStatus, code int) bool { return code == exitDone })
	leader := int(status.Leader) - 1
	other := (leader + 1) % serversCount
	for range 2 {
		code, said := d.cluster(t, other, fmt.Sprintf("remove %d", leader+1))
		if code == exitDone || strings.Contains(said, "no such server") {
			break
		}
		t.Logf("it ended with %d, and is tried again: %s", code, said)
	}
	if code, err := d.servers[leader].wait(); err != nil || code != exitInput ||
		!strings.Contains(d.servers[leader].stdout.String(), "this server was removed") {
		t.Errorf("the removed server ended with %d, %v: %s", code, err, d.servers[leader].stdout)
	}
	d.awaitStatus(t, other, func(s engine.ClusterStatus, code int) bool {
		return code == exitDone && s.Leader != status.Leader && len(s.Servers) == serversCount-1
	})
}
