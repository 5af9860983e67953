package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"loteria/agency"
	"loteria/codec"
	"loteria/engine/history"
)

// killsEnv sets how many servers TestServerIsKilledAtTheEnd kills; killsDefault if it isn't set.
//
//	LOTERIA_KILLS=2000 go test ./cmd/loteria -run KilledAtTheEnd -v -timeout 1h
const (
	killsEnv     = "LOTERIA_KILLS"
	killsDefault = 12
)

const (
	endAgencies = 3 // one of each kind
	// endGraceMax bounds the servers' SERVER_EXIT_GRACE. A server whose grace ends before an agency
	// is back rightly ends with 3, and is started again.
	endGraceMax = 200 * time.Millisecond
	// endLivesMax is how many servers a draw may take. Each but the last is killed or ends with 3.
	endLivesMax = 50
	// endRandomKills is how many servers of a draw may be killed at a random moment. One more is
	// killed at a chosen byte.
	endRandomKills = 4
	// endKillDelayMax bounds how long after its start, or after a byte, a server is killed: about
	// as long as it takes to start, to deliver and to export.
	endKillDelayMax = 80 * time.Millisecond
)

// The server is killed again and again around the draw, while winners and receipts pass and exports
// are written. A server that ends by itself says truly which agencies have their winners: the test
// compares it with the agencies. In the end all have them.
func TestServerIsKilledAtTheEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds: real processes are killed in it")
	}
	want := int64(numberFrom(t, killsEnv, killsDefault))
	bets := t.TempDir()
	for id := 1; id <= endAgencies; id++ {
		name := filepath.Join(bets, fmt.Sprintf("agency-%d.csv", id))
		if err := os.WriteFile(name, []byte(endBets(id)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var (
		workers                            sync.WaitGroup
		kills, unfinished, draws, unlogged atomic.Int64
		failed                             atomic.Bool
	)
	for range runtime.NumCPU() { // a server that ran in this process has raised GOMAXPROCS
		workers.Go(func() {
			for kills.Load() < want && !failed.Load() {
				if draws.Add(1) > 10*want {
					t.Errorf("%d kills in %d draws", kills.Load(), draws.Load())
					return
				}
				seed := rand.Uint64()
				d := &endDraw{dir: t.TempDir(), bets: bets, rng: rand.New(rand.NewPCG(seed, 0))}
				if err := d.hold(); err != nil {
					failed.Store(true)
					t.Errorf("seed %d, for the choices that are not the machine's: %v\n%s",
						seed, err, d.logs())
				}
				kills.Add(d.kills)
				unfinished.Add(d.unfinished)
				if !d.saidDraw() {
					unlogged.Add(1)
				}
			}
		})
	}
	workers.Wait()
	t.Logf("in %d draws %d servers were killed, and %d ended with 3; of %d draws there is no line: "+
		"a server was killed between a draw and its line, and no winners had left",
		draws.Load(), kills.Load(), unfinished.Load(), unlogged.Load())
}

// endBets is an agency's CSV of bets. The second bet wins, and its document is the agency's id.
func endBets(id int) string {
	return fmt.Sprintf("Juan,Perez,1234,1990-05-23,1\n"+
		"Ana,Diaz,%d,1999-11-11,7574\n"+
		"Luis,Vega,5678,1971-01-31,2\n", id)
}

// endWinners are the winners of an agency with endBets.
func endWinners(id int) string { return fmt.Sprintf("Ana|Diaz|%d|1999-11-11|7574|%d", id, id) }

var (
	saysDraw     = "action: sorteo | result: success | apuestas: 9 | cant_ganadores: 3\n"
	saysServed   = regexp.MustCompile(`action: ganadores_recibidos \| result: success \| agencia: (\d+) `)
	saysUnserved = regexp.MustCompile(`error: ended without its goal: drawn, ` +
		`but agencies that are not known to have their winners: ([\d, ]+);`)
	saysReport = regexp.MustCompile(`GET_WINNERS\|\d`)
)

// endDraw is one draw.
type endDraw struct {
	dir, bets     string
	addr, tapAddr string
	rng           *rand.Rand
	tap           *tap
	up, down      *output // the bytes that have passed
	agencies      []*endAgency
	servers       []*process // one after the other
	drawn         bool       // the draw had taken place when the last server started
	// kills is how many servers were killed, and unfinished how many ended with 3.
	kills, unfinished int64
}

// logs is what all servers said.
func (d *endDraw) logs() string {
	var b strings.Builder
	for _, s := range d.servers {
		fmt.Fprintf(&b, "-- server, ended with %d\n%s%s", s.cmd.ProcessState.ExitCode(), s.stdout, s.stderr)
	}
	return b.String()
}

func (d *endDraw) saidDraw() bool {
	return slices.ContainsFunc(d.servers, func(s *process) bool {
		return strings.Contains(s.stdout.String(), saysDraw)
	})
}

func (d *endDraw) hold() (err error) {
	for _, addr := range []*string{&d.addr, &d.tapAddr} {
		port, err := freePort()
		if err != nil {
			return err
		}
		*addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	d.up, d.down = newOutput(), newOutput()
	if d.tap, err = startTap(d.tapAddr, d.addr, meter{heard: d.up}, meter{heard: d.down}); err != nil {
		return err
	}
	defer func() {
		for _, s := range d.servers {
			s.kill()
		}
		for _, a := range d.agencies {
			err = errors.Join(err, a.stop())
		}
		err = errors.Join(err, d.tap.close())
	}()
	if err := d.begin(); err != nil {
		return err
	}
	for randomKills := 0; ; {
		server := d.servers[len(d.servers)-1]
		done, err := d.judge(server)
		if err != nil || done {
			return err
		}
		if len(d.servers) == endLivesMax {
			return fmt.Errorf("%d servers didn't end the draw", len(d.servers))
		}
		if err := d.startServer(); err != nil {
			return err
		}
		if randomKills < endRandomKills && d.rng.IntN(2) == 0 {
			randomKills++
			d.killLater()
		}
	}
}

// begin starts the first server and the agencies, and chooses the byte at which the server is
// killed.
func (d *endDraw) begin() error {
	if err := d.startServer(); err != nil {
		return err
	}
	for i, kind := range d.rng.Perm(endAgencies) {
		d.agencies = append(d.agencies, &endAgency{id: i + 1, kind: endKind(kind), draw: d})
	}
	of := func(kind endKind) *endAgency {
		return d.agencies[slices.IndexFunc(d.agencies, func(a *endAgency) bool { return a.kind == kind })]
	}
	// An old agency can't tell whether a batch without an ACK is stored, so it uploads before
	// anything breaks.
	old := of(oldKind)
	old.uploaded, old.report = make(chan struct{}), make(chan struct{})
	if err := old.start(); err != nil {
		return err
	}
	select {
	case <-old.uploaded:
	case <-time.After(eventTimeout):
		return fmt.Errorf("agency %d has not uploaded after %v", old.id, eventTimeout)
	}
	// Two agencies report now. If nothing breaks, one GET_WINNERS and two receipts still go up, and
	// three frames of winners and two ACKs come down. In half of the draws an upload passes before.
	upBytes := len("13\nGET_WINNERS|1") + 2*len("10\nRECEIVED|1")
	downBytes := 3*len("33\n"+endWinners(1)) + 2*len("3\nACK")
	upSkipped, downSkipped := 0, 0
	last := func() error { close(old.report); return nil }
	first := of(clientKind).start
	if d.rng.IntN(2) == 0 {
		last, first = first, last
		upSkipped = len("7\nHELLO|1") + len("109\n"+endBets(1)) + 3*len("|1")
		downSkipped = len("27\nWELCOME|0|64|65536|00000000") + len("3\nACK")
	}
	err := errors.Join(first(), of(processKind).start(),
		d.up.await(saysReport, 2, d.servers[0].ended))
	if err != nil {
		return err
	}
	d.tap.flow.Lock()
	server := d.servers[0]
	delay := time.Duration(0)
	if d.rng.IntN(2) == 0 {
		delay = d.moment(endKillDelayMax)
	}
	kill := func(_, _ net.Conn) {
		time.Sleep(delay) // no byte passes meanwhile; the server keeps running
		server.kill()
		d.tap.cut() // the bytes on their way are lost
	}
	if d.rng.IntN(3) == 0 {
		kill = func(_, _ net.Conn) { time.AfterFunc(delay, server.kill) }
	}
	d.tap.up.event, d.tap.down.event = kill, kill
	if at := d.rng.IntN(upBytes + downBytes); at < upBytes {
		d.tap.up.marks = []int{d.tap.up.passed + upSkipped + 1 + at}
	} else {
		d.tap.down.marks = []int{d.tap.down.passed + downSkipped + 1 + at - upBytes}
	}
	d.tap.flow.Unlock()
	return last()
}

func (d *endDraw) startServer() error {
	s, err := startLoteria(d.dir, "server", "SERVER_ADDR="+d.addr, "SERVER_DATA_DIR=data",
		"SERVER_AGENCIES="+strconv.Itoa(endAgencies),
		"SERVER_EXIT_GRACE="+d.moment(endGraceMax).String())
	if err == nil {
		d.servers = append(d.servers, s)
	}
	return err
}

// killLater kills the last server at a random moment.
func (d *endDraw) killLater() {
	time.AfterFunc(d.moment(endKillDelayMax), d.servers[len(d.servers)-1].kill)
}

// moment is a random duration less than most.
func (d *endDraw) moment(most time.Duration) time.Duration {
	return time.Duration(d.rng.Int64N(int64(most)))
}

// judge waits until a server ends, and compares what it said with what the agencies have. done says
// that the server ended the draw.
func (d *endDraw) judge(server *process) (done bool, err error) {
	code, err := server.wait()
	if err != nil {
		return false, fmt.Errorf("the server %w", err)
	}
	if err := d.tap.settle(); err != nil {
		return false, err
	}
	said, told := server.stdout.String(), strings.Contains(d.down.String(), "|7574|")
	if !d.drawn && told && !strings.Contains(said, saysDraw) {
		return false, errors.New("agencies have winners of a draw of which its server said nothing")
	}
	found, err := history.Verify(history.In(filepath.Join(d.dir, "data")))
	if err != nil {
		return false, err
	}
	d.drawn = found.Drawn
	for _, line := range saysServed.FindAllStringSubmatch(said, -1) {
		id, err := strconv.Atoi(line[1])
		if err != nil {
			return false, err
		}
		d.agencies[id-1].served = true
	}
	switch {
	case code == -1:
		d.kills++
		return false, nil
	case code == exitDone && !found.Drawn, code == exitUnfinished && !found.Drawn && told:
		return false, fmt.Errorf("it ended with %d; draw: %v, winners: %v", code, found.Drawn, told)
	case code == exitUnfinished && !found.Drawn:
		d.unfinished++
		return false, nil // an agency whose connection was cut was not back in time
	case code != exitDone && code != exitUnfinished:
		return false, fmt.Errorf("it ended with %d", code)
	}
	var named []string
	if match := saysUnserved.FindStringSubmatch(said); match != nil {
		named = strings.Split(match[1], ", ")
	}
	if (len(named) > 0) != (code == exitUnfinished) {
		return false, fmt.Errorf("it ended with %d and names %v", code, named)
	}
	for _, a := range d.agencies {
		switch missing := slices.Contains(named, strconv.Itoa(a.id)); {
		case missing && (a.served || a.isConfirmed()):
			return false, fmt.Errorf("agency %d has confirmed, but the server names it", a.id)
		case !missing && !a.hasWinners():
			return false, fmt.Errorf("agency %d has no winners, but the server doesn't name it", a.id)
		case missing && a.hasEnded():
			if err := errors.Join(a.stop(), a.start()); err != nil {
				return false, err
			}
		}
	}
	if code == exitUnfinished {
		d.unfinished++
		return false, nil
	}
	return true, d.checkExports()
}

func (d *endDraw) checkExports() error {
	exported, err := os.ReadFile(filepath.Join(d.dir, "data", history.BetsFile))
	if err == nil {
		err = holds(string(exported), d.bets, endAgencies)
	}
	if err != nil {
		return err
	}
	exported, err = os.ReadFile(filepath.Join(d.dir, "data", history.WinnersFile))
	if err != nil {
		return err
	}
	rows := strings.Split(strings.TrimSuffix(string(exported), "\r\n"), "\r\n")
	slices.Sort(rows) // the agencies' batches came in any order
	for id := 1; id <= endAgencies; id++ {
		want := fmt.Sprintf("%d,Ana,Diaz,%d,1999-11-11,7574", id, id)
		if len(rows) != endAgencies || rows[id-1] != want {
			return fmt.Errorf("%s has %q", history.WinnersFile, rows)
		}
	}
	return nil
}

// endKind is a kind of agency.
type endKind int

const (
	oldKind     endKind = iota // says no HELLO, and connects again until it has its winners
	clientKind                 // an agency.Client
	processKind                // `loteria agency`
)

// endAgency is one of a draw's agencies.
type endAgency struct {
	id   int
	kind endKind
	draw *endDraw
	// served: a server has logged that this agency has its winners.
	served bool

	done    chan struct{}      // closed when it has ended
	process *process           // of processKind
	cancel  context.CancelFunc // of the other kinds
	err     error              // of the other kinds: why it ended

	// uploaded is closed when the bets of an agency of oldKind are stored, and report when it may
	// report.
	uploaded, report    chan struct{}
	isStored            bool // uploaded is closed
	received, confirmed atomic.Bool
}

// start starts the agency, or starts it again.
func (a *endAgency) start() (err error) {
	if a.kind == processKind {
		a.process, err = startLoteria(a.draw.dir, "agency",
			"AGENCY_ID="+strconv.Itoa(a.id), "AGENCY_SERVER="+a.draw.tapAddr,
			"AGENCY_BETS="+a.draw.bets, "AGENCY_WINNERS="+winnersName(a.id))
		if err == nil {
			a.done = a.process.ended
		}
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.done = cancel, make(chan struct{})
	play := a.playOld
	if a.kind == clientKind {
		play = a.playClient
	}
	go func() {
		defer close(a.done)
		a.err = play(ctx)
	}()
	return nil
}

func (a *endAgency) hasEnded() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// stop ends the agency if it still runs. Its error is the agency's.
func (a *endAgency) stop() error {
	switch {
	case a.done == nil:
		return nil // it was not started
	case a.kind == processKind && a.hasEnded():
		if code := a.process.cmd.ProcessState.ExitCode(); code != exitDone {
			return fmt.Errorf("agency %d ended with %d:\n%s%s",
				a.id, code, a.process.stdout, a.process.stderr)
		}
		return nil
	case a.kind == processKind:
		a.process.kill()
		return nil
	}
	a.cancel()
	<-a.done
	if a.err != nil && !errors.Is(a.err, context.Canceled) {
		return fmt.Errorf("agency %d: %w", a.id, a.err)
	}
	return nil
}

// hasWinners reports whether the agency has all its winners; for `loteria agency`, in their file.
func (a *endAgency) hasWinners() bool {
	if a.kind == processKind {
		winners, err := os.ReadFile(filepath.Join(a.draw.dir, winnersName(a.id)))
		return err == nil && string(winners) == endWinners(a.id)
	}
	return a.received.Load()
}

// isConfirmed reports whether the server has acknowledged the agency's receipt.
func (a *endAgency) isConfirmed() bool {
	if a.kind == processKind {
		return strings.Contains(a.process.stdout.String(),
			"action: ganadores_confirmados | result: success")
	}
	return a.confirmed.Load()
}

func (a *endAgency) playClient(ctx context.Context) (err error) {
	c, err := agency.Dial(ctx, a.draw.tapAddr, codec.Agency(a.id))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, err := c.Upload(ctx, "bets", strings.NewReader(endBets(a.id))); err != nil {
		return err
	}
	winners, err := c.Winners(ctx)
	if err != nil {
		return err
	}
	if string(winners.Bytes()) != endWinners(a.id) {
		return fmt.Errorf("%w %q", errEndAnswer, winners.Bytes())
	}
	a.received.Store(true)
	if err := c.Confirm(ctx); err != nil {
		return err
	}
	a.confirmed.Store(true)
	return nil
}

// errEndAnswer says that an agency got an answer that it should not get.
var errEndAnswer = errors.New("it is answered")

// playOld asks until it has its winners, and then closes.
func (a *endAgency) playOld(ctx context.Context) error {
	for {
		err := a.visit(ctx)
		if err == nil || errors.Is(err, errEndAnswer) {
			return err
		}
		// Sometimes the agency stays away longer than the server waits.
		select {
		case <-time.After(rand.N(endGraceMax * 3 / 2)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// visit is one connection of an old agency. After any error except errEndAnswer it connects again.
func (a *endAgency) visit(ctx context.Context) (err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", a.draw.tapAddr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreClosed(conn.Close())) }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	in := bufio.NewReader(conn)
	ask := func(payload, want string) error {
		if _, err := fmt.Fprintf(conn, "%d\n%s", len(payload), payload); err != nil {
			return err
		}
		_, answer, err := readFrame(in)
		if err == nil && string(answer) != want {
			return fmt.Errorf("%w %q to %q", errEndAnswer, answer, payload)
		}
		return err
	}
	if !a.isStored {
		// The first server may not listen yet. An empty batch finds out: a batch of bets could get
		// lost without a server.
		if err := ask("", "ERROR_EMPTY_BATCH"); err != nil {
			return err
		}
		lines := strings.ReplaceAll(endBets(a.id), ",", "|")
		if err := ask(strings.ReplaceAll(lines, "\n", fmt.Sprintf("|%d\n", a.id)), "ACK"); err != nil {
			return fmt.Errorf("%w %w to its bets", errEndAnswer, err)
		}
		a.isStored = true
		close(a.uploaded)
		select {
		case <-a.report:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := ask(fmt.Sprintf("GET_WINNERS|%d", a.id), endWinners(a.id)); err != nil {
		return err
	}
	a.received.Store(true)
	return nil
}
