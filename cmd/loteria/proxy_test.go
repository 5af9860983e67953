package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// proxy stands between agencies and a server, passes every frame on, and says
// in a line what passed: `> HELLO|1` from an agency, `< ACK` from the server,
// and `x` at the end of a connection. Of bets it says how many there were.
type proxy struct {
	listener net.Listener
	target   string
	said     *output
	passing  sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

func startProxy(addr, target string) (*proxy, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target, said: newOutput(), open: map[net.Conn]bool{}}
	p.passing.Go(p.accept)
	return p, nil
}

func (p *proxy) accept() {
	for {
		agency, err := p.listener.Accept()
		if err != nil {
			return // close has been called
		}
		if !p.keep(agency) {
			return
		}
		p.passing.Go(func() { p.connect(agency) })
	}
}

func (p *proxy) connect(agency net.Conn) {
	defer p.drop(agency)
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return // as if the server had closed at once
	}
	defer p.drop(server)
	if !p.keep(server) {
		return
	}
	var both sync.WaitGroup
	// Whoever closes first takes the other connection along.
	both.Go(func() { defer server.Close(); p.pass(">", agency, server) })
	both.Go(func() { defer agency.Close(); p.pass("<", server, agency) })
	both.Wait()
	fmt.Fprintln(p.said, "x")
}

// pass passes frames on until either connection ends.
func (p *proxy) pass(direction string, from io.Reader, to io.Writer) {
	in := bufio.NewReader(from)
	for {
		header, err := in.ReadString('\n')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(header, "\n"))
		if err != nil {
			fmt.Fprintf(p.said, "%s no frame: %q\n", direction, header)
			return
		}
		frame := make([]byte, len(header)+n)
		payload := frame[copy(frame, header):]
		if _, err := io.ReadFull(in, payload); err != nil {
			return
		}
		// Said first: who is answered by the other side has been heard here.
		fmt.Fprintf(p.said, "%s %s\n", direction, summary(payload))
		if _, err := to.Write(frame); err != nil {
			return
		}
	}
}

// summary is a payload in a line.
func summary(payload []byte) string {
	if line, _, _ := bytes.Cut(payload, []byte{'\n'}); bytes.Count(line, []byte{'|'}) == 5 {
		return fmt.Sprintf("%d bets", bytes.Count(bytes.TrimSuffix(payload, []byte{'\n'}), []byte{'\n'})+1)
	}
	return string(payload)
}

func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close() // nobody is there to be told
		return false
	}
	p.open[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	_ = c.Close() // an error is a connection that is closed
}

// close ends every connection and waits for its goroutines.
func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	for c := range p.open {
		_ = c.Close()
	}
	p.mu.Unlock()
	_ = p.listener.Close()
	p.passing.Wait()
}
