package main

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"loteria/agency/dataset"
	"loteria/engine"
	"loteria/engine/history"
)

// faultsEnv sets how many faults TestServersAreKilled makes; faultsDefault if it isn't set.
//
//	LOTERIA_FAULTS=100 go test ./cmd/loteria -run TestServersAreKilled -v -timeout 1h
const (
	faultsEnv     = "LOTERIA_FAULTS"
	faultsDefault = 2
)

const (
	serversCount    = 3
	serversAgencies = 5
	// faultEveryMax bounds the time between two faults, stopMax how long a server stands still.
	faultEveryMax = 900 * time.Millisecond
	stopMax       = 2 * time.Second
)

// serversDraw is a draw of several servers, which are real processes on addresses of their own.
type serversDraw struct {
	dir, bets string
	rng       *rand.Rand
	host      string               // the servers' addresses are host1, host2 and so on
	extra     func(i int) []string // of a server's environment
	// inside is what a command of a node, a server or the agencies, begins with: nodes are counted
	// from 1, the agencies come last. nil: nothing.
	inside func(node int) []string
	// agenciesAt is the only address that new agencies get; empty: they get those of all servers.
	agenciesAt string
	secure     bool // agencies come over TLS, each with its certificate; see overTLS
	servers    [serversCount]*process
	agencies   [serversAgencies]*process
	all        []*process
	faults     map[string]int
	dirs       map[int]string // by server: where its data is, if not where it would be
}

// hosts counts the draws of this process.
var hosts atomic.Uint32

func newServersDraw(t *testing.T, rng *rand.Rand) *serversDraw {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds: real processes")
	}
	bets, err := filepath.Abs(filepath.Join("..", "..", bundledDataset))
	if err != nil {
		t.Fatal(err)
	}
	// Loopback addresses of this process and draw: a port that is free now can be somebody's in a
	// moment.
	pid := os.Getpid()
	d := &serversDraw{
		dir: t.TempDir(), bets: bets, rng: rng, faults: map[string]int{}, dirs: map[int]string{},
		extra: func(int) []string { return nil },
		host:  fmt.Sprintf("127.%d.%d.%d", 64+pid>>8&63, pid&255, 1+hosts.Add(1)%24),
	}
	t.Cleanup(func() {
		for _, p := range d.all {
			p.kill()
		}
		if t.Failed() {
			t.Log(d.logs())
		}
	})
	return d
}

// fewBets gives the agencies fewer bets than the bundled ones: all together so many.
func (d *serversDraw) fewBets(t *testing.T, bets int) {
	t.Helper()
	spec, err := dataset.Sized(serversAgencies, bets)
	if err == nil {
		d.bets = filepath.Join(d.dir, "bets")
		err = spec.WriteDir(t.Context(), d.bets, false)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// overTLS has agencies come over TLS from now on.
func (d *serversDraw) overTLS(t *testing.T) {
	t.Helper()
	command := fmt.Sprintf("certs --servers %d --agencies %d --out certs", serversCount, serversAgencies)
	for i := range serversCount {
		command += fmt.Sprintf(" --host %s%d", d.host, i+1)
	}
	p, err := startLoteria(d.dir, command)
	if err != nil {
		t.Fatal(err)
	}
	if code, err := p.wait(); err != nil || code != exitDone {
		t.Fatalf("it ended with %d, %v: %s", code, err, p.stderr)
	}
	d.secure = true
}

// tlsFiles are the variables of the kind's files: whose they are, and the authority.
func (d *serversDraw) tlsFiles(who, cert, key, ca string) []string {
	file := func(name string) string { return filepath.Join(d.dir, "certs", name) }
	return []string{cert + "=" + file(who+".pem"), key + "=" + file(who+"-key.pem"), ca + "=" + file("ca.pem")}
}

// plainAddr is where agencies without TLS come to.
func (d *serversDraw) plainAddr(i int) string { return fmt.Sprintf("%s%d:4121", d.host, i+1) }

func (d *serversDraw) secureAddr(i int) string { return fmt.Sprintf("%s%d:4123", d.host, i+1) }

func (d *serversDraw) addr(i int) string {
	if d.secure {
		return d.secureAddr(i)
	}
	return d.plainAddr(i)
}

func (d *serversDraw) addrs() string {
	var all []string
	for i := range serversCount {
		all = append(all, d.addr(i))
	}
	return strings.Join(all, ",")
}

func (d *serversDraw) dataDir(i int) string {
	if dir, moved := d.dirs[i]; moved {
		return dir
	}
	return filepath.Join(d.dir, fmt.Sprintf("server-%d", i+1))
}

func (d *serversDraw) start(node int, command string, environment ...string) (*process, error) {
	program := []string{"loteria"}
	if d.inside != nil {
		program = append(d.inside(node), program...)
	}
	p, err := startProcess(d.dir, ownEnvironment(environment), program[0], append(program[1:], command)...)
	if err == nil {
		d.all = append(d.all, p)
	}
	return p, err
}

func (d *serversDraw) startServer(i int) (err error) {
	var peers []string
	for i := range serversCount {
		peers = append(peers, fmt.Sprintf("%d=%s%d:4122", i+1, d.host, i+1))
	}
	environment := []string{
		"SERVER_ADDR=" + d.plainAddr(i), "SERVER_DATA_DIR=" + d.dataDir(i),
		"SERVER_ID=" + strconv.Itoa(i+1), "SERVER_PEERS=" + strings.Join(peers, ","),
		"SERVER_AGENCIES=" + strconv.Itoa(serversAgencies)}
	if d.secure {
		environment = append(append(environment, "SERVER_TLS_ADDR="+d.secureAddr(i)),
			d.tlsFiles(fmt.Sprintf("server-%d", i+1), "SERVER_TLS_CERT_FILE", "SERVER_TLS_KEY_FILE", "SERVER_TLS_CLIENT_CA_FILE")...)
	}
	d.servers[i], err = d.start(i+1, "server", append(environment, d.extra(i)...)...)
	return err
}

func (d *serversDraw) startServers() (err error) {
	for i := range serversCount {
		if err == nil {
			err = d.startServer(i)
		}
	}
	return err
}

func (d *serversDraw) startAgency(i int) (err error) {
	environment := []string{
		"AGENCY_ID=" + strconv.Itoa(i+1), "AGENCY_SERVER=" + cmp.Or(d.agenciesAt, d.addrs()), "AGENCY_BETS=" + d.bets,
		"AGENCY_BATCH_BETS=" + strconv.Itoa(10+d.rng.IntN(20)), "AGENCY_WINDOW=" + strconv.Itoa(1+d.rng.IntN(2)),
		"AGENCY_WINNERS=" + winnersName(i+1)}
	if d.secure {
		environment = append(environment,
			d.tlsFiles(fmt.Sprintf("agency-%d", i+1), "AGENCY_TLS_CERT_FILE", "AGENCY_TLS_KEY_FILE", "AGENCY_TLS_CA_FILE")...)
	}
	d.agencies[i], err = d.start(serversCount+1, "agency", environment...)
	return err
}

var saysLeader = regexp.MustCompile(`action: lider \| result: success \| servidor: (\d+) \| mandato: (\d+)`)

// leader is the server that leads the newest term that any server knows of, or -1.
func (d *serversDraw) leader() int {
	leader, newest := -1, 0
	for _, s := range d.servers {
		for _, line := range saysLeader.FindAllStringSubmatch(s.stdout.String(), -1) {
			server, _ := strconv.Atoi(line[1]) // both are digits
			if term, _ := strconv.Atoi(line[2]); term >= newest {
				leader, newest = server-1, term
			}
		}
	}
	return leader
}

// fault makes one fault, and repairs it.
func (d *serversDraw) fault() error {
	leader := d.leader()
	if leader < 0 {
		leader = 0
	}
	follower := (leader + 1 + d.rng.IntN(serversCount-1)) % serversCount
	restart := func(servers ...int) error {
		for _, i := range servers {
			d.servers[i].kill()
		}
		time.Sleep(d.moment(stopMax / 4)) // or none at all: how long it is away
		for _, i := range servers {
			if err := d.startServer(i); err != nil {
				return err
			}
		}
		return nil
	}
	switch d.rng.IntN(5) {
	case 0, 1:
		d.faults["leader killed"]++
		return restart(leader)
	case 2:
		d.faults["follower killed"]++
		return restart(follower)
	case 3:
		d.faults["all killed"]++
		return restart(0, 1, 2)
	default:
		d.faults["leader stopped"]++
		p := d.servers[leader].cmd.Process
		_ = p.Signal(syscall.SIGSTOP) // fails only if it has ended
		time.Sleep(d.moment(stopMax))
		_ = p.Signal(syscall.SIGCONT)
		return nil
	}
}

// moment is a random duration less than most.
func (d *serversDraw) moment(most time.Duration) time.Duration {
	return time.Duration(d.rng.Int64N(int64(most)))
}

// awaitLeader waits until a server says who leads, and returns that one.
func (d *serversDraw) awaitLeader(t *testing.T) int {
	t.Helper()
	if err := d.servers[0].stdout.await(saysLeader, 1, d.servers[0].ended); err != nil {
		t.Fatal(err)
	}
	return d.leader()
}

// wait waits until all agencies and all servers have ended with 0, and compares what they have.
func (d *serversDraw) wait(t *testing.T) {
	t.Helper()
	d.waitAgencies(t)
	d.waitServers(t)
}

// waitAgencies waits until the agencies that are processes have ended with 0, with their winners.
func (d *serversDraw) waitAgencies(t *testing.T) {
	t.Helper()
	for i, p := range d.agencies {
		if p == nil {
			continue
		}
		if code, err := p.wait(); err != nil || code != exitDone {
			t.Fatalf("agency %d ended with %d, %v", i+1, code, err)
		}
		checkWinners(t, d.bets, d.dir, i+1)
	}
}

// waitServers waits until all servers have ended with 0, and compares what they have with the dataset.
func (d *serversDraw) waitServers(t *testing.T) {
	t.Helper()
	if err := holds(d.waitExits(t), d.bets, serversAgencies); err != nil {
		t.Errorf("bets.csv: %v", err)
	}
}

// waitExits waits until all servers have ended with 0. It returns the bets that each of them has.
func (d *serversDraw) waitExits(t *testing.T) (betsCSV string) {
	t.Helper()
	for i, p := range d.servers {
		if code, err := p.wait(); err != nil || code != exitDone {
			t.Fatalf("server %d ended with %d, %v", i+1, code, err)
		}
	}
	var first [2][]byte
	for i := range serversCount {
		for n, name := range []string{history.BetsFile, history.WinnersFile} {
			exported, err := os.ReadFile(filepath.Join(d.dataDir(i), name))
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first[n] = exported
			} else if !bytes.Equal(exported, first[n]) {
				t.Fatalf("server %d has another %s than server 1", i+1, name)
			}
		}
	}
	return string(first[0])
}

// logs is what the processes said last.
func (d *serversDraw) logs() string {
	var b strings.Builder
	for _, p := range d.all {
		said := p.stdout.String()
		fmt.Fprintf(&b, "-- %v, %v\n%s%s", p.cmd.Env[:min(3, len(p.cmd.Env))], p.cmd.ProcessState, said[max(0, len(said)-3000):], p.stderr)
	}
	return b.String()
}

// Servers are killed and stopped, one or all, at random moments of draws. All agencies have their
// winners and all servers end by themselves, with the same files. In every other draw, agencies come
// over TLS.
func TestServersAreKilled(t *testing.T) {
	t.Parallel() // it mostly waits
	if testing.Short() {
		t.Skip("takes seconds: real processes are killed in it")
	}
	want := numberFrom(t, faultsEnv, faultsDefault)
	faults, all := map[string]int{}, 0
	for all < want && !t.Failed() {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			d := killServers(t, rand.New(rand.NewPCG(seed, 0)), seed%2 == 1)
			if d.secure {
				faults["draws over TLS"]++
			}
			for what, n := range d.faults {
				faults[what] += n
				all += n
			}
		})
	}
	t.Logf("faults: %v", faults)
}

// killServers plays a draw whose servers are killed and stopped.
func killServers(t *testing.T, rng *rand.Rand, overTLS bool) *serversDraw {
	t.Helper()
	d := newServersDraw(t, rng)
	if overTLS {
		d.overTLS(t)
	}
	if err := d.startServers(); err != nil {
		t.Fatal(err)
	}
	for i := range serversAgencies {
		if err := d.startAgency(i); err != nil {
			t.Fatal(err)
		}
	}
	left := d.rng.IntN(8)
	for {
		time.Sleep(d.moment(faultEveryMax)) // the moment of the fault
		if left--; left < 0 || d.allServed() {
			break
		}
		if err := d.fault(); err != nil {
			t.Fatal(err)
		}
	}
	d.wait(t)
	return d
}

// Servers prove to each other who they are. One with a certificate of another authority takes no part,
// and the others don't need it.
func TestServersWithTLS(t *testing.T) {
	t.Parallel() // it mostly waits
	d := newServersDraw(t, rand.New(rand.NewPCG(2, 0)))
	d.fewBets(t, 5000)
	certs := func(dir string) {
		t.Helper()
		p, err := startLoteria(d.dir, "certs --servers 3 --agencies 0 --out "+dir)
		if err != nil {
			t.Fatal(err)
		}
		if code, err := p.wait(); err != nil || code != exitDone {
			t.Fatalf("it ended with %d, %v: %s", code, err, p.stderr)
		}
	}
	certs("ours")
	certs("theirs")
	ca := [serversCount]string{"ours", "ours", "ours"}
	d.extra = func(i int) []string {
		file := func(name, suffix string) string {
			return fmt.Sprintf("SERVER_PEER_TLS_%s_FILE=%s", name, filepath.Join(d.dir, ca[i], suffix))
		}
		server := fmt.Sprintf("server-%d", i+1)
		return []string{"SERVER_CLUSTER=tls", file("CERT", server+".pem"), file("KEY", server+"-key.pem"), file("CA", "ca.pem")}
	}
	if err := d.startServers(); err != nil {
		t.Fatal(err)
	}
	connected := func(servers ...uint64) func(s engine.ClusterStatus, code int) bool {
		return func(status engine.ClusterStatus, code int) bool {
			return code == exitDone && !slices.ContainsFunc(status.Servers, func(s engine.ServerStatus) bool {
				return s.Connected != slices.Contains(servers, s.ID)
			})
		}
	}
	d.awaitStatus(t, 0, connected(1, 2, 3)) // or one that leads sees it
	d.servers[2].kill()
	ca[2] = "theirs"
	if err := d.startServer(2); err != nil {
		t.Fatal(err)
	}
	refused := regexp.MustCompile(`action: par \| result: fail \| servidor: [12] .*certificate`)
	if err := d.servers[2].stdout.await(refused, 1, d.servers[2].ended); err != nil {
		t.Errorf("%v: %s", err, d.servers[2].stdout)
	}
	d.awaitStatus(t, 0, connected(1, 2))
	d.servers[2].kill()
	ca[2] = "ours"
	if err := d.startServer(2); err != nil {
		t.Fatal(err)
	}
	for i := range serversAgencies {
		if err := d.startAgency(i); err != nil {
			t.Fatal(err)
		}
	}
	d.wait(t)
}

// allServed reports whether all agencies have ended.
func (d *serversDraw) allServed() bool {
	for _, p := range d.agencies {
		select {
		case <-p.ended:
		default:
			return false
		}
	}
	return true
}
