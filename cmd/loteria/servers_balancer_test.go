package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var saysSent = regexp.MustCompile("action: apuesta_enviada ")

// needProgram returns the path of a program, or skips the test.
func needProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%v: Debian has it as %s", err, name)
	}
	return path
}

// startBalancer starts an HAProxy before all servers, which have to listen, and returns its address. It
// knows nothing of the servers but whether they take connections. It inherits its listening socket: an
// old agency dials once, and may do so before HAProxy runs.
func (d *serversDraw) startBalancer(t *testing.T) (addr string) {
	t.Helper()
	program := needProgram(t, "haproxy")
	addr = d.host + "9:4121"
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	var config strings.Builder
	config.WriteString(`
defaults
	mode tcp
	timeout connect 2s
	timeout check 2s
	timeout client 1h
	timeout server 1h
	option redispatch 1
listen loteria
	bind fd@3
	balance roundrobin
	default-server check inter 100ms
`)
	for i := range serversCount {
		fmt.Fprintf(&config, "\tserver server-%d %s\n", i+1, d.addr(i))
	}
	path := filepath.Join(d.dir, "haproxy.cfg")
	if err := os.WriteFile(path, []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-db", "-f", path)
	cmd.Dir, cmd.Env, cmd.ExtraFiles = d.dir, []string{}, []*os.File{socket} // the first of them is 3
	p, err := startCommand(cmd)
	if err != nil {
		t.Fatal(err)
	}
	d.all = append(d.all, p)
	return addr
}

// Old and new agencies have a balancer's address.
func TestBalancer(t *testing.T) {
	t.Parallel() // it mostly waits
	d := newServersDraw(t, rand.New(rand.NewPCG(3, 0)))
	d.fewBets(t, 5000)
	if err := d.startServers(); err != nil {
		t.Fatal(err)
	}
	d.awaitListening(t)
	d.agenciesAt = d.startBalancer(t)
	d.awaitLeader(t)
	old := []int{1, 2, 3}
	for _, i := range []int{0, 4} {
		if err := d.startAgency(i); err != nil {
			t.Fatal(err)
		}
	}
	done := d.startOld(func(int) string { return d.agenciesAt }, old...)
	for range old {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if !t.Failed() {
		d.wait(t)
	}
}

// The leader is killed while new agencies upload that know only the balancer. They go on, and so
// does the draw when an old one comes that has seen nothing of it.
func TestBalancerLosesLeader(t *testing.T) {
	t.Parallel() // it mostly waits
	d := newServersDraw(t, rand.New(rand.NewPCG(4, 0)))
	d.fewBets(t, 25_000) // as many that the leader is killed in the middle
	if err := d.startServers(); err != nil {
		t.Fatal(err)
	}
	d.awaitListening(t)
	d.agenciesAt = d.startBalancer(t)
	leader := d.awaitLeader(t)
	for i := range serversAgencies - 1 {
		if err := d.startAgency(i); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range d.agencies[:serversAgencies-1] {
		if err := a.stdout.await(saysSent, 1, a.ended); err != nil {
			t.Fatal(err)
		}
	}
	survivor := d.servers[(leader+1)%serversCount]
	said := len(saysLeader.FindAllString(survivor.stdout.String(), -1))
	d.servers[leader].kill()
	if err := survivor.stdout.await(saysLeader, said+1, survivor.ended); err != nil {
		t.Fatal(err)
	}
	if err := d.startServer(leader); err != nil {
		t.Fatal(err)
	}
	d.awaitListening(t) // a server that is started after the end may come too late for it
	last := serversAgencies - 1
	if err := <-d.startOld(func(int) string { return d.agenciesAt }, last); err != nil {
		t.Fatal(err)
	}
	d.wait(t)
}
