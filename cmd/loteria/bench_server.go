package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"loteria/agency/load"
	"loteria/agency/load/proc"
	"loteria/engine"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

const (
	// benchListenTimeout is how long the server may take until it listens.
	benchListenTimeout = 10 * time.Second
	// benchListenPeriod is the time between two attempts to connect to it.
	benchListenPeriod = 10 * time.Millisecond
	// benchPortMin and benchPortMax bound the server's port. They are below the ports of outgoing
	// connections, one of which could take the port before the server does.
	benchPortMin, benchPortMax = 10_000, 32_000
	benchPortTries             = 1000
	// benchKillDelay is how long an interrupted server may take to end.
	benchKillDelay = 5 * time.Second
	// benchConnectionsSpare is how many connections the server takes besides the agencies'.
	benchConnectionsSpare = 64
	// benchLogTailBytes is how much of the server's log is read for its last lines.
	benchLogTailBytes = 64 << 10
)

// errBench says that the server failed or broke a promise.
var errBench = errors.New("bench")

// measure runs one load against the server at --addr, or against one that it starts.
func (b *bench) measure(ctx context.Context, o load.Options) (_ load.Result, err error) {
	meter := b.show.begin(o)
	if b.options.addr != "" {
		return load.Run(ctx, o, load.Target{Addr: b.options.addr}, meter)
	}
	dir, err := os.MkdirTemp(b.options.dir, "loteria-bench-")
	if err != nil {
		return load.Result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := b.startServer(ctx, o, dir)
	if err != nil {
		return load.Result{}, err
	}
	target := load.Target{Addr: server.addr, PID: server.cmd.Process.Pid}
	result, err := load.Run(ctx, o, target, meter)
	if err != nil {
		// A failed server's own error says more than its broken connections.
		return load.Result{}, errors.Join(err, server.end(ctx))
	}
	meter.Enter("checking the ledger")
	if err := server.cmd.Wait(); err != nil {
		return load.Result{}, server.failed(err)
	}
	result.Groups = server.groups()
	return result, checkStored(dir, o, &result)
}

// benchServer is a server in a process of its own.
type benchServer struct {
	cmd  *exec.Cmd
	addr string
	log  *os.File // its standard output and error
}

// startServer starts a server and returns when it listens.
func (b *bench) startServer(ctx context.Context, o load.Options, dir string) (*benchServer, error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		return nil, err
	}
	defaults := engine.DefaultConfig()
	agencies := o.Agencies + o.Waiting
	cmd, err := selfCommand(ctx, "server", "--"+noExportFlag)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(),
		"SERVER_ADDR="+addr,
		"SERVER_DATA_DIR="+dir,
		"SERVER_DURABILITY="+b.options.durability,
		"SERVER_AGENCIES="+strconv.Itoa(agencies),
		"SERVER_WINNING_NUMBER="+strconv.Itoa(load.WinningNumber),
		"SERVER_WINNERS="+engine.WinnersPush,
		"SERVER_WINNERS_SCOPE="+engine.ScopeAgency,
		"SERVER_WINDOW="+strconv.Itoa(max(o.Window, defaults.Window)),
		"SERVER_FRAME_BYTES_MAX="+strconv.Itoa(max(o.BatchBytes, defaults.FrameBytesMax)),
		"SERVER_AGENCY_SECRETS_FILE=", // the load has no secrets
		"SERVER_CONNECTIONS_MAX="+
			strconv.Itoa(max(agencies+benchConnectionsSpare, defaults.ConnectionsMax)),
	)
	s := &benchServer{cmd: cmd, addr: addr, log: log}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	if err := s.awaitListening(ctx); err != nil {
		return nil, errors.Join(err, s.end(ctx))
	}
	return s, nil
}

// selfCommand is this program with other arguments. It gets a SIGTERM when ctx is done, and is
// killed benchKillDelay later.
func selfCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Args[0] = "loteria"
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = benchKillDelay
	return cmd, nil
}

// freeAddr is an address on the loopback interface without a listener. It connects to find out.
// Listening there for a moment would not do: a process that is forked at that moment would inherit
// the listener and keep the server from listening.
func freeAddr(ctx context.Context) (string, error) {
	for range benchPortTries {
		port := benchPortMin + rand.IntN(benchPortMax-benchPortMin)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return addr, nil
		case err == nil:
			_ = conn.Close() // another program listens there
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		}
	}
	return "", fmt.Errorf("%w: %d ports from %d to %d were tried, none of them is free",
		errBench, benchPortTries, benchPortMin, benchPortMax)
}

// awaitListening tries to connect until the server listens. Its connection sends nothing, so it
// does not count in the draw.
func (s *benchServer) awaitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, benchListenTimeout)
	defer cancel()
	ticks := time.NewTicker(benchListenPeriod)
	defer ticks.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ticks.C:
			if s.hasEnded() {
				return fmt.Errorf("%w: the server ended before it listened", errBench)
			}
		case <-ctx.Done():
			return fmt.Errorf("%w: the server does not listen: %w", errBench, err)
		}
	}
}

// hasEnded reports whether the process has ended. It leaves the process to be waited for later.
func (s *benchServer) hasEnded() bool {
	ended, err := proc.Ended(s.cmd.Process.Pid)
	return ended && err == nil // without /proc the timeout finds out
}

// end stops a server that is not needed any more. If the server failed, the error has its last
// line.
func (s *benchServer) end(ctx context.Context) error {
	if ctx.Err() != nil {
		// selfCommand has told it to end, and perhaps the terminal has, too. How it ends doesn't
		// matter.
		_ = s.cmd.Wait()
		return s.log.Close()
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // fails only if the process has ended
	timer := time.AfterFunc(benchKillDelay, func() { _ = s.cmd.Process.Kill() })
	defer timer.Stop()
	if err := s.cmd.Wait(); err != nil {
		return s.failed(err)
	}
	return s.log.Close()
}

// failed is the error of a server that did not exit with 0, with its last line.
func (s *benchServer) failed(err error) error {
	tail, errLog := s.lastLines()
	lines := bytes.Split(bytes.TrimSpace(tail), []byte{'\n'})
	return errors.Join(
		fmt.Errorf("%w: server: %w: %s", errBench, err, lines[len(lines)-1]),
		errLog, s.log.Close())
}

func (s *benchServer) lastLines() ([]byte, error) {
	size, err := s.log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	tail := make([]byte, min(size, benchLogTailBytes))
	_, err = s.log.ReadAt(tail, size-int64(len(tail)))
	return tail, err
}

// groupsLine matches the server's line about its commits, in both formats.
var groupsLine = regexp.MustCompile(`\bgrupos"?: ?(\d+)(?: \| |,")bytes"?: ?(\d+)(?: \| |,")grupo_bytes_max"?: ?(\d+)`)

// groups reads the group commits from the log of a server that has ended. It is nil if LOG_LEVEL
// hides that line.
func (s *benchServer) groups() *load.Groups {
	tail, err := s.lastLines()
	if errors.Join(err, s.log.Close()) != nil {
		return nil
	}
	found := groupsLine.FindSubmatch(tail)
	if found == nil {
		return nil
	}
	var numbers [3]int64
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(string(found[i+1]), 10, 64); err != nil {
			return nil
		}
	}
	return load.NewGroups(numbers[0], numbers[1], numbers[2])
}

// checkStored compares the number of bets in the ledger with the acknowledged ones.
func checkStored(dir string, o load.Options, result *load.Result) error {
	var stored int64
	_, err := ledger.Scan(history.Dir(dir), ledger.Options{}, func(r ledger.Record) error {
		if r.Kind == ledger.Bets && int(r.Agency) <= o.Agencies {
			stored += int64(r.Count)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: ledger: %w", errBench, err)
	}
	if stored != result.Bets {
		return fmt.Errorf("%w: the ledger holds %d bets, acknowledged are %d",
			errBench, stored, result.Bets)
	}
	result.StoredBets = &stored
	return nil
}

// yardstickCommand is the name of the hidden command that runs the yardstick.
const yardstickCommand = "bench-yardstick"

func newYardstickCommand() *cobra.Command {
	var (
		y    load.Yardstick
		dir  string
		sync bool
	)
	cmd := &cobra.Command{
		Use:    yardstickCommand,
		Short:  "The yardstick of `loteria bench --limit`: prints its address, then what it wrote",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var lc net.ListenConfig
			l, err := lc.Listen(cmd.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), l.Addr()); err != nil {
				return errors.Join(err, l.Close())
			}
			log, err := newBenchLog(dir, sync)
			if err != nil {
				return errors.Join(err, l.Close())
			}
			y.Log = log
			groups, err := y.Serve(cmd.Context(), l)
			if err = errors.Join(err, log.Remove()); err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(groups)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", "", "folder for its file")
	flags.IntVar(&y.Connections, "connections", 1, "connections to serve before it ends")
	flags.BoolVar(&sync, "sync", true, "an ACK waits for the disk")
	flags.IntVar(&y.GroupBytes, "group-bytes", load.GroupBytesDefault, "size of a group, in bytes")
	return cmd
}

// measureLimit runs the load against the yardstick, with groups as large as the server's mean.
func (b *bench) measureLimit(ctx context.Context, groups *load.Groups) (_ load.Result, err error) {
	o := b.options.load
	o.Waiting = 0
	meter := b.show.begin(o)
	dir, err := os.MkdirTemp(b.options.dir, "loteria-bench-")
	if err != nil {
		return load.Result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	groupBytes := load.GroupBytesDefault
	if groups != nil {
		groupBytes = int(math.Ceil(groups.Mean))
	}
	cmd, err := selfCommand(ctx, yardstickCommand, "--dir", dir,
		"--connections", strconv.Itoa(o.Agencies),
		"--group-bytes", strconv.Itoa(groupBytes),
		"--sync="+strconv.FormatBool(b.options.durability == engine.DurabilityFsync))
	if err != nil {
		return load.Result{}, err
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return load.Result{}, err
	}
	if err := cmd.Start(); err != nil {
		return load.Result{}, err
	}
	lines := bufio.NewReader(out)
	result, err := runAgainst(ctx, o, lines, cmd.Process.Pid, meter)
	if err != nil {
		_ = cmd.Process.Kill() // fails only if the process has ended
	} else {
		result.Groups = new(load.Groups)
		err = json.NewDecoder(lines).Decode(result.Groups)
	}
	if errWait := cmd.Wait(); err == nil && errWait != nil {
		err = fmt.Errorf("%w: %s", errWait, strings.TrimSpace(said.String()))
	}
	return result, err
}

func runAgainst(
	ctx context.Context, o load.Options, lines *bufio.Reader, pid int, meter *load.Meter,
) (load.Result, error) {
	addr, err := lines.ReadString('\n')
	if err != nil {
		return load.Result{}, err
	}
	target := load.Target{Addr: strings.TrimSpace(addr), PID: pid, Bare: true}
	return load.Run(ctx, o, target, meter)
}
