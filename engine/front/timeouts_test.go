package front

import (
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/lottery"
)

// Answers that leave together are copied, but not without a limit, however many a peer asks for at
// once.
func TestOutboundScratchIsBounded(t *testing.T) {
	sent := new(shutSink)
	lp, sess := late(t, sent)
	const asked = 64
	payload := make([]byte, payloadCopyMax)
	sess.unanswered = asked
	winners := commit.Reply{Effect: lottery.Effect{Session: &sess.Session, Kind: lottery.Winners, Agency: 1, Payload: payload}}
	lp.answer(slices.Repeat([]commit.Reply{winners}, asked))
	// Two payloads and headers, grown as append does.
	if limit := 3 * payloadCopyMax; cap(lp.out) > limit {
		t.Errorf("the scratch holds %d bytes, want at most %d", cap(lp.out), limit)
	}
	if want := asked * len(codec.AppendFrame(nil, payload)); sent.bytes != want {
		t.Errorf("sent %d bytes, want %d", sent.bytes, want)
	}
}

// fakeConn is a connection whose socket takes room more bytes.
type fakeConn struct {
	room    int
	unacked int // falls by one at each look
	broken  error
	closed  bool
	session *Session
}

func (c *fakeConn) Send(p []byte) (int, error) {
	n := min(len(p), c.room)
	c.room -= n
	return n, nil
}

func (c *fakeConn) Unacknowledged() (int, error) {
	c.unacked = max(c.unacked-1, 0)
	return c.unacked, c.broken
}

func (c *fakeConn) ShutWrite() {}

func (c *fakeConn) Drop() {
	c.closed = true
	c.session.loop.bury(c.session) // as OnClose does
}

// A session stays as long as its peer goes on reading, however slowly. It is dropped
// SERVER_READ_TIMEOUT after the peer stops, or lingerMax after that if it was told everything.
func TestPatienceCountsFromTheLastProgress(t *testing.T) {
	const answerBytes = 16 << 20
	fake := func(phase phase) func(*testing.T, *Front) (*Session, func()) {
		return func(t *testing.T, f *Front) (*Session, func()) {
			c := new(fakeConn)
			c.session = open(t, f, c)
			c.session.phase, c.session.said = phase, saidFrame
			return c.session, func() { c.room = 1 }
		}
	}
	for _, test := range []struct {
		name     string
		patience func(*Front) time.Duration
		// open returns a session, and how to read some of its unread answer.
		open func(*testing.T, *Front) (*Session, func())
	}{
		{"half-closed", func(*Front) time.Duration { return lingerMax }, func(t *testing.T, f *Front) (*Session, func()) {
			halfSock, peer := halfClosedPair(t)
			buf := make([]byte, 64<<10)
			sess := open(t, f, halfSock)
			sess.phase = half
			lp := sess.loop
			left := func() int {
				unacknowledged, err := halfSock.Unacknowledged()
				if err != nil {
					t.Fatal(err)
				}
				if sess.backlog != nil {
					lp.flushSession(sess)
					return sess.backlog.bytes + unacknowledged
				}
				return unacknowledged
			}
			return sess, func() {
				for before := left(); left() >= before; {
					if _, err := io.ReadFull(peer, buf); err != nil {
						t.Fatal(err)
					}
				}
			}
		}},
		{"told its last answer", func(*Front) time.Duration { return lingerMax }, fake(parting)},
		{"slow reader", func(f *Front) time.Duration { return f.cfg.ReadTimeout }, fake(talking)},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Later = func(time.Duration, func()) {} // ticks are all that happens
			f := New(cfg, zap.NewNop(), newStages(1))
			sess, read := test.open(t, f)
			lp := sess.loop
			lp.writeShared(sess, make([]byte, answerBytes))
			patience := int(test.patience(f) / f.tickPeriod) // ticks
			lp.tick()                                        // sees how much is unread
			for round := range 5 {
				read()
				for n := range patience {
					lp.tick()
					if sess.phase == gone {
						t.Fatalf("round %d: dropped %d ticks after the peer read some, want more than %d", round, n+1, patience)
					}
				}
			}
			read()
			for range patience + 2 {
				lp.tick()
			}
			if sess.phase != gone || len(lp.sessions) != 0 || f.Connections() != 0 {
				t.Errorf("phase %d, %d sessions, %d open %v after the peer stopped", sess.phase, len(lp.sessions), f.Connections(), test.patience(f))
			}
		})
	}
}

// halfClosedPair makes a connection over the loopback. It returns what a server holds of it, and
// the peer's end, whose socket takes little at a time.
func halfClosedPair(t *testing.T) (*halfSocket, net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	peer, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	if err := errors.Join(peer.(*net.TCPConn).SetReadBuffer(64<<10), peer.SetDeadline(time.Now().Add(10*time.Second))); err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	raw, err := accepted.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var own int
	var errDup error
	if err := raw.Control(func(fd uintptr) { own, errDup = unix.Dup(int(fd)) }); err != nil || errDup != nil {
		t.Fatal(err, errDup)
	}
	return &halfSocket{descriptor(own)}, peer
}
