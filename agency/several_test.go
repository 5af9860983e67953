package agency

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"loteria/codec"
)

// The first tests of this file use real sockets; those that control the clock are at the end.

// listeners are servers that listen, and are not serving yet.
type listeners struct {
	all   []net.Listener
	addrs []string
}

func listenAll(t *testing.T, servers int) *listeners {
	t.Helper()
	ls := &listeners{}
	for range servers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() }) // it may be closed already
		ls.all, ls.addrs = append(ls.all, l), append(ls.addrs, l.Addr().String())
	}
	return ls
}

// serve serves connections to server i until the test ends.
func (ls *listeners) serve(t *testing.T, i int, handle func(*peer)) {
	serving := serve(t, ls.all[i].Accept, handle)
	t.Cleanup(func() {
		_ = ls.all[i].Close()
		serving.Wait()
	})
}

// refuse makes the address of server i refuse connections.
func (ls *listeners) refuse(t *testing.T, i int) {
	t.Helper()
	if err := ls.all[i].Close(); err != nil {
		t.Fatal(err)
	}
}

// dial dials the addresses from the first to the last, in this order.
func (ls *listeners) dial(t *testing.T, first, last int, opts ...Option) (*Client, error) {
	t.Helper()
	return dial(t, &tcpNetwork{address: strings.Join(ls.addrs[first:last+1], ",")}, opts...)
}

// notLeader answers a HELLO that leader leads, and wants the agency to close.
func notLeader(leader string) func(*peer) {
	return func(p *peer) {
		p.expect("HELLO|7")
		p.sayNotLeader(leader)
	}
}

// sayNotLeader says that leader leads, and wants the agency to close.
func (p *peer) sayNotLeader(leader string) {
	_, payload, _ := strings.Cut(string(codec.AppendError(nil, codec.CodeNotLeader, leader)), "\n")
	p.say(payload)
	p.expectClosed()
}

// finish uploads the input, and wants all of it and the winners.
func finish(t *testing.T, c *Client, b *bank, input string, lines []string) Progress {
	t.Helper()
	p, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input))
	if err != nil {
		t.Fatal(err)
	}
	b.check(t, lines)
	if w, err := c.Winners(t.Context()); err != nil || w.Count() != len(lines)/10 {
		t.Fatalf("%d winners, %v", w.Count(), err)
	}
	if err := c.Confirm(t.Context()); err != nil || b.received != 1 {
		t.Fatalf("%d receipts, %v", b.received, err)
	}
	return p
}

// A server that refuses connections, and one that takes them and says nothing, are left for the
// next one. The log says which one answers.
func TestSeveralServers(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, first := range map[string]func(t *testing.T, ls *listeners){
		"refused": func(t *testing.T, ls *listeners) { ls.refuse(t, 0) },
		"silent":  func(t *testing.T, ls *listeners) { ls.serve(t, 0, mute) },
		"deaf":    func(*testing.T, *listeners) {}, // the system takes connections that nobody accepts
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			input, lines := testInput(100)
			logs := newLogBook(slog.LevelInfo)
			b := newBank()
			ls := listenAll(t, 2)
			first(t, ls)
			ls.serve(t, 1, b.serve)
			c, err := ls.dial(t, 0, 1, WithLogger(slog.New(logs)))
			if err != nil {
				t.Fatal(err)
			}
			if p := finish(t, c, b, input, lines); p.Reconnects != 0 {
				t.Errorf("%+v", p)
			}
			failed := logs.about("connect", slog.String("addr", ls.addrs[0]))
			if len(failed) != 1 || failed[0].level != slog.LevelWarn ||
				!failed[0].has(slog.Int("intento", 1)) {
				t.Errorf("logged %v of the first server", failed)
			}
			want := logLine{level: slog.LevelInfo, action: "connect",
				attrs: []slog.Attr{success, slog.Int("intento", 2), slog.String("addr", ls.addrs[1])}}
			if got := logs.about("connect", success); len(got) != 1 || !got[0].equal(want) {
				t.Errorf("logged %v, want %v", got, want)
			}
		})
	}
}

// A server that isn't the leader sends the agency to the leader, which may be the next one in the
// list, another one of it, or one that is not in it.
func TestNotLeader(t *testing.T) {
	const servers = 3
	for leader := range servers + 1 {
		input, lines := testInput(100)
		logs := newLogBook(slog.LevelInfo)
		b := newBank()
		ls := listenAll(t, servers+1)
		for i := range ls.all {
			if i == leader {
				ls.serve(t, i, b.serve)
			} else {
				ls.serve(t, i, notLeader(ls.addrs[leader]))
			}
		}
		c, err := ls.dial(t, 0, servers-1, WithLogger(slog.New(logs)))
		if err != nil {
			t.Fatal(err)
		}
		finish(t, c, b, input, lines)
		var want []logLine
		if leader > 0 {
			want = []logLine{
				{level: slog.LevelInfo, action: "connect", attrs: []slog.Attr{
					slog.String("result", "in_progress"),
					slog.String("motivo", "server says ERROR_NOT_LEADER: "+ls.addrs[leader]+" leads"),
					slog.Int("intento", 1), slog.String("addr", ls.addrs[0])}},
				{level: slog.LevelInfo, action: "connect", attrs: []slog.Attr{success,
					slog.Int("intento", 2), slog.String("addr", ls.addrs[leader])}},
			}
		}
		got := logs.all()
		for i := range want {
			if len(got) < len(want) || !got[i].equal(want[i]) {
				t.Fatalf("logged %v, want %v first", got, want)
			}
		}
		if n := len(logs.about("connect", success)); n != len(want)/2 {
			t.Errorf("%d connections are logged: %v", n, got)
		}
	}
}

// An agency with one address goes to the leader, too, and names it in the log.
func TestNotLeaderWithOneAddress(t *testing.T) {
	input, lines := testInput(100)
	logs := newLogBook(slog.LevelInfo)
	b := newBank()
	ls := listenAll(t, 2)
	ls.serve(t, 0, notLeader(ls.addrs[1]))
	ls.serve(t, 1, b.serve)
	c, err := ls.dial(t, 0, 0, WithLogger(slog.New(logs)))
	if err != nil {
		t.Fatal(err)
	}
	finish(t, c, b, input, lines)
	got := logs.about("connect", success)
	if len(got) != 1 || !got[0].has(slog.String("addr", ls.addrs[1])) {
		t.Errorf("logged %v", got)
	}
}

// Proofs are given to the server that sends on, and to the leader.
func TestNotLeaderWithSecret(t *testing.T) {
	secret := testSecret(t, sesame)
	input, lines := testInput(100)
	b := newBank()
	ls := listenAll(t, 2)
	ls.serve(t, 0, func(p *peer) {
		p.authenticate(secret, codec.Nonce{1})
		notLeader(ls.addrs[1])(p)
	})
	ls.serve(t, 1, func(p *peer) {
		p.authenticate(secret, codec.Nonce{2})
		b.serve(p)
	})
	c, err := ls.dial(t, 0, 1, WithSecret(secret))
	if err != nil {
		t.Fatal(err)
	}
	finish(t, c, b, input, lines)
}

// Servers that send the agency in circles don't make it spin.
func TestNotLeaderInCircles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := newLogBook(slog.LevelInfo)
		s := clockServers{}
		var conns atomic.Int64
		for addr, other := range map[string]string{"a:1": "b:1", "b:1": "a:1"} {
			s.serve(t, addr, func(p *peer) {
				conns.Add(1)
				notLeader(other)(p)
			})
		}
		_, err := s.dialClock(t, "a:1,b:1", WithRetryFor(time.Second), WithLogger(slog.New(logs)))
		if !errors.Is(err, ErrUnreachable) {
			t.Errorf("got %v", err)
		}
		failures := len(logs.about("connect", slog.String("result", "fail")))
		if n := int(conns.Load()); failures == 0 || failures > 10 || n > failures*(hopsMax+1) {
			t.Errorf("%d connections, %d failures: %v", n, failures, logs.all())
		}
	})
}

// A server that doesn't know the leader is left for the next one in turn.
func TestLeaderUnknown(t *testing.T) {
	input, lines := testInput(100)
	b := newBank()
	ls := listenAll(t, 3)
	ls.serve(t, 0, notLeader(""))
	ls.serve(t, 1, notLeader(""))
	ls.serve(t, 2, b.serve)
	c, err := ls.dial(t, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	finish(t, c, b, input, lines)
}

// The first server goes away in the middle of the upload. It has stored a batch that it hasn't
// acknowledged, or only received it. The second one goes on where the stored bets end.
func TestTakeOver(t *testing.T) {
	for name, last := range map[string]func(p *peer, b *bank, payload, next string){
		"cut, and stored": func(p *peer, b *bank, payload, _ string) { b.answer(p.t, payload) },
		"cut, and lost":   func(*peer, *bank, string, string) {},
		"sent on, and stored": func(p *peer, b *bank, payload, next string) {
			b.answer(p.t, payload)
			p.lastWords(next)
		},
		"sent on, and lost":         func(p *peer, _ *bank, _, next string) { p.lastWords(next) },
		"sent on, and nobody leads": func(p *peer, _ *bank, _, _ string) { p.lastWords("") },
		"stops, and says so": func(p *peer, _ *bank, _, _ string) {
			p.say("ERROR_LOTTERY_HASNT_ENDED")
		},
		"its disk fails, and says so": func(p *peer, _ *bank, _, _ string) { p.say("ERROR_STORAGE") },
	} {
		t.Run(name, func(t *testing.T) {
			input, lines := testInput(300)
			b := newBank()
			ls := listenAll(t, 2)
			ls.serve(t, 0, inTurn(func(p *peer) {
				for range 10 {
					payload, err := p.frame()
					if err != nil {
						t.Error(err)
						return
					}
					p.say(b.answer(t, payload))
				}
				payload, err := p.frame()
				if err != nil {
					t.Error(err)
				}
				last(p, b, payload, ls.addrs[1])
			}))
			ls.serve(t, 1, b.serve)
			c, err := ls.dial(t, 0, 1, WithBatchBets(10), WithWindow(3))
			if err != nil {
				t.Fatal(err)
			}
			if p := finish(t, c, b, input, lines); p.Reconnects != 1 || p.Stored != 300 {
				t.Errorf("%+v", p)
			}
			if b.conns != 1 {
				t.Errorf("%d connections to the second server", b.conns)
			}
		})
	}
}

// lastWords says that leader leads, and reads what is on its way, so that the words are not lost
// with a reset. The agency has to close.
func (p *peer) lastWords(leader string) {
	_, payload, _ := strings.Cut(string(codec.AppendError(nil, codec.CodeNotLeader, leader)), "\n")
	p.say(payload)
	if _, err := io.Copy(io.Discard, p.in); err != nil {
		p.t.Error(err)
	}
}

// A server stops leading while the agency waits for the draw, and while it waits for the ACK of its
// receipt.
func TestTakeOverWhileWaiting(t *testing.T) {
	input, lines := testInput(20)
	b := newBank()
	ls := listenAll(t, 2)
	ls.serve(t, 0, inTurn(
		b.upTo("GET_WINNERS|7", func(p *peer) { p.sayNotLeader(ls.addrs[1]) }),
		b.serve,
	))
	ls.serve(t, 1, inTurn(b.upTo("RECEIVED|7", func(p *peer) { p.sayNotLeader(ls.addrs[0]) })))
	c, err := ls.dial(t, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	finish(t, c, b, input, lines)
	if b.asked != 1 {
		t.Errorf("asked for the winners %d times", b.asked)
	}
}

// clockServers are servers in a bubble, by their addresses.
type clockServers map[string]*memoryNetwork

func (s clockServers) dial(ctx context.Context, addr string) (net.Conn, error) {
	if n := s[addr]; n != nil {
		return n.dial(ctx, addr)
	}
	return nil, errRefused
}

// serve serves connections to addr until the test ends.
func (s clockServers) serve(t *testing.T, addr string, handle func(*peer)) {
	s[addr] = newMemoryNetwork()
	t.Cleanup(s[addr].listen(t, handle))
}

// swallow makes connections to addr wait for ever, as those to a machine that is gone do.
func (s clockServers) swallow(addr string) {
	s[addr] = newMemoryNetwork()
	s[addr].stopped = make(chan struct{})
}

// dialClock dials addrs in a bubble.
func (s clockServers) dialClock(t *testing.T, addrs string, opts ...Option) (*Client, error) {
	opts = slices.Concat(transportOptions(t), opts, []Option{func(c *config) { c.dial = s.dial }})
	c, err := Dial(t.Context(), addrs, testAgency, opts...)
	if err == nil {
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return c, err
}

// What a dead server costs before the next one is asked.
func TestCostOfDeadServer(t *testing.T) {
	for _, test := range []struct {
		name string
		dead func(t *testing.T, s clockServers, b *bank)
		cost time.Duration
	}{
		{"refused", func(*testing.T, clockServers, *bank) {}, 0},
		{"gone", func(_ *testing.T, s clockServers, _ *bank) { s.swallow("a:1") }, dialTimeoutSeveral},
		{"silent", func(t *testing.T, s clockServers, _ *bank) {
			s.serve(t, "a:1", mute)
		}, answerTimeoutSeveral},
		{"not the leader", func(t *testing.T, s clockServers, _ *bank) {
			s.serve(t, "a:1", notLeader("b:1"))
		}, 0},
		{"not the leader, and the one it names is gone", func(t *testing.T, s clockServers, _ *bank) {
			s.serve(t, "a:1", notLeader("x:1"))
			s.swallow("x:1")
		}, dialTimeoutSeveral},
		{"hangs in the middle of the upload", func(t *testing.T, s clockServers, _ *bank) {
			s.serve(t, "a:1", greetThen(mute))
		}, answerTimeoutSeveral},
		{"hangs after an ACK", func(t *testing.T, s clockServers, b *bank) {
			s.serve(t, "a:1", greetThen(func(p *peer) {
				payload, err := p.frame()
				if err != nil {
					t.Error(err)
				}
				p.say(b.answer(t, payload))
				mute(p)
			}))
		}, answerTimeoutSeveral},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				input, lines := testInput(10)
				s, b := clockServers{}, newBank()
				test.dead(t, s, b)
				s.serve(t, "b:1", b.serve)
				begin := time.Now()
				c, err := s.dialClock(t, "a:1,b:1", WithBatchBets(2))
				if err != nil {
					t.Fatal(err)
				}
				finish(t, c, b, input, lines)
				if took := time.Since(begin); took != test.cost {
					t.Errorf("took %v, want %v", took, test.cost)
				}
			})
		})
	}
}

// The leader that a server has named works, and breaks. If it is in the list, it is the last of the
// next round: the turn goes on behind it.
func TestLeaderThatBroke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		input, lines := testInput(20)
		s, b := clockServers{}, newBank()
		s.serve(t, "a:1", inTurn(notLeader("c:1"), b.serve))
		s.serve(t, "b:1", func(*peer) { t.Error("b:1 is tried before a:1") })
		s.serve(t, "c:1", inTurn(b.upTo("GET_WINNERS|7", func(*peer) {})))
		c, err := s.dialClock(t, "a:1,b:1,c:1,d:1")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		p := finish(t, c, b, input, lines)
		if took := time.Since(begin); took != 0 || p.Reconnects != 0 {
			t.Errorf("%+v, after %v", p, took)
		}
	})
}

// A round over the addresses has no delay in it. Those between rounds grow. The agency gives up
// after retryFor, and without it after one round.
func TestRounds(t *testing.T) {
	for _, retryFor := range []time.Duration{0, time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			const addrs = 3
			logs := newLogBook(slog.LevelInfo)
			begin := time.Now()
			_, err := clockServers{}.dialClock(t, "a:1,b:1,c:1",
				WithRetryFor(retryFor), WithLogger(slog.New(logs)))
			unreachable := errors.Is(err, ErrUnreachable) && errors.Is(err, errRefused)
			if took := time.Since(begin); !unreachable || took != retryFor {
				t.Errorf("gives up after %v, want %v: %v", took, retryFor, err)
			}
			want := "a:1,b:1,c:1, for " + retryFor.String() + ": c:1: connection refused"
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			lines := logs.all()
			if len(lines)%addrs != 0 || len(lines) == 0 {
				t.Fatalf("%d tries, want whole rounds", len(lines))
			}
			for i, line := range lines {
				want := []string{"a:1", "b:1", "c:1"}[i%addrs]
				if !line.has(slog.String("addr", want)) || !line.has(slog.Int("intento", i+1)) {
					t.Errorf("try %d is %v, want %s", i+1, line, want)
				}
				if i == 0 {
					continue
				}
				delay, round := line.at.Sub(lines[i-1].at), i/addrs
				mean := min(reconnectDelayMax, reconnectDelayMin<<max(0, round-1))
				last := i >= len(lines)-addrs // it begins when retryFor is over
				switch {
				case i%addrs > 0 && delay != 0,
					i%addrs == 0 && delay < mean/2 && !last,
					i%addrs == 0 && delay > mean*3/2+time.Nanosecond:
					t.Errorf("try %d after %v", i+1, delay)
				}
			}
		})
	}
}

// Addresses that nobody answers at don't make the agency stay much longer than retryFor.
func TestRetryForWithSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clockServers{}
		for _, addr := range []string{"a:1", "b:1", "c:1"} {
			s.swallow(addr)
		}
		const retryFor = 1500 * time.Millisecond
		begin := time.Now()
		_, err := s.dialClock(t, "a:1,b:1,c:1", WithRetryFor(retryFor))
		if took := time.Since(begin); !errors.Is(err, ErrUnreachable) || took != retryFor+dialTimeoutMin {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// During an election no server knows the leader. The agency is soon at the new one.
func TestElection(t *testing.T) {
	const runs = 200 // the delays are random
	for range runs {
		synctest.Test(t, func(t *testing.T) {
			const election = 700 * time.Millisecond
			s, b := clockServers{}, newBank()
			begin := time.Now()
			var hellos atomic.Int64
			follower := func(p *peer) {
				hellos.Add(1)
				if time.Since(begin) < election {
					notLeader("")(p)
				} else {
					notLeader("c:1")(p)
				}
			}
			s.serve(t, "b:1", follower)
			s.serve(t, "c:1", func(p *peer) {
				if time.Since(begin) < election {
					follower(p)
				} else {
					b.serve(p)
				}
			})
			if _, err := s.dialClock(t, "a:1,b:1,c:1"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > election+600*time.Millisecond {
				t.Errorf("took %v", took)
			}
			if n := hellos.Load(); n > 20 {
				t.Errorf("%d connections to servers that don't lead", n)
			}
		})
	}
}

// After hopsMax hops the agency backs off.
func TestCircle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clockServers{}
		s.serve(t, "a:1", notLeader("b:1"))
		s.serve(t, "b:1", notLeader("a:1"))
		logs := newLogBook(slog.LevelInfo)
		_, err := s.dialClock(t, "a:1,b:1", WithRetryFor(0), WithLogger(slog.New(logs)))
		want := "a:1,b:1, for 0s: a:1: sent on 5 times without progress: " +
			"server says ERROR_NOT_LEADER: b:1 leads; check"
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		lines := logs.all()
		if len(lines) != hopsMax+1 {
			t.Fatalf("logged %v", lines)
		}
		for i, line := range lines {
			last := i == hopsMax
			if line.has(slog.String("result", "fail")) != last || (line.level == slog.LevelWarn) != last {
				t.Errorf("line %d is %v", i+1, line)
			}
		}
	})
}

// Servers that welcome the agency, and then send it in circles, are tried for ever, but more and
// more slowly.
func TestCirclesAreSlow(t *testing.T) {
	t.Parallel() // it mostly waits
	synctest.Test(t, func(t *testing.T) {
		s := clockServers{}
		var conns atomic.Int64
		for addr, other := range map[string]string{"a:1": "b:1", "b:1": "a:1"} {
			s.serve(t, addr, greetThen(func(p *peer) {
				conns.Add(1)
				if _, err := p.frame(); err == nil {
					p.sayNotLeader(other)
				}
			}))
		}
		c, err := s.dialClock(t, "a:1,b:1")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err = c.Upload(ctx, "bets.csv", strings.NewReader(rowJuan))
		got := conns.Load()
		if !errors.Is(err, context.DeadlineExceeded) || got > 3600*(hopsMax+1) || got < 3600/3 {
			t.Errorf("%d connections in an hour, then %v", got, err)
		}
	})
}

// Close and a done context end a client that is sent in circles, or is between two servers.
func TestCancelBetweenServers(t *testing.T) {
	for name, servers := range map[string]func(t *testing.T, s clockServers){
		"refused": func(*testing.T, clockServers) {},
		"gone":    func(_ *testing.T, s clockServers) { s.swallow("a:1"); s.swallow("b:1") },
		"circles": func(t *testing.T, s clockServers) {
			s.serve(t, "a:1", notLeader("b:1"))
			s.serve(t, "b:1", notLeader("a:1"))
		},
		"no leader": func(t *testing.T, s clockServers) {
			s.serve(t, "a:1", notLeader(""))
			s.serve(t, "b:1", notLeader(""))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := clockServers{}
				servers(t, s)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				begin := time.Now()
				_, err := Dial(ctx, "a:1,b:1", testAgency, func(c *config) { c.dial = s.dial })
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 3*time.Second {
					t.Errorf("after %v: %v", time.Since(begin), err)
				}
			})
		})
	}
}
