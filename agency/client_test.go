package agency

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"loteria/codec"
)

// The tests of this file use real sockets. Tests that control the clock are in clock_test.go.

// start dials a server that serves connections with handle. Client and server end with the test.
func start(t *testing.T, handle func(*peer), opts ...Option) (*Client, error) {
	t.Helper()
	return startOn(t, &tcpNetwork{}, handle, opts...)
}

func startOn(t *testing.T, n network, handle func(*peer), opts ...Option) (*Client, error) {
	t.Helper()
	t.Cleanup(n.listen(t, handle))
	return dial(t, n, opts...)
}

func dial(t *testing.T, n network, opts ...Option) (*Client, error) {
	t.Helper()
	opts = slices.Concat(n.options(), transportOptions(t), opts)
	c, err := Dial(t.Context(), n.addr(), testAgency, opts...)
	if err == nil {
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return c, err
}

func mustStart(t *testing.T, handle func(*peer), opts ...Option) *Client {
	t.Helper()
	c, err := start(t, handle, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestUploadAndWinners(t *testing.T) {
	tests := []struct {
		name    string
		rows    int
		stored  int // before the upload
		opts    []Option
		welcome codec.Welcome
		batches int64
	}{
		{name: "defaults", rows: 1000, batches: 7},
		{name: "no bets", rows: 0},
		{name: "one", rows: 1, batches: 1},
		{name: "stop and wait", rows: 100, opts: []Option{WithBatchBets(7), WithWindow(1)}, batches: 15},
		{name: "small frames", rows: 100, opts: []Option{WithBatchBets(7)}, welcome: codec.Welcome{Window: 2, FrameBytesMax: BatchBytesMin}, batches: 17},
		{name: "small batches", rows: 100, opts: []Option{WithBatchBytes(BatchBytesMin)}, batches: 17},
		{name: "resumed", rows: 1000, stored: 333, batches: 5},
		{name: "resumed at the end", rows: 1000, stored: 1000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			input, lines := testInput(test.rows)
			b := newBank(lines[:test.stored:test.stored]...)
			if test.welcome.Window > 0 {
				b.welcome = test.welcome
			}
			var last Progress
			c := mustStart(t, b.serve, append(test.opts, WithProgress(func(p Progress) { last = p }))...)
			if got := c.Stored(); got != int64(test.stored) {
				t.Errorf("%d stored after the welcome, want %d", got, test.stored)
			}
			got, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input))
			if err != nil {
				t.Fatal(err)
			}
			want := Progress{Stored: int64(test.rows), Acknowledged: int64(test.rows - test.stored), Batches: test.batches}
			for i, line := range lines[test.stored:] {
				want.PayloadBytes += int64(len(line))
				if i > 0 {
					want.PayloadBytes++
				}
			}
			want.PayloadBytes -= max(0, test.batches-1) // no '\n' between batches
			if got != want || test.batches > 0 && last != want {
				t.Errorf("got %+v, at last %+v; want %+v", got, last, want)
			}
			b.check(t, lines)
			if c.Stored() != int64(test.rows) {
				t.Errorf("%d stored, want %d", c.Stored(), test.rows)
			}

			winners, err := c.Winners(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var wantWinners []string
			for i := 9; i < test.rows; i += 10 {
				wantWinners = append(wantWinners, lines[i])
			}
			if winners.Count() != len(wantWinners) || string(winners.Bytes()) != strings.Join(wantWinners, "\n") {
				t.Errorf("%d winners, want %d:\n%s", winners.Count(), len(wantWinners), winners.Bytes())
			}
			var gotWinners []string
			for bet := range winners.Bets() {
				gotWinners = append(gotWinners, string(codec.AppendBet(nil, bet)))
			}
			if !slices.Equal(gotWinners, wantWinners) {
				t.Errorf("bets of the winners are %q", gotWinners)
			}
		})
	}
}

// The agency sends exactly these messages and no others.
func TestWire(t *testing.T) {
	c := mustStart(t, inTurn(func(p *peer) {
		p.expect("HELLO|7")
		p.say(welcome(nil, 64, 65536))
		p.expect(strings.TrimSuffix(lineJuan+lineLuz, "\n"), strings.TrimSuffix(lineJuan, "\n"))
		p.say("ACK", "ACK")
		p.expect("GET_WINNERS|7")
		p.say(strings.TrimSuffix(lineJuan, "\n"))
		p.expectClosed()
	}), WithBatchBets(2))
	if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(rowJuan+"\r\n"+rowLuz+"\r\n"+rowJuan)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Winners(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Uploading an input again, or one that has grown, continues where the last upload ended.
func TestUploadAgain(t *testing.T) {
	input, lines := testInput(50)
	b := newBank()
	c := mustStart(t, b.serve, WithBatchBets(4))
	for _, rows := range []int{20, 20, 50} {
		part := strings.Join(strings.SplitAfter(input, "\n")[:rows], "")
		if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(part)); err != nil {
			t.Fatal(err)
		}
		b.check(t, lines[:rows])
	}
}

// The server stops in the middle of the upload and is away for some tries. It comes back with
// everything that it had acknowledged, and one batch more.
func TestServerRestarts(t *testing.T) {
	input, lines := testInput(300)
	logs := newLogBook(slog.LevelInfo)
	n := &tcpNetwork{}
	b := newBank()
	leaving := make(chan struct{})
	stop := n.listen(t, func(p *peer) {
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
		b.answer(t, payload) // stores the batch; the answer is not sent
		close(leaving)
	})
	go func() {
		<-leaving
		stop()
	}()
	var stopAgain func()
	t.Cleanup(func() { stopAgain() }) // runs after the client's cleanup
	c, err := dial(t, n, WithBatchBets(10), WithWindow(3), WithLogger(slog.New(logs)))
	if err != nil {
		t.Fatal(err)
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		for range 3 {
			<-logs.warned
		}
		<-leaving
		stop()
		stopAgain = n.listen(t, b.serve)
	}()
	got, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input))
	if err != nil {
		t.Fatal(err)
	}
	<-back
	b.check(t, lines)
	if got.Reconnects != 1 || got.Stored != 300 || got.Acknowledged != 290 {
		t.Errorf("got %+v, want 1 reconnect and 290 of 300 bets acknowledged", got)
	}
	ok := logs.about("connect", success)
	if len(ok) != 1 || ok[0].value("intento").Int64() < 4 {
		t.Errorf("the reconnect is logged as %v", ok)
	}
}

// A server answers a batch with every error of the protocol's table, and closes if the table says
// so.
func TestRejected(t *testing.T) {
	input, _ := testInput(3)
	for _, code := range codec.Codes() {
		t.Run(code.String(), func(t *testing.T) {
			turns := []func(*peer){func(p *peer) {
				p.expect("HELLO|7")
				p.say(welcome(nil, 64, 65536))
				if _, err := p.frame(); err != nil {
					t.Error(err)
				}
				p.say(code.String())
				if !code.Closes() {
					p.expectClosed()
				}
			}}
			retried := false
			switch code {
			case codec.CodeTimeout, codec.CodeTooManyConnections, codec.CodeStorage, codec.CodeLotteryHasntEnded,
				codec.CodeNotLeader:
				retried = true
				turns = append(turns, newBank().serve)
			}
			c := mustStart(t, inTurn(turns...))
			p, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input))
			var rejected *RejectedError
			switch {
			case retried && (err != nil || p.Stored != 3 || p.Reconnects != 1):
				t.Errorf("got %+v, %v; want another try to succeed", p, err)
			case !retried && (!errors.As(err, &rejected) || rejected.Code != code || p.Reconnects != 0):
				t.Errorf("got %+v, %v; want it rejected", p, err)
			}
		})
	}
}

func TestRejectedHello(t *testing.T) {
	_, err := start(t, inTurn(func(p *peer) {
		p.expect("HELLO|7")
		p.say("ERROR_INVALID_AGENCY")
		p.expectClosed()
	}))
	var rejected *RejectedError
	if !errors.As(err, &rejected) || rejected.Code != codec.CodeInvalidAgency || !strings.Contains(err.Error(), "check this agency's id") {
		t.Errorf("got %v", err)
	}
}

// A rejection names the line of the input.
func TestRejectedRow(t *testing.T) {
	c := mustStart(t, inTurn(func(p *peer) {
		p.expect("HELLO|7")
		p.say(welcome(nil, 64, 65536))
		for range 2 {
			if _, err := p.frame(); err != nil {
				t.Error(err)
			}
		}
		p.say("ACK", "ERROR_INVALID_BATCH|2|birthdate: is mine")
		p.expectClosed()
	}), WithBatchBets(2))
	input := rowJuan + "\n" + rowJuan + "\n\n" + rowJuan + "\n" + rowLuz + "\n"
	_, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input))
	want := "bets.csv, line 5: server rejects: ERROR_INVALID_BATCH: birthdate: is mine"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// The agency hears what the server said before it closed, even if the agency is in the middle of
// writing and the connection is reset.
func TestLastWords(t *testing.T) {
	input, _ := testInput(20000)
	for range 5 {
		c := mustStart(t, inTurn(func(p *peer) {
			p.expect("HELLO|7")
			p.say(welcome(nil, 1000, 65536))
			if _, err := p.frame(); err != nil {
				t.Error(err)
			}
			p.say("ERROR_AGENCY_TAKEN_OVER")
		}), WithWindow(WindowMax), WithBatchBytes(60000), WithBatchBets(1000))
		var rejected *RejectedError
		if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); !errors.As(err, &rejected) || rejected.Code != codec.CodeAgencyTakenOver {
			t.Fatalf("got %v", err)
		}
	}
}

func TestPoll(t *testing.T) {
	input, lines := testInput(10)
	b := newBank()
	b.polls = 3
	c := mustStart(t, b.serve, WithPollEvery(time.Millisecond))
	if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	winners, err := c.Winners(t.Context())
	if err != nil || string(winners.Bytes()) != lines[9] {
		t.Errorf("got %q, %v", winners.Bytes(), err)
	}
	if b.asked != 4 || b.conns != 1 {
		t.Errorf("asked %d times over %d connections, want 4 over 1", b.asked, b.conns)
	}
}

// A server that stops before the draw sends waiting agencies away. They come back.
func TestServerStopsWhileWaiting(t *testing.T) {
	waiting := func(last ...string) func(*peer) {
		return func(p *peer) {
			p.expect("HELLO|7")
			p.say(welcome(nil, 64, 65536))
			p.expect("GET_WINNERS|7")
			p.say(last...)
		}
	}
	// The poll delay must not matter: after a server has closed, the agency asks at once on the
	// next connection.
	c := mustStart(t, inTurn(
		waiting("ERROR_LOTTERY_HASNT_ENDED"),
		waiting(), // closes without an answer
		waiting("ERROR_LOTTERY_HASNT_ENDED"),
		waiting(""),
	), WithPollEvery(time.Hour))
	winners, err := c.Winners(t.Context())
	if err != nil || winners.Count() != 0 || len(winners.Bytes()) != 0 {
		t.Errorf("got %q, %v", winners.Bytes(), err)
	}
}

func TestWinnersAgain(t *testing.T) {
	_, lines := testInput(10)
	c := mustStart(t, newBank(lines...).serve)
	for range 2 {
		if w, err := c.Winners(t.Context()); err != nil || w.Count() != 1 {
			t.Errorf("got %d winners, %v", w.Count(), err)
		}
	}
}

// After a bad row the batches before it may be stored, and nothing is reported. Uploading the
// mended input continues.
func TestBadRow(t *testing.T) {
	input, lines := testInput(100)
	rows := strings.SplitAfter(input, "\r\n")
	bad := strings.Join(rows[:50], "") + "Juan|,Pérez,1,2000-01-01,1\r\n" + strings.Join(rows[50:], "")
	b := newBank()
	c := mustStart(t, b.serve, WithBatchBets(10))
	_, err := c.Upload(t.Context(), "agency-7.csv", strings.NewReader(bad))
	var row *RowError
	if !errors.As(err, &row) || row.Name != "agency-7.csv" || row.Line != 51 {
		t.Errorf("got %v, want line 51 of agency-7.csv", err)
	}
	if _, err := c.Winners(t.Context()); !errors.Is(err, ErrIncomplete) {
		t.Errorf("Winners after a failed upload: %v", err)
	}
	b.mu.Lock()
	if n := len(b.lines); n > 50 || n%10 != 0 || b.asked > 0 {
		t.Errorf("%d bets stored, asked %d times; want at most 50 in whole batches, and 0", n, b.asked)
	}
	b.mu.Unlock()
	if _, err := c.Upload(t.Context(), "agency-7.csv", strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	b.check(t, lines)
	if _, err := c.Winners(t.Context()); err != nil {
		t.Error(err)
	}
}

// The server sends replies that no lottery server would send.
func TestWrongServer(t *testing.T) {
	tests := []struct {
		name  string
		bytes string
		want  error
	}{
		{"HTTP", "HTTP/1.1 400 Bad Request\r\n", ErrProtocol},
		{"endless length", "99999999999999999999\n", ErrReplyTooLarge},
		{"a byte too large", "1001\n", ErrReplyTooLarge},
		{"winners at once", "3\nfoo", ErrProtocol},
		{"bad welcome", "11\nWELCOME|0|0", ErrProtocol},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := start(t, inTurn(func(p *peer) {
				if _, err := p.conn.Write([]byte(test.bytes)); err != nil {
					t.Error(err)
				}
				p.expect("HELLO|7")
				p.expectClosed()
			}), WithReplyBytesMax(1000))
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestWinnersThatAreNone(t *testing.T) {
	c := mustStart(t, inTurn(func(p *peer) {
		p.expect("HELLO|7")
		p.say(welcome(nil, 64, 65536))
		p.expect("GET_WINNERS|7")
		p.say(strings.TrimSuffix(lineJuan, "\n") + "\nJuan|Pérez")
		p.expectClosed()
	}))
	if _, err := c.Winners(t.Context()); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
}

// The winners' frame is larger than any buffer.
func TestManyWinners(t *testing.T) {
	line := strings.TrimSuffix(lineJuan, "\n")
	b := newBank(slices.Repeat([]string{line}, 100_000)...)
	c := mustStart(t, b.serve)
	w, err := c.Winners(t.Context())
	if err != nil || w.Count() != 100_000 || len(w.Bytes()) != 100_000*len(lineJuan)-1 {
		t.Errorf("%d winners of %d bytes, %v", w.Count(), len(w.Bytes()), err)
	}
	small := mustStart(t, b.serve, WithReplyBytesMax(len(w.Bytes())-1))
	if _, err := small.Winners(t.Context()); !errors.Is(err, ErrReplyTooLarge) {
		t.Errorf("a byte over the limit: %v", err)
	}
}

// The client warns about an input without bets, since the report that follows is final. It doesn't
// warn about any other input.
func TestNoBets(t *testing.T) {
	for _, test := range []struct {
		input string
		warns int
	}{{"", 1}, {"\r\n\n", 1}, {rowJuan + "\n", 0}} {
		logs := newLogBook(slog.LevelWarn)
		b := newBank()
		c := mustStart(t, b.serve, WithLogger(slog.New(logs)))
		if _, err := c.Upload(t.Context(), "agency-7.csv", strings.NewReader(test.input)); err != nil {
			t.Fatal(err)
		}
		about := len(logs.about("lectura", slog.String("archivo", "agency-7.csv")))
		if about != test.warns || len(logs.all()) != test.warns {
			t.Errorf("%q: before the report it logs %v, want %d about the file", test.input, logs.all(), test.warns)
		}
		if _, err := c.Winners(t.Context()); err != nil {
			t.Error(err)
		}
	}
	// After a bad row there is no report, so there is nothing to warn about.
	logs := newLogBook(slog.LevelWarn)
	c := mustStart(t, newBank().serve, WithLogger(slog.New(logs)))
	if _, err := c.Upload(t.Context(), "agency-7.csv", strings.NewReader("Juan\n")); err == nil || len(logs.all()) != 0 {
		t.Errorf("error %v, logs %v", err, logs.all())
	}
}

func TestLostBets(t *testing.T) {
	input, lines := testInput(20)
	c := mustStart(t, inTurn(
		func(p *peer) {
			p.expect("HELLO|7")
			p.say(welcome(nil, 1, 65536))
			if _, err := p.frame(); err != nil {
				t.Error(err)
			}
			p.say("ACK")
		},
		func(p *peer) {
			p.expect("HELLO|7")
			p.say(welcome(lines[:9], 1, 65536))
			p.expectClosed()
		},
	), WithBatchBets(10))
	if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); !errors.Is(err, ErrLostBets) {
		t.Errorf("got %v", err)
	}
}

func TestOtherBets(t *testing.T) {
	input, _ := testInput(20)
	_, lines := testInput(21)
	c := mustStart(t, newBank(lines...).serve)
	if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); !errors.Is(err, ErrOtherBets) ||
		!strings.Contains(err.Error(), "21 stored for agency 7, 20 in the input") {
		t.Errorf("got %v", err)
	}
}

// Close ends a waiting call. After it every call fails, and none hangs.
func TestClose(t *testing.T) {
	asked := make(chan struct{})
	c := mustStart(t, inTurn(func(p *peer) {
		p.expect("HELLO|7")
		p.say(welcome(nil, 1, 65536))
		p.expect("GET_WINNERS|7")
		close(asked)
		p.expectClosed()
	}))
	go func() {
		<-asked
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := c.Winners(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if _, err := c.Winners(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after closing: %v", err)
	}
	if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(rowJuan)); !errors.Is(err, ErrClosed) {
		t.Errorf("after closing: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Dial(t.Context(), l.Addr().String(), testAgency, WithRetryFor(100*time.Millisecond))
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

func TestOptions(t *testing.T) {
	tests := []struct {
		name string
		addr string
		id   codec.Agency
		opt  Option
		want string
	}{
		{"no bets", "x:1", 1, WithBatchBets(0), "WithBatchBets(0)"},
		{"few bytes", "x:1", 1, WithBatchBytes(BatchBytesMin - 1), "309 to 16777216"},
		{"many bytes", "x:1", 1, WithBatchBytes(BatchBytesMax + 1), "309 to 16777216"},
		{"no window", "x:1", 1, WithWindow(0), "1 to 1024"},
		{"wide window", "x:1", 1, WithWindow(WindowMax + 1), "1 to 1024"},
		{"negative retry", "x:1", 1, WithRetryFor(-1), "WithRetryFor(-1ns)"},
		{"no delay", "x:1", 1, WithPollEvery(0), "WithPollEvery(0s)"},
		{"no reply", "x:1", 1, WithReplyBytesMax(0), "WithReplyBytesMax(0)"},
		{"no clock", "x:1", 1, WithClock(nil), "WithClock(nil)"},
		{"no logger", "x:1", 1, WithLogger(nil), "WithLogger(nil)"},
		{"no progress", "x:1", 1, WithProgress(nil), "WithProgress(nil)"},
		{"agency 0", "x:1", 0, WithWindow(1), "agency 0"},
		{"agency too large", "x:1", 1_000_000_000, WithWindow(1), "agency 1000000000"},
		{"no port", "localhost", 1, WithWindow(1), "host:port"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // Dial must not open anything
			_, err := Dial(ctx, test.addr, test.id, test.opt)
			if !errors.Is(err, ErrOption) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want ErrOption with %q", err, test.want)
			}
		})
	}
}
