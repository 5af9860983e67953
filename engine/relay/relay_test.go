package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"loteria/codec"
	"loteria/codec/certtest"
	"loteria/engine/channel"
	"loteria/engine/channel/channeltest"
)

// patience bounds every wait for something that has to happen.
const patience = 20 * time.Second

// guide is where a test says who leads.
type guide struct {
	mu      sync.Mutex
	server  uint64 // 0: nobody leads
	addr    string
	changed chan struct{}
	open    func(server uint64) (net.Conn, error)
}

func (g *guide) Leader() (uint64, string, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.server, g.addr, g.server != 0
}

func (g *guide) SecureAddrOf(server uint64) string { return fmt.Sprintf("server%d:12347", server) }

func (g *guide) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

func (g *guide) Open(server uint64) (net.Conn, error) { return g.open(server) }

func (g *guide) leads(server uint64, addr string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.server, g.addr = server, addr
	close(g.changed)
	g.changed = make(chan struct{})
}

// relayed is a relay at work, and a leader behind it.
type relayed struct {
	*Relay
	guide  *guide
	addr   string
	logs   *observer.ObservedLogs
	leader net.Listener
	stop   func()
}

// serve starts both. Server 2 leads, and answers at leader.
func serve(t *testing.T, change func(*Settings)) *relayed { return serveOver(t, change, nil) }

// serveOver is serve for agencies over TLS, if there are credentials.
func serveOver(t *testing.T, change func(*Settings), credentials *channel.Credentials) *relayed {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // behind the others
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	r := &relayed{leader: listen(), guide: &guide{changed: make(chan struct{})}}
	t.Cleanup(func() { _ = r.leader.Close() })
	r.guide.open = func(server uint64) (net.Conn, error) {
		if server != 2 {
			return nil, fmt.Errorf("a stream to server %d", server)
		}
		return net.Dial("tcp", r.leader.Addr().String())
	}
	r.guide.leads(2, "leader:12345")
	settings := Settings{ReadTimeout: patience, ConnectionsMax: 100, TLSHandshakes: 10}
	if change != nil {
		change(&settings)
	}
	core, logs := observer.New(zap.WarnLevel)
	r.Relay, r.logs = New(settings, r.guide, zap.New(core)), logs
	l := listen()
	r.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Serve(ctx, l, credentials)
	}()
	r.stop = func() {
		cancel()
		<-done
		r.Close()
	}
	t.Cleanup(r.stop)
	return r
}

// certified returns credentials of a relay, which asks agencies for certificates if isMutual, and the
// configuration of an agency without one.
func certified(t *testing.T, isMutual bool) (*channel.Credentials, *certtest.Authority, *tls.Config) {
	t.Helper()
	authority := certtest.New(t)
	f := authority.Files(t, certtest.Server(1), authority)
	files := channel.Files{Certificate: f.Cert, Key: f.Key}
	if isMutual {
		files.ClientCA = f.CA
	}
	credentials, err := channel.Open(files)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", NextProtos: []string{codec.TLSProtocol}}
	return credentials, authority, config
}

// serveOverTLS is serve for agencies over TLS, as certified has it.
func serveOverTLS(t *testing.T, isMutual bool) (*relayed, *certtest.Authority, *tls.Config) {
	t.Helper()
	credentials, authority, config := certified(t, isMutual)
	return serveOver(t, nil, credentials), authority, config
}

func (r *relayed) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// accept is the leader's next connection, as its front has it.
func (r *relayed) accept(t *testing.T) *Conn {
	t.Helper()
	if err := r.leader.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	stream, err := r.leader.Accept()
	if err != nil {
		t.Fatal(err)
	}
	took, ended := make(chan *Conn, 1), make(chan error, 1)
	go func() {
		err := Receive(stream, func(c *Conn) bool {
			took <- c
			return true
		})
		ended <- errors.Join(err, stream.Close())
	}()
	select {
	case c := <-took:
		t.Cleanup(func() {
			_ = c.Close()
			_ = stream.Close() // the agency may still be there
			<-ended            // its error is of a connection that was cut
		})
		if got := c.RemoteAddr().(*net.TCPAddr); !got.IP.Equal(net.IPv4(127, 0, 0, 1)) {
			t.Errorf("the agency is at %v", got)
		}
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		return c
	case err := <-ended:
		t.Fatal(err)
		return nil
	}
}

func say(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("heard %.100q, %v; want %.100q", got[:n], err, want)
	}
}

func frame(payload string) []byte { return codec.AppendFrame(nil, []byte(payload)) }

const bet = "Juan|Pérez|12345678|1990-05-23|7574|1"

// What an agency says first decides what becomes of its connection.
func TestFirstMessage(t *testing.T) {
	directed := string(codec.AppendError(nil, codec.CodeNotLeader, "leader:12345"))
	for _, test := range []struct {
		name, says string
		directed   bool
	}{
		{"HELLO", string(frame("HELLO|1")), true},
		{"the longest HELLO", string(frame("HELLO|999999999")), true},
		{"AUTH", string(frame("AUTH|3")), true},
		{"HELLO and more at once", string(frame("HELLO|1")) + string(frame(bet)), true},

		{"bets", string(frame(bet)), false},
		{"many bets", string(frame(strings.Repeat(bet+"\n", 1000))), false},
		{"a question", string(frame("GET_WINNERS|1")), false},
		{"bets of somebody named HELLO", string(frame("HELLO|P|1|1990-05-23|7|1")), false},
		{"bets of somebody named AUTH", string(frame("AUTH|P|1|1990-05-23|7|1")), false},
		{"a HELLO that is none", string(frame("HELLO|x")), false},
		{"a receipt without a HELLO", string(frame("RECEIVED|1")), false},
		{"nothing that is a frame", "GET / HTTP/1.1\r\n", false},
		{"newlines", string(frame("\n\n")), false},
	} {
		for _, pieces := range []int{1, len(test.says)} {
			t.Run(fmt.Sprintf("%s in %d", test.name, pieces), func(t *testing.T) {
				r := serve(t, nil)
				c := r.dial(t)
				if pieces == 1 {
					say(t, c, []byte(test.says))
				} else {
					for i := range len(test.says) {
						if _, err := c.Write([]byte{test.says[i]}); err != nil {
							break // it has been told, and what comes behind that is of no use
						}
					}
				}
				if test.directed {
					hear(t, c, []byte(directed))
					if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
						t.Errorf("behind that: %v", err)
					}
					if r.Directed() != 1 || r.Relayed() != 0 {
						t.Errorf("%d directed, %d relayed", r.Directed(), r.Relayed())
					}
					return
				}
				leader := r.accept(t)
				hear(t, leader, []byte(test.says))
				say(t, leader, frame("ACK"))
				hear(t, c, frame("ACK"))
				if r.Directed() != 0 || r.Relayed() != 1 {
					t.Errorf("%d directed, %d relayed", r.Directed(), r.Relayed())
				}
			})
		}
	}
}

// A health check is answered here, however often it asks, and whoever leads.
func TestHealthCheck(t *testing.T) {
	r := serve(t, nil)
	r.guide.leads(0, "")
	c := r.dial(t)
	for range 3 {
		say(t, c, frame(""))
		hear(t, c, codec.AppendError(nil, codec.CodeEmptyBatch, ""))
	}
}

// Megabytes go both ways at once, and a side that ends leaves the other one open.
func TestPassedOnByteForByte(t *testing.T) {
	r := serve(t, nil)
	c := r.dial(t)
	there, back := bytes.Repeat(frame(bet), 100_000), bytes.Repeat(frame("ACK"), 1_000_000)
	go func() {
		if _, err := c.Write(there); err == nil {
			_ = c.CloseWrite()
		}
	}()
	leader := r.accept(t)
	go func() {
		if _, err := leader.Write(back); err == nil {
			_ = leader.CloseWrite()
		}
	}()
	for name, side := range map[string]struct {
		from net.Conn
		want []byte
	}{"the leader": {leader, there}, "the agency": {c, back}} {
		if got, err := io.ReadAll(side.from); err != nil || !bytes.Equal(got, side.want) {
			t.Errorf("%s has %d bytes, %v; want %d", name, len(got), err, len(side.want))
		}
	}
}

// An agency that ends its side still gets its answer.
func TestHalfClosed(t *testing.T) {
	r := serve(t, nil)
	c := r.dial(t)
	say(t, c, frame("GET_WINNERS|1"))
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	leader := r.accept(t)
	if got, err := io.ReadAll(leader); err != nil || !bytes.Equal(got, frame("GET_WINNERS|1")) || !leader.Ended() {
		t.Fatalf("the leader hears %q, %v, ended: %v", got, err, leader.Ended())
	}
	say(t, leader, frame(bet))
	if err := leader.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, frame(bet)) {
		t.Errorf("the agency hears %q, %v", got, err)
	}
}

// A side that breaks takes the other one with it.
func TestCut(t *testing.T) {
	for _, first := range []string{"agency", "leader"} {
		t.Run(first, func(t *testing.T) {
			r := serve(t, nil)
			c := r.dial(t)
			say(t, c, frame(bet))
			leader := r.accept(t)
			hear(t, leader, frame(bet))
			err := c.SetLinger(0)
			cut, left := net.Conn(c), net.Conn(leader)
			if first == "leader" {
				cut, left = left, cut
			}
			if err := errors.Join(err, cut.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, left); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the other side is still open: %v", err)
			}
			if first == "agency" && leader.Ended() {
				t.Error("the leader takes the cut for an end")
			}
		})
	}
}

// acknowledges waits until the agency's system is known to have taken so many bytes, at least, or to be
// gone.
func acknowledges(t *testing.T, c *Conn, want int64) error {
	t.Helper()
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		switch got, err := c.Acknowledged(); {
		case got >= want:
			return nil
		case err != nil:
			return err
		case time.Now().After(deadline):
			t.Fatalf("%d bytes are acknowledged, want %d", got, want)
		}
	}
}

// The leader learns what the agency's own system has taken, whatever the servers on the way have.
func TestAcknowledged(t *testing.T) {
	r := serve(t, nil)
	c := r.dial(t)
	say(t, c, frame(bet))
	leader := r.accept(t)
	hear(t, leader, frame(bet))
	say(t, leader, frame("ACK"))
	if err := acknowledges(t, leader, int64(len(frame("ACK")))); err != nil { // though nobody has read it
		t.Fatal(err)
	}
	hear(t, c, frame("ACK"))
	small := int64(len(frame("ACK")))

	// More than all sockets on the way take, which may be acknowledged only when the agency reads.
	const much = 64 << 20
	written := make(chan error, 1)
	go func() {
		_, err := leader.Write(make([]byte, much))
		written <- err
	}()
	if _, err := io.CopyN(io.Discard, c, much/2); err != nil {
		t.Fatal(err)
	}
	// Of an agency that reads slowly, the leader has to see that it gets on.
	if err := acknowledges(t, leader, small+much/2); err != nil {
		t.Error(err)
	}
	if got, err := leader.Acknowledged(); got >= small+much || err != nil {
		t.Errorf("%d bytes are acknowledged, %v", got, err)
	}
	if _, err := io.CopyN(io.Discard, c, much/2); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-written, acknowledges(t, leader, small+much)); err != nil {
		t.Error(err)
	}
	if got, _ := leader.Acknowledged(); got > small+much {
		t.Errorf("%d bytes are acknowledged, of %d", got, small+much)
	}
}

// When both sides have ended, the agency may still be reading.
func TestAcknowledgedBehindBothEnds(t *testing.T) {
	r := serve(t, nil)
	c := r.dial(t)
	say(t, c, frame("GET_WINNERS|1"))
	leader := r.accept(t)
	hear(t, leader, frame("GET_WINNERS|1"))
	const much = 16 << 20
	written := make(chan error, 1)
	go func() {
		_, err := leader.Write(make([]byte, much))
		written <- errors.Join(err, leader.CloseWrite())
	}()
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(leader); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, c); n != much || err != nil {
		t.Errorf("the agency has %d bytes, %v", n, err)
	}
	if err := errors.Join(<-written, acknowledges(t, leader, much)); err != nil {
		t.Error(err)
	}
}

// An agency over TLS is known to have its winners, too.
func TestAcknowledgedOverTLS(t *testing.T) {
	r, _, config := serveOverTLS(t, false)
	c := tls.Client(r.dial(t), config)
	say(t, c, frame("GET_WINNERS|1"))
	leader := r.accept(t)
	hear(t, leader, frame("GET_WINNERS|1"))
	const much = 1 << 20
	say(t, leader, make([]byte, much/2))
	if _, err := io.CopyN(io.Discard, c, much/2); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(acknowledges(t, leader, much/2), c.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(leader); err != nil || !leader.Ended() {
		t.Fatalf("ended: %v, %v", leader.Ended(), err)
	}
	if err := errors.Join(c.NetConn().(*net.TCPConn).SetLinger(0), c.NetConn().Close()); err != nil {
		t.Fatal(err)
	}
	_, _ = leader.Write(make([]byte, much/2)) // it may have learned already
	if err := acknowledges(t, leader, much); !errors.Is(err, ErrCut) {
		t.Errorf("the leader learns %v, want %v", err, ErrCut)
	}
}

// The leader may be done with an agency that goes on saying, and reads nothing.
func TestLeaderDropsAnAgencyThatReadsNothing(t *testing.T) {
	r := serve(t, nil)
	c := r.dial(t)
	go func() {
		for {
			if _, err := c.Write(bytes.Repeat(frame(bet), 1000)); err != nil {
				return // the relay has closed
			}
		}
	}()
	leader := r.accept(t)
	if err := leader.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := leader.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the agency takes everything: %v", err)
	}
	if err := leader.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience / 2); r.Connections() > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the relay still has the agency")
		}
	}
}

// A leader that hears nothing more until its answers are taken gets them taken.
func TestAnswersPassBesideWhatTheLeaderDoesNotHear(t *testing.T) {
	r := serve(t, nil)
	c := r.dial(t)
	const much = 64 << 20 // more than all sockets on the way take
	go func() {
		_, _ = c.Write(bytes.Repeat(frame(bet), much/len(frame(bet)))) // until the leader closes
	}()
	leader := r.accept(t)
	written := make(chan error, 1)
	go func() {
		_, err := leader.Write(make([]byte, much))
		written <- err
	}()
	if _, err := io.CopyN(io.Discard, c, much); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

// An agency that has ended its side, and is killed then, never takes what it is told. That it is gone, the
// leader learns although there may be nothing to tell it.
func TestKilledBehindItsEnd(t *testing.T) {
	for name, told := range map[string][]byte{"it is told something": frame(bet), "it waits": nil} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, nil)
			c := r.dial(t)
			say(t, c, frame("GET_WINNERS|1"))
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			leader := r.accept(t)
			if _, err := io.ReadAll(leader); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.SetLinger(0), c.Close()); err != nil {
				t.Fatal(err)
			}
			_, _ = leader.Write(told) // it may have learned already
			if err := acknowledges(t, leader, 1); !errors.Is(err, ErrCut) {
				t.Errorf("the leader learns %v, want %v", err, ErrCut)
			}
		})
	}
}

// A relay that is gone says nothing of its agencies, and none of them has ended.
func TestRelayIsGone(t *testing.T) {
	near, far := net.Pipe()
	took, ended := make(chan *Conn, 1), make(chan error, 1)
	go func() {
		ended <- Receive(far, func(c *Conn) bool {
			took <- c
			return true
		})
	}()
	say(t, near, streamHead{}.encode())
	leader := <-took
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := leader.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the leader reads %v", err)
	}
	if leader.Ended() {
		t.Error("the leader takes it for an end")
	}
	if err := errors.Join(leader.Close(), <-ended); err != nil {
		t.Error(err)
	}
}

// A leader that another one has followed says nothing of it while it stands still. Its agencies are
// not kept waiting for it. As long as nobody else leads, they are.
func TestAnotherLeads(t *testing.T) {
	r := serve(t, nil)
	c := r.dial(t)
	say(t, c, frame(bet))
	leader := r.accept(t)
	hear(t, leader, frame(bet))
	r.guide.leads(0, "")
	r.guide.leads(2, "leader:12345")
	say(t, leader, frame("ACK"))
	hear(t, c, frame("ACK"))
	r.guide.leads(3, "elsewhere:1")
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the agency waits still: %v", err)
	}
}

// While nobody leads, a new agency is told so at once, and an old one waits until somebody does.
func TestNobodyLeads(t *testing.T) {
	r := serve(t, nil)
	r.guide.leads(0, "")
	c := r.dial(t)
	say(t, c, frame("HELLO|1"))
	hear(t, c, codec.AppendError(nil, codec.CodeNotLeader, ""))
	old := r.dial(t)
	say(t, old, frame(bet))
	r.guide.leads(0, "") // a change that doesn't help
	r.guide.leads(2, "leader:12345")
	hear(t, r.accept(t), frame(bet))
}

// An agency that nobody can be found for is not kept for ever, nor is one that says nothing.
func TestPatienceEnds(t *testing.T) {
	for name, says := range map[string][]byte{"nobody leads": frame(bet), "it is silent": nil, "half a message": []byte("7\nHEL")} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, func(s *Settings) { s.ReadTimeout = 50 * time.Millisecond })
			r.guide.leads(0, "")
			c := r.dial(t)
			say(t, c, says)
			if got, err := io.ReadAll(c); len(got) > 0 {
				t.Errorf("told %q, %v", got, err)
			}
		})
	}
}

// An agency whose connection is passed on may wait for the draw as long as it takes.
func TestPassedOnWithoutDeadline(t *testing.T) {
	const readTimeout = time.Second
	r := serve(t, func(s *Settings) { s.ReadTimeout = readTimeout })
	c := r.dial(t)
	say(t, c, frame("GET_WINNERS|1"))
	leader := r.accept(t)
	hear(t, leader, frame("GET_WINNERS|1"))
	if err := leader.SetReadDeadline(time.Now().Add(2 * readTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := leader.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection ends: %v", err)
	}
	say(t, leader, frame(bet))
	hear(t, c, frame(bet))
}

// A leader that can't be reached ends the connection, not the relay.
func TestLeaderUnreachable(t *testing.T) {
	r := serve(t, nil)
	r.guide.leads(3, "elsewhere:1") // no stream goes there
	c := r.dial(t)
	say(t, c, frame(bet))
	if got, err := io.ReadAll(c); len(got) > 0 {
		t.Errorf("told %q, %v", got, err)
	}
	r.guide.leads(2, "leader:12345")
	again := r.dial(t)
	say(t, again, frame(bet))
	hear(t, r.accept(t), frame(bet))
}

// Over the limit, connections are refused; those that are there go on.
func TestConnectionsMax(t *testing.T) {
	r := serve(t, func(s *Settings) { s.ConnectionsMax = 1 })
	c := r.dial(t)
	say(t, c, frame(bet))
	leader := r.accept(t)
	hear(t, leader, frame(bet))
	want := codec.AppendError(nil, codec.CodeTooManyConnections, "")
	if got, err := io.ReadAll(r.dial(t)); !bytes.Equal(got, want) {
		t.Errorf("one too many is told %q, %v", got, err)
	}
	say(t, leader, frame("ACK"))
	hear(t, c, frame("ACK"))
}

// A relay that is told to stop closes what it has, and leaves nothing behind.
func TestStop(t *testing.T) {
	r := serve(t, nil)
	silent, passed := r.dial(t), r.dial(t)
	say(t, passed, frame(bet))
	leader := r.accept(t)
	hear(t, leader, frame(bet))
	r.stop()
	for name, c := range map[string]net.Conn{"silent": silent, "passed": passed, "leader": leader} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s is still open", name)
		}
	}
}

// lastListener has a connection at the moment at which it is to be closed.
type lastListener struct {
	net.Listener
	ctx  context.Context
	conn net.Conn // the last one; nil once it is taken
}

func (l *lastListener) Accept() (net.Conn, error) {
	<-l.ctx.Done()
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	return nil, net.ErrClosed
}

// An agency whose connection is taken at the moment at which this server becomes the leader is passed
// on. So it is over TLS, also if its handshake has to wait.
func TestComesAsItEnds(t *testing.T) {
	comes := func(t *testing.T, r *relayed, credentials *channel.Credentials) net.Conn {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r.addr = l.Addr().String()
		c := r.dial(t)
		taken, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r.Serve(ctx, &lastListener{Listener: l, ctx: ctx, conn: taken}, credentials)
		return c
	}
	passedOn := func(t *testing.T, r *relayed, c net.Conn) {
		say(t, c, frame(bet))
		leader := r.accept(t)
		hear(t, leader, frame(bet))
		say(t, leader, frame("ACK"))
		hear(t, c, frame("ACK"))
	}
	t.Run("plain", func(t *testing.T) {
		r := serve(t, nil)
		passedOn(t, r, comes(t, r, nil))
	})
	t.Run("TLS", func(t *testing.T) {
		credentials, _, config := certified(t, false)
		r := serveOver(t, func(s *Settings) { s.TLSHandshakes = 1 }, credentials)
		first := comes(t, r, credentials)
		second := tls.Client(comes(t, r, credentials), config)
		passedOn(t, r, second)
		if _, err := first.Read(make([]byte, 1)); err == nil {
			t.Error("the first handshake, which stands still, makes no room")
		}
	})
}

// lateListener takes long to close.
type lateListener struct {
	net.Listener
	ctx    context.Context
	ended  <-chan struct{} // closed when its user has ended
	closed chan struct{}
	isLate bool // read it behind closed
}

func (l *lateListener) Accept() (net.Conn, error) {
	<-l.ctx.Done()
	return nil, net.ErrClosed
}

func (l *lateListener) Close() error {
	defer close(l.closed)
	select {
	case <-l.ended:
		l.isLate = true
	case <-time.After(20 * time.Millisecond): // long enough for a user that doesn't wait for it
	}
	return nil
}

// A listener that is open again for the next user must not be closed by the one before.
func TestClosesInTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	l := &lateListener{ctx: ctx, ended: ended, closed: make(chan struct{})}
	cancel()
	New(Settings{ConnectionsMax: 1}, nil, zap.NewNop()).Serve(ctx, l, nil)
	close(ended)
	if <-l.closed; l.isLate {
		t.Error("it is closed late")
	}
}

// An agency that goes on with new keys between one byte and the next costs a follower as much as the leader
// would bear, and is cut off.
func TestKeyUpdateFlood(t *testing.T) {
	r, _, config := serveOverTLS(t, false)
	socket := r.dial(t)
	p := channeltest.Connect(t, socket, config)
	say(t, socket, p.Says(frame(bet), 1000))
	leader := r.accept(t)
	hear(t, leader, frame(bet))
	const most = 256 // new keys of a connection
	for range most {
		say(t, socket, append(p.KeyUpdate(true), p.Says([]byte("x"), 1)...))
	}
	hear(t, leader, bytes.Repeat([]byte("x"), most))
	say(t, socket, append(p.KeyUpdate(true), p.Says([]byte("x"), 1)...))
	if got, err := io.ReadAll(leader); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) || leader.Ended() {
		t.Errorf("the leader hears %q, %v, ended: %v", got, err, leader.Ended())
	}
	if _, err := io.Copy(io.Discard, socket); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the agency still has its connection")
	}

	// So many, and then an end, is no flood.
	socket = r.dial(t)
	p = channeltest.Connect(t, socket, config)
	say(t, socket, p.Says(frame(bet), 1000))
	leader = r.accept(t)
	for range most {
		say(t, socket, append(p.KeyUpdate(false), p.Says([]byte("x"), 1)...))
	}
	say(t, socket, p.CloseNotify())
	want := append(frame(bet), bytes.Repeat([]byte("x"), most)...)
	if got, err := io.ReadAll(leader); err != nil || !bytes.Equal(got, want) || !leader.Ended() {
		t.Errorf("the leader hears %q, %v, ended: %v", got, err, leader.Ended())
	}
}

// Over TLS an agency is sent to the leader's address for TLS, or passed on with the name that it has
// proved. What it says, and that it has ended, the leader hears as from any other. Who is cut has not
// ended, and who proves nothing is told why.
func TestRelayOverTLS(t *testing.T) {
	r, authority, config := serveOverTLS(t, true)
	connect := func(own ...tls.Certificate) *tls.Conn {
		config := config.Clone()
		config.Certificates = own
		return tls.Client(r.dial(t), config)
	}
	seven := authority.Issue(t, certtest.Agency(7))

	knows := connect(seven)
	say(t, knows, frame("HELLO|7"))
	want := codec.AppendError(nil, codec.CodeNotLeader, "server2:12347")
	if got, err := io.ReadAll(knows); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the agency hears %q, %v; want %q", got, err, want)
	}
	_ = knows.Close()

	old := connect(seven)
	say(t, old, frame("GET_WINNERS|7"))
	if err := old.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	leader := r.accept(t)
	if leader.Agency() != 7 {
		t.Errorf("the leader is told that it is agency %d", leader.Agency())
	}
	if got, err := io.ReadAll(leader); err != nil || !bytes.Equal(got, frame("GET_WINNERS|7")) || !leader.Ended() {
		t.Fatalf("the leader hears %q, %v, ended: %v", got, err, leader.Ended())
	}
	say(t, leader, frame(bet))
	if err := leader.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(old); err != nil || !bytes.Equal(got, frame(bet)) {
		t.Errorf("the agency hears %q, %v", got, err)
	}

	cut := connect(seven)
	say(t, cut, frame(bet))
	leader = r.accept(t)
	hear(t, leader, frame(bet))
	if err := cut.NetConn().(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(cut); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("who was cut still has its connection")
	}
	if _, err := io.Copy(io.Discard, leader); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the leader still has it: %v", err)
	}
	if leader.Ended() {
		t.Error("the leader takes a cut for an end")
	}

	nobody := connect()
	if _, err := nobody.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
	said := r.logs.FilterMessage("tls").All()
	for timeout := time.After(patience); len(said) == 0; said = r.logs.FilterMessage("tls").All() {
		select {
		case <-timeout:
			t.Fatal("nothing was said")
		default:
			runtime.Gosched()
		}
	}
	for range 15 { // more than may be under way at once
		say(t, r.dial(t), []byte{22})
	}
	plain := r.dial(t)
	say(t, plain, frame("HELLO|7"))
	hear(t, plain, codec.AppendError(nil, codec.CodeInvalidFrame, ""))
	late := connect(seven)
	say(t, late, frame("HELLO|7"))
	hear(t, late, want)

	if len(said) != 1 || !strings.Contains(fmt.Sprint(said[0].ContextMap()["error"]), "AGENCY_TLS_CERT_FILE") {
		t.Errorf("said: %v", said)
	}
}
