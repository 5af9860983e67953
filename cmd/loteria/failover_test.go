package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"loteria/agency"
	"loteria/codec"
)

// failoversEnv sets how many leaders TestFailover kills.
//
//	LOTERIA_FAILOVERS=50 go test ./cmd/loteria -run TestFailover -v -timeout 1h
const failoversEnv = "LOTERIA_FAILOVERS"

// failoverBatch is a batch of an agency that uploads steadily, one batch every failoverEvery.
const (
	failoverBets  = 10
	failoverEvery = 5 * time.Millisecond
	// failoverInFlight is how long an answer of a dead server may take to reach its agency.
	failoverInFlight = 20 * time.Millisecond
)

// TestFailover measures how long agencies stand still when the leader is killed: from the kill to the
// next answer to a batch that each agency gets. It fails only if an agency or a server does.
func TestFailover(t *testing.T) {
	kills, err := strconv.Atoi(os.Getenv(failoversEnv))
	if err != nil || kills <= 0 {
		t.Skipf("a measurement: %s=50 kills 50 leaders", failoversEnv)
	}
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %t", secure), func(t *testing.T) { measureFailover(t, (kills+1)/2, secure) })
	}
}

func measureFailover(t *testing.T, kills int, secure bool) {
	d := newServersDraw(t, rand.New(rand.NewPCG(5, 0)))
	if secure {
		d.overTLS(t)
	}
	if err := d.startServers(); err != nil {
		t.Fatal(err)
	}
	d.awaitLeader(t)
	ctx, stop := context.WithCancel(t.Context())
	var agencies [serversAgencies]*steadyAgency
	var uploading sync.WaitGroup
	for i := range agencies {
		a := &steadyAgency{acked: make(chan time.Time, 1)}
		agencies[i] = a
		uploading.Go(func() { a.err = a.upload(ctx, d, codec.Agency(i+1)) })
	}
	defer uploading.Wait()
	defer stop()
	var took []time.Duration
	for n := range kills {
		for _, a := range agencies {
			if _, err := a.next(time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		leader := d.leader()
		said := d.elections()
		killed := time.Now()
		d.servers[leader].kill()
		dead := time.Now()
		var each []string
		for _, a := range agencies {
			at, err := a.next(dead.Add(failoverInFlight))
			if err != nil {
				t.Fatalf("kill %d: %v", n+1, err)
			}
			took = append(took, at.Sub(killed))
			each = append(each, at.Sub(killed).Round(time.Millisecond).String())
		}
		t.Logf("kill %d, of server %d: %s; terms since: %d", n+1, leader+1, strings.Join(each, " "), d.elections()-said)
		if err := d.startServer(leader); err != nil {
			t.Fatal(err)
		}
		s := d.servers[leader]
		if err := s.stdout.await(saysConnected, serversCount-1, s.ended); err != nil {
			t.Fatal(err)
		}
		if err := s.stdout.await(saysLeader, 1, s.ended); err != nil {
			t.Fatal(err)
		}
		time.Sleep(d.moment(time.Second)) // the server catches up, and the load goes on
	}
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))].Round(time.Millisecond) }
	t.Logf("%d kills, %d agencies: min %v, p50 %v, p90 %v, p99 %v, max %v; term %d",
		kills, len(agencies), at(0), at(.5), at(.9), at(.99), at(1), d.elections())
}

// saysConnected is a line of a server about another one.
var saysConnected = regexp.MustCompile(`action: par \| result: success`)

// elections is the newest term that any server knows of.
func (d *serversDraw) elections() (newest int) {
	for _, p := range d.all {
		for _, line := range saysLeader.FindAllStringSubmatch(p.stdout.String(), -1) {
			term, _ := strconv.Atoi(line[2]) // it is digits
			newest = max(newest, term)
		}
	}
	return newest
}

// steadyAgency uploads bets until it is told to stop.
type steadyAgency struct {
	acked chan time.Time // holds the newest
	err   error
}

func (a *steadyAgency) upload(ctx context.Context, d *serversDraw, id codec.Agency) error {
	options := []agency.Option{agency.WithBatchBets(failoverBets), agency.WithWindow(4),
		agency.WithProgress(func(agency.Progress) {
			select {
			case <-a.acked:
			default:
			}
			a.acked <- time.Now()
		})}
	if d.secure {
		file := func(name string) string { return filepath.Join(d.dir, "certs", name) }
		who := fmt.Sprintf("agency-%d", id)
		options = append(options, agency.WithTLS(agency.TLS{
			CAFile: file("ca.pem"), CertFile: file(who + ".pem"), KeyFile: file(who + "-key.pem")}))
	}
	client, err := agency.Dial(ctx, d.addrs(), id, options...)
	if err != nil {
		return err
	}
	_, err = client.Upload(ctx, "bets", &steadyBets{ctx: ctx})
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, client.Close())
}

// next is when the agency got its first answer at or behind a moment.
func (a *steadyAgency) next(since time.Time) (time.Time, error) {
	timeout := time.After(eventTimeout)
	for {
		select {
		case at := <-a.acked:
			if !at.Before(since) {
				return at, nil
			}
		case <-timeout:
			return time.Time{}, fmt.Errorf("no answer for %v", eventTimeout)
		}
	}
}

// steadyBets is an endless file of bets, which comes slowly.
type steadyBets struct {
	ctx  context.Context
	next int
	rest []byte
}

// Read implements io.Reader.
func (s *steadyBets) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		select {
		case <-time.After(failoverEvery):
		case <-s.ctx.Done():
			return 0, io.EOF
		}
		for range failoverBets {
			s.rest = fmt.Appendf(s.rest, "Ana,Paz,%d,1990-05-23,7574\n", 1_000_000+s.next)
			s.next++
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
