package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// forwardConnectionsMax is how many connections may be open. A server takes no more either.
	forwardConnectionsMax = 256
	// forwardDialMax is how long a server may take to accept a connection.
	forwardDialMax = 2 * time.Second
	// forwardRetryDefault is how long servers are looked for, as long as an agency does by default.
	forwardRetryDefault = time.Minute
	// forwardWriteMax is how long a browser may take to read, as long as a server gives it.
	forwardWriteMax = 5 * time.Second
	// forwardByeMax is how long browsers have to get what is on its way to them at the end.
	forwardByeMax = time.Second
)

var errNoBoard = errors.New("no server shows its board: do they run, with SERVER_HTTP_ADDR?")

// forward passes connections on to the first of several servers that can be reached, byte for byte.
// So whoever can reach this process can watch a draw whose servers only it can reach.
type forward struct {
	servers  []string // their SERVER_HTTP_ADDR
	retryFor time.Duration
	hears    func(topUpdate) // is told what the servers say
	turn     atomic.Int64    // the server that answers, by its place
	open     chan struct{}
	passing  sync.WaitGroup
	hasty    context.Context // done when nothing may take longer
	hurry    context.CancelFunc
}

func newForward(servers []string, retryFor time.Duration) *forward {
	f := &forward{servers: servers, retryFor: retryFor, hears: func(topUpdate) {}, open: make(chan struct{}, forwardConnectionsMax)}
	f.hasty, f.hurry = context.WithCancel(context.Background())
	return f
}

// serve takes connections until all servers have said that they end, or ctx is done. It closes the
// listener. It returns errNoBoard if no server is there for retryFor.
func (f *forward) serve(ctx context.Context, listener net.Listener) error {
	accepted := make(chan error, 1)
	go func() { accepted <- f.accept(listener) }()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watched := make(chan error, 1)
	go func() { watched <- f.watch(watching) }()
	var err error
	select {
	case err = <-accepted:
		stop()
		err = errors.Join(err, <-watched, listener.Close())
	case err = <-watched:
		err = errors.Join(err, listener.Close())
		if errAccept := <-accepted; !errors.Is(errAccept, net.ErrClosed) {
			err = errors.Join(err, errAccept)
		}
	}
	defer time.AfterFunc(forwardByeMax, f.hurry).Stop()
	if ctx.Err() != nil {
		f.hurry()
	}
	f.passing.Wait()
	f.hurry()
	return err
}

// accept takes connections. It returns when the listener does.
func (f *forward) accept(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		select {
		case f.open <- struct{}{}:
			f.passing.Go(func() {
				f.pass(conn.(*net.TCPConn))
				<-f.open
			})
		default:
			_ = conn.Close() // a server would not take it either
		}
	}
}

// pass passes on what either side says, until both have ended. A browser whose server is gone
// connects again, by itself.
func (f *forward) pass(browser *net.TCPConn) {
	defer func() { _ = browser.Close() }() // it may be closed already
	server, err := f.dial()
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	defer context.AfterFunc(f.hasty, func() {
		_ = browser.Close()
		_ = server.Close()
	})()
	var asking sync.WaitGroup
	asking.Go(func() {
		_, _ = io.Copy(server, browser) // an error is the end of a connection
		_ = server.CloseWrite()
		_ = server.SetReadDeadline(time.Now().Add(forwardWriteMax)) // it may be there and do nothing
	})
	_, _ = io.Copy(hurried{browser}, lively{server})
	_ = browser.Close() // a server that has ended answers nothing more
	asking.Wait()
}

// hurried is a browser that has to read.
type hurried struct{ net.Conn }

// Write implements io.Writer.
func (h hurried) Write(b []byte) (int, error) {
	if err := h.SetWriteDeadline(time.Now().Add(forwardWriteMax)); err != nil {
		return 0, err
	}
	return h.Conn.Write(b)
}

// lively is a server that says something now and then. One that doesn't is as good as gone, though its
// machine is there.
type lively struct{ net.Conn }

// Read implements io.Reader.
func (l lively) Read(b []byte) (int, error) {
	if err := l.SetReadDeadline(time.Now().Add(topSilenceMax)); err != nil {
		return 0, err
	}
	return l.Conn.Read(b)
}

// dial connects to a server: to the one that has answered last, if it can.
func (f *forward) dial() (*net.TCPConn, error) {
	var errs []error
	for range f.servers {
		turn := f.turn.Load()
		dialer := net.Dialer{Timeout: forwardDialMax}
		conn, err := dialer.DialContext(f.hasty, "tcp", f.servers[turn])
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		errs = append(errs, err)
		f.next(turn)
	}
	return nil, errors.Join(errs...)
}

// next goes on to the next server, unless somebody else has.
func (f *forward) next(turn int64) {
	f.turn.CompareAndSwap(turn, (turn+1)%int64(len(f.servers)))
}

// watch follows the draw, on one server after the other. It returns nil when the last one that can
// be reached has said that it ends.
func (f *forward) watch(ctx context.Context) error {
	var (
		ended  bool // the last word was a server's last
		silent int  // how many servers were asked since then
		heard  = time.Now()
	)
	for {
		turn := f.turn.Load()
		said := false
		err := follow(ctx, f.servers[turn], func(u topUpdate) {
			ended, silent, said = u.last, 0, true
			f.hears(u)
		})
		if ctx.Err() != nil {
			return nil
		}
		if said || errors.Is(err, errTopAnswer) { // a server has nothing to say while nothing changes
			heard = time.Now()
		}
		f.next(turn)
		if silent++; silent < len(f.servers) {
			continue
		}
		switch {
		case ended && !errors.Is(err, errTopAnswer): // that one is there, and full
			return nil
		case time.Since(heard) >= f.retryFor:
			return fmt.Errorf("%w (for %v, the last error: %w)", errNoBoard, f.retryFor, err)
		}
		select {
		case <-time.After(topRetryPeriod):
		case <-ctx.Done():
			return nil
		}
	}
}
