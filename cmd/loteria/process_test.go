package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// eventTimeout bounds every wait of a test for something that has to happen. It is long: only a
// failing test waits for it.
const eventTimeout = 90 * time.Second

// numberFrom is the number in an environment variable that makes a test larger; otherwise if it is
// not set.
func numberFrom(t *testing.T, env string, otherwise int) int {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%s: want a number of at least 1", env, text)
	}
	return n
}

// output is what a process or a proxy has written so far. Any goroutine may use it.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed and replaced at every write
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

// look returns the text so far, and a channel that is closed when there is more.
func (o *output) look() (text string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.changed
}

func (o *output) String() string {
	text, _ := o.look()
	return text
}

// errSilent says that an expected text was not written in time.
var errSilent = errors.New("was not said")

// await waits until the text has matched pattern count times. It gives up when ended is closed, or
// after eventTimeout.
func (o *output) await(pattern *regexp.Regexp, count int, ended <-chan struct{}) error {
	timeout := time.NewTimer(eventTimeout)
	defer timeout.Stop()
	for {
		text, changed := o.look()
		found := len(pattern.FindAllStringIndex(text, count))
		if found == count {
			return nil
		}
		select {
		case <-changed:
		case <-ended:
			if _, now := o.look(); now == changed { // else there is more to look at
				return fmt.Errorf("%w: %s, %d times: it was %d times when the process ended",
					errSilent, pattern, count, found)
			}
		case <-timeout.C:
			return fmt.Errorf("%w: %s, %d times: it was %d times after %v",
				errSilent, pattern, count, found, eventTimeout)
		}
	}
}

// process is a command in the background, or one that has ended.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *output
	ended          chan struct{} // closed when the process has ended and its output is complete
}

// startProcess starts program with exactly this environment.
func startProcess(
	dir string, environment []string, program string, args ...string,
) (*process, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = dir, environment
	return startCommand(cmd)
}

// startCommand starts cmd, and keeps what it writes.
func startCommand(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, stdout: newOutput(), stderr: newOutput(), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // ProcessState has the result
	}()
	return p, nil
}

// startLoteria starts a subcommand with this environment and the variables of the test's own that
// every process needs.
func startLoteria(dir, command string, environment ...string) (*process, error) {
	return startProcess(dir, ownEnvironment(environment), "loteria", strings.Fields(command)...)
}

// ownEnvironment is environment with the variables of the test's own that every process needs.
func ownEnvironment(environment []string) []string {
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR"} {
		if value := os.Getenv(name); value != "" {
			environment = append(environment, name+"="+value)
		}
	}
	return append(environment, "GORACE=atexit_sleep_ms=10")
}

// wait waits until the process ends and returns its exit code; -1: a signal ended it.
func (p *process) wait() (code int, err error) {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(eventTimeout):
		return 0, fmt.Errorf("runs after %v still", eventTimeout)
	}
}

// kill ends the process if it still runs.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if the process has ended
	<-p.ended
}
