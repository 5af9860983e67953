package agency

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// The tests of this file run in synctest bubbles, over pipes: time advances at once when all
// goroutines wait.

// inBubble runs f in a bubble with its own network.
func inBubble(t *testing.T, f func(t *testing.T, n *memoryNetwork)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newMemoryNetwork()) })
}

func mustStartOn(t *testing.T, n network, handle func(*peer), opts ...Option) *Client {
	t.Helper()
	c, err := startOn(t, n, handle, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// greetThen sends a welcome, then calls handle.
func greetThen(handle func(*peer)) func(*peer) {
	return func(p *peer) {
		p.expect("HELLO|7")
		p.say(welcome(nil, 64, 65536))
		handle(p)
	}
}

// mute reads everything and sends nothing.
func mute(p *peer) {
	if _, err := io.Copy(io.Discard, p.in); err != nil {
		p.t.Error(err)
	}
}

// The first connection breaks after byte 0, byte 1, and so on, in either direction, until it
// doesn't break any more. No bet is lost or stored twice.
func TestCutAnywhere(t *testing.T) {
	const unlimited = 1 << 30
	input, lines := testInput(6)
	for direction, limits := range map[string]func(bytes int) (int, int){
		"to the server": func(bytes int) (int, int) { return bytes, unlimited },
		"to the agency": func(bytes int) (int, int) { return unlimited, bytes },
	} {
		t.Run(direction, func(t *testing.T) {
			broken := true
			for bytes := 0; broken; bytes++ {
				inBubble(t, func(t *testing.T, n *memoryNetwork) {
					b := newBank()
					var conns atomic.Int64
					c := mustStartOn(t, n, func(p *peer) {
						if conns.Add(1) == 1 {
							cut := &cutConn{Conn: p.conn}
							cut.readLeft, cut.writeLeft = limits(bytes)
							p.conn, p.in = cut, bufio.NewReaderSize(cut, 16)
							defer func() { broken = cut.broken }()
						}
						b.serve(p)
					}, WithBatchBets(2), WithWindow(2))
					p, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input))
					if err != nil {
						t.Fatalf("cut at %d: %v", bytes, err)
					}
					if w, err := c.Winners(t.Context()); err != nil || w.Count() != 0 || p.Stored != 6 {
						t.Fatalf("cut at %d: %d winners, %+v, %v", bytes, w.Count(), p, err)
					}
					if err := c.Confirm(t.Context()); err != nil || b.received == 0 {
						t.Fatalf("cut at %d: %d receipts, %v", bytes, b.received, err)
					}
					b.check(t, lines)
				})
				if bytes > 10_000 {
					t.Fatal("the connection is always cut")
				}
			}
		})
	}
}

// Replies arrive whole, several at once, or in pieces of any size.
func TestRepliesInPieces(t *testing.T) {
	line := strings.TrimSuffix(lineJuan, "\n")
	const frames = 5
	for size := 1; size < 40; size++ {
		inBubble(t, func(t *testing.T, n *memoryNetwork) {
			say := func(p *peer, replies string) {
				for len(replies) > 0 {
					piece := replies[:min(size, len(replies))]
					if _, err := io.WriteString(p.conn, piece); err != nil {
						t.Error(err)
						return
					}
					replies = replies[len(piece):]
				}
			}
			c := mustStartOn(t, n, inTurn(func(p *peer) {
				p.expect("HELLO|7")
				say(p, "27\nWELCOME|0|64|65536|00000000")
				for range frames {
					p.expect(line)
				}
				say(p, strings.Repeat("3\nACK", frames))
				p.expect("GET_WINNERS|7")
				say(p, fmt.Sprintf("%d\n%s", len(line), line))
			}), WithBatchBets(1))
			p, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(strings.Repeat(rowJuan+"\n", frames)))
			if err != nil || p.Acknowledged != frames || p.Batches != frames {
				t.Errorf("pieces of %d: %+v, %v", size, p, err)
			}
			if w, err := c.Winners(t.Context()); err != nil || string(w.Bytes()) != line {
				t.Errorf("pieces of %d: %q, %v", size, w.Bytes(), err)
			}
		})
	}
}

// brokenPipe fails every write but the first.
type brokenPipe struct {
	net.Conn
	writes int
	broken chan struct{}
}

func (c *brokenPipe) Write(b []byte) (int, error) {
	if c.writes++; c.writes == 1 {
		return c.Conn.Write(b)
	}
	close(c.broken)
	return 0, syscall.EPIPE
}

// The agency hears what the server said before it closed, although a write failed first.
func TestLastWordsAfterFailedWrite(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memoryNetwork) {
		broken := make(chan struct{})
		breaking := func(c *config) {
			c.dial = func(ctx context.Context, addr string) (net.Conn, error) {
				conn, err := n.dial(ctx, addr)
				return &brokenPipe{Conn: conn, broken: broken}, err
			}
		}
		c := mustStartOn(t, n, inTurn(greetThen(func(p *peer) {
			<-broken
			p.say("ERROR_AGENCY_TAKEN_OVER")
		})), breaking)
		var rejected *RejectedError
		if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(rowJuan)); !errors.As(err, &rejected) {
			t.Errorf("got %v", err)
		}
	})
}

// Without answers the agency sends exactly one window of frames, and reads the input only a little
// further.
func TestWindowRespected(t *testing.T) {
	for _, test := range []struct{ own, server, want int }{{5, 64, 5}, {32, 3, 3}, {1, 1, 1}} {
		inBubble(t, func(t *testing.T, n *memoryNetwork) {
			const bets = 4
			var frames atomic.Int64
			answer := make(chan struct{})
			c := mustStartOn(t, n, func(p *peer) {
				p.expect("HELLO|7")
				p.say(welcome(nil, test.server, 65536))
				go func() {
					for range answer {
						p.say("ACK")
					}
				}()
				for {
					if _, err := p.frame(); err != nil {
						return
					}
					frames.Add(1)
				}
			}, WithWindow(test.own), WithBatchBets(bets))
			defer close(answer)

			var rows atomic.Int64
			input := rowsForEver{&rows}
			ctx, cancel := context.WithCancel(t.Context())
			uploaded := make(chan error)
			go func() {
				_, err := c.Upload(ctx, "bets.csv", input)
				uploaded <- err
			}()
			for answered := range 3 {
				synctest.Wait()
				if got, want := int(frames.Load()), test.want+answered; got != want {
					t.Errorf("windows %d and %d: %d frames sent after %d answers, want %d", test.own, test.server, got, answered, want)
				}
				// What is read ahead: the channel's batches, one to be pushed and one in the
				// making, and the read buffer.
				ahead := rows.Load() - frames.Load()*bets
				if most := int64((sourceAhead+2)*bets + rowBytesMax/len(rowJuan) + 1); ahead > most {
					t.Errorf("%d rows read ahead, want at most %d", ahead, most)
				}
				answer <- struct{}{}
			}
			cancel()
			if err := <-uploaded; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// rowsForEver yields one row for each Read, and counts them.
type rowsForEver struct{ rows *atomic.Int64 }

func (r rowsForEver) Read(b []byte) (int, error) {
	r.rows.Add(1)
	return copy(b, rowJuan+"\n"), nil
}

// A waiting agency sends nothing, however long it waits.
func TestWaitingIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memoryNetwork) {
		const month = 30 * 24 * time.Hour
		c := mustStartOn(t, n, inTurn(greetThen(func(p *peer) {
			p.expect("GET_WINNERS|7")
			if err := p.conn.SetReadDeadline(time.Now().Add(month)); err != nil {
				t.Error(err)
			}
			if b, err := p.in.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the agency said %q, %v", b, err)
			}
			p.say("")
		})))
		begin := time.Now()
		if _, err := c.Winners(t.Context()); err != nil || time.Since(begin) != month {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// The delays of the tries grow, and the agency gives up after retryFor.
func TestRetryFor(t *testing.T) {
	for _, retryFor := range []time.Duration{0, 10 * time.Millisecond, time.Second, time.Minute} {
		inBubble(t, func(t *testing.T, n *memoryNetwork) {
			logs := newLogBook(slog.LevelInfo)
			begin := time.Now()
			_, err := dial(t, n, WithRetryFor(retryFor), WithLogger(slog.New(logs)))
			if took := time.Since(begin); !errors.Is(err, ErrUnreachable) || !errors.Is(err, errRefused) || took != retryFor {
				t.Errorf("gives up after %v, want %v: %v", took, retryFor, err)
			}
			before := begin
			lines := logs.all()
			for i, line := range lines {
				if line.action != "connect" || !line.has(slog.Int("intento", i+1)) {
					t.Errorf("line %d is %v", i, line)
				}
				// The last delay is shorter: it ends when retryFor is over.
				delay, mean := line.at.Sub(before), min(reconnectDelayMax, reconnectDelayMin<<max(0, i-1))
				last := i == len(lines)-1
				if i > 0 && (delay < mean/2 && !last || delay > mean*3/2+time.Nanosecond) {
					t.Errorf("try %d after %v, want %v to %v", i+1, delay, mean/2, mean*3/2)
				}
				before = line.at
			}
			if len(lines) == 0 {
				t.Error("no try is logged")
			}
		})
	}
}

// The time counts from when the connection broke, even if it had been silent before.
func TestRetryForAfterWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memoryNetwork) {
		const retryFor = 10 * time.Second
		var gone time.Time
		stop := n.listen(t, greetThen(func(p *peer) {
			p.expect("GET_WINNERS|7")
			<-time.After(time.Hour)
			gone = time.Now()
		}))
		c, err := dial(t, n, WithRetryFor(retryFor))
		if err != nil {
			t.Fatal(err)
		}
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			stop()
		}()
		_, err = c.Winners(t.Context())
		<-stopped
		if took := time.Since(gone); !errors.Is(err, ErrUnreachable) || took != retryFor {
			t.Errorf("gives up after %v: %v", took, err)
		}
	})
}

// A server that is full counts as unreachable: the agency gives up after retryFor. A server that
// fails after every welcome is tried for ever, but more and more slowly.
func TestServerThatOnlyComplains(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memoryNetwork) {
		begin := time.Now()
		_, err := startOn(t, n, func(p *peer) {
			p.expect("HELLO|7")
			p.say("ERROR_TOO_MANY_CONNECTIONS")
		}, WithRetryFor(time.Minute))
		if took := time.Since(begin); !errors.Is(err, ErrUnreachable) || took != time.Minute || !strings.Contains(err.Error(), "ERROR_TOO_MANY_CONNECTIONS") {
			t.Errorf("after %v: %v", took, err)
		}
	})
	inBubble(t, func(t *testing.T, n *memoryNetwork) {
		var conns atomic.Int64
		c := mustStartOn(t, n, greetThen(func(p *peer) {
			conns.Add(1)
			if _, err := p.frame(); err == nil {
				p.say("ERROR_STORAGE")
			}
		}), WithRetryFor(time.Minute))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := c.Upload(ctx, "bets.csv", strings.NewReader(rowJuan))
		if got := conns.Load(); !errors.Is(err, context.DeadlineExceeded) || got < 3600/3 || got > 3600 {
			t.Errorf("%d connections in an hour, then %v", got, err)
		}
	})
}

// The agency leaves a server that reads but doesn't answer, and one that doesn't even read.
func TestServerThatHangs(t *testing.T) {
	input, lines := testInput(10)
	for name, hang := range map[string]func(p *peer){
		"before the welcome": mute,
		"before an ACK":      greetThen(mute),
		"taking nothing":     greetThen(func(p *peer) { <-p.t.Context().Done() }),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *memoryNetwork) {
				b := newBank()
				begin := time.Now()
				c := mustStartOn(t, n, inTurn(hang, b.serve))
				if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); err != nil {
					t.Fatal(err)
				}
				b.check(t, lines)
				if took, most := time.Since(begin), answerTimeout+lastWordsTimeout+time.Second; took < answerTimeout || took > most {
					t.Errorf("left it after %v, want %v to %v", took, answerTimeout, most)
				}
			})
		})
	}
}

// The agency doesn't leave a server that is slow with every batch.
func TestSlowServer(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memoryNetwork) {
		input, lines := testInput(10)
		b := newBank()
		c := mustStartOn(t, n, inTurn(func(p *peer) {
			for payload := range p.readAhead(len(lines) + 1) {
				<-time.After(answerTimeout - time.Second)
				p.say(b.answer(t, payload))
			}
		}), WithBatchBets(1))
		if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); err != nil {
			t.Fatal(err)
		}
		b.check(t, lines)
	})
}

// The agency doesn't leave a server that answers in time, even if it is slow to read the next
// batch, so that the agency reads the answer only after the deadline.
func TestAnswerHeardLate(t *testing.T) {
	const rounds = 20 // a wrong agency would leave only in some rounds
	for range rounds {
		inBubble(t, func(t *testing.T, n *memoryNetwork) {
			b := newBank()
			c := mustStartOn(t, n, inTurn(greetThen(func(p *peer) {
				payload, err := p.frame()
				if err != nil {
					t.Error(err)
					return
				}
				<-time.After(answerTimeout - 3*time.Second) // the next batch is on its way
				p.say(b.answer(t, payload))
				<-time.After(5 * time.Second) // the deadline of the answer passes
				b.serve(p)
			})), WithBatchBets(1))
			r, w := io.Pipe()
			go func() {
				for range 2 {
					if _, err := io.WriteString(w, rowJuan+"\n"); err != nil {
						t.Error(err)
					}
					<-time.After(answerTimeout - 5*time.Second)
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			}()
			p, err := c.Upload(t.Context(), "bets.csv", r)
			if err != nil || p.Stored != 2 || p.Reconnects != 0 {
				t.Fatalf("%+v, %v", p, err)
			}
		})
	}
}

// The agency doesn't leave the server while its input pauses for hours.
func TestSlowInput(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memoryNetwork) {
		b := newBank()
		c := mustStartOn(t, n, b.serve, WithBatchBets(1))
		r, w := io.Pipe()
		go func() {
			for range 3 {
				<-time.After(time.Hour)
				if _, err := io.WriteString(w, rowJuan+"\n"); err != nil {
					t.Error(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}()
		p, err := c.Upload(t.Context(), "bets.csv", r)
		if err != nil || p.Stored != 3 || p.Reconnects != 0 {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

// Polling keeps the connection, and its delays are spread.
func TestPollEvery(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memoryNetwork) {
		const every = time.Minute
		var before time.Time
		c := mustStartOn(t, n, inTurn(greetThen(func(p *peer) {
			for i := range 50 {
				p.expect("GET_WINNERS|7")
				if delay := time.Since(before); i > 0 && (delay < every/2 || delay > every*3/2) {
					t.Errorf("question %d after %v", i, delay)
				}
				before = time.Now()
				p.say("ERROR_LOTTERY_HASNT_ENDED")
			}
			p.expect("GET_WINNERS|7")
			p.say("")
		})), WithPollEvery(every))
		if _, err := c.Winners(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A done context ends every call at once, at any point.
func TestCancel(t *testing.T) {
	upload := func(c *Client, ctx context.Context) error {
		_, err := c.Upload(ctx, "bets.csv", strings.NewReader(rowJuan))
		return err
	}
	winners := func(c *Client, ctx context.Context) error {
		_, err := c.Winners(ctx)
		return err
	}
	tests := []struct {
		name   string
		handle func(*peer)
		call   func(*Client, context.Context) error
	}{
		{"upload without answer", greetThen(mute), upload},
		{"blocked in a write", greetThen(func(p *peer) { <-p.t.Context().Done() }), upload},
		{"waiting for the draw", greetThen(mute), winners},
		{"receipt without answer", greetThen(mute), (*Client).Confirm},
		{"between polls", greetThen(func(p *peer) {
			p.expect("GET_WINNERS|7")
			p.say("ERROR_LOTTERY_HASNT_ENDED")
			mute(p)
		}), winners},
		{"waiting for the input", greetThen(mute), func(c *Client, ctx context.Context) error {
			r, w := io.Pipe()
			defer w.Close()
			_, err := c.Upload(ctx, "bets.csv", r)
			return err
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *memoryNetwork) {
				c := mustStartOn(t, n, test.handle, WithPollEvery(time.Hour))
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				begin := time.Now()
				if err := test.call(c, ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 3*time.Second {
					t.Errorf("after %v: %v", time.Since(begin), err)
				}
				if c.conn != nil {
					t.Error("the socket is still open")
				}
			})
		})
	}
	for name, network := range map[string]func(t *testing.T, n *memoryNetwork){
		"nobody listens":      func(*testing.T, *memoryNetwork) {},
		"nobody accepts":      func(_ *testing.T, n *memoryNetwork) { n.stopped = make(chan struct{}) },
		"nobody says welcome": func(t *testing.T, n *memoryNetwork) { t.Cleanup(n.listen(t, mute)) },
	} {
		t.Run("dial, "+name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *memoryNetwork) {
				network(t, n)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				begin := time.Now()
				_, err := Dial(ctx, n.addr(), testAgency, append(n.options(), transportOptions(t)...)...)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 3*time.Second {
					t.Errorf("after %v: %v", time.Since(begin), err)
				}
			})
		})
	}
}

// A failed call can be repeated: it continues over a new connection.
func TestAgainAfterCancel(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memoryNetwork) {
		input, lines := testInput(20)
		b := newBank()
		c := mustStartOn(t, n, inTurn(greetThen(func(p *peer) {
			payload, err := p.frame()
			if err != nil {
				t.Error(err)
			}
			b.answer(t, payload) // stores the batch; the ACK is not sent
			mute(p)
		}), b.serve), WithBatchBets(6))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Upload(ctx, "bets.csv", strings.NewReader(input)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		p, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input))
		if err != nil || p.Acknowledged != 14 {
			t.Errorf("%+v, %v", p, err)
		}
		b.check(t, lines)
	})
}
