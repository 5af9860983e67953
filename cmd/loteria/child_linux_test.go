package main

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"loteria/engine/history"
	"loteria/engine/ledger"
)

// awaitTrue asks again and again until the answer is true.
func awaitTrue(t *testing.T, what string, ask func() bool) {
	t.Helper()
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	timeout := time.NewTimer(eventTimeout)
	defer timeout.Stop()
	for !ask() {
		select {
		case <-ticks.C:
		case <-timeout.C:
			t.Fatalf("%s: not after %v", what, eventTimeout)
		}
	}
}

// A child lives on when the thread ends that asked for it.
func TestChildOutlivesThread(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started, thread := make(chan error, 1), make(chan int, 1)
	var start func()
	start = func() {
		runtime.LockOSThread() // so that the thread ends with the goroutine
		if unix.Gettid() == os.Getpid() {
			// The main thread never ends. This goroutine keeps it while another one starts the child.
			again := make(chan struct{})
			go func() { defer close(again); start() }()
			<-again
			return
		}
		thread <- unix.Gettid()
		started <- startChild(cmd)
	}
	go start()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	task := filepath.Join("/proc/self/task", strconv.Itoa(<-thread))
	awaitTrue(t, "the thread ends", func() bool {
		_, err := os.Stat(task)
		return errors.Is(err, fs.ErrNotExist)
	})
	if _, err := io.WriteString(in, "alive\n"); err != nil {
		t.Error(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "alive\n" {
		t.Errorf("the child says %q, %v", line, err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// A bench that is killed leaves no server behind: their ledgers can be locked again. With --peer-tls, they
// have certificates for each other.
func TestKilledBenchLeavesNoServer(t *testing.T) {
	dir := t.TempDir()
	patient := append(os.Environ(), "SERVER_EXIT_GRACE=24h") // no server ends because its agencies have
	bench, err := startProcess(dir, patient, "loteria", "bench", "--dir", dir, "--servers", "3",
		"--agencies", "3", "--duration", "10m", "--rate", "1000", "--peer-tls")
	if err != nil {
		t.Fatal(err)
	}
	defer bench.kill()
	leading := regexp.MustCompile(`(?s)SERVER_PEER_TLS_CERT_FILE: \S+/server-\d\.pem .*\blider\b`)
	var logs []string
	awaitTrue(t, "the servers run", func() bool {
		if logs, err = filepath.Glob(filepath.Join(dir, "*", "*", "server.log")); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, name := range logs {
			if text, err := os.ReadFile(name); err != nil {
				t.Fatal(err)
			} else if leading.Match(text) {
				n++
			}
		}
		select {
		case <-bench.ended:
			t.Fatal(bench.stderr)
		default:
		}
		return n == 3
	})
	locks := func() (free int) {
		for _, name := range logs {
			lock, err := ledger.Disk{}.Lock(filepath.Join(history.Dir(filepath.Dir(name)), "LOCK"))
			if err == nil {
				err = lock.Close()
				free++
			}
			if err != nil && !errors.Is(err, ledger.ErrLocked) {
				t.Fatal(err)
			}
		}
		return free
	}
	if n := locks(); n != 0 {
		t.Fatalf("%d servers have no lock while they run", n)
	}
	bench.kill()
	awaitTrue(t, "the servers end", func() bool { return locks() == 3 })
}
