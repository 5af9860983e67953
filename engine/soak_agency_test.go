package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"loteria/agency"
	"loteria/codec"
	"loteria/codec/certtest"
)

const (
	soakWinning     = 7574
	soakWinEvery    = 500 // one bet in so many wins
	soakBetsRelease = 5   // bets of every agency that a tick of soakReleaseTick adds
	soakReleaseTick = 10 * time.Millisecond

	soakLifeMin, soakLifeMax = 50 * time.Millisecond, 700 * time.Millisecond
	soakRetryFor             = 20 * time.Second
	// soakCutAfterMax is how many bytes of one direction come through at most before
	// a connection breaks, in the middle of a frame as a rule.
	soakCutAfterMax = 20_000
)

// soakBets are the bets that there are: every agency has the same number of them,
// more and more while a round lasts. A bet's document is its index.
type soakBets struct {
	mu       sync.Mutex
	count    int64
	finished bool
	more     chan struct{} // closed when there are more, or will be no more
}

func newSoakBets() *soakBets { return &soakBets{more: make(chan struct{})} }

func (b *soakBets) change(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	close(b.more)
	b.more = make(chan struct{})
}

// release adds bets until ctx is done.
func (b *soakBets) release(ctx context.Context) {
	ticks := time.NewTicker(soakReleaseTick)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			b.change(func() { b.count += soakBetsRelease })
		case <-ctx.Done():
			return
		}
	}
}

// finish says that there will be no more.
func (b *soakBets) finish() { b.change(func() { b.finished = true }) }

func (b *soakBets) released() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// await is how many bets there are, once there are more than read; 0 if there
// will be no more.
func (b *soakBets) await(ctx context.Context, read int64) (int64, error) {
	for {
		b.mu.Lock()
		count, finished, more := b.count, b.finished, b.more
		b.mu.Unlock()
		switch {
		case count > read:
			return count, nil
		case finished:
			return 0, io.EOF
		}
		select {
		case <-more:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// soakNumber is what an agency's i-th bet is on.
func soakNumber(id codec.Agency, i int64) int64 {
	if (i+int64(id))%soakWinEvery == 0 {
		return soakWinning
	}
	return i % soakWinning
}

// soakInput is an agency's CSV file. It never ends before the last round does.
type soakInput struct {
	ctx  context.Context
	bets *soakBets
	id   codec.Agency
	next int64
	rest []byte
}

func (in *soakInput) Read(p []byte) (int, error) {
	const rowsAtOnce = 1000
	if len(in.rest) == 0 {
		count, err := in.bets.await(in.ctx, in.next)
		if err != nil {
			return 0, err
		}
		in.rest = in.rest[:0]
		for range min(count-in.next, rowsAtOnce) {
			in.rest = fmt.Appendf(in.rest, "María,Gómez,%d,1985-07-10,%d\n", in.next, soakNumber(in.id, in.next))
			in.next++
		}
	}
	n := copy(p, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// soakAgency is an honest agency, behind a network that fails it.
type soakAgency struct {
	soak *soak
	id   codec.Agency
	addr string          // of the server
	over []agency.Option // TLS, for every other agency
}

func (s *soak) newAgency(id codec.Agency) *soakAgency {
	a := &soakAgency{soak: s, id: id, addr: s.addr}
	if id%2 == 0 {
		f := s.authority.Files(s.t, certtest.Agency(id), s.authority)
		a.addr = s.secureAddr
		a.over = []agency.Option{agency.WithTLS(agency.TLS{CAFile: f.CA, CertFile: f.Cert, KeyFile: f.Key})}
	}
	return a
}

// live is one process of the agency after the other, sometimes two at once,
// until ctx is done.
func (a *soakAgency) live(ctx context.Context) {
	for ctx.Err() == nil {
		life, end := context.WithTimeout(ctx, soakLifeMin+rand.N(soakLifeMax-soakLifeMin))
		network := a.soak.newNetwork(life, a.addr)
		errs := make(chan error, 2)
		processes := 1
		a.start(life, network, errs)
		if rand.IntN(4) == 0 {
			processes++
			a.soak.takeovers.Add(1)
			a.start(life, network, errs)
		}
		takenOver := 0
		for range processes {
			err := <-errs
			rejected := (*agency.RejectedError)(nil)
			switch {
			case errors.As(err, &rejected) && rejected.Code == codec.CodeAgencyTakenOver:
				takenOver++
			case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
			default:
				a.soak.t.Errorf("agency %d: %v", a.id, err)
			}
		}
		if takenOver >= processes {
			a.soak.t.Errorf("agency %d: %d of %d processes were taken over", a.id, takenOver, processes)
		}
		end()
		network.close()
	}
}

// start begins a process that uploads until its life ends, and vanishes then.
func (a *soakAgency) start(life context.Context, network *soakNetwork, errs chan<- error) {
	a.soak.lives.Add(1)
	options := []agency.Option{
		agency.WithRetryFor(soakRetryFor), agency.WithBatchBets(1 + rand.IntN(100)), agency.WithWindow(1 + rand.IntN(40)),
	}
	go func() {
		c, err := agency.Dial(life, network.addr(), a.id, append(options, a.over...)...)
		if err != nil {
			errs <- err
			return
		}
		_, err = c.Upload(life, "bets.csv", &soakInput{ctx: life, bets: a.soak.bets, id: a.id})
		errs <- errors.Join(err, c.Close())
	}()
}

// finish is the last process of the agency: it uploads what there is, and gets
// its winners.
func (a *soakAgency) finish(ctx context.Context) {
	if err := a.play(ctx); err != nil {
		a.soak.t.Errorf("agency %d at the end: %v", a.id, err)
	}
}

func (a *soakAgency) play(ctx context.Context) (err error) {
	c, err := agency.Dial(ctx, a.addr, a.id, a.over...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, err := c.Upload(ctx, "bets.csv", &soakInput{ctx: ctx, bets: a.soak.bets, id: a.id}); err != nil {
		return err
	}
	winners, err := c.Winners(ctx)
	if err != nil {
		return err
	}
	var want []string
	for i := range a.soak.bets.released() {
		if n := soakNumber(a.id, i); n == soakWinning {
			want = append(want, fmt.Sprintf("María|Gómez|%d|1985-07-10|%d|%d", i, n, a.id))
		}
	}
	if got := string(winners.Bytes()); got != strings.Join(want, "\n") {
		return fmt.Errorf("%d winners, want %d", winners.Count(), len(want))
	}
	return c.Confirm(ctx)
}

// soakNetwork carries an agency's connections to the server, and breaks them.
type soakNetwork struct {
	soak     *soak
	to       string
	listener net.Listener
	ctx      context.Context
	carrying sync.WaitGroup
}

func (s *soak) newNetwork(ctx context.Context, to string) *soakNetwork {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Error(err)
		return nil
	}
	n := &soakNetwork{soak: s, to: to, listener: listener, ctx: ctx}
	n.carrying.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // it was closed
			}
			n.carrying.Go(func() { n.carry(c.(*net.TCPConn)) })
		}
	})
	return n
}

func (n *soakNetwork) addr() string { return n.listener.Addr().String() }

func (n *soakNetwork) close() {
	_ = n.listener.Close() // nothing is lost by an error here
	n.carrying.Wait()
}

// carry is one connection, until one of its directions has carried what it may
// or either end closes.
func (n *soakNetwork) carry(near *net.TCPConn) {
	defer near.Close()
	var d net.Dialer
	c, err := d.DialContext(n.ctx, "tcp", n.to)
	if err != nil {
		return // the agency's life has ended, or it will find out
	}
	far := c.(*net.TCPConn)
	defer far.Close()
	defer context.AfterFunc(n.ctx, func() { near.Close(); far.Close() })()
	var directions sync.WaitGroup
	directions.Go(func() {
		if carried, _ := io.CopyN(far, near, 1+rand.Int64N(soakCutAfterMax)); carried > 0 {
			n.soak.cuts.Add(1)
		}
		switch rand.IntN(3) {
		case 0: // a reset
			_ = far.SetLinger(0)
			_ = near.SetLinger(0)
			far.Close()
			near.Close()
		case 1: // only our side is closed; answers still come
			_ = far.CloseWrite()
		default:
			far.Close()
			near.Close()
		}
	})
	_, _ = io.Copy(near, far) // whatever ends it, it has ended
	near.Close()
	far.Close()
	directions.Wait()
}
