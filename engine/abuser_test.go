package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	"loteria/codec"
)

// act is something that agencies of ours don't do to a connection. Its error is the socket's: most
// tests want none, and an abuser has to expect it.
type act func(*wire) error

// does wants no errors.
func (w *wire) does(acts ...act) *wire {
	w.t.Helper()
	if err := w.tries(acts...); err != nil {
		w.t.Fatal(err)
	}
	return w
}

// tries does what it can.
func (w *wire) tries(acts ...act) error {
	for _, a := range acts {
		if err := a(w); err != nil {
			return err
		}
	}
	return nil
}

// halfCloses ends our side, as nc -N does.
func halfCloses(w *wire) error { return w.conn.CloseWrite() }

// resets closes as a killed process does whose socket has unread data.
func resets(w *wire) error { return errors.Join(w.conn.SetLinger(0), w.conn.Close()) }

// listens reads until the server closes.
func listens(w *wire) error {
	_, err := io.Copy(io.Discard, w.in)
	return err
}

// takes reads one answer, whatever it is.
func takes(w *wire) error {
	_, err := w.next()
	return err
}

// peeks waits for an answer, and leaves it where it is.
func peeks(w *wire) error {
	_, err := w.in.Peek(1)
	return err
}

// takesLittle has its system take little of what it doesn't read.
func takesLittle(w *wire) error { return w.conn.SetReadBuffer(64 << 10) }

// raw is bytes as they are, in one write.
func raw(b string) act {
	return func(w *wire) error {
		_, err := io.WriteString(w.conn, b)
		return err
	}
}

// repeats is the same again and again, for so many bytes.
func repeats(some string, bytes int) act {
	const atOnce = 64 << 10
	return func(w *wire) error {
		more := strings.Repeat(some, max(atOnce/len(some), 1))
		for sent := 0; sent < bytes; sent += len(more) {
			if err := w.tries(raw(more[:min(len(more), bytes-sent)])); err != nil {
				return err
			}
		}
		return nil
	}
}

// trickles is a byte now and then, until there is an answer.
func trickles(bytes string, every time.Duration) act {
	return func(w *wire) error {
		for i := range len(bytes) {
			if err := errors.Join(w.tries(raw(bytes[i:i+1])), w.conn.SetReadDeadline(time.Now().Add(every))); err != nil {
				return err
			}
			if err := peeks(w); !errors.Is(err, os.ErrDeadlineExceeded) {
				return errors.Join(err, w.rearm())
			}
		}
		return w.rearm()
	}
}

// sometimes is done once in so many times.
func sometimes(in int, a act) act {
	return func(w *wire) error {
		if rand.IntN(in) > 0 {
			return nil
		}
		return a(w)
	}
}

// sendsAnything is up to 64 kB that mean nothing.
func sendsAnything(w *wire) error {
	b := make([]byte, 1+rand.IntN(64<<10))
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return w.tries(raw(string(b)))
}

// abuse is what somebody does who means harm, or is broken. Nobody in it can speak for an agency.
type abuse struct {
	name  string
	acts  []act
	told  []codec.Code // all that it is told; nil: that depends
	kept  bool         // its connection stays open behind that
	conns int          // at once; 0: one
}

const (
	// manyBytes are more than sockets hold.
	manyBytes = 10 << 20
	// abuserFlood are connections at once.
	abuserFlood = 100
)

// hello99999 names an agency that nobody expects.
const hello99999 = "11\nHELLO|99999"

var (
	timeout      = []codec.Code{codec.CodeTimeout}
	invalidFrame = []codec.Code{codec.CodeInvalidFrame}
	invalidBatch = []codec.Code{codec.CodeInvalidBatch}
)

var abuses = []abuse{
	// Nothing at all, and halves of something.
	{name: "nothing", told: timeout},
	{name: "a header that never ends", acts: []act{raw("1048")}, told: timeout},
	{name: "half a batch", acts: []act{raw("500\nMaría|Gómez|")}, told: timeout},
	{name: "half a frame behind a whole one", acts: []act{raw(hello99999), raw("9\n")}, told: []codec.Code{codec.CodeInvalidAgency, codec.CodeTimeout}},
	{name: "a byte now and then, of a payload", acts: []act{trickles("1000\n"+strings.Repeat("A", 1000), 10*time.Millisecond)}, told: timeout},
	{name: "a byte now and then, of a header", acts: []act{trickles("10485", 300*time.Millisecond)}, told: timeout},
	// What is no frame.
	{name: "anything", acts: []act{sendsAnything, listens}},
	{name: "newlines without end", acts: []act{repeats("\n", 64<<10)}, told: invalidFrame},
	{name: "many bytes without a newline", acts: []act{repeats("A", manyBytes)}, told: invalidFrame},
	{name: "a length of many bytes", acts: []act{repeats("9", manyBytes)}, told: []codec.Code{codec.CodeFrameTooLarge}},
	{name: "many NULs", acts: []act{repeats("\x00", manyBytes)}, told: invalidFrame},
	{name: "a length of 20 digits", acts: []act{raw(strings.Repeat("9", 20) + "\n")}, told: []codec.Code{codec.CodeFrameTooLarge}},
	{name: "TLS", acts: []act{raw("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 506))}, told: invalidFrame},
	{name: "HTTP GET", acts: []act{raw("GET / HTTP/1.1\r\nHost: loteria\r\n\r\n")}, told: invalidFrame},
	{name: "HTTP POST of bets", acts: []act{raw("POST / HTTP/1.1\r\nHost: loteria\r\n\r\n" + string(frames(betJuan)))}, told: invalidFrame},
	// Frames that mean nothing.
	{name: "a batch of newlines", acts: []act{raw("65536\n"), repeats("\n", 65536)}, told: []codec.Code{codec.CodeEmptyBatch}, kept: true},
	{name: "a batch of NUL", acts: []act{raw("65536\n"), repeats("\x00", 65536)}, told: invalidBatch, kept: true},
	{name: "a batch that is not UTF-8", acts: []act{raw("65536\n"), repeats("\xff", 65536)}, told: invalidBatch, kept: true},
	{name: "a batch of one line without end", acts: []act{raw("65536\n"), repeats("A", 65536)}, told: invalidBatch, kept: true},
	{name: "more frames than the window allows", acts: []act{raw(strings.Repeat(hello99999, 500)), listens}},
	{name: "frames, a byte now and then", acts: []act{trickles(hello99999, 10*time.Millisecond), takes, trickles(hello99999, 10*time.Millisecond), takes}},
	{name: "nc -N", acts: []act{raw("0\n0\n" + hello99999), halfCloses}, told: []codec.Code{codec.CodeEmptyBatch, codec.CodeEmptyBatch, codec.CodeInvalidAgency}},
	// Questions, and nobody who reads the answers.
	{name: "questions without end", acts: []act{takesLittle, repeats("0\n", 1<<30)}},
	// Many at once, who leave at once.
	{name: "many who say nothing", conns: abuserFlood},
	{name: "many who don't wait for the answer", acts: []act{raw(hello99999)}, conns: abuserFlood},
}

// haunts speaks for an agency whose own process has not come yet: it takes it over again and again,
// and breaks off in the middle of its bets.
func haunts(id int) abuse {
	return abuse{acts: []act{
		raw(string(frames(fmt.Sprintf("HELLO|%d", id)))), sometimes(2, raw("60\nMaría|Gómez|")), sometimes(4, takes),
	}, conns: 20}
}

// abuserWait is how long an abuser waits for the server to close.
const abuserWait = time.Second

// play does it once, from addresses of this machine, and leaves by reset. It returns how many
// connections it had: the server may refuse to have more.
func (a abuse) play(ctx context.Context, addr string, from func() net.IP) (connections int) {
	for range max(a.conns, 1) {
		w, err := dial(ctx, addr, from(), abuserWait)
		if err != nil {
			break
		}
		connections++
		defer resets(w)
		defer context.AfterFunc(ctx, func() { w.conn.Close() })()
		if w.tries(a.acts...) == nil && a.told != nil {
			_ = listens(w)
		}
	}
	return connections
}
