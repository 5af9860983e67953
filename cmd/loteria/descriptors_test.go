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

// limitDescriptors sets how many descriptors a process that runs may have.
func limitDescriptors(t *testing.T, p *process, n uint64) {
	t.Helper()
	pid := p.cmd.Process.Pid
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = n // the hard limit stays, so that it can be raised again
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
}

// ask dials the server and says one frame; what it answers, or the error, comes
// out of the channel.
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

// A server that has no descriptors left, whatever its own limit is, says so and
// goes on when there are some again. Its own limit is below the process's.
func TestDescriptorsRunOut(t *testing.T) {
	dir := t.TempDir()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	server, err := startProcess(dir, append(os.Environ(), "SERVER_ADDR="+addr, "SERVER_AGENCIES=2", "SERVER_DATA_DIR="+dir), "loteria", "server")
	if err != nil {
		t.Fatal(err)
	}
	defer server.kill()
	if err := server.stdout.await(regexp.MustCompile(`accept_connections \| result: in_progress`), 1, server.ended); err != nil {
		t.Fatal(err)
	}
	const welcome = "27\n"
	if got := <-ask(t, addr, "HELLO|1"); got != welcome {
		t.Fatalf("agency 1 hears %q", got)
	}
	// Not what it has open now: that changes while it closes what it needed for a
	// moment. Whatever it has it keeps, and it gets no more.
	limitDescriptors(t, server, 0)
	late := ask(t, addr, "HELLO|2")
	if err := server.stdout.await(regexp.MustCompile(`action: accept_connections \| result: fail .*too many open files`), 1, server.ended); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-late:
		t.Fatalf("agency 2 hears %q, and there are no descriptors", got)
	default:
	}
	limitDescriptors(t, server, 1024)
	select {
	case got := <-late:
		if got != welcome {
			t.Errorf("agency 2 hears %q", got)
		}
	case <-time.After(eventTimeout):
		t.Error("agency 2 hears nothing, and there are descriptors again")
	}
	if err := server.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, err := server.wait(); code != 0 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}

// A flood of connections against a low limit of descriptors: the server's own
// limit holds, exactly, and an agency that was there is served.
func TestDescriptorsFlood(t *testing.T) {
	const limit, flood = 400, 600
	dir := t.TempDir()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	server, err := startProcess(dir, append(os.Environ(), "SERVER_ADDR="+addr, "SERVER_AGENCIES=1", "SERVER_DATA_DIR="+dir),
		"sh", "-c", fmt.Sprintf("ulimit -n %d; exec loteria server", limit))
	if err != nil {
		t.Fatal(err)
	}
	defer server.kill()
	for _, said := range []string{`config \| result: success \| SERVER_CONNECTIONS_MAX: \d+`, `accept_connections \| result: in_progress`} {
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
