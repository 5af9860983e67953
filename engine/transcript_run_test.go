package engine_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"go.uber.org/zap"

	"loteria/codec"
	"loteria/codec/certtest"
	"loteria/engine"
	"loteria/engine/channel"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

// manner is how a draw is played.
type manner struct {
	split    split
	volatile bool // the disk, see testDisk
	patience time.Duration
	secure   *secureEnds // nil: without TLS
}

// secureEnds are both ends of TLS.
type secureEnds struct {
	server certtest.Files
	client *tls.Config
}

func newSecureEnds(t testing.TB) *secureEnds {
	authority := certtest.New(t)
	return &secureEnds{
		server: authority.Files(t, certtest.Server(1), authority),
		client: &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", NextProtos: []string{codec.TLSProtocol}},
	}
}

// playConn is a client's end of a connection.
type playConn interface {
	net.Conn
	CloseWrite() error
}

// cutConn is what TLS is over. Its end is an error unless the server has said so.
type cutConn struct{ net.Conn }

func (c cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		err = channel.ErrCut
	}
	return n, err
}

// split tells where bytes that are sent as one are cut: the offsets, in order.
type split func(length int) []int

func whole(int) []int { return nil }

func everyByte(length int) []int {
	offsets := make([]int, 0, length)
	for i := 1; i < length; i++ {
		offsets = append(offsets, i)
	}
	return offsets
}

func cutAt(offset int) split {
	return func(length int) []int {
		if offset < length {
			return []int{offset}
		}
		return nil
	}
}

// play is one run of a draw against a server of its own.
type play struct {
	manner
	settings settings
	disk     *testDisk
	server   *liveServer
	ended    chan error // the server's result; nil if there is none
	conns    map[string]playConn
	// challenges has the last one of every connection.
	challenges map[string]codec.Nonce
}

// run plays the draw with a server on a ledger in dir, which must be empty. An
// error names the line that went another way.
func (d *draw) run(dir string, m manner) (err error) {
	ctx := context.Background()
	p := &play{
		manner:     m,
		settings:   settings{"SERVER_ADDR": "127.0.0.1:0", "SERVER_DATA_DIR": dir},
		conns:      make(map[string]playConn),
		challenges: make(map[string]codec.Nonce),
	}
	if m.secure != nil {
		p.settings["SERVER_TLS_ADDR"] = "127.0.0.1:0"
		p.settings["SERVER_TLS_CERT_FILE"], p.settings["SERVER_TLS_KEY_FILE"] = m.secure.server.Cert, m.secure.server.Key
	}
	maps.Copy(p.settings, d.settings)
	if d.secrets != "" {
		file := filepath.Join(dir, "secrets")
		if err := os.WriteFile(file, []byte(d.secrets), 0o600); err != nil {
			return err
		}
		p.settings["SERVER_AGENCY_SECRETS_FILE"] = file
	}
	if err := p.start(); err != nil {
		return fmt.Errorf("%s.txt: draw %s: %w", d.file, d.name, err)
	}
	defer func() { err = errors.Join(err, p.cleanUp()) }()
	for _, st := range d.steps {
		if err := p.step(ctx, st); err != nil {
			return fmt.Errorf("%s.txt:%d: %s: %w", d.file, st.line, st.text, err)
		}
	}
	if err := d.checkLedger(dir); err != nil {
		return fmt.Errorf("%s.txt: draw %s: %w", d.file, d.name, err)
	}
	return nil
}

func (p *play) start() error {
	var cfg engine.Config
	if err := env.ParseWithOptions(&cfg, env.Options{Environment: p.settings}); err != nil {
		return err
	}
	p.disk = &testDisk{volatile: p.volatile}
	server, err := startLive(cfg, zap.NewNop(), ledger.Options{FS: p.disk, SegmentBytes: ledger.SegmentBytesMin})
	if err == nil {
		p.server, p.ended = server, server.ended
	}
	return err
}

// cleanUp ends what a failed run has left behind; there is nothing to end
// after one that went well.
func (p *play) cleanUp() error {
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	if p.ended != nil {
		p.server.stop()
		errs = append(errs, <-p.ended)
	}
	return errors.Join(errs...)
}

func (p *play) step(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	switch s.verb {
	case stops:
		p.server.stop()
		return nil
	case breaks:
		p.disk.broken.Store(true)
		return nil
	case exits:
		return p.awaitExit(ctx, s.code)
	case restarts:
		maps.Copy(p.settings, s.settings)
		return p.start()
	case connects, sends:
		if err := p.connect(ctx, s.conn); err != nil {
			return err
		}
	}
	c := p.conns[s.conn]
	if c == nil {
		return fmt.Errorf("%s is not connected", s.conn)
	}
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	switch s.verb {
	case sends:
		out, err := p.fill(s)
		if err != nil {
			return err
		}
		return p.send(ctx, c, out)
	case receives:
		got, err := receive(c, s.bytes, s.blanks)
		if err != nil {
			return err
		}
		return p.learn(s, got)
	case shuts:
		return c.CloseWrite()
	case closes:
		if err := c.CloseWrite(); err != nil {
			return err
		}
		return p.awaitClose(s.conn, c)
	case closed:
		return p.awaitClose(s.conn, c)
	case vanishes:
		delete(p.conns, s.conn)
		return c.Close()
	}
	return nil
}

// connect makes the connection of that name if there is none, and returns when
// the server knows of it.
func (p *play) connect(ctx context.Context, name string) error {
	if p.conns[name] != nil {
		return nil
	}
	addr := p.server.Addr()
	if p.secure != nil {
		addr = p.server.SecureAddr()
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return err
	}
	p.conns[name] = c.(*net.TCPConn)
	if p.secure != nil {
		secured := tls.Client(cutConn{c}, p.secure.client)
		p.conns[name] = secured
		if err := secured.HandshakeContext(ctx); err != nil {
			return err
		}
	}
	return p.server.AwaitConnections(ctx, p.server.dialed.Add(1))
}

// send writes b in the pieces that the run's split makes of it. The server has
// read each before the next is sent.
func (p *play) send(ctx context.Context, c net.Conn, b []byte) error {
	sent := 0
	for _, end := range p.split(len(b)) {
		if _, err := c.Write(b[sent:end]); err != nil {
			return err
		}
		if err := p.server.AwaitRead(ctx); err != nil {
			return err
		}
		sent = end
	}
	_, err := c.Write(b[sent:])
	return err
}

// receive reads exactly want, with its blanks filled in, and not a byte more.
func receive(c net.Conn, want []byte, blanks []blank) ([]byte, error) {
	got := make([]byte, len(want))
	for n := 0; n < len(want); {
		more, err := c.Read(got[n:])
		n += more
		if !matches(want, blanks, got[:n]) {
			return nil, fmt.Errorf("got %q", got[:n])
		}
		if err != nil && n < len(want) {
			return nil, fmt.Errorf("got %q, then: %w", got[:n], err)
		}
	}
	return got, nil
}

// awaitClose reads what must be nothing but the end of the connection.
func (p *play) awaitClose(name string, c playConn) error {
	delete(p.conns, name)
	rest, err := io.ReadAll(c)
	if len(rest) > 0 {
		err = errors.Join(fmt.Errorf("got %q, want nothing more", rest), err)
	}
	return errors.Join(err, c.Close())
}

func (p *play) awaitExit(ctx context.Context, want int) error {
	if len(p.conns) > 0 {
		return fmt.Errorf("the transcript leaves %q open", slices.Sorted(maps.Keys(p.conns)))
	}
	select {
	case err := <-p.ended:
		p.server.stop()
		p.ended = nil
		if got := exitCode(err); got != want {
			return fmt.Errorf("exit code is %d: %w", got, err)
		}
		return nil
	case <-ctx.Done():
		return errors.New("the server goes on")
	}
}

// exitCode is what the program's exit code is for a result of Serve; -1 if it
// is none that a transcript can expect.
func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, engine.ErrStorage):
		return 4
	case errors.Is(err, engine.ErrUnfinished):
		return 3
	}
	return -1
}

// checkLedger compares what is durable with what the transcript says: every
// bet byte for byte, in order, and whether the draw took place.
func (d *draw) checkLedger(dir string) error {
	var bets, winners bytes.Buffer
	exported, err := history.Export(history.In(dir), &bets, &winners)
	if err != nil {
		return err
	}
	if exported.Drawn != d.drawn {
		return fmt.Errorf("the ledger says drawn: %t", exported.Drawn)
	}
	stored, err := wireLines(&bets)
	if err != nil {
		return err
	}
	if !slices.Equal(stored, d.stored) {
		return fmt.Errorf("the ledger holds\n\t%s", strings.Join(stored, "\n\t"))
	}
	won, err := wireLines(&winners)
	if err != nil {
		return err
	}
	if want := slices.DeleteFunc(slices.Clone(d.stored), func(line string) bool { return !wins(line) }); !slices.Equal(won, want) {
		return fmt.Errorf("the ledger's winners are\n\t%s", strings.Join(won, "\n\t"))
	}
	return nil
}

// wireLines reads an export back as the lines of bets that were sent.
func wireLines(export io.Reader) ([]string, error) {
	rows, err := csv.NewReader(export).ReadAll()
	var lines []string
	for _, row := range rows {
		lines = append(lines, strings.Join(append(row[1:], row[0]), "|"))
	}
	return lines, err
}

// wins reports whether a line's number is the default winning number.
func wins(line string) bool {
	number, err := strconv.Atoi(strings.Split(line, "|")[4])
	return err == nil && uint32(number) == engine.DefaultConfig().WinningNumber
}

// tempDir is a directory of one run. Many runs share a test, and their ledgers
// are too large to be kept until its end.
func tempDir(parent string) (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp(parent, "ledger")
	return dir, func() error { return os.RemoveAll(dir) }, err
}
