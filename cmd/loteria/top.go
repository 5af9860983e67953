package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"loteria/engine/admin/board"
	"loteria/engine/settings"
)

const topHelp = `Watch a draw in the terminal: what the server's board shows. ADDR is the server's
SERVER_HTTP_ADDR. If the server isn't there yet, or is gone, top says so and tries
again. q or Ctrl-C ends it. When the server ends, the last picture stays, and top
exits with 0.

With --once, or if standard output is no terminal, it prints one picture as plain
text. NO_COLOR leaves out the colors.

Exit codes: 0 done, or ended with a key or a signal; 1 nothing answers (only for one
picture).`

// Limits of what a server may say. A State takes less than a tenth of it.
const (
	topStateBytesMax  = 1 << 20
	topHeaderBytesMax = 64 << 10
)

const (
	// topRetryPeriod is the time between two attempts to connect.
	topRetryPeriod = time.Second
	// topSilenceMax is after how long without a word a server counts as gone. It sends something
	// every 15 s.
	topSilenceMax = 45 * time.Second
	// topSizePeriod is how soon a new size of the terminal is noticed.
	topSizePeriod = 250 * time.Millisecond
)

var (
	errTopAnswer = errors.New("this is no board of a lottery's server")
	errTopLong   = errors.New("a state that is longer than a server's can be")
	errTopEnded  = errors.New("the server has ended the connection")
)

// topConfig is the part of the server's configuration that `loteria top` needs.
type topConfig struct {
	HTTPAddr string `env:"SERVER_HTTP_ADDR" envDefault:"127.0.0.1:8080" help:"address on which the server is watched" legal:"HOST:PORT or :PORT"`
}

func newTopCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:     "top [ADDR]",
		Short:   "Watch a draw in the terminal",
		Long:    topHelp + "\n\n" + environmentHelp(topConfig{}),
		Example: "  loteria top localhost:8080\n  loteria top --once",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var cfg topConfig
			if err := loadEnvironment(&cfg); err != nil {
				return err
			}
			if len(args) == 1 {
				cfg.HTTPAddr = args[0]
			}
			if err := settings.CheckAddr("ADDR", cfg.HTTPAddr, "HOST:PORT or :PORT"); err != nil {
				return err
			}
			terminal, ok := cmd.OutOrStdout().(*os.File)
			if once || !ok || !term.IsTerminal(int(terminal.Fd())) || !term.IsTerminal(int(os.Stdin.Fd())) {
				return topOnce(cmd.Context(), cfg.HTTPAddr, cmd.OutOrStdout())
			}
			return runTop(cmd.Context(), cfg.HTTPAddr, os.Stdin, terminal)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "print one picture as plain text")
	return cmd
}

// topURL is the URL of a path at an address, whose host may be missing.
func topURL(addr, path string) string {
	host, port, _ := net.SplitHostPort(addr) // it was checked
	return "http://" + net.JoinHostPort(cmp.Or(host, "localhost"), port) + path
}

// topGet asks for a page. The caller closes the body.
func topGet(ctx context.Context, url string) (*http.Response, error) {
	client := http.Client{
		Transport: &http.Transport{
			MaxResponseHeaderBytes: topHeaderBytesMax, DisableKeepAlives: true, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("%w: %s answers %d", errTopAnswer, url, response.StatusCode),
			response.Body.Close())
	}
	return response, nil
}

// topOnce prints one picture.
func topOnce(ctx context.Context, addr string, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, topSilenceMax)
	defer cancel()
	response, err := topGet(ctx, topURL(addr, "/api/state"))
	if err != nil {
		return fmt.Errorf("%w: does the server run, with SERVER_HTTP_ADDR=%s?", err, addr)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, topStateBytesMax))
	err = errors.Join(err, response.Body.Close())
	var state *board.State
	if err == nil {
		state, err = parseState(text)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(stdout, topPicture{state: state, width: topWidthPlain}.text())
	return err
}

func parseState(text []byte) (*board.State, error) {
	var state *board.State
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, fmt.Errorf("%w: %w", errTopAnswer, err)
	}
	if state == nil {
		return nil, fmt.Errorf("%w: it has no state", errTopAnswer)
	}
	return state, nil
}

// topUpdate is a newer state, or why there is none.
type topUpdate struct {
	state *board.State
	last  bool // the server has ended
	err   error
}

// follow reads the board's events once, and hands each state to show. It returns nil after the last
// one.
func follow(ctx context.Context, addr string, show func(topUpdate)) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(topSilenceMax, cancel)
	defer silence.Stop()
	response, err := topGet(ctx, topURL(addr, "/board/events"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, topStateBytesMax)
	event := ""
	for lines.Scan() {
		silence.Reset(topSilenceMax)
		if name, ok := bytes.CutPrefix(lines.Bytes(), []byte("event: ")); ok {
			event = string(name)
			continue
		}
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok || event != "state" && event != "bye" {
			continue
		}
		state, err := parseState(data)
		if err != nil {
			return err
		}
		show(topUpdate{state: state, last: event == "bye"})
		if event == "bye" {
			return nil
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return errTopLong
	}
	return cmp.Or(lines.Err(), errTopEnded)
}

// followOn follows the server until its last event, and tries again when it isn't there.
func followOn(ctx context.Context, addr string, show func(topUpdate)) {
	for ctx.Err() == nil {
		err := follow(ctx, addr, show)
		if err == nil {
			return
		}
		show(topUpdate{err: err})
		select {
		case <-ctx.Done():
		case <-time.After(topRetryPeriod):
		}
	}
}

// What a terminal is told.
const (
	topEnter = "\x1b[?1049h\x1b[?25l" // the other screen, without a cursor
	topLeave = "\x1b[?25h\x1b[?1049l"
	topHome  = "\x1b[H"
	topRest  = "\x1b[K" // clears the rest of a line
	topBelow = "\x1b[J"
)

// The keys that end top.
const topKeys = "qQ\x03"

// runTop shows the draw until the server ends, or a key or ctx ends it.
func runTop(ctx context.Context, addr string, keyboard, terminal *os.File) (err error) {
	before, err := term.MakeRaw(int(keyboard.Fd()))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // it ends with the process: a read of a terminal can't be interrupted
		defer cancel()
		key := make([]byte, 1)
		for {
			if n, err := keyboard.Read(key); err != nil || n == 1 && bytes.Contains([]byte(topKeys), key) {
				return
			}
		}
	}()
	updates := make(chan topUpdate)
	go followOn(ctx, addr, func(u topUpdate) {
		select {
		case updates <- u:
		case <-ctx.Done():
		}
	})
	picture := topPicture{color: os.Getenv("NO_COLOR") == "", note: "connecting to " + addr}
	_, err = io.WriteString(terminal, topEnter)
	err = errors.Join(err, showTop(ctx, terminal, &picture, addr, updates))
	_, errLeave := io.WriteString(terminal, topLeave)
	err = errors.Join(err, errLeave, term.Restore(int(keyboard.Fd()), before))
	if err == nil && picture.state != nil { // it stays
		_, err = io.WriteString(terminal, picture.text())
	}
	return err
}

// showTop draws what changes, until the last state or until ctx is done.
func showTop(ctx context.Context, terminal *os.File, p *topPicture, addr string, updates <-chan topUpdate) error {
	sizes := time.NewTicker(topSizePeriod)
	defer sizes.Stop()
	for {
		if width, height, err := term.GetSize(int(terminal.Fd())); err == nil {
			p.width, p.height = width, height
		}
		text := bytes.ReplaceAll([]byte(p.text()), []byte("\n"), []byte(topRest+"\r\n"))
		text = bytes.TrimSuffix(text, []byte("\r\n")) // a line end in the last line would scroll
		if _, err := fmt.Fprintf(terminal, "%s%s%s", topHome, text, topBelow); err != nil {
			return err
		}
		select {
		case u := <-updates:
			p.take(u, addr)
			if u.last {
				return nil
			}
		case <-sizes.C:
		case <-ctx.Done():
			return nil
		}
	}
}
