package engine_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"loteria/codec"
	"loteria/engine/history"
)

// visitor is an agency in TestHostile: whoever does something odd, and the
// honest one. Its bets are numbered.
type visitor struct {
	*liveServer
	id     codec.Agency
	stored []int // what has to be in the ledger, in this order
	// confirms: it has said HELLO and reported, so it has to confirm its winners.
	confirms bool
}

const (
	// visitBets are a batch of a visitor.
	visitBets = 3
	// largeFrom is the first number of bets that are long and all win; of the
	// others one in visitBets does.
	largeFrom = 1_000_000
)

func betWins(n int) bool { return n >= largeFrom || n%visitBets == 0 }

func (v *visitor) bet(n int) string {
	name, number := "Paz", 1
	if n >= largeFrom {
		name = strings.Repeat(name, codec.NameBytesMax/len(name))
	}
	if betWins(n) {
		number = 7574
	}
	return fmt.Sprintf("Ana|%s|%d|1990-01-01|%d|%d", name, n, number, v.id)
}

// bets is the batch of so many bets from a number on.
func (v *visitor) bets(from, count int) string {
	lines := make([]string, count)
	for i := range lines {
		lines[i] = v.bet(from + i)
	}
	return strings.Join(lines, "\n")
}

// sure says that these bets have been acknowledged, or counted in a WELCOME.
func (v *visitor) sure(from, to int) {
	for n := from; n < to; n++ {
		v.stored = append(v.stored, n)
	}
}

// winners is what the visitor gets from the draw.
func (v *visitor) winners() string {
	var lines []string
	for _, n := range v.stored {
		if betWins(n) {
			lines = append(lines, v.bet(n))
		}
	}
	return strings.Join(lines, "\n")
}

func (v *visitor) hello() string { return fmt.Sprintf("HELLO|%d", v.id) }

func (v *visitor) asks() string { return fmt.Sprintf("GET_WINNERS|%d", v.id) }

// resumes says HELLO for v and returns how many of its bets are stored.
func (w *wire) resumes(v *visitor) int {
	w.t.Helper()
	w.say(v.hello())
	answer, err := w.next()
	if err != nil {
		w.t.Fatal(err)
	}
	reply, err := codec.ParseReply([]byte(answer))
	if err != nil || reply.Kind != codec.ReplyWelcome {
		w.t.Fatalf("HELLO is answered %q, %v", answer, err)
	}
	return int(reply.Welcome.Stored)
}

// honest is a visitor that does nothing but upload, a batch at a time, until
// it is told that it is enough. It must not notice the others.
type honest struct {
	visitor
	wire   *wire
	enough chan struct{}
	ended  chan error
	// slowest is how long it waited for an ACK, at most.
	slowest time.Duration
}

func (v visitor) upload(t *testing.T) *honest {
	h := &honest{visitor: v, wire: v.dial(t), enough: make(chan struct{}), ended: make(chan error, 1)}
	go func() { h.ended <- h.run() }()
	return h
}

func (h *honest) run() error {
	for n := 0; ; n += visitBets {
		select {
		case <-h.enough:
			return nil
		default:
		}
		began := time.Now()
		// The deadline of a connection is for one exchange, and here are many.
		if err := h.wire.rearm(); err != nil {
			return err
		}
		if _, err := h.wire.conn.Write(frames(h.bets(n, visitBets))); err != nil {
			return err
		}
		if answer, err := h.wire.next(); err != nil || answer != "ACK" {
			return fmt.Errorf("batch at %d is answered %q, %v", n, answer, err)
		}
		h.sure(n, n+visitBets)
		h.slowest = max(h.slowest, time.Since(began))
	}
}

// done ends the upload.
func (h *honest) done(t *testing.T) {
	t.Helper()
	close(h.enough)
	if err := <-h.ended; err != nil {
		t.Errorf("the honest agency: %v", err)
	}
	t.Logf("the honest agency stored %d bets; its slowest ACK took %v", len(h.stored), h.slowest)
}

// pipeline is a connection that uploads with many batches unanswered, until
// something else than an ACK comes.
type pipeline struct {
	wire  *wire
	acked atomic.Int64  // batches
	ended chan struct{} // closed when the rest is known
	said  string        // what was no ACK
	err   error
}

const pipelineWindow = 32

// pipe begins an upload at bet number from, of at most so many batches.
func (v *visitor) pipe(w *wire, from, batches int) *pipeline {
	p := &pipeline{wire: w, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.said, p.err = p.run(v, from, batches)
	}()
	return p
}

func (p *pipeline) run(v *visitor, from, batches int) (string, error) {
	for sent := 0; ; {
		for ; sent < batches && sent-int(p.acked.Load()) < pipelineWindow; sent++ {
			if _, err := p.wire.conn.Write(frames(v.bets(from+sent*visitBets, visitBets))); err != nil {
				return "", err
			}
		}
		if int(p.acked.Load()) == batches {
			return "", nil
		}
		answer, err := p.wire.next()
		if err != nil || answer != "ACK" {
			return answer, err
		}
		p.acked.Add(1)
	}
}

// wantLedger checks that the ledger holds exactly what the visitors know to be
// stored, each visitor's bets in their order.
func wantLedger(t *testing.T, dir string, visitors []*visitor) {
	t.Helper()
	var out bytes.Buffer
	if exported, err := history.Export(history.In(dir), &out, nil); err != nil || !exported.Drawn {
		t.Fatalf("exported %+v, %v", exported, err)
	}
	got := map[string][]int{}
	rows := csv.NewReader(&out)
	rows.ReuseRecord = true
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(row[3])
		if err != nil {
			t.Fatal(err)
		}
		got[strings.Clone(row[0])] = append(got[row[0]], n)
	}
	for _, v := range visitors {
		if id := strconv.Itoa(int(v.id)); !slices.Equal(got[id], v.stored) {
			t.Errorf("agency %s: %d bets in the ledger, %d are known to be stored; the first are %v, want %v",
				id, len(got[id]), len(v.stored), got[id][:min(10, len(got[id]))], v.stored[:min(10, len(v.stored))])
		}
	}
}
