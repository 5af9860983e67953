package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// proxy is between agencies and a server. It passes every frame on and writes a line for each:
// `> HELLO|1` from an agency, `< ACK` from the server, and `x` at the end of a connection. For a
// batch it writes only the number of bets. It drops a frame that it has to lose, writes
// `lost > HELLO|1`, and ends the connection.
type proxy struct {
	listener net.Listener
	target   string
	said     *output
	passing  sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]bool
	losses []loss
	closed bool
}

// loss is a frame to lose.
type loss struct {
	line    *regexp.Regexp // matches the frame's line
	forever bool           // the proxy also ends all connections and takes no new ones
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
	// When one connection ends, the other is closed.
	both.Go(func() { defer server.Close(); p.pass(">", agency, server) })
	both.Go(func() { defer agency.Close(); p.pass("<", server, agency) })
	both.Wait()
	fmt.Fprintln(p.said, "x")
}

// pass passes frames on until either connection ends.
func (p *proxy) pass(direction string, from io.Reader, to io.Writer) {
	in := bufio.NewReader(from)
	for {
		frame, payload, err := readFrame(in)
		if errors.Is(err, strconv.ErrSyntax) {
			fmt.Fprintf(p.said, "%s no frame: %v\n", direction, err)
		}
		if err != nil {
			return
		}
		line := direction + " " + summary(payload)
		if p.loses(line) {
			return
		}
		// The line comes first, so that it is there before the other side can answer.
		fmt.Fprintln(p.said, line)
		if _, err := to.Write(frame); err != nil {
			return
		}
	}
}

// readFrame reads a frame; payload is a part of it. If the header is no number, the error matches
// strconv.ErrSyntax.
func readFrame(in *bufio.Reader) (frame, payload []byte, err error) {
	header, err := in.ReadString('\n')
	if err != nil {
		return nil, nil, err
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(header, "\n"), 10, 31)
	if err != nil {
		return nil, nil, err
	}
	frame = make([]byte, len(header)+int(n))
	payload = frame[copy(frame, header):]
	_, err = io.ReadFull(in, payload)
	return frame, payload, err
}

// lose makes the proxy lose the next frame whose line matches.
func (p *proxy) lose(l loss) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.losses = append(p.losses, l)
}

// loses reports whether the frame with this line is lost.
func (p *proxy) loses(line string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.losses, func(l loss) bool { return l.line.MatchString(line) })
	if i < 0 {
		return false
	}
	fmt.Fprintln(p.said, "lost", line)
	if p.losses[i].forever {
		p.hangUp()
	}
	p.losses = slices.Delete(p.losses, i, i+1)
	return true
}

// summary is a payload in one line.
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
		_ = c.Close() // an error would change nothing
		return false
	}
	p.open[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	_ = c.Close() // fails only if it is closed already
}

// close ends every connection and waits for its goroutines.
func (p *proxy) close() {
	p.mu.Lock()
	p.hangUp()
	p.mu.Unlock()
	p.passing.Wait()
}

// hangUp ends every connection and takes no new ones. The caller holds p.mu.
func (p *proxy) hangUp() {
	p.closed = true
	for c := range p.open {
		_ = c.Close()
	}
	_ = p.listener.Close() // fails only if the proxy has hung up before
}
