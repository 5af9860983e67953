package mesh

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/codec/certtest"
)

// patience bounds every wait for something that has to happen.
const patience = 20 * time.Second

// inbox is where a mesh's messages go.
type inbox struct {
	mu       sync.Mutex
	messages []string
	grown    chan struct{} // holds one
	gate     chan struct{} // a large message waits until it is closed; nil: none waits
}

func (in *inbox) deliver(from uint64, message []byte) {
	const large = 64 << 10
	if in.gate != nil && len(message) > large {
		<-in.gate
	}
	in.mu.Lock()
	in.messages = append(in.messages, fmt.Sprintf("%d: %.40s", from, message))
	in.mu.Unlock()
	select {
	case in.grown <- struct{}{}:
	default:
	}
}

// await returns the messages once there are n of them.
func (in *inbox) await(t *testing.T, n int) []string {
	t.Helper()
	timeout := time.After(patience)
	for {
		in.mu.Lock()
		got := append([]string(nil), in.messages...)
		in.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-in.grown:
		case <-timeout:
			t.Fatalf("%d messages have come, want %d", len(got), n)
		}
	}
}

// await waits until something is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	timeout := time.After(patience)
	for !is() {
		select {
		case <-looks.C:
		case <-timeout:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// net3 is three servers.
type net3 struct {
	t       *testing.T
	addrs   map[uint64]string
	meshes  [4]*Mesh // by id; nil while one is down
	inboxes [4]*inbox
	logs    [4]*observer.ObservedLogs
	change  func(*Settings)
	gate    chan struct{} // of the inboxes
}

func newNet3(t *testing.T, change func(*Settings)) *net3 { return newGated(t, nil, change) }

func newGated(t *testing.T, gate chan struct{}, change func(*Settings)) *net3 {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // behind the others
	n := &net3{t: t, addrs: addresses(), change: change, gate: gate}
	for id := uint64(1); id <= 3; id++ {
		n.start(id)
	}
	t.Cleanup(func() {
		for id := range n.meshes {
			n.stop(uint64(id))
		}
	})
	return n
}

// addresses are three of this process alone, by id: a port that is free now can be somebody's in a moment.
func addresses() map[uint64]string {
	all, pid := map[uint64]string{}, os.Getpid()
	for id := uint64(1); id <= 3; id++ {
		all[id] = fmt.Sprintf("127.%d.%d.%d:4117", 64+pid>>8&63, pid&255, id)
	}
	return all
}

func (n *net3) start(id uint64) {
	n.t.Helper()
	n.inboxes[id] = &inbox{grown: make(chan struct{}, 1), gate: n.gate}
	settings := Settings{ID: id, Servers: n.addrs, Addr: n.addrs[id], Mesh: [16]byte{7}}
	if n.change != nil {
		n.change(&settings)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	m, err := Listen(settings, zap.New(core), n.inboxes[id].deliver)
	if err != nil {
		n.t.Fatal(err)
	}
	n.meshes[id], n.logs[id] = m, logs
}

func (n *net3) stop(id uint64) {
	if m := n.meshes[id]; m != nil {
		n.meshes[id] = nil
		if err := m.Close(); err != nil {
			n.t.Error(err)
		}
	}
}

// connected waits until each of these servers has connections to each of them.
func (n *net3) connected(ids ...uint64) {
	n.t.Helper()
	for _, from := range ids {
		for _, to := range ids {
			if from != to {
				await(n.t, fmt.Sprintf("%d to be connected to %d", from, to), func() bool { return n.meshes[from].Connected(to) })
			}
		}
	}
}

// Every server hears every other one, in order, whole, and from whom it is.
func TestMessagesArrive(t *testing.T) {
	n := newNet3(t, nil)
	n.connected(1, 2, 3)
	const each = 200
	large := bytes.Repeat([]byte("x"), 3<<20)
	for i := range each {
		for from := uint64(1); from <= 3; from++ {
			for to := uint64(1); to <= 3; to++ {
				if from == to {
					continue
				}
				message := fmt.Appendf(nil, "%d>%d %03d", from, to, i)
				if i%50 == 49 {
					message = append(message, large...)
				}
				if !n.meshes[from].Send(to, false, message) {
					t.Fatalf("dropped: %.20s", message)
				}
			}
		}
	}
	for to := uint64(1); to <= 3; to++ {
		next := map[byte]int{}
		for _, m := range n.inboxes[to].await(t, 2*each) {
			from := m[0]
			if want := fmt.Sprintf("%c: %c>%d %03d", from, from, to, next[from]); m[:len(want)] != want {
				t.Fatalf("server %d hears %q, want %q", to, m, want)
			}
			next[from]++
		}
	}
}

// An urgent message doesn't wait behind large ones that nobody takes.
func TestUrgentOvertakes(t *testing.T) {
	gate := make(chan struct{})
	n := newGated(t, gate, nil)
	defer sync.OnceFunc(func() { close(gate) })()
	n.connected(1, 2)
	for range 5 {
		n.meshes[1].Send(2, false, make([]byte, 8<<20))
	}
	if !n.meshes[1].Send(2, true, []byte("urgent")) {
		t.Fatal("an urgent message is dropped")
	}
	if got := n.inboxes[2].await(t, 1); got[0] != "1: urgent" {
		t.Errorf("heard %q", got)
	}
}

// A message over the lane's limit is dropped while others wait, and memory stays bounded. An empty
// lane takes any message.
func TestLaneIsBounded(t *testing.T) {
	const laneBytes = 1 << 20
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	n := newGated(t, gate, func(s *Settings) { s.LaneBytesMax = laneBytes })
	defer open()
	n.connected(1, 2)
	sent, dropped := 0, 0
	message := make([]byte, laneBytes/4)
	for dropped == 0 && sent < 10_000 {
		if n.meshes[1].Send(2, false, message) {
			sent++
		} else {
			dropped++
		}
	}
	if dropped == 0 {
		t.Fatal("a lane takes messages without a limit")
	}
	s := n.meshes[1].sendersTo(2)[bulk]
	s.mu.Lock()
	held := 0
	for _, part := range s.queue {
		held += len(part)
	}
	if held != s.queued || held > laneBytes {
		t.Errorf("the lane holds %d bytes, and says %d, its limit is %d", held, s.queued, laneBytes)
	}
	s.mu.Unlock()
	open()
	n.inboxes[2].await(t, sent)
	await(t, "room", func() bool { return n.meshes[1].Send(2, false, make([]byte, 3*laneBytes)) })
	n.inboxes[2].await(t, sent+1)
}

// A server that ends and comes back is found again. What was sent in between is dropped, and said so.
func TestServerComesBack(t *testing.T) {
	n := newNet3(t, nil)
	n.connected(1, 2, 3)
	n.stop(2)
	await(t, "the loss to be noticed", func() bool { // on both lanes
		return !n.meshes[1].sendersTo(2)[urgent].connected() && !n.meshes[1].sendersTo(2)[bulk].connected()
	})
	for range 100 {
		if n.meshes[1].Send(2, true, []byte("to nobody")) {
			t.Fatal("a message to nobody is taken")
		}
	}
	n.start(2)
	n.connected(1, 2, 3)
	n.meshes[1].Send(2, true, []byte("back"))
	if got := n.inboxes[2].await(t, 1); got[0] != "1: back" {
		t.Errorf("heard %q", got)
	}
	// One line for the loss, one for each connection: not one for each attempt.
	lost := n.logs[1].FilterMessage("par").FilterField(zap.String("result", "fail")).FilterField(zap.Uint64("servidor", 2)).Len()
	if lost < 1 || lost > 3 {
		t.Errorf("%d lines about a server that was away once", lost)
	}
}

// A stream carries bytes both ways, and half-closes as TCP does. Without somebody to take it, it is
// refused.
func TestStreams(t *testing.T) {
	a := certtest.New(t)
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("secure %v", secure), func(t *testing.T) {
			n := newNet3(t, func(s *Settings) {
				if secure {
					s.Identity = open(t, a, certtest.Server(s.ID))
				}
				if s.ID == 3 {
					return
				}
				s.Take = func(from uint64, stream net.Conn) {
					said, err := io.ReadAll(stream)
					if err == nil {
						_, err = fmt.Fprintf(stream, "%d said %s", from, said)
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
			s, err := n.meshes[2].Open(1)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := io.WriteString(s, "hello"); err != nil {
				t.Fatal(err)
			}
			if err := s.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(s); string(got) != "2 said hello" || err != nil {
				t.Errorf("answered %q, %v", got, err)
			}
			if s, err := n.meshes[2].Open(3); err == nil {
				_ = s.Close()
				t.Error("a server that takes no streams takes one")
			}
		})
	}
}

// A stream that is in use doesn't keep a mesh from closing.
func TestCloseEndsStreams(t *testing.T) {
	taken := make(chan struct{})
	n := newNet3(t, func(s *Settings) {
		s.Take = func(_ uint64, stream net.Conn) {
			close(taken)
			_, _ = stream.Read(make([]byte, 1)) // until it is closed
		}
	})
	s, err := n.meshes[2].Open(1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	<-taken
	n.stop(1)
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("the stream is still open")
	}
}

// wire is a connection of somebody who is no mesh.
func (n *net3) wire(to uint64) net.Conn {
	n.t.Helper()
	c, err := net.Dial("tcp", n.addrs[to])
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		n.t.Fatal(err)
	}
	return c
}

func wantSilence(t *testing.T, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); len(b) > 0 {
		t.Errorf("a stranger is told %q, %v", b, err)
	}
}

// A stranger gets no byte, and its connection is closed: at once if it says something wrong, soon if
// it says nothing.
func TestStrangers(t *testing.T) {
	n := newNet3(t, nil)
	n.connected(1, 2, 3)
	good := hello{mesh: [16]byte{7}, lane: bulk, from: 2, to: 1}
	for name, says := range map[string][]byte{
		"nothing":           nil,
		"HTTP":              []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"an agency":         []byte("7\nHELLO|1"),
		"half a hello":      good.encode()[:20],
		"another version":   bytes.Replace(good.encode(), []byte("MESH 1"), []byte("MESH 2"), 1),
		"another mesh":      hello{mesh: [16]byte{8}, lane: bulk, from: 2, to: 1}.encode(),
		"another lane":      hello{mesh: [16]byte{7}, lane: 9, from: 2, to: 1}.encode(),
		"a stream":          hello{mesh: [16]byte{7}, lane: stream, from: 2, to: 1}.encode(),
		"no lane":           hello{mesh: [16]byte{7}, lane: lanes, from: 2, to: 1}.encode(),
		"for another":       hello{mesh: [16]byte{7}, lane: bulk, from: 2, to: 3}.encode(),
		"from nobody":       hello{mesh: [16]byte{7}, lane: bulk, from: 9, to: 1}.encode(),
		"from itself":       hello{mesh: [16]byte{7}, lane: bulk, from: 1, to: 1}.encode(),
		"from zero":         hello{mesh: [16]byte{7}, lane: bulk, from: 0, to: 1}.encode(),
		"a TLS ClientHello": {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00},
	} {
		t.Run(name, func(t *testing.T) {
			c := n.wire(1)
			if _, err := c.Write(says); err != nil {
				t.Fatal(err)
			}
			wantSilence(t, c)
		})
	}
	n.meshes[2].Send(1, false, []byte("still here"))
	n.inboxes[1].await(t, 1)
}

// However many strangers there are, servers get in.
func TestManyStrangers(t *testing.T) {
	n := newNet3(t, nil)
	n.stop(2)
	for range 2 * strangersMax {
		n.wire(1)
	}
	n.start(2)
	n.connected(1, 2)
	n.meshes[1].mu.Lock()
	defer n.meshes[1].mu.Unlock()
	if len(n.meshes[1].strangers) > strangersMax {
		t.Errorf("%d strangers are held", len(n.meshes[1].strangers))
	}
}

// A message that is too large ends the connection that it comes on, before it is read.
func TestMessageTooLarge(t *testing.T) {
	n := newNet3(t, nil)
	n.stop(2)
	c := n.wire(1)
	frame := binary.BigEndian.AppendUint32(hello{mesh: [16]byte{7}, lane: bulk, from: 2, to: 1}.encode(), MessageBytesMax+1)
	if _, err := c.Write(frame); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); string(b) != welcome || err != nil && !errors.Is(err, net.ErrClosed) {
		t.Errorf("told %q, %v", b, err)
	}
}

func TestSettings(t *testing.T) {
	two := map[uint64]string{1: "127.0.0.1:0", 2: "127.0.0.1:0"}
	for name, s := range map[string]Settings{
		"alone":             {ID: 1, Servers: map[uint64]string{1: "127.0.0.1:0"}},
		"not one of them":   {ID: 3, Servers: two},
		"zero":              {ID: 1, Servers: map[uint64]string{0: "127.0.0.1:0", 1: "127.0.0.1:0"}},
		"no port":           {ID: 1, Servers: map[uint64]string{1: "127.0.0.1:0", 2: "localhost"}},
		"somebody's papers": {ID: 1, Servers: two, Identity: &Identity{id: 2}},
	} {
		s.Addr = "127.0.0.1:0"
		if _, err := Listen(s, zap.NewNop(), nil); !errors.Is(err, ErrSettings) {
			t.Errorf("%s: %v", name, err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := Listen(Settings{ID: 1, Servers: two, Addr: taken.Addr().String()}, zap.NewNop(), nil); !errors.Is(err, ErrListen) {
		t.Errorf("an address in use: %v", err)
	}
}

// A connection whose peer takes nothing is given up, however alive the peer's system is.
func TestStuckConnectionEnds(t *testing.T) {
	here, there := net.Pipe() // nobody reads it
	defer there.Close()
	s := newSender(&Mesh{ctx: t.Context(), writeTimeout: 10 * time.Millisecond}, 2, "", bulk)
	if err := s.write(here, [][]byte{[]byte("stuck")}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// The parts of a message share a record of TLS.
func TestPartsShareARecord(t *testing.T) {
	a := certtest.New(t)
	here, there := pair(t)
	client := tls.Client(here, open(t, a, certtest.Server(1)).dial(2))
	server := tls.Server(there, open(t, a, certtest.Server(2)).listen())
	met := make(chan error, 1)
	go func() { met <- server.HandshakeContext(t.Context()) }()
	if err := errors.Join(client.HandshakeContext(t.Context()), <-met); err != nil {
		t.Fatal(err)
	}
	s := newSender(&Mesh{ctx: t.Context(), writeTimeout: patience}, 2, "", bulk)
	const header, sealBytes = 5, 17 // of a record: its type and length; the content's type and the tag
	parts := [][]byte{[]byte("one"), nil, []byte("two"), bytes.Repeat([]byte{3}, recordBytesMax-100)}
	want := len(bytes.Join(parts, nil)) + sealBytes
	if err := errors.Join(s.write(client, parts), there.SetReadDeadline(time.Now().Add(patience))); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(s.piece[:cap(s.piece)], func(part []byte) bool { return part != nil }) {
		t.Error("the sender holds what it has written")
	}
	record := make([]byte, header+want)
	if _, err := io.ReadFull(there, record); err != nil {
		t.Fatal(err)
	}
	if got := int(binary.BigEndian.Uint16(record[3:])); got != want {
		t.Errorf("a record of %d bytes, want %d", got, want)
	}
}

// pair is a connection from both sides. They are closed with the test.
func pair(t *testing.T) (here, there *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialled, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialled.Close() })
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

// limited notes the write deadline of a connection.
type limited struct {
	net.Conn
	deadline time.Time
}

func (l *limited) SetWriteDeadline(t time.Time) error {
	l.deadline = t
	return l.Conn.SetWriteDeadline(t)
}

// What a connection doesn't take of a message at once is sent behind that, and before the next message.
func TestDirectWritesInPart(t *testing.T) {
	here, there := pair(t)
	d := newDirect(here)
	if d == nil {
		t.Skip("this system has no direct writes")
	}

	m := &Mesh{ctx: t.Context(), writeTimeout: patience, settings: Settings{LaneBytesMax: 1 << 20}}
	s := newSender(m, 2, "", bulk)
	s.setOpen(true, d)
	var want []byte
	queued := 0
	for i := 0; queued < 3; i++ { // the first that is queued may be cut, those behind it are whole
		message := bytes.Repeat([]byte{byte(i)}, 1000+i%5000)
		if !s.send(len(message), [][]byte{message[:i%1000], message[i%1000:]}) {
			t.Fatal("dropped")
		}
		want = append(binary.BigEndian.AppendUint32(want, uint32(len(message))), message...)
		if len(s.queue) > 0 {
			queued++
		}
	}
	if !s.busy || len(s.wake) != 1 {
		t.Error("the goroutine isn't woken")
	}
	written := make(chan error, 1)
	conn := &limited{Conn: here}
	go func() { written <- s.write(conn, s.take()) }()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(there, got); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("of %d bytes, others arrive than were sent", len(want))
	}
	if !conn.deadline.IsZero() {
		t.Error("the goroutine's deadline is left, and direct writes fail behind it")
	}
	// The next one needs no goroutine.
	if s.take(); s.busy || !s.send(4, [][]byte{[]byte("next")}) || len(s.queue) > 0 {
		t.Error("the goroutine has written everything, and is woken again")
	}
	if _, err := io.ReadFull(there, got[:8]); err != nil || string(got[4:8]) != "next" {
		t.Errorf("%q arrives, %v", got[:8], err)
	}
}

// A direct write that fails leaves the message to the goroutine, and the reason.
func TestDirectWriteFails(t *testing.T) {
	here, there := pair(t)
	s := newSender(&Mesh{ctx: t.Context(), settings: Settings{LaneBytesMax: 1 << 20}}, 2, "", urgent)
	s.setOpen(true, newDirect(here))
	if s.direct == nil {
		t.Skip("this system has no direct writes")
	}
	if err := errors.Join(there.SetLinger(0), there.Close()); err != nil { // the connection is reset
		t.Fatal(err)
	}
	await(t, "a write that fails", func() bool { return s.send(1, [][]byte{{'x'}}) && len(s.queue) > 0 })
	if !s.busy || len(s.wake) != 1 {
		t.Error("the goroutine isn't woken")
	}
	if err := s.cause(io.EOF); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the reason is %v", err)
	}
}

// What a broken connection has not sent is not kept for the next one.
func TestLaneForgets(t *testing.T) {
	s := newSender(&Mesh{ctx: t.Context(), settings: Settings{LaneBytesMax: 100}}, 2, "", bulk)
	if s.send(5, [][]byte{[]byte("early")}) {
		t.Error("taken without a connection")
	}
	s.setOpen(true, nil)
	if !s.send(3, [][]byte{[]byte("old")}) {
		t.Error("dropped")
	}
	s.setOpen(false, nil)
	s.setOpen(true, nil)
	if !s.send(3, [][]byte{[]byte("n"), []byte("ew")}) {
		t.Error("dropped")
	}
	if got, want := string(bytes.Join(s.take(), nil)), "\x00\x00\x00\x03new"; got != want {
		t.Errorf("the next connection is given %q, want %q", got, want)
	}
}

// A server whose connections have all ended is lost, once, and behind its last message. One lane
// that ends is no loss.
func TestLost(t *testing.T) {
	lost := make(chan uint64, 10)
	n := newNet3(t, func(s *Settings) {
		if s.ID == 1 {
			s.Lost = func(server uint64) { lost <- server }
		}
	})
	n.connected(1, 2, 3)
	fromThird := func() net.Conn {
		n.meshes[1].mu.Lock()
		defer n.meshes[1].mu.Unlock()
		return n.meshes[1].taken[3][bulk].conn
	}
	first := fromThird()
	_ = first.Close()
	await(t, "another connection", func() bool { c := fromThird(); return c != nil && c != first })
	n.stop(2)
	select {
	case server := <-lost:
		if server != 2 {
			t.Errorf("server %d is lost, want 2", server)
		}
	case <-time.After(patience):
		t.Fatal("nobody is lost")
	}
	n.stop(1) // nobody is lost to a mesh that is closed
	if len(lost) > 0 {
		t.Errorf("server %d is lost, too", <-lost)
	}
}
