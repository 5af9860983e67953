package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// project is not the project of compose/.env, because these tests delete volumes.
	project = "loteria-test"
	// buildTimeout is long enough for a first build on a slow network.
	buildTimeout = 10 * time.Minute
	// upTimeout bounds every other command that has to end by itself.
	upTimeout = 2 * time.Minute
)

// requireDocker skips the test unless an environment variable asks for it. If one does, a missing
// Docker is a failure: a skipped test would look like a passed one.
func requireDocker(t *testing.T) {
	t.Helper()
	if os.Getenv("CI") != "true" && os.Getenv("LOTERIA_COMPOSE") != "1" {
		t.Skip("NOT TESTED: the draw in containers needs Docker and takes minutes; " +
			"run it with LOTERIA_COMPOSE=1 (CI=true does, too)")
	}
	for _, args := range [][]string{{"version"}, {"compose", "version"}} {
		out, err := exec.CommandContext(t.Context(), "docker", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v: the draw in containers can't be tested: "+
				"install and start Docker with Compose v2\n%s", args, err, out)
		}
	}
}

// stack is a compose project: a compose file in a checkout of its own, and settings. Its containers
// and volumes are removed at the end of the test.
type stack struct {
	t        *testing.T
	root     string   // the checkout
	file     string   // the compose file, relative to root
	override string   // an absolute path of a second compose file; empty for none
	profile  string   // of services that are started as well; empty for none
	server   string   // the service whose ledger is exported
	settings []string // variables of the environment, NAME=VALUE
}

func newStack(t *testing.T, root, file string, settings ...string) *stack {
	t.Helper()
	s := &stack{
		t: t, root: root, file: file, server: "server",
		settings: append([]string{"COMPOSE_PROJECT_NAME=" + project}, settings...),
	}
	s.down()
	t.Cleanup(func() {
		if t.Failed() {
			out, err := s.run(context.Background(), "logs", "--no-color", "--tail", "8")
			t.Logf("the last of the logs: %v\n%s", err, out)
		}
		s.down()
	})
	return s
}

// down removes everything of the project, also containers that its file doesn't name.
func (s *stack) down() {
	s.t.Helper()
	// The test's own context is done when a cleanup runs.
	ctx, cancel := context.WithTimeout(context.Background(), upTimeout)
	defer cancel()
	if out, err := s.run(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "1"); err != nil {
		s.t.Errorf("docker compose down: %v\n%s", err, out)
	}
}

// command is `docker compose` in the checkout's root.
func (s *stack) command(ctx context.Context, args ...string) *exec.Cmd {
	files := []string{"compose", "-f", s.file}
	if s.override != "" {
		files = append(files, "-f", s.override)
	}
	if s.profile != "" {
		files = append(files, "--profile", s.profile)
	}
	cmd := exec.CommandContext(ctx, "docker", append(files, args...)...)
	cmd.Dir = s.root
	for _, variable := range os.Environ() {
		// The developer's own settings must not change the test.
		if !strings.HasPrefix(variable, "SERVER_") && !strings.HasPrefix(variable, "AGENCY_") &&
			!strings.HasPrefix(variable, "LOG_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, s.settings...)
	return cmd
}

// run runs docker compose and returns its output.
func (s *stack) run(ctx context.Context, args ...string) (out string, err error) {
	raw, err := s.command(ctx, args...).CombinedOutput()
	return string(raw), err
}

// must is run for a command that has to succeed within upTimeout.
func (s *stack) must(args ...string) (out string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), upTimeout)
	defer cancel()
	out, err := s.run(ctx, args...)
	if err != nil {
		s.t.Fatalf("docker compose %s: %v\n%s", strings.Join(args, " "), err, tail(out))
	}
	return out
}

// up runs `docker compose up` until it returns by itself, and checks its log lines.
func (s *stack) up(args ...string) (out string) {
	s.t.Helper()
	out = s.must(append([]string{"up"}, args...)...)
	checkLines(s.t, out)
	return out
}

// export runs the README's command: it returns the stored bets, or with --winners the winning ones,
// as CSV.
func (s *stack) export(flags ...string) (csv string) {
	s.t.Helper()
	var said bytes.Buffer
	args := append([]string{"run", "--rm", "-T", s.server, "export"}, flags...)
	cmd := s.command(s.t.Context(), args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("export: %v\n%s", err, said.String())
	}
	return string(out)
}

// docker runs a docker command and returns its output.
func docker(t *testing.T, args ...string) (out string) {
	t.Helper()
	raw, err := exec.CommandContext(t.Context(), "docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, tail(string(raw)))
	}
	return strings.TrimSpace(string(raw))
}

// exitCode waits until a container has ended, and returns its exit code.
func exitCode(t *testing.T, container string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", "wait", container).CombinedOutput()
	code, errCode := strconv.Atoi(strings.TrimSpace(string(out)))
	if err := errors.Join(err, errCode); err != nil {
		t.Fatalf("docker wait %s: %v\n%s", container, err, out)
	}
	return code
}

// awaitLog waits until a container's log, over all its starts, has text count times.
func awaitLog(t *testing.T, container, text string, count int) {
	t.Helper()
	awaitIn(t, container, fmt.Sprintf("%q %d times", text, count),
		func(log string) bool { return strings.Count(log, text) >= count })
}

// awaitIn waits until a container's log, over all its starts, has what is wanted.
func awaitIn(t *testing.T, container, want string, has func(log string) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		log := docker(t, "logs", container)
		if has(log) {
			return
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("%s did not say %s\n%s", container, want, tail(log))
		}
	}
}

// containers are the names of the project's containers, with the servers' first.
func containers(servers, agencies int) []string {
	names := []string{"server"}
	if servers > 1 {
		names = nil
		for i := 1; i <= servers; i++ {
			names = append(names, fmt.Sprintf("server%d", i))
		}
	}
	for i := 1; i <= agencies; i++ {
		names = append(names, fmt.Sprintf("client%d", i))
	}
	return names
}

// checkExits checks the output of `up` and the project: every container ended once, with 0, and was
// not restarted, and there are no others.
func checkExits(t *testing.T, out string, names []string) {
	t.Helper()
	for _, name := range names {
		if n := strings.Count(out, name+" exited with code 0\n"); n != 1 {
			t.Errorf("%q is there %d times, want once\n%s",
				name+" exited with code 0", n, tail(out))
		}
	}
	if n := strings.Count(out, " exited with code "); n != len(names) {
		t.Errorf("%d containers exited, want %d\n%s", n, len(names), tail(out))
	}
	mine := docker(t, "ps", "--all",
		"--filter", "label=com.docker.compose.project="+project, "--format", "{{.Names}}")
	if n := len(strings.Fields(mine)); n != len(names) {
		t.Errorf("there are %d containers, want %d: %s", n, len(names), mine)
	}
	for _, name := range names {
		if n := docker(t, "inspect", "--format", "{{.RestartCount}}", name); n != "0" {
			t.Errorf("%s was restarted %s times", name, n)
		}
	}
}

func tail(out string) string {
	const most = 4000
	return out[max(0, len(out)-most):]
}

// checkLines checks that existing tools can parse every line with an action.
func checkLines(t *testing.T, out string) {
	t.Helper()
	seen := 0
	for line := range strings.Lines(out) {
		if !strings.Contains(line, "action:") {
			continue
		}
		seen++
		if reason := misread(strings.TrimSuffix(line, "\n")); reason != "" {
			t.Errorf("%s: %q", reason, line)
		}
	}
	if seen == 0 {
		t.Errorf("no line has an action\n%s", tail(out))
	}
}

// misread says how a line differs from this form; empty if it doesn't:
//
//	source | [text] action: NAME | result: success|fail|in_progress | key: value ...
func misread(line string) string {
	if strings.ContainsAny(line, "\x1b\r") {
		return "control characters"
	}
	parts := strings.Split(line, "|")
	at := 0
	for at < len(parts) && !strings.Contains(parts[at], "action:") {
		at++
	}
	switch {
	case at > 1:
		return "more than a source before the action"
	case len(parts) < at+2:
		return "no result"
	}
	_, name, _ := strings.Cut(parts[at], "action:")
	if name = strings.TrimSpace(name); name == "" || strings.ContainsAny(name, " :") {
		return "not a name of an action"
	}
	switch strings.TrimSpace(parts[at+1]) {
	case "result: success", "result: fail", "result: in_progress":
	default:
		return "not a result"
	}
	for _, part := range parts[at+2:] {
		key, _, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok || key == "" || key == "action" || key == "result" || key == "source" {
			return "not a key with a value: " + part
		}
	}
	return ""
}

func TestMisread(t *testing.T) {
	for line, good := range map[string]bool{
		"server  | 2026-11-23 10:00:00 INFO     action: apuesta_recibida | result: success | cantidad: 150": true,
		"2026-11-23 10:00:00 INFO     action: exit | result: fail | error: dial: refused":                   true,
		"client1  | x action: a | result: success | no value":                                               false,
		"client1  | x action: a | cantidad: 1 | result: success":                                            false,
		"client1  | x action: a":                                     false,
		"client1  | x action: a | result: maybe":                     false,
		"client1  | x action: a | result: success | result: success": false,
		"client1  | x \x1b[32maction: a | result: success":           false,
		"a | b | action: a | result: success":                        false,
	} {
		if reason := misread(line); (reason == "") != good {
			t.Errorf("%q: %q", line, reason)
		}
	}
}
