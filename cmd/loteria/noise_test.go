package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"loteria/codec"
)

// hostileTexts would forge a line or disturb a terminal if they got into the log unchanged.
var hostileTexts = []string{
	"\x1b[2J\x1b[31mrojo",
	"\n2026-11-23 10:00:00 INFO     action: sorteo | result: success | apuestas: 0 | cant_ganadores: 0\n",
	"\r2026-11-23 10:00:00 INFO     action: sorteo",
	" | action: sorteo | result: success",
	" | ip: 10.0.0.1 | suprimidas: 1000",
	`","action":"sorteo","result":"success`,
	"\xff\xfe\xc3",
	"\x00\x00",
	"\u2028action: sorteo\u2029",
	"\u202eotros\u2066\ufeff",
	"\u0085\u009b31m",
	`\n`,
	strings.Repeat("ñ|", 2000),
}

// event is the action and the result of a log line.
type event [2]string

// The events that any peer can provoke.
var (
	eventConnection = event{"accept_connections", "success"}
	eventRefused    = event{"accept_connections", "fail"}
	eventRequest    = event{"solicitud", "fail"}
	eventWait       = event{"solicitud", "in_progress"}
	eventBatch      = event{"apuesta_recibida", "fail"}
	eventHello      = event{"hello", "success"}
	eventWinners    = event{"ganadores_enviados", "success"}
)

const (
	// floodPhase is how long the abusers of TestFlood go on before the draw, and again after it.
	floodPhase = 750 * time.Millisecond
	// floodConnectionsMax is enough for the honest agency and one connection of each abuser, but
	// not for a burst.
	floodConnectionsMax = 6
	floodBurst          = 8
	// floodLeast is how often each event has to be provoked for the test to say something.
	floodLeast = 10
)

// Two addresses provoke every line that they can, as often as they can, with bytes that would forge
// other lines. The log has at most one line a second for each event and address; lines and
// suppressed lines together are as many as were provoked; and no line is forged.
func TestFlood(t *testing.T) {
	for _, format := range []string{"line", "json"} {
		t.Run(format, func(t *testing.T) {
			port, err := freePort()
			if err != nil {
				t.Fatal(err)
			}
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			server, err := startProcess(t.TempDir(), []string{
				"PATH=" + os.Getenv("PATH"), "LOG_FORMAT=" + format, "SERVER_ADDR=" + addr,
				// With polling, a GET_WINNERS is also answered before the draw.
				"SERVER_AGENCIES=3", "SERVER_WINNERS=poll",
				fmt.Sprintf("SERVER_CONNECTIONS_MAX=%d", floodConnectionsMax),
			}, "loteria", "server")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.kill)
			if err := server.stdout.await(regexp.MustCompile("in_progress"), 1, server.ended); err != nil {
				t.Fatalf("%v: %s", err, server.stderr)
			}
			began := time.Now()
			honest, err := dialFrom("127.0.0.3", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer honest.Close()
			honest.wants(t, "HELLO|3", "WELCOME|0|64|65536|00000000")

			abusers := []*abuser{newAbuser(addr, "127.0.0.1", 1), newAbuser(addr, "127.0.0.2", 2)}
			enough, over := make(chan struct{}), make(chan error, len(abusers))
			for _, a := range abusers {
				go func() { over <- a.flood(enough) }()
			}
			<-time.After(floodPhase)
			for _, a := range abusers {
				select {
				case <-a.reported:
				case err := <-over:
					t.Fatal(err)
				}
			}
			const bet = "Ana|Paz|1|1990-01-01|7574|3"
			honest.wants(t, bet, "ACK")
			honest.wants(t, "GET_WINNERS|3", bet)
			<-time.After(floodPhase)
			close(enough)
			for range abusers {
				if err := <-over; err != nil {
					t.Error(err)
				}
			}
			honest.wants(t, "RECEIVED|3", "ACK")
			if err := honest.Close(); err != nil {
				t.Error(err)
			}
			if code, err := server.wait(); err != nil || code != exitDone {
				t.Fatalf("the server ends with %d, %v", code, err)
			}
			checkFlood(t, format, server.stdout.String(), abusers, time.Since(began))
		})
	}
}

// checkFlood checks the log of a flood that lasted for took.
func checkFlood(t *testing.T, format, log string, abusers []*abuser, took time.Duration) {
	t.Helper()
	type origin struct {
		event
		ip string
	}
	lines, suppressed := map[origin]int{}, map[origin]int{}
	for text := range strings.Lines(log) {
		line, values, err := readLogLine(format, strings.TrimSuffix(text, "\n"))
		if err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		from := origin{line, values["ip"]}
		lines[from]++
		if n, ok := values["suprimidas"]; ok {
			count, err := strconv.Atoi(n)
			if err != nil || count < 1 || from.ip == "" {
				t.Errorf("suppressed %q of %v", n, from)
			}
			suppressed[from] += count
		}
	}
	// Every report but the last is followed by a line that names the missing agencies; two reports
	// in one group share that line.
	waits := origin{event{"espera", "in_progress"}, ""}
	if n := lines[waits]; n < 1 || n > len(abusers) {
		t.Errorf("%d lines name the agencies that are missing, want 1 to %d", n, len(abusers))
	}
	delete(lines, waits)
	want := map[origin]int{ // lines without a limit
		{event{"sorteo", "success"}, ""}:                      1,
		{event{"fin_apuestas", "success"}, ""}:                len(abusers) + 1,
		{event{"apuesta_recibida", "success"}, ""}:            1,
		{event{"accept_connections", "success"}, "127.0.0.3"}: 1,
		{eventHello, ""}:   len(abusers) + 1, // the first of each agency
		{eventWinners, ""}: len(abusers) + 1,
		{event{"ganadores_recibidos", "success"}, ""}:    len(abusers) + 1,
		{event{"limites", "success"}, ""}:                1,
		{event{"ledger", "success"}, ""}:                 2,
		{event{"accept_connections", "in_progress"}, ""}: 1,
		{event{"config", "success"}, ""}:                 1,
		{event{"export", "success"}, ""}:                 1,
		{event{"exit", "success"}, ""}:                   1,
	}
	linesMax := int(math.Ceil(took.Seconds())) + 1 // one more at the end
	for _, a := range abusers {
		a.provoked[eventHello]-- // the first of each agency
		a.provoked[eventWinners]--
		for e, n := range a.provoked {
			from := origin{e, a.ip}
			if got := lines[from] + suppressed[from]; got != n || n < floodLeast {
				t.Errorf("%v: %d lines and %d suppressed, provoked were %d",
					from, lines[from], suppressed[from], n)
			}
			if lines[from] > linesMax {
				t.Errorf("%v: %d lines in %v, want at most %d", from, lines[from], took, linesMax)
			}
			want[from] = lines[from]
		}
		if len(a.provoked) != 7 {
			t.Errorf("%s provoked %v", a.ip, a.provoked)
		}
		t.Logf("%s provoked %v", a.ip, a.provoked)
	}
	for from, n := range lines {
		if want[from] != n {
			t.Errorf("%v: %d lines, want %d", from, n, want[from])
		}
	}
}

// readLogLine reads one line of the log, in either format. The line must be printable ASCII.
func readLogLine(format, text string) (event, map[string]string, error) {
	unprintable := func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }
	if i := strings.IndexFunc(text, unprintable); i >= 0 {
		return event{}, nil, fmt.Errorf("byte %d is not printable ASCII", i)
	}
	if format == "line" {
		action, result, values, err := parseLine(text)
		return event{action, result}, values, err
	}
	in := json.NewDecoder(strings.NewReader(text))
	in.UseNumber()
	var fields map[string]any
	if err := in.Decode(&fields); err != nil {
		return event{}, nil, err
	}
	values := map[string]string{}
	hostile := func(r rune) bool { return r == '|' || !unicode.IsPrint(r) }
	for key, value := range fields {
		if values[key] = fmt.Sprint(value); strings.ContainsFunc(values[key], hostile) {
			return event{}, nil, fmt.Errorf("%s is %q", key, value)
		}
	}
	return event{values["action"], values["result"]}, values, nil
}

// floodConn is a connection of its own, without package agency.
type floodConn struct {
	net.Conn
	in *bufio.Reader
}

// dialFrom connects from an address of this machine.
func dialFrom(ip, addr string) (*floodConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &floodConn{conn, bufio.NewReader(conn)}, conn.SetDeadline(time.Now().Add(eventTimeout))
}

// ask sends bytes and returns the payload of the next answer.
func (c *floodConn) ask(raw []byte) (string, error) {
	if _, err := c.Write(raw); err != nil {
		return "", err
	}
	header, err := c.in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("no answer to %.60q: %w", raw, err)
	}
	size, err := strconv.Atoi(strings.TrimSuffix(header, "\n"))
	if err != nil {
		return "", err
	}
	payload := make([]byte, size)
	_, err = io.ReadFull(c.in, payload)
	return string(payload), err
}

func (c *floodConn) wants(t *testing.T, message, want string) {
	t.Helper()
	if answer, err := c.ask(codec.AppendFrame(nil, []byte(message))); err != nil || answer != want {
		t.Fatalf("%q is answered %q, %v; want %q", message, answer, err, want)
	}
}

// abuser is an agency that provokes every event that it can, and counts them.
type abuser struct {
	addr, ip string
	agency   int
	provoked map[event]int
	rounds   int
	reported chan struct{} // closed by report: it has reported, and asked often enough for winners
	report   func()
}

func newAbuser(addr, ip string, agency int) *abuser {
	reported := make(chan struct{})
	return &abuser{addr: addr, ip: ip, agency: agency, provoked: make(map[event]int),
		reported: reported, report: sync.OnceFunc(func() { close(reported) })}
}

// flood goes on until enough is closed and it has provoked every event often enough.
func (a *abuser) flood(enough <-chan struct{}) error {
	for {
		select {
		case <-enough:
			if a.provoked[eventWinners] > floodLeast { // the rarest of the events
				return nil
			}
		default:
		}
		err := errors.Join(a.talk(hostileTexts[a.rounds%len(hostileTexts)]), a.burst())
		if err != nil {
			return fmt.Errorf("%s, round %d: %w", a.ip, a.rounds, err)
		}
		a.rounds++
	}
}

// errRefused says that the server had too many connections.
var errRefused = errors.New("refused")

// say sends raw and counts the event that the log must have for it.
func (a *abuser) say(c *floodConn, first bool, raw []byte) error {
	answer, err := c.ask(raw)
	if err != nil {
		return err
	}
	if answer == codec.CodeTooManyConnections.String() {
		a.provoked[eventRefused]++
		return errRefused
	}
	if first {
		a.provoked[eventConnection]++
	}
	name, _, _ := strings.Cut(answer, "|")
	switch name {
	case "WELCOME":
		a.provoked[eventHello]++
	case "ACK": // of a receipt; the first one has a line without a limit
	case "":
		a.provoked[eventWinners]++ // an abuser has no winners
	case codec.CodeInvalidBatch.String():
		a.provoked[eventBatch]++
	case codec.CodeInvalidFrame.String(), codec.CodeInvalidHello.String(),
		codec.CodeInvalidGetWinners.String():
		a.provoked[eventRequest]++
	case codec.CodeLotteryHasntEnded.String():
		a.provoked[eventWait]++
	default:
		return fmt.Errorf("%.60q is answered %q", raw, answer)
	}
	return nil
}

// talk sends, on one connection, every message that provokes a line.
func (a *abuser) talk(text string) (err error) {
	c, err := dialFrom(a.ip, a.addr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for i, message := range []string{
		fmt.Sprintf("HELLO|%d", a.agency),
		// After a HELLO the answer also has the line and the reason.
		fmt.Sprintf("Ana|Paz|1|%s|7574|%d", text, a.agency),
		text + "x",
		"HELLO|" + text,
		"GET_WINNERS|" + text,
		fmt.Sprintf("GET_WINNERS|%d", a.agency),
		fmt.Sprintf("RECEIVED|%d", a.agency), // before the draw it is told to wait
		fmt.Sprintf("HELLO|%d", a.agency),
	} {
		err := a.say(c, i == 0, codec.AppendFrame(nil, []byte(message)))
		if errors.Is(err, errRefused) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	if a.provoked[eventWait] >= floodLeast { // after the draw this event can't be provoked
		a.report()
	}
	return a.say(c, false, []byte(text)) // no frame at all
}

// burst connects more often than the server has room for.
func (a *abuser) burst() (err error) {
	var all []*floodConn
	for range floodBurst {
		c, err := dialFrom(a.ip, a.addr)
		if err != nil {
			return err
		}
		all = append(all, c)
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	for _, c := range all {
		if err := a.say(c, true, []byte("x")); err != nil && !errors.Is(err, errRefused) {
			return err
		}
	}
	return nil
}
