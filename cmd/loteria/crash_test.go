package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// In these tests five real agencies upload the bundled dataset to a real server. In each draw
// something breaks crashes times, each time when a chosen byte has passed between them.
const (
	crashes       = 25
	crashAgencies = 5
)

// crashDraw is one such draw.
type crashDraw struct {
	t       *testing.T
	rng     *rand.Rand
	bets    string // the dataset
	dir     string
	addr    string // the server's own
	tapAddr string
	tap     *tap

	// The rest is guarded by tap.flow until all processes have ended.
	server    *process
	servers   []*process // all so far
	agencies  [crashAgencies]*process
	processes []*process
	broken    error // the first error of an event
}

// newCrashDraw prepares a draw. up is called at crashes of the bytes that agencies send, and down
// at as many of the bytes that the server sends; either may be nil.
func newCrashDraw(t *testing.T, up, down func(d *crashDraw, from, to net.Conn) error) *crashDraw {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds: real processes are killed in it")
	}
	seed := rand.Uint64()
	t.Logf("seed %d, which chooses where it breaks; the machine decides the rest", seed)
	bets, err := filepath.Abs(filepath.Join("..", "..", bundledDataset))
	if err != nil {
		t.Fatal(err)
	}
	d := &crashDraw{t: t, rng: rand.New(rand.NewPCG(seed, 0)), bets: bets, dir: t.TempDir()}
	d.addr, d.tapAddr = d.freeAddr(), d.freeAddr()
	upBytes, downBytes := d.leastBytes()
	d.tap, err = startTap(d.tapAddr, d.addr, d.meter(up, upBytes), d.meter(down, downBytes))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range d.processes {
			p.kill()
		}
		if err := d.tap.close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// meter has crashes marks among the first bytes of a direction. At least so many bytes pass.
func (d *crashDraw) meter(event func(d *crashDraw, from, to net.Conn) error, bytes int) meter {
	if event == nil {
		return meter{}
	}
	var marks []int
	for len(marks) < crashes {
		if mark := 1 + d.rng.IntN(bytes); !slices.Contains(marks, mark) {
			marks = append(marks, mark)
		}
	}
	slices.Sort(marks)
	return meter{marks: marks, event: func(from, to net.Conn) {
		if err := event(d, from, to); err != nil && d.broken == nil {
			d.broken = err
		}
	}}
}

// batchBetsMax is the most bets in a batch of these agencies.
const batchBetsMax = 60

// leastBytes are lower bounds of the bytes that the agencies send and that the server answers.
func (d *crashDraw) leastBytes() (up, down int) {
	const ackFrameBytes = 5
	for id := range crashAgencies {
		rows, _, err := datasetRows(d.bets, id+1)
		if err != nil {
			d.t.Fatal(err)
		}
		for _, row := range rows {
			up += len(strings.Join(row, "|"))
		}
		down += len(rows) / batchBetsMax * ackFrameBytes
	}
	return up, down
}

func (d *crashDraw) freeAddr() string {
	port, err := freePort()
	if err != nil {
		d.t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func (d *crashDraw) start(environment ...string) (*process, error) {
	command := "server"
	if strings.HasPrefix(environment[0], "AGENCY_") {
		command = "agency"
	}
	p, err := startLoteria(d.dir, command, environment...)
	if err == nil {
		d.processes = append(d.processes, p)
	}
	return p, err
}

func (d *crashDraw) startServer() (err error) {
	d.server, err = d.start("SERVER_ADDR="+d.addr, "SERVER_DATA_DIR=data")
	d.servers = append(d.servers, d.server)
	return err
}

// startAgency starts an agency with a random window and batch size.
func (d *crashDraw) startAgency(id int) (err error) {
	d.agencies[id-1], err = d.start(
		"AGENCY_ID="+strconv.Itoa(id),
		"AGENCY_SERVER="+d.tapAddr,
		"AGENCY_BETS="+d.bets,
		"AGENCY_BATCH_BETS="+strconv.Itoa(1+d.rng.IntN(batchBetsMax)),
		"AGENCY_WINDOW="+strconv.Itoa(1+d.rng.IntN(8)),
		"AGENCY_WINNERS="+winnersName(id),
	)
	return err
}

func winnersName(id int) string { return fmt.Sprintf("winners-%d.txt", id) }

// killServer kills the server and starts it again. One time in three it also kills the new one
// while it starts, and starts a third.
func (d *crashDraw) killServer(_, _ net.Conn) error {
	d.server.kill()
	if err := d.startServer(); err != nil || d.rng.IntN(3) > 0 {
		return err
	}
	err := d.server.stdout.await(regexp.MustCompile("action: "), 1, d.server.ended)
	if err != nil {
		return fmt.Errorf("server: %w:\n%s", err, d.server.stderr)
	}
	d.server.kill()
	return d.startServer()
}

func (d *crashDraw) killAgency(_, _ net.Conn) error {
	id := 1 + d.rng.IntN(crashAgencies)
	d.agencies[id-1].kill()
	return d.startAgency(id)
}

// cut breaks a connection after the byte that has just passed.
func (d *crashDraw) cut(from, to net.Conn) error {
	for _, c := range []net.Conn{from, to} {
		if d.rng.IntN(2) == 0 {
			if err := c.(*net.TCPConn).SetLinger(0); err != nil { // close with a reset
				return ignoreClosed(err)
			}
		}
		if err := c.Close(); err != nil {
			return ignoreClosed(err)
		}
	}
	return nil
}

// hold runs the draw and checks its outcome.
func (d *crashDraw) hold() {
	d.t.Helper()
	if err := d.startServer(); err != nil {
		d.t.Fatal(err)
	}
	d.startAgencies()
	for id := 1; id <= crashAgencies; id++ {
		d.wait(func() *process { return d.agencies[id-1] }, fmt.Sprintf("agency %d", id))
		checkWinners(d.t, d.bets, d.dir, id)
	}
	d.wait(func() *process { return d.server }, "server")
	if d.broken != nil {
		d.t.Error(d.broken)
	}
	if up, down := len(d.tap.up.marks), len(d.tap.down.marks); up+down > 0 {
		d.t.Errorf("%d events of agencies' bytes and %d of the server's did not happen", up, down)
	}
	exported, err := os.ReadFile(filepath.Join(d.dir, "data", "bets.csv"))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := holds(string(exported), d.bets, crashAgencies); err != nil {
		d.t.Errorf("bets.csv: %v", err)
	}
	draws := 0
	for _, s := range d.servers {
		draws += strings.Count(s.stdout.String(), "action: sorteo | result: success")
	}
	if draws != 1 {
		d.t.Errorf("%d draws", draws)
	}
}

// startAgencies starts all agencies before the first byte passes.
func (d *crashDraw) startAgencies() {
	d.t.Helper()
	d.tap.flow.Lock()
	defer d.tap.flow.Unlock()
	for id := 1; id <= crashAgencies; id++ {
		if err := d.startAgency(id); err != nil {
			d.t.Fatal(err)
		}
	}
}

// wait waits until a process ends by itself, with 0. If an event replaces the process meanwhile, it
// waits for the new one.
func (d *crashDraw) wait(current func() *process, name string) {
	d.t.Helper()
	for {
		d.tap.flow.Lock()
		p := current()
		d.tap.flow.Unlock()
		<-p.ended // go test's own timeout bounds it
		d.tap.flow.Lock()
		replaced := p != current()
		d.tap.flow.Unlock()
		if replaced {
			continue
		}
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			d.t.Fatalf("%s ended with %d:\n%s%s", name, code, p.stdout, p.stderr)
		}
		return
	}
}

// checkWinners compares the winners that an agency has saved in dir with its bets.
func checkWinners(t *testing.T, bets, dir string, id int) {
	t.Helper()
	rows, _, err := datasetRows(bets, id)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, row := range rows {
		if row[len(row)-1] == "7574" {
			want = append(want, strings.Join(row, "|")+"|"+strconv.Itoa(id))
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, winnersName(id)))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != strings.Join(want, "\n") {
		t.Errorf("agency %d got\n%s\nwant\n%s", id, got, strings.Join(want, "\n"))
	}
}

func TestServerIsKilled(t *testing.T) {
	t.Parallel() // it mostly waits
	d := newCrashDraw(t, (*crashDraw).killServer, nil)
	d.hold()
	if n := len(d.servers); n <= crashes {
		t.Errorf("%d servers, want more than %d", n, crashes)
	}
}

func TestAgenciesAreKilled(t *testing.T) {
	t.Parallel() // it mostly waits
	d := newCrashDraw(t, (*crashDraw).killAgency, nil)
	d.hold()
	if n := len(d.processes); n != crashes+crashAgencies+1 {
		t.Errorf("%d processes, want %d agencies and a server", n, crashes+crashAgencies)
	}
}

func TestConnectionsAreCut(t *testing.T) {
	t.Parallel() // it mostly waits
	newCrashDraw(t, (*crashDraw).cut, (*crashDraw).cut).hold()
}
