package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

const (
	abuserWait       = time.Second // of an abuser for the server to close
	abuserFlood      = 100         // connections at once
	abuserBytesPause = 10 * time.Millisecond
	// abuserSources is from how many addresses one kind of abuser comes.
	abuserSources = 200
)

// abuser is one appearance of somebody who means harm, or is broken.
type abuser struct {
	soak  *soak
	ctx   context.Context // done: go
	kind  int
	conns []*net.TCPConn
}

// connect opens a connection. It is nil if the server doesn't want any more.
func (a *abuser) connect() *net.TCPConn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(a.kind), byte(1+rand.IntN(abuserSources)))}}
	c, err := d.DialContext(a.ctx, "tcp", a.soak.addr)
	if err != nil {
		return nil
	}
	a.soak.abuses.Add(1)
	conn := c.(*net.TCPConn)
	_ = conn.SetDeadline(time.Now().Add(abuserWait)) // fails only if the socket is closed
	a.conns = append(a.conns, conn)
	return conn
}

// hangUp resets all connections.
func (a *abuser) hangUp() {
	for _, c := range a.conns {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

// say writes, and listens until the server closes. Errors are what an abuser
// has to expect.
func (a *abuser) say(words ...string) {
	c := a.connect()
	if c == nil {
		return
	}
	defer context.AfterFunc(a.ctx, func() { c.Close() })()
	for _, w := range words {
		if _, err := io.WriteString(c, w); err != nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, c)
}

// abuses are what is done to the server. Nobody in it can speak for an agency.
var abuses = []func(*abuser){
	// Nothing at all, and halves of something.
	func(a *abuser) { a.say() },
	func(a *abuser) { a.say("500\nMaría|Gómez|") },
	func(a *abuser) { a.say("7\nHELLO|9", "9\n") },
	func(a *abuser) { a.say(strings.Repeat("6", 4)) },
	// What is no frame.
	func(a *abuser) {
		b := make([]byte, 1+rand.IntN(64<<10))
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		a.say(string(b))
	},
	func(a *abuser) { a.say("GET / HTTP/1.1\r\nHost: loteria\r\n\r\n") },
	func(a *abuser) { a.say("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") },
	func(a *abuser) { a.say("99999999999999999999\n") },
	func(a *abuser) { a.say(strings.Repeat("\n", 64<<10)) },
	// Frames that mean nothing, more than the window allows.
	func(a *abuser) { a.say(strings.Repeat("8\nHELLO|99", 500)) },
	func(a *abuser) { a.say("65536\n" + strings.Repeat("\x00", 65536) + "14\nGET_WINNERS|99") },
	// Questions, and nobody who reads the answers.
	func(a *abuser) {
		c := a.connect()
		if c == nil {
			return
		}
		defer context.AfterFunc(a.ctx, func() { c.Close() })()
		_ = c.SetReadBuffer(4 << 10)
		for questions := []byte(strings.Repeat("0\n", 50)); a.ctx.Err() == nil; {
			if _, err := c.Write(questions); err != nil {
				return
			}
		}
	},
	// Many at once, who leave at once.
	func(a *abuser) {
		for range abuserFlood {
			a.connect()
		}
	},
	func(a *abuser) {
		for range abuserFlood {
			if c := a.connect(); c != nil {
				_, _ = io.WriteString(c, "8\nHELLO|99") // the answer is not read
			}
		}
	},
	// A byte at a time.
	func(a *abuser) {
		c := a.connect()
		if c == nil {
			return
		}
		ticks := time.NewTicker(abuserBytesPause)
		defer ticks.Stop()
		for _, b := range bytes.Repeat([]byte("8\nHELLO|99"), 20) {
			select {
			case <-ticks.C:
			case <-a.ctx.Done():
				return
			}
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
		}
	},
	// nc -N.
	func(a *abuser) {
		c := a.connect()
		if c == nil {
			return
		}
		defer context.AfterFunc(a.ctx, func() { c.Close() })()
		_, _ = io.WriteString(c, "0\n0\n8\nHELLO|99")
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	},
}

// abuseHaunting speaks for an agency whose own process has not come yet: it takes
// it over again and again, and breaks off in the middle of its bets.
func abuseHaunting(a *abuser) {
	for range 20 {
		c := a.connect()
		if c == nil {
			return
		}
		_, _ = fmt.Fprintf(c, "7\nHELLO|%d", soakHaunted)
		if rand.IntN(2) == 0 {
			_, _ = io.WriteString(c, "60\nMaría|Gómez|")
		}
		if rand.IntN(4) == 0 {
			_, _ = c.Read(make([]byte, 64))
		}
	}
}
