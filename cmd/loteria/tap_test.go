package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"time"
)

// tap is between agencies and a server, and passes bytes on. When a chosen number of bytes has
// passed in one direction, also in the middle of a frame, it stops and calls an event.
type tap struct {
	listener net.Listener
	target   string
	passing  sync.WaitGroup

	// flow is held while bytes pass in either direction. So all bytes pass in one order, and none
	// pass during an event. It guards the meters.
	flow     sync.Mutex
	up, down meter

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

// meter counts the bytes of one direction.
type meter struct {
	passed int
	// marks are the numbers of passed bytes at which event is called, in ascending order. event
	// gets the two ends of the connection whose byte passed last.
	marks []int
	event func(from, to net.Conn)
	// heard gets a copy of the bytes that have passed; it may be nil.
	heard io.Writer
}

func startTap(addr, target string, up, down meter) (*tap, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	t := &tap{listener: l, target: target, up: up, down: down, open: map[net.Conn]bool{}}
	t.passing.Go(t.accept)
	return t, nil
}

func (t *tap) accept() {
	for {
		agency, err := t.listener.Accept()
		if err != nil {
			return // close has been called
		}
		t.passing.Go(func() { t.connect(agency) })
	}
}

func (t *tap) connect(agency net.Conn) {
	if !t.keep(agency) {
		return
	}
	defer t.drop(agency)
	server, err := net.Dial("tcp", t.target)
	if err != nil || !t.keep(server) {
		return // as if the server had closed at once
	}
	defer t.drop(server)
	var both sync.WaitGroup
	// When one connection ends, the other is closed.
	both.Go(func() { defer server.Close(); t.pass(&t.up, agency, server) })
	both.Go(func() { defer agency.Close(); t.pass(&t.down, server, agency) })
	both.Wait()
}

func (t *tap) pass(m *meter, from, to net.Conn) {
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		if errWrite := t.write(m, buf[:n], from, to); err != nil || errWrite != nil {
			return
		}
	}
}

func (t *tap) write(m *meter, b []byte, from, to net.Conn) error {
	t.flow.Lock()
	defer t.flow.Unlock()
	for len(b) > 0 {
		n := len(b)
		if len(m.marks) > 0 {
			n = min(n, m.marks[0]-m.passed)
		}
		if _, err := to.Write(b[:n]); err != nil {
			return err
		}
		if m.heard != nil {
			_, _ = m.heard.Write(b[:n]) // writing to memory doesn't fail
		}
		b = b[n:]
		m.passed += n
		if len(m.marks) > 0 && m.passed == m.marks[0] {
			m.marks = m.marks[1:]
			m.event(from, to)
		}
	}
	return nil
}

// settle waits until the connections that are open now have ended. If their server is dead, all
// that it said has passed then.
func (t *tap) settle() error {
	t.mu.Lock()
	waiting := maps.Clone(t.open)
	t.mu.Unlock()
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	timeout := time.After(eventTimeout)
	for {
		t.mu.Lock()
		maps.DeleteFunc(waiting, func(c net.Conn, _ bool) bool { return !t.open[c] })
		t.mu.Unlock()
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-looks.C:
		case <-timeout:
			return fmt.Errorf("%d connections are open after %v still", len(waiting), eventTimeout)
		}
	}
}

func (t *tap) keep(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = c.Close() // an error would change nothing
		return false
	}
	t.open[c] = true
	return true
}

func (t *tap) drop(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, c)
	_ = c.Close() // an error is a connection that is closed
}

// cut ends every connection. The bytes that have not passed yet are lost.
func (t *tap) cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		_ = c.Close() // an error is a connection that is closed
	}
}

// close ends every connection and waits for its goroutines.
func (t *tap) close() error {
	t.mu.Lock()
	t.closed = true
	var errs []error
	for c := range t.open {
		errs = append(errs, ignoreClosed(c.Close()))
	}
	t.mu.Unlock()
	errs = append(errs, t.listener.Close())
	t.passing.Wait()
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
