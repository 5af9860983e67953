package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"loteria/agency/dataset"
	"loteria/engine"
)

// TestMain makes this test binary the program, too: the tests run servers and agencies as processes
// of their own.
func TestMain(m *testing.M) {
	// Tests that are parallel mostly wait: for processes, disks and time-outs.
	if err := flag.Set("test.parallel", strconv.Itoa(6*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"loteria": main})
}

// TestScript runs testdata/script/*.txtar. Each file has one subject. To run one:
//
//	go test ./cmd/loteria -run 'TestScript/^export$' -v
//
// Besides testscript's own commands, a script has these:
//
//	port VAR                             set VAR to a free port
//	start NAME [VAR=VALUE...] PROGRAM [ARG...]
//	                                     start a process in the background
//	await NAME PATTERN [COUNT]           wait until its output has COUNT matches (default 1)
//	quiet NAME DURATION                  it must write nothing more for so long
//	signal NAME KILL|TERM|INT|STOP|CONT  send a signal; with STOP, wait until it has stopped
//	ends NAME CODE                       wait until it ends, with this exit code; stdout and stderr
//	                                     are now those of the process, and its log lines are checked
//	exits CODE [VAR=VALUE...] PROGRAM [ARG...]
//	                                     run a process to its end, as start and ends do
//	proxy NAME PORT TARGETPORT           pass frames on; its output is `> HELLO|1`, `< ACK`, ...
//	lose NAME PATTERN [forever]          make a proxy drop the next frame whose line matches, write
//	                                     `lost` and the line, and cut the connection; with forever,
//	                                     cut all connections and take no new ones
//	write FILE STRING                    write exactly these bytes, with Go's escapes
//	truncate FILE BYTES                  cut a file to this size
//	holds BETS.CSV DATASET AGENCIES      the export has each of their bets once, in their order
//
// The condition [openssl] is true if openssl on the PATH is OpenSSL, and not LibreSSL, which has
// other options.
//
// $DATASET is the bundled dataset, and $EXAMPLE the agency in Python. The program's variables that
// a script sets with env apply to every process that it starts afterwards.
func TestScript(t *testing.T) {
	t.Parallel() // they mostly wait
	bundled, err := filepath.Abs(filepath.Join("..", "..", bundledDataset))
	if err != nil {
		t.Fatal(err)
	}
	example, err := filepath.Abs(filepath.Join("..", "..", "agency", "examples", "agency.py"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("DATASET", bundled)
			e.Setenv("EXAMPLE", example)
			if e.Getenv("GORACE") == "" {
				// Without it every process of a race test ends a second late.
				e.Setenv("GORACE", "atexit_sleep_ms=10")
			}
			s := &script{backgrounds: map[string]background{}}
			e.Values[scriptKey{}] = s
			e.Defer(s.close)
			return nil
		},
		Condition: func(condition string) (bool, error) {
			if condition != "openssl" {
				return false, fmt.Errorf("unknown condition %q", condition)
			}
			version, err := exec.Command("openssl", "version").Output()
			return err == nil && bytes.HasPrefix(version, []byte("OpenSSL ")), nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"port":     cmdPort,
			"start":    cmdStart,
			"await":    cmdAwait,
			"quiet":    cmdQuiet,
			"signal":   cmdSignal,
			"ends":     cmdEnds,
			"exits":    cmdExits,
			"proxy":    cmdProxy,
			"lose":     cmdLose,
			"write":    cmdWrite,
			"truncate": cmdTruncate,
			"holds":    cmdHolds,
		},
	})
}

// script holds the processes and proxies of a running script, by their names.
type script struct{ backgrounds map[string]background }

type scriptKey struct{}

// background is a process or a proxy.
type background struct {
	process *process // nil if it is a proxy
	proxy   *proxy
}

// said returns its output, and a channel that is closed when a process has ended; nil for a proxy.
func (b background) said() (*output, <-chan struct{}) {
	if b.process == nil {
		return b.proxy.said, nil
	}
	return b.process.stdout, b.process.ended
}

func (s *script) close() {
	for _, b := range s.backgrounds {
		if b.process != nil {
			b.process.kill()
		}
	}
	for _, b := range s.backgrounds {
		if b.proxy != nil {
			b.proxy.close()
		}
	}
}

func scriptOf(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

func backgroundOf(ts *testscript.TestScript, name string) background {
	b, ok := scriptOf(ts).backgrounds[name]
	if !ok {
		ts.Fatalf("%s was not started", name)
	}
	return b
}

func processOf(ts *testscript.TestScript, name string) *process {
	p := backgroundOf(ts, name).process
	if p == nil {
		ts.Fatalf("%s is not a process", name)
	}
	return p
}

// usage fails the script unless a command has the right number of arguments and no `!`.
func usage(ts *testscript.TestScript, neg bool, args []string, least, most int, text string) {
	if neg || len(args) < least || len(args) > most {
		ts.Fatalf("usage: %s", text)
	}
}

const anyNumber = 1 << 10

var ports struct {
	mu    sync.Mutex
	taken map[int]bool
}

// freePort is a port from freeAddr that no other test has.
func freePort() (int, error) {
	ports.mu.Lock()
	defer ports.mu.Unlock()
	if ports.taken == nil {
		ports.taken = map[int]bool{}
	}
	for {
		addr, err := freeAddr(context.Background())
		if err != nil {
			return 0, err
		}
		_, text, err := net.SplitHostPort(addr)
		if err != nil {
			return 0, err
		}
		port, err := strconv.Atoi(text)
		if err != nil {
			return 0, err
		}
		if !ports.taken[port] {
			ports.taken[port] = true
			return port, nil
		}
	}
}

func cmdPort(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, 1, "port VAR")
	port, err := freePort()
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(port))
}

// start starts `[VAR=VALUE...] PROGRAM [ARG...]`. Of the script's environment the process gets the
// program's variables and a few that every process needs.
func start(ts *testscript.TestScript, args []string) *process {
	names := []string{"PATH", "HOME", "TMPDIR", "GORACE", "GOCOVERDIR"}
	for _, v := range variables(engine.Config{}, agencyConfig{}, logConfig{}) {
		names = append(names, v.name)
	}
	var environment []string
	for _, name := range names {
		if value := ts.Getenv(name); value != "" {
			environment = append(environment, name+"="+value)
		}
	}
	for len(args) > 0 && strings.Contains(args[0], "=") {
		environment, args = append(environment, args[0]), args[1:]
	}
	if len(args) == 0 {
		ts.Fatalf("no program")
	}
	p, err := startProcess(ts.MkAbs("."), environment, args[0], args[1:]...)
	ts.Check(err)
	return p
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, anyNumber, "start NAME [VAR=VALUE...] PROGRAM [ARG...]")
	s := scriptOf(ts)
	if b, ok := s.backgrounds[args[0]]; ok {
		if b.process == nil {
			ts.Fatalf("%s is a proxy", args[0])
		}
		select {
		case <-b.process.ended:
		default:
			ts.Fatalf("%s runs", args[0])
		}
	}
	s.backgrounds[args[0]] = background{process: start(ts, args[1:])}
}

func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 3, "await NAME PATTERN [COUNT]")
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	count := 1
	if len(args) == 3 {
		count, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	said, ended := backgroundOf(ts, args[0]).said()
	if err := said.await(pattern, count, ended); err != nil {
		ts.Fatalf("%s: %v; it said:\n%s", args[0], err, said)
	}
}

func cmdQuiet(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2, "quiet NAME DURATION")
	while, err := time.ParseDuration(args[1])
	ts.Check(err)
	said, _ := backgroundOf(ts, args[0]).said()
	before, changed := said.look()
	select {
	case <-changed:
		ts.Fatalf("%s is not quiet: after\n%s\nit said\n%s",
			args[0], before, strings.TrimPrefix(said.String(), before))
	case <-time.After(while): // the time to watch, not a wait for an event
	}
}

var signals = map[string]syscall.Signal{
	"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT,
	"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2, "signal NAME KILL|TERM|INT|STOP|CONT")
	s, ok := signals[args[1]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[1])
	}
	p := processOf(ts, args[0]).cmd.Process
	ts.Check(p.Signal(s))
	if s == syscall.SIGSTOP {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(p.Pid, &status, syscall.WUNTRACED, nil)
		ts.Check(err)
		if !status.Stopped() {
			ts.Fatalf("%s has ended", args[0])
		}
	}
}

func cmdEnds(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2, "ends NAME CODE")
	end(ts, processOf(ts, args[0]), args[1])
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, anyNumber, "exits CODE [VAR=VALUE...] PROGRAM [ARG...]")
	p := start(ts, args[1:])
	defer p.kill()
	end(ts, p, args[0])
}

func end(ts *testscript.TestScript, p *process, want string) {
	code, err := p.wait()
	_, errOut := io.WriteString(ts.Stdout(), p.stdout.String())
	ts.Check(errOut)
	_, errOut = io.WriteString(ts.Stderr(), p.stderr.String())
	ts.Check(errOut)
	ts.Check(err)
	if strconv.Itoa(code) != want {
		ts.Fatalf("exit code %d, want %s; it said:\n%s%s", code, want, p.stdout, p.stderr)
	}
	// Existing tools can parse every line, and every line of an agency ends with its id.
	id := agencyOf(p)
	for line := range strings.Lines(p.stdout.String()) {
		if code < 0 || !strings.Contains(line, "action:") {
			continue // a killed process may leave half a line
		}
		_, _, values, err := parseLine(strings.TrimSuffix(line, "\n"))
		if err != nil {
			ts.Fatalf("%v: %q", err, line)
		}
		if id != "" && (values["agencia"] != id || !strings.HasSuffix(line, " | agencia: "+id+"\n")) {
			ts.Fatalf("a line that doesn't end with agencia: %s: %q", id, line)
		}
	}
}

// agencyOf is the id of an agency's process; empty for other processes, and if the id is not legal.
func agencyOf(p *process) string {
	if !slices.Contains(p.cmd.Args[1:], "agency") {
		return ""
	}
	id := ""
	for _, entry := range p.cmd.Env {
		if value, ok := strings.CutPrefix(entry, "AGENCY_ID="); ok {
			id = value
		}
	}
	if n, err := strconv.Atoi(id); err != nil || n < 1 || n > dataset.AgenciesMax {
		return ""
	}
	return id
}

func cmdProxy(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, 3, "proxy NAME PORT TARGETPORT")
	p, err := startProxy("127.0.0.1:"+args[1], "127.0.0.1:"+args[2])
	ts.Check(err)
	scriptOf(ts).backgrounds[args[0]] = background{proxy: p}
}

func cmdLose(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 3, "lose NAME PATTERN [forever]")
	p := backgroundOf(ts, args[0]).proxy
	if p == nil {
		ts.Fatalf("%s is not a proxy", args[0])
	}
	line, err := regexp.Compile(args[1])
	ts.Check(err)
	if len(args) == 3 && args[2] != "forever" {
		ts.Fatalf("%s is not forever", args[2])
	}
	p.lose(loss{line: line, forever: len(args) == 3})
}

func cmdWrite(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2, "write FILE STRING")
	content, err := strconv.Unquote(`"` + strings.ReplaceAll(args[1], `"`, `\"`) + `"`)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(content), 0o644))
}

func cmdTruncate(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2, "truncate FILE BYTES")
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
}

func cmdHolds(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, 3, "holds BETS.CSV DATASET AGENCIES")
	agencies, err := strconv.Atoi(args[2])
	ts.Check(err)
	if err := holds(ts.ReadFile(args[0]), ts.MkAbs(args[1]), agencies); err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
}

// holds checks that an export has each bet of a dataset once, in its agency's order, and no other
// bets.
func holds(betsCSV, bets string, agencies int) error {
	exported, err := csv.NewReader(strings.NewReader(betsCSV)).ReadAll()
	if err != nil {
		return err
	}
	stored := map[string][]byte{} // by agency, as its file would be
	for _, bet := range exported {
		stored[bet[0]] = append(append(stored[bet[0]], strings.Join(bet[1:], ",")...), '\n')
	}
	total := 0
	for id := 1; id <= agencies; id++ {
		rows, name, err := datasetRows(bets, id)
		if err != nil {
			return err
		}
		total += len(rows)
		var want []byte
		for _, row := range rows {
			want = append(append(want, strings.Join(row, ",")...), '\n')
		}
		if got := stored[strconv.Itoa(id)]; !bytes.Equal(got, want) {
			return fmt.Errorf("%d bets of agency %d that are not the %d of %s, in order",
				bytes.Count(got, []byte{'\n'}), id, len(rows), name)
		}
	}
	if total != len(exported) {
		return fmt.Errorf("%d bets, want %d: some are of other agencies", len(exported), total)
	}
	return nil
}

// datasetRows returns an agency's bets in a dataset, and the name of their file.
func datasetRows(bets string, id int) (rows [][]string, name string, err error) {
	file, name, err := dataset.Open(bets, id)
	if err != nil {
		return nil, "", err
	}
	rows, err = csv.NewReader(file).ReadAll()
	return rows, name, errors.Join(err, file.Close())
}
