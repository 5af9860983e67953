package agency

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// uploaded is a client that has uploaded some rows and has its winners. What comes then, on this
// connection and on others, goes to rest in turn; the bank serves on if there is no rest.
func uploaded(t *testing.T, n network, rest ...func(*peer)) (*Client, *bank) {
	t.Helper()
	input, _ := testInput(20)
	b := newBank()
	if len(rest) == 0 {
		rest = append(rest, b.serve)
	}
	var conns atomic.Int32
	c := mustStartOn(t, n, func(p *peer) {
		turn := int(conns.Add(1)) - 1
		for range 3 { // HELLO, a batch, GET_WINNERS
			if turn > 0 {
				break
			}
			payload, err := p.frame()
			if err != nil {
				t.Error(err)
				return
			}
			p.say(b.answer(p.t, payload))
		}
		rest[min(turn, len(rest)-1)](p)
	}, WithBatchBets(100))
	if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Winners(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, b
}

// The agency confirms once, and knows that the server knows.
func TestConfirm(t *testing.T) {
	c, b := uploaded(t, newMemoryNetwork())
	if b.receipts != 0 {
		t.Error("the winners were confirmed before the caller said so")
	}
	for want := 1; want <= 2; want++ { // it may be said again
		if err := c.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b.receipts != want {
			t.Errorf("%d receipts, want %d", b.receipts, want)
		}
	}
}

// A connection that breaks before the ACK is followed by another one, on which the agency confirms
// and asks nothing a second time.
func TestConfirmAgain(t *testing.T) {
	cut := func(p *peer) { p.expect("RECEIVED|7") }
	_, lines := testInput(20)
	again := func(p *peer) {
		p.expect("HELLO|7")
		p.say(welcome(64, 65536, lines...))
		p.expect("RECEIVED|7")
	}
	last := func(p *peer) {
		again(p)
		p.say("ACK")
		p.expectClosed()
	}
	c, _ := uploaded(t, newMemoryNetwork(), cut, again, last)
	if err := c.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// Nobody acknowledges the receipt: because nobody is there, or because the server says nothing.
func TestConfirmUnacknowledged(t *testing.T) {
	_, lines := testInput(20)
	for name, rest := range map[string]func(*peer){
		"nobody there": func(*peer) {},
		"a mute server": func(p *peer) {
			p.expect("HELLO|7")
			p.say(welcome(64, 65536, lines...))
			p.expect("RECEIVED|7")
			p.expectClosed()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *memoryNetwork) {
				c, _ := uploaded(t, n, func(*peer) {}, rest)
				begun := time.Now()
				if err := c.Confirm(t.Context()); !errors.Is(err, ErrUnreachable) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(begun); took < RetryForDefault || took > RetryForDefault+answerTimeout {
					t.Errorf("gave up after %v, want %v", took, RetryForDefault)
				}
			})
		})
	}
}

// A server that has lost its draw is another one.
func TestConfirmLostDraw(t *testing.T) {
	c, _ := uploaded(t, newMemoryNetwork(), func(p *peer) {
		p.expect("RECEIVED|7")
		p.say("ERROR_LOTTERY_HASNT_ENDED")
		p.expectClosed()
	})
	if err := c.Confirm(t.Context()); !errors.Is(err, ErrLostDraw) {
		t.Errorf("got %v", err)
	}
}
