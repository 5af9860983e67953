package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cutEnv sets how long TestServersAreCutOff cuts a leader off, in every way. If it isn't set, it does
// so in one way, for cutDefault.
//
//	LOTERIA_CUT=30s go test ./cmd/loteria -run TestServersAreCutOff -v -timeout 1h
const (
	cutEnv     = "LOTERIA_CUT"
	cutDefault = 2 * time.Second
)

// cutBatchesFirst is how many batches an agency has sent before the cut.
const cutBatchesFirst = 10

// probeTimeout bounds how long a probe waits for an answer. A server that doesn't know whether it
// leads gives none.
const probeTimeout = 500 * time.Millisecond

// network is a bridge, and namespaces that have a link to it: one for each server, and one for the
// agencies. Nothing of it is in the namespace of the test.
type network struct {
	t    *testing.T
	name string
}

const agenciesNode = serversCount + 1

func (n *network) space(node int) string { return fmt.Sprintf("%s-%d", n.name, node) }

// ip is a node's address; 0 is none.
func (*network) ip(node int) string { return fmt.Sprintf("10.91.0.%d", node) }

// newNetwork makes one, or skips the test where that isn't permitted.
func newNetwork(t *testing.T) *network {
	t.Helper()
	needProgram(t, "ip")
	needProgram(t, "iptables")
	if os.Getuid() != 0 {
		t.Skip("making network namespaces takes root")
	}
	n := &network{t: t, name: fmt.Sprintf("loteria-%d-%d", os.Getpid(), hosts.Add(1))}
	if out, err := exec.Command("ip", "netns", "add", n.space(0)).CombinedOutput(); err != nil {
		t.Skipf("network namespaces are not permitted: %s", out)
	}
	n.deleteLater(0)
	n.run("ip", "-n", n.space(0), "link", "add", "bridge", "type", "bridge")
	n.run("ip", "-n", n.space(0), "link", "set", "bridge", "up")
	for node := 1; node <= agenciesNode; node++ {
		n.run("ip", "netns", "add", n.space(node))
		n.deleteLater(node)
		port := fmt.Sprintf("port%d", node)
		n.run("ip", "-n", n.space(node), "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", n.space(0))
		n.run("ip", "-n", n.space(0), "link", "set", port, "master", "bridge", "up")
		n.run("ip", "-n", n.space(node), "addr", "add", n.ip(node)+"/24", "dev", "eth0")
		n.run("ip", "-n", n.space(node), "link", "set", "eth0", "up")
		n.run("ip", "-n", n.space(node), "link", "set", "lo", "up")
	}
	return n
}

func (n *network) deleteLater(node int) {
	n.t.Cleanup(func() { n.run("ip", "netns", "delete", n.space(node)) })
}

func (n *network) run(command ...string) {
	n.t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
}

// drop adds or deletes rules for node: what comes from (INPUT -s) or goes to (OUTPUT -d) others is
// dropped.
func (n *network) drop(action string, node int, chain, of string, others ...int) {
	n.t.Helper()
	for _, other := range others {
		n.run("ip", "netns", "exec", n.space(node), "iptables", "-w", action, chain, of, n.ip(other), "-j", "DROP")
	}
}

// dial dials from the agencies' namespace. The address is one of an IP, so that nothing is looked up
// in another thread.
func (n *network) dial(addr string, timeout time.Duration) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // it ends with the goroutine: its namespace is no other's
		var space int
		space, err = unix.Open("/run/netns/"+n.space(agenciesNode), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		err = errors.Join(unix.Setns(space, unix.CLONE_NEWNET), unix.Close(space))
		if err == nil {
			conn, err = net.DialTimeout("tcp", addr, timeout)
		}
	}()
	<-done
	return conn, err
}

// cutDraw is a draw of servers and agencies in a network.
type cutDraw struct {
	*serversDraw
	network *network
}

func newCutDraw(t *testing.T) *cutDraw {
	t.Helper()
	n := newNetwork(t)
	d := &cutDraw{serversDraw: newServersDraw(t, rand.New(rand.NewPCG(6, 0))), network: n}
	d.host = strings.TrimSuffix(n.ip(0), "0")
	d.extra = func(int) []string { return []string{"SERVER_PEER_PLAIN=on"} }
	d.inside = func(node int) []string { return []string{"ip", "netns", "exec", n.space(node)} }
	return d
}

// cuts are the ways to cut the server l off from f and g.
var cuts = []struct {
	name string
	// isAlone: the others may have another leader, and agencies can reach this one.
	isAlone   bool
	cut, heal func(n *network, l, f, g int)
}{
	{
		name: "from both", isAlone: true,
		cut: func(n *network, l, f, g int) {
			n.drop("-A", l, "INPUT", "-s", f, g)
			n.drop("-A", l, "OUTPUT", "-d", f, g)
		},
		heal: func(n *network, l, f, g int) {
			n.drop("-D", l, "OUTPUT", "-d", f, g)
			n.drop("-D", l, "INPUT", "-s", f, g)
		},
	},
	{
		name: "from one",
		cut: func(n *network, l, f, _ int) {
			n.drop("-A", l, "INPUT", "-s", f)
			n.drop("-A", l, "OUTPUT", "-d", f)
		},
		heal: func(n *network, l, f, _ int) {
			n.drop("-D", l, "OUTPUT", "-d", f)
			n.drop("-D", l, "INPUT", "-s", f)
		},
	},
	{
		name: "it hears nobody", isAlone: true,
		cut:  func(n *network, l, f, g int) { n.drop("-A", l, "INPUT", "-s", f, g) },
		heal: func(n *network, l, f, g int) { n.drop("-D", l, "INPUT", "-s", f, g) },
	},
	{
		name: "nobody hears it", isAlone: true,
		cut:  func(n *network, l, f, g int) { n.drop("-A", l, "OUTPUT", "-d", f, g) },
		heal: func(n *network, l, f, g int) { n.drop("-D", l, "OUTPUT", "-d", f, g) },
	},
	{
		name: "its link is down",
		cut: func(n *network, l, _, _ int) {
			n.run("ip", "-n", n.space(0), "link", "set", fmt.Sprintf("port%d", l), "down")
		},
		heal: func(n *network, l, _, _ int) {
			n.run("ip", "-n", n.space(0), "link", "set", fmt.Sprintf("port%d", l), "up")
		},
	},
}

// The leader is cut off from other servers in the middle of uploads, for a while. Agencies that can
// reach it still get no word from it by which it would lead. All end with their winners.
func TestServersAreCutOff(t *testing.T) {
	t.Parallel() // it mostly waits
	long, ways := cutDefault, cuts[:1]
	if v := os.Getenv(cutEnv); v != "" {
		var err error
		if long, err = time.ParseDuration(v); err != nil || long <= 0 {
			t.Fatalf("%s=%s: want a duration", cutEnv, v)
		}
		ways = cuts
	}
	for _, c := range ways {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newCutDraw(t)
			d.fewBets(t, 25_000) // as many that it is cut off in the middle
			if err := d.startServers(); err != nil {
				t.Fatal(err)
			}
			leader := d.awaitLeader(t)
			// The last agency comes behind the cut, so that the draw doesn't end before.
			const last = serversAgencies - 1
			for i := range last {
				if err := d.startAgency(i); err != nil {
					t.Fatal(err)
				}
			}
			for _, a := range d.agencies[:last] {
				if err := a.stdout.await(saysSent, cutBatchesFirst, a.ended); err != nil {
					t.Fatal(err)
				}
			}
			l, f, g := leader+1, (leader+1)%serversCount+1, (leader+2)%serversCount+1
			c.cut(d.network, l, f, g)
			healed := time.Now().Add(long)
			heard := map[string]int{}
			for time.Now().Before(healed) {
				heard[d.probe(leader, last+1)]++
				time.Sleep(probePause)
			}
			c.heal(d.network, l, f, g)
			t.Logf("server %d, cut off for %v, tells the agencies that reach it: %v; then %d leads",
				l, long, heard, d.leader()+1)
			for said, n := range heard {
				if c.isAlone && strings.HasPrefix(said, "WELCOME") {
					t.Errorf("it answers %d times as a leader: %s", n, said)
				}
			}
			if err := d.startAgency(last); err != nil {
				t.Fatal(err)
			}
			d.wait(t)
		})
	}
}

// probePause is between two probes of a server.
const probePause = 20 * time.Millisecond

// probe says HELLO to a server, and returns what it hears.
func (d *cutDraw) probe(server, agency int) (heard string) {
	conn, err := d.network.dial(d.addr(server), probeTimeout)
	if err == nil {
		defer conn.Close()
		err = conn.SetDeadline(time.Now().Add(probeTimeout))
	}
	hello := "HELLO|" + strconv.Itoa(agency)
	if err == nil {
		_, err = fmt.Fprintf(conn, "%d\n%s", len(hello), hello)
	}
	var answer []byte
	if err == nil {
		_, answer, err = readFrame(bufio.NewReader(conn))
	}
	var errno syscall.Errno
	switch {
	case err == nil:
		return string(answer)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "silence"
	case errors.As(err, &errno):
		return errno.Error()
	default:
		return err.Error()
	}
}
