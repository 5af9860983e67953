package main

import (
	"encoding/json"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"loteria/engine"
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
