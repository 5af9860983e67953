package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// oldBatchBets is how many bets an old agency sends at once; its frames are within the default limit.
const oldBatchBets = 500

// oldAgency is an agency that knows neither HELLO nor that there are several servers.
type oldAgency struct {
	id   int
	addr string
	conn *net.TCPConn // nil: none
	in   *bufio.Reader
}

func (a *oldAgency) dial() error {
	conn, err := net.DialTimeout("tcp", a.addr, eventTimeout)
	if err != nil {
		return err
	}
	a.conn, a.in = conn.(*net.TCPConn), bufio.NewReader(conn)
	return a.conn.SetDeadline(time.Now().Add(eventTimeout))
}

func (a *oldAgency) send(payload string) error {
	_, err := fmt.Fprintf(a.conn, "%d\n%s", len(payload), payload)
	return err
}

func (a *oldAgency) hear(want string) error {
	_, answer, err := readFrame(a.in)
	if err != nil {
		return fmt.Errorf("old agency %d: %w", a.id, err)
	}
	if string(answer) != want {
		return fmt.Errorf("old agency %d is told %.100q, want %.100q", a.id, answer, want)
	}
	return nil
}

// ends waits until the server closes the connection without another word.
func (a *oldAgency) ends() error {
	said, err := io.ReadAll(a.in)
	if len(said) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("old agency %d hears %q, %w", a.id, said, err)
	}
	return a.conn.Close()
}

func (a *oldAgency) report() error { return a.send(fmt.Sprintf("GET_WINNERS|%d", a.id)) }

// askAgain asks for the winners until they come. A connection that begins while servers change
// may end without an answer, as often as they do.
func (a *oldAgency) askAgain(winners string) error {
	begun := time.Now()
	for {
		err := a.dial()
		if err == nil {
			err = errors.Join(a.report(), a.hear(winners))
			err = errors.Join(err, a.conn.Close())
		}
		if err == nil || time.Since(begun) > eventTimeout {
			return err
		}
		time.Sleep(oldRetryDelay)
	}
}

// oldRetryDelay is how long an old agency waits before it connects again.
const oldRetryDelay = 50 * time.Millisecond

// batches are an agency's bets as it sends them, and its winners as they come back.
func (d *serversDraw) batches(id int) (batches []string, winners string, err error) {
	rows, _, err := datasetRows(d.bets, id)
	var won []string
	for i, row := range rows {
		line := fmt.Sprintf("%s|%d", strings.Join(row, "|"), id)
		if i%oldBatchBets == 0 {
			batches = append(batches, line)
		} else {
			batches[len(batches)-1] += "\n" + line
		}
		if row[len(row)-1] == "7574" {
			won = append(won, line)
		}
	}
	return batches, strings.Join(won, "\n"), err
}

// upload sends all batches, each on a connection of its own if isEach, and stays connected.
func (a *oldAgency) upload(batches []string, isEach bool) error {
	for i, batch := range batches {
		if i == 0 || isEach {
			if err := a.dial(); err != nil {
				return err
			}
		}
		if err := errors.Join(a.send(batch), a.hear("ACK")); err != nil {
			return err
		}
		if isEach && i < len(batches)-1 {
			if err := a.conn.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// oldKinds are the ways in which old agencies work, one for each agency of a draw.
var oldKinds = [serversAgencies]struct {
	name string
	play func(a *oldAgency, batches []string, winners string) error
}{
	{"one connection", func(a *oldAgency, batches []string, winners string) error {
		if err := a.upload(batches, false); err != nil {
			return err
		}
		return errors.Join(a.report(), a.hear(winners), a.conn.Close())
	}},
	{"a connection a message", func(a *oldAgency, batches []string, winners string) error {
		if err := a.upload(batches, true); err != nil {
			return err
		}
		if err := errors.Join(a.conn.Close(), a.dial()); err != nil {
			return err
		}
		return errors.Join(a.report(), a.hear(winners), a.conn.Close())
	}},
	{"half-close behind the report", func(a *oldAgency, batches []string, winners string) error {
		if err := a.upload(batches, false); err != nil {
			return err
		}
		return errors.Join(a.report(), a.conn.CloseWrite(), a.hear(winners), a.ends())
	}},
	{"all at once, and half-close", func(a *oldAgency, batches []string, winners string) error {
		if err := a.dial(); err != nil {
			return err
		}
		for _, batch := range batches {
			if err := a.send(batch); err != nil {
				return err
			}
		}
		if err := errors.Join(a.report(), a.conn.CloseWrite()); err != nil {
			return err
		}
		for range batches {
			if err := a.hear("ACK"); err != nil {
				return err
			}
		}
		return errors.Join(a.hear(winners), a.ends())
	}},
	{"asks again", func(a *oldAgency, batches []string, winners string) error {
		if err := a.upload(batches, false); err != nil {
			return err
		}
		for range 2 {
			if err := errors.Join(a.report(), a.hear(winners)); err != nil {
				return err
			}
		}
		return a.conn.Close()
	}},
}

// startOld lets the old agency of each id play at addr(i), and returns where their errors come.
func (d *serversDraw) startOld(addr func(i int) string, ids ...int) <-chan error {
	done := make(chan error, len(ids))
	for _, i := range ids {
		go func() {
			batches, winners, err := d.batches(i + 1)
			if err == nil {
				err = oldKinds[i].play(&oldAgency{id: i + 1, addr: addr(i)}, batches, winners)
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", oldKinds[i].name, err)
			}
			done <- err
		}()
	}
	return done
}

// Old agencies work with the address of any server: those at a follower's as those at the leader's.
func TestOldAgenciesAtFollowers(t *testing.T) {
	t.Parallel() // it mostly waits
	d := newServersDraw(t, rand.New(rand.NewPCG(1, 0)))
	if err := d.startServers(); err != nil {
		t.Fatal(err)
	}
	d.awaitListening(t)
	leader := d.awaitLeader(t)
	all := []int{0, 1, 2, 3, 4}
	done := d.startOld(func(i int) string { return d.addr((leader + 1 + i%2) % serversCount) }, all...)
	for range all {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if !t.Failed() {
		d.waitServers(t)
	}
}

// An old agency waits for the draw at a follower, and the leader is killed, or stands still. Its
// connection ends, and it asks again.
func TestOldAgencyLosesLeader(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, fault := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		t.Run(fault.String(), func(t *testing.T) {
			d := newServersDraw(t, rand.New(rand.NewPCG(2, 0)))
			d.fewBets(t, 5000)
			if err := d.startServers(); err != nil {
				t.Fatal(err)
			}
			d.awaitListening(t)
			leader := d.awaitLeader(t)
			batches, winners, err := d.batches(1)
			if err != nil {
				t.Fatal(err)
			}
			a := &oldAgency{id: 1, addr: d.addr((leader + 1) % serversCount)}
			if err := errors.Join(a.upload(batches, false), a.report()); err != nil {
				t.Fatal(err)
			}
			// A batch is refused only behind the report, so the report is there.
			if err := errors.Join(a.send(batches[0]), a.hear("ERROR_BETS_CLOSED")); err != nil {
				t.Fatal(err)
			}
			if err := d.servers[leader].cmd.Process.Signal(fault); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if err := a.ends(); err != nil {
				t.Fatal(err)
			}
			t.Logf("the connection ended %v behind %v", time.Since(begun), fault)
			for _, i := range []int{1, 2, 3} {
				if err := d.startAgency(i); err != nil {
					t.Fatal(err)
				}
			}
			if fault == syscall.SIGKILL {
				<-d.servers[leader].ended
				if err := d.startServer(leader); err != nil {
					t.Fatal(err)
				}
				d.awaitListening(t) // a server that is started after the end may come too late for it
			} else if err := d.servers[leader].cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			if err := d.startAgency(4); err != nil {
				t.Fatal(err)
			}
			if err := a.askAgain(winners); err != nil {
				t.Fatal(err)
			}
			d.wait(t)
		})
	}
}

// awaitListening waits until all servers accept agencies. A majority can have a leader before.
func (d *serversDraw) awaitListening(t *testing.T) {
	t.Helper()
	listens := regexp.MustCompile(`action: accept_connections \| result: in_progress`)
	for _, s := range d.servers {
		if err := s.stdout.await(listens, 1, s.ended); err != nil {
			t.Fatal(err)
		}
	}
}

// Old agencies that come before there is a leader wait for one, also at the server that becomes it.
func TestOldAgenciesComeFirst(t *testing.T) {
	t.Parallel() // it mostly waits
	d := newServersDraw(t, rand.New(rand.NewPCG(5, 0)))
	if err := d.startServers(); err != nil {
		t.Fatal(err)
	}
	d.awaitListening(t)
	all := []int{0, 1, 2, 3, 4}
	done := d.startOld(func(i int) string { return d.addr(i % serversCount) }, all...)
	for range all {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	d.waitServers(t)
}
