package agency

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// upTo answers like the bank until this payload comes. Then it calls last and ends the connection.
func (b *bank) upTo(payload string, last func(*peer)) func(*peer) {
	return func(p *peer) {
		for {
			got, err := p.frame()
			if err != nil {
				p.t.Errorf("%v before %q", err, payload)
				return
			}
			if got == payload {
				last(p)
				return
			}
			p.say(b.answer(p.t, got))
		}
	}
}

// The agency sends its receipt on every connection until it is acknowledged, and doesn't ask for
// the winners again.
func TestConfirm(t *testing.T) {
	t.Parallel() // it mostly waits
	input, lines := testInput(20)
	gone := func(*peer) {}
	saying := func(payload string) func(*peer) { return func(p *peer) { p.say(payload) } }
	for _, test := range []struct {
		name string
		cuts []func(b *bank) func(*peer) // the connections before the last one
		asks int                         // how often GET_WINNERS has to come
	}{
		{"at once", nil, 1},
		{"winners lost", []func(*bank) func(*peer){
			func(b *bank) func(*peer) {
				return b.upTo("GET_WINNERS|7", func(p *peer) {
					winners := b.answer(t, "GET_WINNERS|7")
					if _, err := p.conn.Write([]byte("999\n" + winners)); err != nil {
						t.Error(err)
					}
				})
			},
		}, 2},
		{"cut after the winners", []func(*bank) func(*peer){
			func(b *bank) func(*peer) {
				return b.upTo("GET_WINNERS|7", func(p *peer) { p.say(b.answer(t, "GET_WINNERS|7")) })
			},
		}, 1},
		{"ACK lost, and lost again", []func(*bank) func(*peer){
			func(b *bank) func(*peer) { return b.upTo("RECEIVED|7", func(*peer) { b.answer(t, "RECEIVED|7") }) },
			func(b *bank) func(*peer) { return b.upTo("RECEIVED|7", func(*peer) { b.answer(t, "RECEIVED|7") }) },
		}, 1},
		{"the server stops, and is full", []func(*bank) func(*peer){
			func(b *bank) func(*peer) { return b.upTo("RECEIVED|7", gone) },
			func(b *bank) func(*peer) { return b.upTo("HELLO|7", saying("ERROR_TOO_MANY_CONNECTIONS")) },
			func(b *bank) func(*peer) { return b.upTo("RECEIVED|7", saying("ERROR_STORAGE")) },
			func(b *bank) func(*peer) { return b.upTo("RECEIVED|7", saying("ERROR_TIMEOUT")) },
			func(b *bank) func(*peer) { return b.upTo("HELLO|7", saying("ERROR_LOTTERY_HASNT_ENDED")) },
		}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBank()
			var turns []func(*peer)
			for _, cut := range test.cuts {
				turns = append(turns, cut(b))
			}
			logs := newLogBook(slog.LevelInfo)
			c := mustStart(t, inTurn(append(turns, b.serve)...), WithLogger(slog.New(logs)))
			if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); err != nil {
				t.Fatal(err)
			}
			w, err := c.Winners(t.Context())
			if err != nil || w.Count() != 2 || b.received != 0 {
				t.Fatalf("%d winners, %d receipts, %v", w.Count(), b.received, err)
			}
			if err := c.Confirm(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.check(t, lines)
			if b.received == 0 || b.asked != test.asks {
				t.Errorf("%d receipts came, and the winners were asked for %d times, want %d", b.received, b.asked, test.asks)
			}
			if said := logs.about("ganadores_confirmados", success); len(said) != 1 {
				t.Errorf("logged %v, want one line", said)
			}
			before := b.received
			if err := c.Confirm(t.Context()); err != nil || b.received != before+1 {
				t.Errorf("confirming again: %d receipts more, %v", b.received-before, err)
			}
		})
	}
}

// A server that says that the draw hasn't taken place has lost it.
func TestConfirmBeforeTheDraw(t *testing.T) {
	c := mustStart(t, inTurn(func(p *peer) {
		p.expect("HELLO|7")
		p.say(welcome(nil, 64, 65536))
		p.expect("RECEIVED|7")
		p.say("ERROR_LOTTERY_HASNT_ENDED")
		p.expectClosed()
	}))
	if err := c.Confirm(t.Context()); !errors.Is(err, ErrLostBets) || !strings.Contains(err.Error(), "draw") {
		t.Errorf("got %v", err)
	}
}

// The agency gives up servers that never acknowledge a receipt after WithRetryFor, and the time
// that a pending answer gets.
func TestConfirmUnreachable(t *testing.T) {
	_, lines := testInput(10)
	var receipts atomic.Int64
	for _, test := range []struct {
		name     string
		retryFor time.Duration
		handle   func(*peer) // after the welcome
		receipts int64       // at least
	}{
		{"mute", time.Minute, func(p *peer) {
			for {
				if _, err := p.frame(); err != nil {
					return
				}
				receipts.Add(1)
			}
		}, 4},
		{"mute, tried once", 0, func(p *peer) {
			p.expect("RECEIVED|7")
			receipts.Add(1)
			mute(p)
		}, 1},
		{"closing", time.Minute, func(p *peer) {
			p.expect("RECEIVED|7")
			receipts.Add(1)
		}, 30},
		{"complaining", time.Minute, func(p *peer) {
			p.expect("RECEIVED|7")
			receipts.Add(1)
			p.say("ERROR_STORAGE")
		}, 30},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *memoryNetwork) {
				receipts.Store(0)
				c := mustStartOn(t, n, func(p *peer) {
					p.expect("HELLO|7")
					p.say(welcome(lines, 64, 65536))
					test.handle(p)
				}, WithRetryFor(test.retryFor))
				begin := time.Now()
				err := c.Confirm(t.Context())
				if took := time.Since(begin); !errors.Is(err, ErrUnreachable) || took < test.retryFor || took > test.retryFor+answerTimeout {
					t.Errorf("after %v: %v", took, err)
				}
				if got := receipts.Load(); got < test.receipts {
					t.Errorf("%d receipts were sent, want %d at least", got, test.receipts)
				}
			})
		})
	}
}

// The agency waits for a server that is gone as long as WithRetryFor allows, counted from the call
// of Confirm.
func TestConfirmServerGone(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memoryNetwork) {
		const retryFor = 10 * time.Second
		_, lines := testInput(10)
		b := newBank(slices.Clone(lines)...)
		stop := n.listen(t, b.upTo("GET_WINNERS|7", func(p *peer) { p.say(b.answer(t, "GET_WINNERS|7")) }))
		c, err := dial(t, n, WithRetryFor(retryFor))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Winners(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop()
		<-time.After(time.Hour) // the agency saves its winners
		begin := time.Now()
		err = c.Confirm(t.Context())
		if took := time.Since(begin); !errors.Is(err, ErrUnreachable) || took != retryFor {
			t.Errorf("after %v: %v", took, err)
		}
	})
}
