package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"time"
)

// eventTimeout bounds every wait of a test for something that has to happen.
// It is generous: only a failing test waits that long.
const eventTimeout = 30 * time.Second

// output is what something has said so far. Any goroutine may use it.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed, and replaced, when more is said
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

// look is what was said, and a channel that is closed when there is more.
func (o *output) look() (text string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.changed
}

func (o *output) String() string {
	text, _ := o.look()
	return text
}

// errSilent says that something expected was not said in time.
var errSilent = errors.New("was not said")

// await waits until pattern was said count times. It gives up when ended is
// closed or after eventTimeout.
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
			if _, now := o.look(); now == changed { // else look once more
				return fmt.Errorf("%w: %s, %d times: it was %d times when the process ended", errSilent, pattern, count, found)
			}
		case <-timeout.C:
			return fmt.Errorf("%w: %s, %d times: it was %d times after %v", errSilent, pattern, count, found, eventTimeout)
		}
	}
}

// process is a command that runs, or has run, in the background.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *output
	ended          chan struct{} // closed when it has, and all it said is here
}

// startProcess starts program with exactly this environment.
func startProcess(dir string, environment []string, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), stdout: newOutput(), stderr: newOutput(), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = dir, environment
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended is in ProcessState
	}()
	return p, nil
}

// startLoteria starts a command of the program with this environment, and what of the test's own every
// process needs.
func startLoteria(dir, command string, environment ...string) (*process, error) {
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR"} {
		if value := os.Getenv(name); value != "" {
			environment = append(environment, name+"="+value)
		}
	}
	return startProcess(dir, append(environment, "GORACE=atexit_sleep_ms=10"), "loteria", command)
}

// wait waits for the end and returns the exit code; -1 is a signal's.
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
	_ = p.cmd.Process.Kill() // an error is a process that has ended
	<-p.ended
}
