package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"loteria/codec"
	"loteria/codec/certtest"
)

// moment is when a drawServer sends its answers.
type moment int

const (
	atTheDraw moment = iota // once all agencies have asked for their winners
	atOnce                  // once an agency has asked
	tooEarly                // once agency 1 has sent a bet, which is not acknowledged
)

// drawConn is a connection of a drawServer, by TLS or plain.
type drawConn struct {
	net.Conn
	socket *net.TCPConn
}

func (c drawConn) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// cutting is a socket whose end is errCut, which a tls.Conn doesn't take for close_notify.
type cutting struct{ net.Conn }

var errCut = errors.New("the load has not said close_notify")

func (c cutting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == io.EOF {
		err = errCut
	}
	return n, err
}

// drawServer acknowledges bets, and answers each GET_WINNERS as the test wants.
type drawServer struct {
	t        *testing.T
	listener net.Listener
	agencies int
	when     moment
	// answer is called for each agency at its moment, with its winners as a frame.
	answer func(id codec.Agency, conn drawConn, right []byte)

	mu       sync.Mutex
	conns    map[codec.Agency]drawConn
	right    map[codec.Agency][]byte
	asked    int
	receipts map[codec.Agency]int
	receipt  func(conn drawConn) // answers a receipt; nil if none is expected

	tls  *tls.Config // nil: plain
	cuts int         // connections by TLS that ended without close_notify

	handlers sync.WaitGroup
}

// secure makes a server that nobody has come to yet speak TLS, and returns the other side of it.
func (s *drawServer) secure() func(codec.Agency) (*tls.Config, error) {
	a := certtest.New(s.t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tls = &tls.Config{Certificates: []tls.Certificate{a.Issue(s.t, certtest.Server(1))}, SessionTicketsDisabled: true}
	return func(codec.Agency) (*tls.Config, error) {
		return &tls.Config{ServerName: "localhost", RootCAs: a.Pool()}, nil
	}
}

// startDrawServer starts a drawServer. The test has to call end.
func startDrawServer(t *testing.T, agencies int, when moment, answer func(codec.Agency, drawConn, []byte)) *drawServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &drawServer{t: t, listener: l, agencies: agencies, when: when, answer: answer,
		conns: map[codec.Agency]drawConn{}, right: map[codec.Agency][]byte{}, receipts: map[codec.Agency]int{}}
	s.handlers.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conn := drawConn{c, c.(*net.TCPConn)}
			s.mu.Lock()
			if s.tls != nil {
				conn.Conn = tls.Server(cutting{c}, s.tls)
			}
			s.mu.Unlock()
			s.handlers.Go(func() { s.handle(conn) })
		}
	})
	return s
}

// leftOpenTimeout is how long end waits for the load to close its connections.
const leftOpenTimeout = 5 * time.Second

// end stops the server, and checks that the load has closed all connections.
func (s *drawServer) end() {
	_ = s.listener.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		_ = c.SetReadDeadline(time.Now().Add(leftOpenTimeout)) // fails if it is closed
	}
	s.mu.Unlock()
	s.handlers.Wait()
}

// handle reads until the load closes the connection.
func (s *drawServer) handle(c drawConn) {
	defer c.Close()
	var in []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.t.Errorf("a connection is still open: %v", c.RemoteAddr())
		}
		if errors.Is(err, errCut) {
			s.mu.Lock()
			s.cuts++
			s.mu.Unlock()
		}
		if err != nil {
			return
		}
		in = append(in, buf[:n]...)
		for {
			payload, rest, ok, err := codec.SplitFrame(in, codec.FrameBytesMaxLimit)
			if err != nil {
				s.t.Errorf("%q: %v", in, err)
				return
			}
			if !ok {
				break
			}
			s.hear(c, payload)
			in = rest
		}
	}
}

func (s *drawServer) hear(c drawConn, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, winners, err := codec.ParseRequest(payload, testRules, nil)
	if err != nil {
		s.t.Errorf("%q: %v", payload, err)
	}
	s.conns[r.Agency] = c
	switch {
	case r.Kind == codec.RequestHello:
		write(c, codec.AppendWelcome(nil, codec.Welcome{Window: 64, FrameBytesMax: codec.FrameBytesMaxDefault}))
	case r.Kind == codec.RequestReceived && s.receipt == nil:
		s.t.Errorf("%q of an agency that has not said HELLO", payload)
	case r.Kind == codec.RequestReceived:
		s.receipts[r.Agency]++
		s.receipt(c)
	case r.Kind == codec.RequestBets && s.when == tooEarly && r.Agency == 1:
		s.answerAll()
	case r.Kind == codec.RequestBets:
		s.right[r.Agency] = codec.AppendFrame(nil, bytes.TrimSuffix(winners, []byte{'\n'}))
		write(c, codec.AppendAck(nil))
	case s.when == atOnce:
		s.answer(r.Agency, c, s.right[r.Agency])
	case s.when == atTheDraw:
		if s.asked++; s.asked == s.agencies {
			s.answerAll()
		}
	}
}

func (s *drawServer) answerAll() {
	for id := range codec.Agency(s.agencies) {
		s.answer(id+1, s.conns[id+1], s.right[id+1])
	}
}

func write(c drawConn, p []byte) {
	_, _ = c.Write(p) // the load may be over
}

// waitingLoad has agency 1, which sends, and agencies 2 to 4, which wait.
var waitingLoad = Options{Agencies: 1, Waiting: 3, Bets: 10, Window: 1, BatchBytes: 8192, StopAndWait: true}

// Waiting agencies take their winners in any pieces. If one of them gets anything else, the load
// ends.
func TestWaiting(t *testing.T) { testWaiting(t, false) }

// So they do over TLS. The room says close_notify at the end.
func TestWaitingOverTLS(t *testing.T) { testWaiting(t, true) }

func testWaiting(t *testing.T, secure bool) {
	const odd = 3
	byteByByte := func(c drawConn, p []byte) {
		for i := range p {
			write(c, p[i:i+1])
		}
	}
	saying := func(payload string) func(drawConn, []byte) {
		return func(c drawConn, _ []byte) { write(c, codec.AppendFrame(nil, []byte(payload))) }
	}
	const manyLines = 1000 // more than a loop's read buffer holds
	for _, c := range []struct {
		name string
		when moment
		// answer answers all agencies if want is nil. Otherwise it answers only one, and the others
		// get no answer.
		answer func(c drawConn, right []byte)
		want   error
		says   string
	}{
		{name: "winners", answer: write},
		{name: "winners at once", when: atOnce, answer: write},
		{name: "winners in pieces", answer: byteByByte},
		{name: "winners and the end", answer: func(c drawConn, right []byte) {
			write(c, right)
			_ = c.CloseWrite()
		}},
		{name: "no winners", answer: saying(""), want: ErrWinners, says: "agency 3 got 0 lines, want 1"},
		{name: "other winners", answer: saying("Ana|Paz|1|2000-01-01|7574|3"), want: ErrWinners, says: "agency 3 got 1 lines, want 1"},
		{name: "its winner and another", answer: func(c drawConn, right []byte) {
			_, line, _ := bytes.Cut(right, []byte{'\n'})
			write(c, codec.AppendFrame(nil, slices.Concat(line, []byte{'\n'}, line)))
		}, want: ErrWinners, says: "agency 3 got 2 lines, want 1"},
		{name: "many winners", answer: saying(strings.Repeat("Ana|Paz|1|2000-01-01|7574|3\n", manyLines)), want: ErrWinners, says: fmt.Sprintf("agency 3 got %d lines, want 1", manyLines)},
		{name: "an error", answer: func(c drawConn, _ []byte) {
			write(c, codec.AppendError(nil, codec.CodeLotteryHasntEnded, ""))
		}, want: ErrServer, says: "winners of agency 3: it answered ERROR_LOTTERY_HASNT_ENDED"},
		{name: "an error in pieces", answer: func(c drawConn, _ []byte) {
			byteByByte(c, codec.AppendError(nil, codec.CodeStorage, "disk"))
		}, want: ErrServer, says: "winners of agency 3: it answered ERROR_STORAGE|disk"},
		{name: "an error too early", when: tooEarly, answer: saying("ERROR_TIMEOUT"), want: ErrServer, says: "winners of agency 3: it answered ERROR_TIMEOUT"},
		{name: "an unknown error", answer: saying("ERROR_X"), want: codec.ErrReply, says: "winners of waiting agency 3: "},
		{name: "an ACK", answer: saying("ACK"), want: ErrServer, says: "winners of agency 3: it answered ACK"},
		{name: "two answers", answer: func(c drawConn, right []byte) {
			write(c, slices.Concat(right, right))
		}, want: ErrServer, says: "winners of waiting agency 3: load: the server's answer is not the expected one: more than one answer"},
		{name: "two answers in pieces", answer: func(c drawConn, right []byte) {
			byteByByte(c, slices.Concat(right, right))
		}, want: ErrServer, says: "winners of waiting agency 3: load: the server's answer is not the expected one: more than one answer"},
		{name: "no frame", answer: func(c drawConn, _ []byte) { write(c, []byte("x\n")) }, want: codec.ErrFrameHeader, says: "winners of waiting agency 3: "},
		{name: "a frame without end", answer: func(c drawConn, _ []byte) { write(c, []byte("99999999\n")) }, want: codec.ErrFrameTooLarge, says: "winners of waiting agency 3: "},
		{name: "the end", answer: func(c drawConn, _ []byte) { _ = c.Close() }, want: io.EOF, says: "winners of waiting agency 3: EOF"},
		{name: "the end at once", when: atOnce, answer: func(c drawConn, _ []byte) { _ = c.Close() }, want: io.EOF, says: "winners of waiting agency 3: EOF"},
		{name: "the end too early", when: tooEarly, answer: func(c drawConn, _ []byte) { _ = c.Close() }, want: io.EOF, says: "winners of waiting agency 3: EOF"},
		{name: "a part and the end", answer: func(c drawConn, right []byte) {
			write(c, right[:len(right)-1])
			_ = c.Close()
		}, want: io.EOF, says: "winners of waiting agency 3: EOF"},
		{name: "a reset", answer: func(c drawConn, _ []byte) {
			_ = c.socket.SetLinger(0)
			_ = c.socket.Close()
		}, want: syscall.ECONNRESET, says: "winners of waiting agency 3: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := waitingLoad
			s := startDrawServer(t, o.Agencies+o.Waiting, c.when, func(id codec.Agency, conn drawConn, right []byte) {
				if c.want == nil || id == odd {
					c.answer(conn, right)
				}
			})
			target := Target{Addr: s.listener.Addr().String()}
			if secure {
				target.TLS = s.secure()
			}
			r, err := Run(t.Context(), o, target, nil)
			s.end()
			if c.want != nil {
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var winners int
			for _, right := range s.right {
				_, lines, _ := bytes.Cut(right, []byte{'\n'})
				winners += codec.Lines(lines)
			}
			if s.cuts > 0 {
				t.Errorf("%d connections ended without close_notify", s.cuts)
			}
			if r.Draw == nil || r.Draw.Winners != int64(winners) || winners < o.Waiting {
				t.Errorf("%+v, want %d winners", r.Draw, winners)
			}
		})
	}
}

// The draw's time ends when the last agency has its winners, whichever that is.
func TestLastWinners(t *testing.T) {
	for last := codec.Agency(1); int(last) <= waitingLoad.Agencies+waitingLoad.Waiting; last++ {
		t.Run(fmt.Sprintf("agency %d", last), func(t *testing.T) {
			// On a busy machine the load may note the time of its last report late. With a pause
			// that is long enough, the draw's time still shows the pause.
			const pauseMax = 5 * time.Second
			for pause := 50 * time.Millisecond; ; pause *= 2 {
				got := drawWithPause(t, last, pause)
				if got >= pause/2 {
					return
				}
				if pause > pauseMax {
					t.Fatalf("the draw took %v, the last winners came after %v", got, pause)
				}
			}
		})
	}
}

// drawWithPause returns the time of a draw whose last winners come after a pause.
func drawWithPause(t *testing.T, last codec.Agency, pause time.Duration) time.Duration {
	t.Helper()
	o := waitingLoad
	var late sync.WaitGroup
	late.Add(1)
	s := startDrawServer(t, o.Agencies+o.Waiting, atTheDraw, func(id codec.Agency, conn drawConn, right []byte) {
		if id != last {
			write(conn, right)
			return
		}
		time.AfterFunc(pause, func() {
			defer late.Done()
			write(conn, right)
		})
	})
	r, err := Run(t.Context(), o, Target{Addr: s.listener.Addr().String()}, nil)
	s.end()
	if err != nil {
		t.Fatal(err)
	}
	late.Wait()
	return time.Duration(r.Draw.Seconds * float64(time.Second))
}

// A load that is interrupted while agencies wait closes all its connections.
func TestWaitingInterrupted(t *testing.T) {
	for _, c := range []struct {
		name string
		when moment
	}{
		{"while they connect", atOnce},
		{"while others send", tooEarly},
		{"at the draw", atTheDraw},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := waitingLoad
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := startDrawServer(t, o.Agencies+o.Waiting, c.when, func(codec.Agency, drawConn, []byte) { cancel() })
			_, err := Run(ctx, o, Target{Addr: s.listener.Addr().String()}, nil)
			s.end()
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

// take puts an answer together from pieces, wherever it is cut. It must copy them: the next read
// overwrites the buffer.
func TestWaiterTakesPieces(t *testing.T) {
	r := &run{options: waitingLoad}
	fresh, err := newWaiter(r, 1)
	if err != nil {
		t.Fatal(err)
	}
	winners := string(fresh.answer)
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"winners", winners, nil},
		{"other winners", strings.Replace(winners, "|", "/", 1), ErrWinners},
		{"an error", string(codec.AppendError(nil, codec.CodeStorage, "")), ErrServer},
		{"two answers", winners + winners, ErrServer},
		{"winners after another byte", "0" + winners, codec.ErrFrameHeader},
	} {
		t.Run(c.name, func(t *testing.T) {
			for first := range len(c.in) + 1 {
				for second := first; second <= len(c.in); second++ {
					w := *fresh
					var (
						buf  = make([]byte, len(c.in))
						last bool
						err  error
					)
					for _, piece := range []string{c.in[:first], c.in[first:second], c.in[second:]} {
						if piece == "" || err != nil {
							continue
						}
						if last && c.want == nil {
							t.Fatalf("cut at %d and %d: complete before its end", first, second)
						}
						last, err = w.take(buf[:copy(buf, piece)])
					}
					if !errors.Is(err, c.want) || last != (c.want == nil) {
						t.Fatalf("cut at %d and %d: complete %t, %v", first, second, last, err)
					}
				}
			}
		})
	}
}
