package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"loteria/agency/load"
	"loteria/agency/load/proc"
	"loteria/engine"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

const (
	// benchListenTimeout is how long the server may take until it listens.
	benchListenTimeout = 30 * time.Second
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

// measure runs one load against the servers at --addr, or against those that it starts.
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
	certs, err := newBenchCerts(b.options, dir)
	if err != nil {
		return load.Result{}, err
	}
	servers, err := b.startServers(ctx, o, dir, certs)
	if err != nil {
		return load.Result{}, errors.Join(err, servers.end(ctx))
	}
	result, err := load.Run(ctx, o, servers.target(certs), meter)
	if err != nil {
		// A failed server's own error says more than its broken connections.
		return load.Result{}, errors.Join(err, servers.end(ctx))
	}
	meter.Enter("checking the ledger")
	for i, s := range servers {
		if err := s.cmd.Wait(); err != nil {
			return load.Result{}, errors.Join(s.failed(err), servers[i+1:].end(ctx))
		}
		if groups := s.groups(); groups != nil { // a server that has never led has none
			result.Groups = groups
		}
		if err := checkStored(s.dir, o, &result); err != nil {
			return load.Result{}, errors.Join(err, servers[i+1:].end(ctx))
		}
	}
	return result, nil
}

// benchServer is a server in a process of its own.
type benchServer struct {
	cmd    *exec.Cmd
	addr   string
	secure string // its address for TLS; empty: none
	dir    string
	log    *os.File // its standard output and error
}

// benchServers hold one draw together.
type benchServers []*benchServer

// startServers starts --servers servers, each with a directory of its own in dir, and returns when
// they listen. With an error it returns those that have started.
func (b *bench) startServers(
	ctx context.Context, o load.Options, dir string, certs *benchCerts,
) (all benchServers, err error) {
	n := b.options.servers
	addrs, err := freeAddrs(ctx, 3*n)
	if err != nil {
		return nil, err
	}
	addrs, peerAddrs, secureAddrs := addrs[:n], addrs[n:2*n], addrs[2*n:]
	var peers engine.Peers
	for i, addr := range peerAddrs {
		p := engine.Peer{ID: uint64(i + 1), Addr: addr, Agencies: addrs[i]}
		if b.options.tls != benchTLSOff {
			p.Secure = secureAddrs[i]
		}
		peers = append(peers, p)
	}
	for i, addr := range addrs {
		s := &benchServer{addr: addr, secure: peers[i].Secure, dir: filepath.Join(dir, strconv.Itoa(i+1))}
		one := []string{"SERVER_ID=0", "SERVER_PEERS="}
		if n > 1 {
			one = []string{
				"SERVER_ID=" + strconv.Itoa(i+1), "SERVER_PEERS=" + peers.String(),
				"SERVER_HTTP_ADDR=", // only one of them could have it
			}
		}
		if certs != nil {
			settings, err := certs.settings(i+1, s.secure, b.options.peerTLS)
			if err != nil {
				return all, err
			}
			one = append(one, settings...)
		}
		if err := b.start(ctx, s, o, one); err != nil {
			return all, err
		}
		all = append(all, s)
	}
	for _, s := range all {
		if err := s.awaitListening(ctx); err != nil {
			return all, err
		}
	}
	return all, nil
}

// start starts a server. The environment says who the others are.
func (b *bench) start(ctx context.Context, s *benchServer, o load.Options, environment []string) error {
	cmd, err := selfCommand(ctx, "server", "--"+noExportFlag)
	if err != nil {
		return err
	}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.dir, "server.log"))
	if err != nil {
		return err
	}
	defaults := engine.DefaultConfig()
	agencies := o.Agencies + o.Waiting
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(),
		"SERVER_ADDR="+s.addr,
		"SERVER_DATA_DIR="+s.dir,
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
		"SERVER_TLS_ADDR=", "SERVER_TLS_CERT_FILE=", "SERVER_TLS_KEY_FILE=", "SERVER_TLS_CLIENT_CA_FILE=",
		// The servers talk over the loopback interface.
		"SERVER_PEER_ADDR=", "SERVER_PEER_TLS_CERT_FILE=", "SERVER_PEER_TLS_KEY_FILE=", "SERVER_PEER_TLS_CA_FILE=",
	)
	cmd.Env = append(cmd.Env, environment...)
	s.cmd, s.log = cmd, log
	if err := startChild(cmd); err != nil {
		return errors.Join(err, log.Close())
	}
	return nil
}

// target is the servers as a load has them. certs may be nil if agencies don't connect over TLS.
func (all benchServers) target(certs *benchCerts) load.Target {
	var addrs []string
	var t load.Target
	for _, s := range all {
		addr := s.addr
		if s.secure != "" {
			addr, t.TLS = s.secure, certs.config
		}
		addrs = append(addrs, addr)
		t.PIDs = append(t.PIDs, s.cmd.Process.Pid)
	}
	t.Addr = strings.Join(addrs, ",")
	return t
}

// end stops servers that are not needed any more, all at once.
func (all benchServers) end(ctx context.Context) error {
	errs := make([]error, len(all))
	var ending sync.WaitGroup
	for i, s := range all {
		ending.Go(func() { errs[i] = s.end(ctx) })
	}
	ending.Wait()
	return errors.Join(errs...)
}

// selfCommand is this program with other arguments, for startChild. It gets a SIGTERM when ctx is done, and is
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

// freeAddr is an address on the loopback interface without a listener.
func freeAddr(ctx context.Context) (string, error) {
	for range benchPortTries {
		port := benchPortMin + rand.IntN(benchPortMax-benchPortMin)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if isFree(ctx, addr) {
			return addr, nil
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
	}
	return "", fmt.Errorf("%w: %d ports from %d to %d were tried, none of them is free",
		errBench, benchPortTries, benchPortMin, benchPortMax)
}

// isFree reports whether nobody listens on addr, of the loopback interface. It connects to find out.
// Listening there for a moment would not do: a process that is forked at that moment would inherit
// the listener and keep the server from listening.
func isFree(ctx context.Context, addr string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		_ = conn.Close() // another program listens there
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// freeAddrs are n addresses from freeAddr, each once.
func freeAddrs(ctx context.Context, n int) (addrs []string, err error) {
	for len(addrs) < n {
		addr, err := freeAddr(ctx)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

// awaitListening tries to connect until the server listens where the load comes: for TLS, it listens a
// little later. Its connection sends nothing, so it does not count in the draw.
func (s *benchServer) awaitListening(ctx context.Context) error {
	addr := cmp.Or(s.secure, s.addr)
	ctx, cancel := context.WithTimeout(ctx, benchListenTimeout)
	defer cancel()
	ticks := time.NewTicker(benchListenPeriod)
	defer ticks.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
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

// checkStored compares the number of bets in a server's ledger with the acknowledged ones.
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
