package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// historiesEnv sets for how long TestHistories breaks servers; historiesDefault if it isn't set.
//
//	LOTERIA_HISTORIES=5m go test ./cmd/loteria -run TestHistories -v -timeout 1h
const (
	historiesEnv     = "LOTERIA_HISTORIES"
	historiesDefault = 4 * time.Second
)

const (
	// historyForMax bounds how long servers are broken in one draw.
	historyForMax = 10 * time.Second
	// historyClients is how many clients each agency has at once.
	historyClients = 3
	// historyAnswerMax is how long a client waits for an answer: longer than most servers stand
	// still, so that it hears what a leader says that doesn't know yet that it was deposed.
	historyAnswerMax = 4 * time.Second
	// historyCheckMax bounds the check of a history.
	historyCheckMax = time.Minute
)

// historyDraw is a draw whose every request and answer is written down.
type historyDraw struct {
	*serversDraw
	began   time.Time
	lasts   time.Duration // how long servers are broken
	conns   atomic.Int64
	reports atomic.Int32 // the agencies up to this one may report
	think   time.Duration

	visits sync.RWMutex // held by each visit of a client
	avoid  atomic.Int32 // the number of a server that no client visits; 0: none
	acked  atomic.Int64 // batches

	mu      sync.Mutex
	history []porcupine.Operation
}

// Many clients ask three servers, of which the leader is killed, stopped or moved again and again.
// What they hear is what one server could have said that never fails: the history is linearizable.
func TestHistories(t *testing.T) {
	t.Parallel() // it mostly waits
	long := historiesDefault
	if v := os.Getenv(historiesEnv); v != "" {
		var err error
		if long, err = time.ParseDuration(v); err != nil || long <= 0 {
			t.Fatalf("%s=%s: want a duration", historiesEnv, v)
		}
	}
	for begun := time.Now(); time.Since(begun) < long && !t.Failed(); {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			d := &historyDraw{
				serversDraw: newServersDraw(t, rand.New(rand.NewPCG(seed, 0))), began: time.Now(),
				lasts: min(long, historyForMax),
			}
			d.extra = func(int) []string { return []string{"SERVER_WINNERS=poll"} }
			d.think = []time.Duration{5, 50, 200}[d.rng.IntN(3)] * time.Millisecond
			if err := d.startServers(); err != nil {
				t.Fatal(err)
			}
			d.awaitLeader(t)
			d.play(t)
			if t.Failed() {
				return
			}
			d.check(t)
		})
	}
}

// play has clients ask while servers break. Then all agencies get their winners, and the servers end.
func (d *historyDraw) play(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stop()
	for agency := range serversAgencies {
		for client := range historyClients {
			rng := rand.New(rand.NewPCG(d.rng.Uint64(), 0))
			asking.Go(func() {
				for ctx.Err() == nil {
					d.visit(ctx, agency, client, rng)
				}
			})
		}
	}
	for until := time.Now().Add(d.lasts); time.Now().Before(until); {
		time.Sleep(d.moment(time.Second)) // the moment of the fault
		left := time.Until(until)
		d.reports.Store(int32(float64(serversAgencies) * (1.2 - float64(left)/float64(d.lasts))))
		if err := d.fault(); err != nil {
			t.Fatal(err)
		}
		switch d.rng.IntN(3) {
		case 0:
			if err := d.move(); err != nil {
				t.Fatal(err)
			}
		case 1:
			if err := d.depose(); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	asking.Wait()
	if err := d.finish(); err != nil {
		t.Fatal(err)
	}
	d.waitExits(t)
}

// move has the leader hand over, as a signal does, and starts it again.
func (d *historyDraw) move() error {
	d.faults["leader moved"]++
	leader := max(0, d.leader())
	_ = d.servers[leader].cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	if _, err := d.servers[leader].wait(); err != nil {
		return err
	}
	return d.startServer(leader)
}

// depose stops a leader that has nothing to do, and has it asked questions. When another one leads, and
// has taken bets, it goes on, and finds the questions before it hears of the other.
func (d *historyDraw) depose() error {
	d.faults["leader deposed unawares"]++
	d.visits.Lock()
	leader := max(0, d.leader())
	var agencies []*oldAgency
	p := d.servers[leader].cmd.Process
	for agency := range serversAgencies {
		a := &oldAgency{id: agency + 1, addr: d.addr(leader)}
		err := a.dial()
		if err == nil {
			err = errors.Join(a.send(""), a.hear("ERROR_EMPTY_BATCH"))
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			d.visits.Unlock()
			return fmt.Errorf("server %d takes connections and says nothing: %w", leader+1, err)
		}
		if err != nil {
			continue // it has ended, or doesn't lead any more
		}
		agencies = append(agencies, a)
	}
	var status syscall.WaitStatus
	err := p.Signal(syscall.SIGSTOP)
	if err == nil {
		_, err = syscall.Wait4(p.Pid, &status, syscall.WUNTRACED, nil) // a signal takes a moment
	}
	d.avoid.Store(int32(leader + 1))
	d.visits.Unlock()
	var asking sync.WaitGroup
	for _, a := range agencies {
		asking.Go(func() {
			d.ask(a, 0, asked{kind: askHello, agency: a.id - 1, conn: d.conns.Add(1)})
			_ = a.conn.Close() // all is said
		})
	}
	acked, other := d.acked.Load(), false
	for begun := time.Now(); time.Since(begun) < deposedMax && d.acked.Load() < acked+deposedAcks; {
		time.Sleep(historyLookEvery)
		if !other {
			other, acked = d.leader() != leader, d.acked.Load()
		}
	}
	err = errors.Join(err, p.Signal(syscall.SIGCONT))
	asking.Wait()
	d.avoid.Store(0)
	return err
}

// A leader is kept from hearing that it is deposed until its successor has stored deposedAcks
// batches, but for no longer than deposedMax.
const (
	deposedAcks = 10
	deposedMax  = 3 * time.Second
)

// historyLookEvery is how often a test looks for a new leader.
const historyLookEvery = 20 * time.Millisecond

// visit is one connection of a client.
func (d *historyDraw) visit(ctx context.Context, agency, client int, rng *rand.Rand) {
	pause := func() {
		select {
		case <-time.After(time.Duration(rng.Int64N(int64(d.think)))):
		case <-ctx.Done():
		}
	}
	defer pause()
	d.visits.RLock()
	defer d.visits.RUnlock()
	server := rng.IntN(serversCount)
	a := &oldAgency{id: agency + 1, addr: d.addr(server)}
	if int(d.avoid.Load()) == server+1 || a.dial() != nil {
		return
	}
	defer a.conn.Close()
	conn := d.conns.Add(1)
	ask := func(kind askedKind, payload string) (answer string, more bool) {
		return d.ask(a, client, asked{kind: kind, agency: agency, conn: conn, lines: payload})
	}
	if _, welcomed := ask(askHello, ""); !welcomed {
		return
	}
	for n := range rng.IntN(8) {
		pause()
		if ctx.Err() != nil {
			return
		}
		var more bool
		if int(d.reports.Load()) > agency && rng.IntN(4) == 0 {
			_, more = ask(askWinners, "")
		} else {
			_, more = ask(askBatch, historyBatch(agency, conn, n, rng))
		}
		if !more {
			return
		}
	}
}

// historyBatch is a batch of bets that no other batch has. Every third bet wins.
func historyBatch(agency int, conn int64, n int, rng *rand.Rand) string {
	var lines []string
	for i := range 1 + rng.IntN(4) {
		lines = append(lines, fmt.Sprintf("Ana|Paz|%d%03d%d|1990-05-23|%d|%d", conn, n, i, 7574-rng.IntN(3), agency+1))
	}
	return strings.Join(lines, "\n")
}

// ask asks, and writes down what it has heard. more says that the connection goes on.
func (d *historyDraw) ask(a *oldAgency, client int, in asked) (answer string, more bool) {
	payload := in.lines
	switch in.kind {
	case askHello:
		payload = fmt.Sprintf("HELLO|%d", a.id)
	case askWinners:
		payload = fmt.Sprintf("GET_WINNERS|%d", a.id)
	}
	call := time.Since(d.began)
	err := errors.Join(a.conn.SetDeadline(time.Now().Add(historyAnswerMax)), a.send(payload))
	var heard []byte
	if err == nil {
		_, heard, err = readFrame(a.in)
	}
	answer = string(heard)
	op := porcupine.Operation{
		ClientId: in.agency*historyClients + client, Input: in, Call: int64(call),
		Output: told{answer: answer}, Return: int64(time.Since(d.began)),
	}
	kind, _, _ := strings.Cut(answer, "|")
	if answer == toldAck {
		d.acked.Add(1)
	}
	switch {
	case err != nil, kind == toldElswhre && in.kind != askHello:
		op.Output, op.Return = told{isUnknown: true}, math.MaxInt64
	case kind == toldTaken, kind == toldElswhre:
		return answer, false // nothing of it is stored
	default:
		more = true
	}
	d.mu.Lock()
	d.history = append(d.history, op)
	d.mu.Unlock()
	return answer, more
}

// finish has all agencies report, and then get and confirm their winners.
func (d *historyDraw) finish() error {
	report := func(a *oldAgency, conn int64) (told string, more bool) {
		if _, more := d.ask(a, 0, asked{kind: askHello, agency: a.id - 1, conn: conn}); !more {
			return "", false
		}
		return d.ask(a, 0, asked{kind: askWinners, agency: a.id - 1, conn: conn})
	}
	for id := 1; id <= serversAgencies; id++ {
		if err := d.until(id, func(a *oldAgency, conn int64) bool {
			_, done := report(a, conn)
			return done
		}); err != nil {
			return err
		}
	}
	for id := 1; id <= serversAgencies; id++ {
		if err := d.until(id, func(a *oldAgency, conn int64) bool {
			answer, more := report(a, conn)
			return more && answer != toldNotYet &&
				errors.Join(a.send(fmt.Sprintf("RECEIVED|%d", id)), a.hear(toldAck)) == nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// until connects to one server after the other until done is.
func (d *historyDraw) until(id int, done func(a *oldAgency, conn int64) bool) error {
	for begun := time.Now(); time.Since(begun) < eventTimeout; time.Sleep(oldRetryDelay) {
		for i := range serversCount {
			a := &oldAgency{id: id, addr: d.addr(i)}
			if a.dial() != nil {
				continue
			}
			isDone := done(a, d.conns.Add(1))
			_ = a.conn.Close() // all is said
			if isDone {
				return nil
			}
		}
	}
	return fmt.Errorf("agency %d is not done after %v", id, eventTimeout)
}

// check checks the history. A part that takes too long to check is no failure: it says nothing.
func (d *historyDraw) check(t *testing.T) {
	t.Helper()
	model := historyModel(serversAgencies)
	result, info := porcupine.CheckOperationsVerbose(model, d.history, historyCheckMax)
	unknown := 0
	for _, op := range d.history {
		if op.Output.(told).isUnknown {
			unknown++
		}
	}
	t.Logf("%d requests, %d of them without an answer, with faults %v: %v", len(d.history), unknown, d.faults, result)
	if result == porcupine.Illegal {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("history-%d.html", os.Getpid()))
		t.Errorf("no single server could have said this: %s, %v", path, porcupine.VisualizePath(model, info, path))
	}
}
