//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limitDescriptors sets the descriptor limit of a running process.
func limitDescriptors(t *testing.T, p *process, n uint64) {
	t.Helper()
	pid := p.cmd.Process.Pid
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = n // the hard limit stays, so that the soft one can be raised again
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
}

// ask dials the server and sends one frame. The channel gets the first line of the answer, or the
// error.
func ask(t *testing.T, addr, payload string) <-chan string {
	t.Helper()
	answer := make(chan string, 1)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		if _, err := fmt.Fprintf(c, "%d\n%s", len(payload), payload); err != nil {
			answer <- err.Error()
			return
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			line = err.Error()
		}
		answer <- line
	}()
	return answer
}

// A server that runs out of descriptors below its own connection limit logs it, and goes on when
// there are some again.
func TestDescriptorsRunOut(t *testing.T) {
	dir := t.TempDir()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	environment := append(os.Environ(),
		"SERVER_ADDR="+addr, "SERVER_AGENCIES=2", "SERVER_DATA_DIR="+dir)
	server, err := startProcess(dir, environment, "loteria", "server")
	if err != nil {
		t.Fatal(err)
	}
	defer server.kill()
	listens := regexp.MustCompile(`accept_connections \| result: in_progress`)
	if err := server.stdout.await(listens, 1, server.ended); err != nil {
		t.Fatal(err)
	}
	const welcome = "27\n"
	if got := <-ask(t, addr, "HELLO|1"); got != welcome {
		t.Fatalf("agency 1 hears %q", got)
	}
	// With a limit of 0 the server keeps its open descriptors and gets no new one. A limit of as
	// many as it has now would leave room when it closes one.
	limitDescriptors(t, server, 0)
	late := ask(t, addr, "HELLO|2")
	fails := regexp.MustCompile(
		`action: accept_connections \| result: fail .*too many open files`)
	if err := server.stdout.await(fails, 1, server.ended); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-late:
		t.Fatalf("agency 2 hears %q, although there are no descriptors", got)
	default:
	}
	limitDescriptors(t, server, 1024)
	select {
	case got := <-late:
		if got != welcome {
			t.Errorf("agency 2 hears %q", got)
		}
	case <-time.After(eventTimeout):
		t.Error("agency 2 hears nothing, although there are descriptors again")
	}
	if err := server.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, err := server.wait(); code != 0 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}

// A flood of connections meets a low descriptor limit. The server's own limit is low enough that it
// never runs out of descriptors, and an agency that connected before is served.
func TestDescriptorsFlood(t *testing.T) {
	const limit, flood = 400, 600
	dir := t.TempDir()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	environment := append(os.Environ(),
		"SERVER_ADDR="+addr, "SERVER_AGENCIES=1", "SERVER_DATA_DIR="+dir)
	server, err := startProcess(dir, environment,
		"sh", "-c", fmt.Sprintf("ulimit -n %d; exec loteria server", limit))
	if err != nil {
		t.Fatal(err)
	}
	defer server.kill()
	for _, said := range []string{
		`config \| result: success \| SERVER_CONNECTIONS_MAX: \d+`,
		`accept_connections \| result: in_progress`,
	} {
		if err := server.stdout.await(regexp.MustCompile(said), 1, server.ended); err != nil {
			t.Fatal(err)
		}
	}
	honest, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer honest.Close()
	for range flood {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := honest.Write([]byte("13\nGET_WINNERS|1")); err != nil {
		t.Fatal(err)
	}
	if err := honest.SetReadDeadline(time.Now().Add(eventTimeout)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(honest).ReadString('\n'); line != "0\n" || err != nil {
		t.Errorf("the honest agency hears %q, %v", line, err)
	}
	if text := server.stdout.String(); regexp.MustCompile(`too many open files`).MatchString(text) {
		t.Error("the server ran out of descriptors below its own limit")
	}
	if err := honest.Close(); err != nil {
		t.Fatal(err)
	}
	if code, err := server.wait(); code != 0 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}
