package agency

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"loteria/codec"
)

func TestMain(m *testing.M) {
	// Tests that are parallel wait for time-outs.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// peer is a server's end of a connection in a test. expect and say end the goroutine if they fail.
type peer struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// frame reads a frame's payload. The error is io.EOF if the connection has ended in any way.
func (p *peer) frame() (string, error) {
	header, err := p.in.ReadString('\n')
	if err != nil {
		return "", io.EOF
	}
	n, err := strconv.Atoi(strings.TrimSuffix(header, "\n"))
	if err != nil {
		return "", err
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(p.in, payload); err != nil {
		return "", io.EOF
	}
	return string(payload), nil
}

// readAhead returns a channel of the payloads that come. It buffers up to frames of them while the
// handler does something else, as a socket would. The channel is closed when the agency has closed.
func (p *peer) readAhead(frames int) <-chan string {
	payloads := make(chan string, frames)
	go func() {
		defer close(payloads)
		for {
			payload, err := p.frame()
			if err != nil {
				return
			}
			payloads <- payload
		}
	}()
	return payloads
}

// expect wants the next frames to have these payloads.
func (p *peer) expect(payloads ...string) {
	p.t.Helper()
	for _, want := range payloads {
		if got, err := p.frame(); err != nil || got != want {
			p.t.Errorf("server got %q, %v; want %q", got, err, want)
			p.leave()
		}
	}
}

// expectClosed wants nothing more to come.
func (p *peer) expectClosed() {
	p.t.Helper()
	if got, err := p.frame(); err != io.EOF {
		p.t.Errorf("server got %q, %v; want the connection closed", got, err)
	}
}

// say sends payloads as frames.
func (p *peer) say(payloads ...string) {
	var b []byte
	for _, payload := range payloads {
		b = codec.AppendFrame(b, []byte(payload))
	}
	if _, err := p.conn.Write(b); err != nil {
		p.leave() // the agency is gone, which its own side reports
	}
}

// leave ends the handler, which closes the connection.
func (p *peer) leave() { runtime.Goexit() }

// network is where servers listen and agencies dial: TCP or memory.
type network interface {
	// listen serves every connection with handle until stop is called. stop waits for the handlers.
	listen(t *testing.T, handle func(*peer)) (stop func())
	options() []Option
	addr() string
}

// tcpNetwork uses real sockets, with one address for all its servers.
type tcpNetwork struct{ address string }

func (n *tcpNetwork) addr() string      { return n.address }
func (n *tcpNetwork) options() []Option { return nil }
func (n *tcpNetwork) listen(t *testing.T, handle func(*peer)) (stop func()) {
	t.Helper()
	address := n.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	n.address = l.Addr().String()
	serving := serve(t, l.Accept, handle)
	return sync.OnceFunc(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
}

// memoryNetwork uses pipes, for tests in a synctest bubble.
type memoryNetwork struct {
	accept  chan net.Conn
	mu      sync.Mutex
	stopped chan struct{} // closed when the listener stops; nil before the first listen
}

func newMemoryNetwork() *memoryNetwork { return &memoryNetwork{accept: make(chan net.Conn)} }

var errRefused = errors.New("connection refused")

func (n *memoryNetwork) addr() string { return "memory:1" }
func (n *memoryNetwork) options() []Option {
	return []Option{func(c *config) { c.dial = n.dial }}
}

func (n *memoryNetwork) dial(ctx context.Context, _ string) (net.Conn, error) {
	n.mu.Lock()
	stopped := n.stopped
	n.mu.Unlock()
	if stopped == nil {
		return nil, errRefused
	}
	ours, theirs := net.Pipe()
	select {
	case n.accept <- theirs:
		return ours, nil
	case <-stopped:
		return nil, errRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *memoryNetwork) listen(t *testing.T, handle func(*peer)) (stop func()) {
	stopped := make(chan struct{})
	n.mu.Lock()
	n.stopped = stopped
	n.mu.Unlock()
	serving := serve(t, func() (net.Conn, error) {
		select {
		case conn := <-n.accept:
			return conn, nil
		case <-stopped:
			return nil, net.ErrClosed
		}
	}, handle)
	return sync.OnceFunc(func() {
		close(stopped)
		serving.Wait()
	})
}

// serve runs handle for every connection in its own goroutine.
func serve(t *testing.T, accept func() (net.Conn, error), handle func(*peer)) *sync.WaitGroup {
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				return
			}
			if transportOf(t) != overTCP {
				conn = serverConn(t, conn)
			}
			serving.Go(func() {
				defer conn.Close()
				handle(&peer{t: t, conn: conn, in: bufio.NewReader(conn)})
			})
		}
	})
	return &serving
}

// inTurn serves the first connection with the first handler, and so on. More connections than
// handlers are an error.
func inTurn(handlers ...func(*peer)) func(*peer) {
	turns := make(chan func(*peer), len(handlers))
	for _, h := range handlers {
		turns <- h
	}
	return func(p *peer) {
		select {
		case handle := <-turns:
			handle(p)
		default:
			p.t.Error("a connection too many")
		}
	}
}

// bank is a server for a single agency. It answers as the real one does.
type bank struct {
	mu       sync.Mutex
	lines    []string
	welcome  codec.Welcome // only Window and FrameBytesMax are used
	asked    int           // GET_WINNERS seen
	received int           // RECEIVED seen
	polls    int           // how many GET_WINNERS are answered that the draw hasn't taken place
	conns    int
	reported bool
}

func newBank(lines ...string) *bank {
	return &bank{lines: lines, welcome: codec.Welcome{Window: 64, FrameBytesMax: codec.FrameBytesMaxDefault}}
}

// serve answers everything that comes on a connection. A pipe holds nothing: an agency that sends its
// window before it reads would wait for a server that reads the next frame only behind its answer.
func (b *bank) serve(p *peer) {
	b.mu.Lock()
	b.conns++
	b.mu.Unlock()
	const more = 3 // than bets: HELLO, the report, and that the winners are there
	for payload := range p.readAhead(b.welcome.Window + more) {
		p.say(b.answer(p.t, payload))
	}
}

func (b *bank) answer(t *testing.T, payload string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case payload == "HELLO|7":
		return welcome(b.lines, b.welcome.Window, b.welcome.FrameBytesMax)
	case payload == "RECEIVED|7":
		b.received++
		return "ACK"
	case payload == "GET_WINNERS|7":
		b.asked++
		if b.asked <= b.polls {
			return codec.CodeLotteryHasntEnded.String()
		}
		b.reported = true
		var winners []string
		for _, line := range b.lines {
			if strings.HasSuffix(line, "|7574|7") {
				winners = append(winners, line)
			}
		}
		return strings.Join(winners, "\n")
	}
	if b.reported {
		t.Errorf("bets after the report: %q", payload)
	}
	if len(payload) > b.welcome.FrameBytesMax {
		t.Errorf("a payload of %d bytes", len(payload))
	}
	b.lines = append(b.lines, strings.Split(payload, "\n")...)
	return "ACK"
}

// check fails unless exactly these lines are stored.
func (b *bank) check(t *testing.T, want []string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range max(len(b.lines), len(want)) {
		switch {
		case i >= len(b.lines):
			t.Fatalf("%d bets stored, want %d", len(b.lines), len(want))
		case i >= len(want) || b.lines[i] != want[i]:
			t.Fatalf("bet %d of %d is %q; want %d", i, len(b.lines), b.lines[i], len(want))
		}
	}
}

// welcome is the WELCOME of a server that has stored these lines.
func welcome(lines []string, window, frameBytesMax int) string {
	return fmt.Sprintf("WELCOME|%d|%d|%d|%v", len(lines), window, frameBytesMax, checksum(lines))
}

// checksum computes the checksum of lines without line ends by the text of PROTOCOL.md.
func checksum(lines []string) codec.Checksum {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	for _, line := range lines {
		io.WriteString(sum, line+"\n")
	}
	return codec.Checksum(sum.Sum32())
}

// testInput makes an input, and the lines that its rows become. Every tenth row wins.
func testInput(rows int) (input string, lines []string) {
	var b strings.Builder
	for i := range rows {
		number := i
		if i%10 == 9 {
			number = 7574
		}
		fmt.Fprintf(&b, "María Eugenia,Núñez %d,%d,1990-05-23,%d\r\n", i, 20000000+i, number)
		lines = append(lines, fmt.Sprintf("María Eugenia|Núñez %d|%d|1990-05-23|%d|7", i, 20000000+i, number))
	}
	return b.String(), lines
}

// cutConn is a connection that breaks after readLeft or writeLeft bytes.
type cutConn struct {
	net.Conn
	readLeft, writeLeft int
	broken              bool
}

var errCut = errors.New("cut")

func (c *cutConn) cut() error {
	c.broken = true
	return errors.Join(errCut, c.Close())
}

func (c *cutConn) Read(b []byte) (int, error) {
	if c.readLeft == 0 {
		return 0, c.cut()
	}
	n, err := c.Conn.Read(b[:min(len(b), c.readLeft)])
	c.readLeft -= n
	return n, err
}

func (c *cutConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b[:min(len(b), c.writeLeft)])
	if c.writeLeft -= n; n < len(b) && err == nil {
		err = c.cut()
	}
	return n, err
}
