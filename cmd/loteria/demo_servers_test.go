package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"loteria/engine/history"
)

// A demo that ends early leaves no server behind.
func TestDemoLeavesNoServer(t *testing.T) {
	t.Parallel() // it mostly waits
	if runtime.GOOS != "linux" {
		t.Skip("processes are found in /proc")
	}
	dataset, err := filepath.Abs(filepath.Join("..", "..", bundledDataset))
	if err != nil {
		t.Fatal(err)
	}
	elected := regexp.MustCompile(`action: lider `)
	bets := regexp.MustCompile(`action: apuesta_enviada `)
	failed := regexp.MustCompile(`action: connect \| result: fail `)
	for name, c := range map[string]struct {
		at     *regexp.Regexp
		signal syscall.Signal
	}{
		"interrupted before the draw":    {elected, syscall.SIGINT},
		"interrupted in the draw":        {bets, syscall.SIGINT},
		"told to end without the leader": {failed, syscall.SIGTERM},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p, err := startProcess(dir, append(os.Environ(), "GORACE=atexit_sleep_ms=10"), "loteria",
				"demo", "--verbose", "--servers", "3", "--kill-leader", "--dataset", dataset, "--data-dir", dir)
			if err != nil {
				t.Fatal(err)
			}
			defer p.kill()
			if err := p.stdout.await(c.at, 1, p.ended); err != nil {
				t.Fatalf("%v; it said:\n%s", err, p.stdout)
			}
			if n := len(serversIn(t, dir)); n < 2 {
				t.Errorf("%d servers run before the end", n) // or else this test sees none at all
			}
			if err := p.cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			if code, err := p.wait(); code != exitDone || err != nil {
				t.Errorf("exit code %d, %v; it said:\n%s%s", code, err, p.stdout, p.stderr)
			}
			if left := serversIn(t, dir); len(left) > 0 {
				t.Errorf("the demo has left processes: %v", left)
			}
		})
	}
}

// serversIn lists the processes that have their data in a directory below dir.
func serversIn(t *testing.T, dir string) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		environment, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(environment), "\x00SERVER_DATA_DIR="+dir+"/") {
			pids = append(pids, filepath.Base(filepath.Dir(name)))
		}
	}
	return pids
}

// A demo whose servers end with other bets fails, and so does one without the bets of a server.
func TestDemoComparesServers(t *testing.T) {
	o := demoOptions{servers: 3, dataDir: t.TempDir()}
	write := func(id int, name, content string) {
		t.Helper()
		if err := os.MkdirAll(o.serverDir(id), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.serverDir(id), name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for id := 1; id <= 2; id++ {
		write(id, history.BetsFile, "a\n")
		write(id, history.WinnersFile, "b\n")
	}
	if said, err := compareExports(o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the files of server 3: %q, %v", said, err)
	}
	write(3, history.BetsFile, "a\n")
	write(3, history.WinnersFile, "b\n")
	if said, err := compareExports(o); err != nil || strings.Count(said, "3 files, identical") != 2 {
		t.Errorf("with the same files: %q, %v", said, err)
	}
	write(3, history.WinnersFile, "c\n")
	if said, err := compareExports(o); err == nil ||
		!strings.Contains(err.Error(), "server-1/winners.csv and ") {
		t.Errorf("with other winners: %q, %v", said, err)
	}
}
