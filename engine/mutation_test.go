package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mutationsEnv turns TestMutations on. Compiling a mutation takes seconds. CI sets it.
//
//	LOTERIA_MUTATIONS=1 go test ./engine -run Mutations -v
const mutationsEnv = "LOTERIA_MUTATIONS"

// mutation puts one mistake into the program. The simulation has to find it within seeds runs.
type mutation struct {
	name    string
	changes []change
	seeds   int
}

type change struct {
	file     string // from this directory
	old, new string // old must be in the file exactly once
}

// tooEarly makes the replies of a kind leave before their group is durable.
func tooEarly(kind string) []change {
	return []change{{
		file: "commit/committer.go",
		old:  "\tif len(c.runs) > 0 {",
		new: `	late := g.Replies[:0:0]
	for _, r := range g.Replies {
		if r.Kind == ` + kind + ` {
			c.Early([]Reply{r})
		} else {
			late = append(late, r)
		}
	}
	g.Replies = late
	if len(c.runs) > 0 {`,
	},
		{file: "commit/committer.go", old: "type Committer struct {", new: "type Committer struct {\n\tEarly func([]Reply)"},
		{file: "server.go", old: "\tif state.Drawn() {\n\t\ts.front.Drawn()", new: "\ts.committer.Early = s.front.Deliver\n\tif state.Drawn() {\n\t\ts.front.Drawn()"},
	}
}

var mutations = []mutation{
	{
		name: "ack before sync",
		changes: []change{{
			file: "ledger/ledger.go",
			old:  "if l.durability == Fsync {\n\t\tif err := l.sync()",
			new:  "if l.durability == Fsync+9 {\n\t\tif err := l.sync()",
		}},
		seeds: 500,
	},
	{
		name: "no directory sync at rotation",
		changes: []change{{
			file: "ledger/ledger.go",
			old:  "if err := l.fsys.SyncDir(l.dir); err != nil {\n\t\treturn err\n\t}\n\tl.path, l.groupFirst = path, l.next\n\tl.segments++",
			new:  "l.path, l.groupFirst = path, l.next\n\tl.segments++",
		}},
		seeds: 2000,
	},
	{
		name: "no sync of a sealed segment",
		changes: []change{{
			file: "ledger/ledger.go",
			old:  "if err := l.live.Sync(); err != nil {\n\t\treturn err\n\t}\n\tsealed := ",
			new:  "sealed := ",
		}},
		seeds: 2000,
	},
	{
		name: "a restart believes a sync that failed",
		changes: []change{{
			file: "ledger/ledger.go",
			old:  "if err := l.rewrite(&p.r, newest, offset); err != nil {\n\t\treturn err\n\t}",
			new:  "_ = newest",
		}},
		seeds: 5000,
	},
	{
		name: "a restart believes a directory that was not synced",
		changes: []change{{
			file: "ledger/ledger.go",
			old:  "if err := l.fsys.SyncDir(l.dir); err != nil {\n\t\treturn err\n\t}\n\tl.next, l.chain",
			new:  "l.next, l.chain",
		}},
		seeds: 20000,
	},
	{
		name: "remains of a torn write stay",
		changes: []change{{
			file: "ledger/ledger.go",
			old:  "if err := live.Truncate(offset); err != nil {",
			new:  "if err := error(nil); err != nil {",
		}},
		seeds: 100000,
	},
	{
		name: "the tail rule cuts an acknowledged record of the last group",
		changes: []change{{
			file: "ledger/tail.go",
			old:  "return judgement{refused, d.reason}, nil",
			new:  "return judgement{torn, d.reason}, nil",
		}},
		seeds: 500,
	},
	{
		name: "the tail rule cuts an acknowledged record of an earlier group",
		changes: []change{{
			file: "ledger/tail.go",
			old:  "if later != 0 {",
			new:  "if later == 1<<63 {",
		}},
		seeds: 500,
	},
	{
		name: "no fencing of a session that was taken over",
		changes: []change{{
			file: "lottery/lottery.go",
			old:  "l.unbind(older)\n\t\t\teffects",
			new:  "effects",
		}},
		seeds: 500,
	},
	{
		name: "an older connection's messages count after a newer one's HELLO",
		changes: []change{{
			file: "lottery/lottery.go",
			old:  "s.Number < a.fence",
			new:  "s.Number < a.fence-a.fence",
		}},
		seeds: 5000,
	},
	{
		name:    "stored counted before it is durable",
		changes: tooEarly("Welcome"),
		seeds:   5000,
	},
	{
		name: "winners count as taken once they are in the socket",
		changes: []change{{
			file: "front/loop.go",
			old:  "\tif s.phase.after(allSent) == gone {",
			new:  "\tif s.delivery == untaken {\n\t\ts.taken(&lp.rd)\n\t}\n\tif s.phase.after(allSent) == gone {",
		}},
		seeds: 500,
	},
	{
		name: "winners count as taken when the connection is reset",
		changes: []change{{
			file: "front/handler.go",
			old:  "if errors.Is(err, io.EOF) && sess.delivery == untaken && sess.backlog == nil {",
			new:  "if sess.delivery == untaken && sess.backlog == nil {",
		}},
		seeds: 5000,
	},
	{
		name: "winners count as taken before the peer's system has all of them",
		changes: []change{{
			file: "front/handler.go",
			old:  "if n, err := sess.conn.Unacknowledged(); n == 0 && err == nil {",
			new:  "if _, err := sess.conn.Unacknowledged(); err == nil {",
		}},
		seeds: 5000,
	},
	{
		name: "winners count as taken before the socket has all of them",
		changes: []change{{
			file: "front/handler.go",
			old:  "sess.delivery == untaken && sess.backlog == nil {",
			new:  "sess.delivery == untaken {",
		}},
		seeds: 5000,
	},
	{
		name: "an agency that has to confirm counts as served when it closes",
		changes: []change{{
			file: "lottery/lottery.go",
			old:  "if a.served || a.confirms || s.hello {",
			new:  "if a.served {",
		}},
		seeds: 2000,
	},
	{
		name:    "a receipt is answered before it is durable",
		changes: tooEarly("Receipt"),
		seeds:   5000,
	},
	{
		name: "the ledger does not say which agencies are served",
		changes: []change{{
			file: "commit/committer.go",
			old:  "if len(g.Served) > 0 {",
			new:  "if len(g.Served) > 1<<30 {",
		}},
		seeds: 500,
	},
	{
		name: "a restart forgets which agencies are served",
		changes: []change{{
			file: "lottery/lottery.go",
			old:  "case entry == ServedEntry:\n\t\tl.serve(a)",
			new:  "case entry == ServedEntry:",
		}},
		seeds: 500,
	},
	{
		name: "a server that starts after the draw waits for ever for the first agency to come",
		changes: []change{{
			file: "commit/exit_rule.go",
			old:  "case x.open > 0, !drawn && !x.came:",
			new:  "case x.open > 0, !x.came:",
		}},
		seeds: 500,
	},
	{
		name: "a server ends after the draw although agencies are not served",
		changes: []change{{
			file: "commit/exit_rule.go",
			old:  "case drawn && x.lottery.Unserved() == 0 && x.absent == 0:",
			new:  "case drawn:",
		}},
		seeds: 500,
	},
	{
		name: "an agency that stays connected keeps the server from ending",
		changes: []change{{
			file: "front/timeouts.go",
			old:  "if s.lateTicks++; s.lateTicks <= limit {",
			new:  "if s.lateTicks++; s.lateTicks <= 1<<30 {",
		}},
		seeds: 500,
	},
	{
		name: "the checksum forgets a batch that was stored before a restart",
		changes: []change{{
			file: "lottery/lottery.go",
			old:  "l.store(a, count, lines, winners)",
			new:  "l.store(a, count, codec.Stretch{Sum: uint32(a.checksum), Seed: uint32(a.checksum)}, winners)",
		}},
		seeds: 500,
	},
	{
		name: "a wrong proof is accepted",
		changes: []change{{
			file: "front/authentication.go",
			old:  "case !rd.secrets.verify(s.handshake.agency, s.handshake.nonce, proof):",
			new:  "case proof == codec.Proof{}:",
		}},
		seeds: 5000,
	},
	{
		name: "a message before the proof is accepted",
		changes: []change{{
			file: "front/authentication.go",
			old:  "func (s *Session) stranger(rd *reader) bool { return rd.secrets != nil && s.proved == 0 }",
			new:  "func (s *Session) stranger(rd *reader) bool { return rd.secrets != nil && s.proved == 0 && s.handshake == nil }",
		}},
		seeds: 500,
	},
	{
		name: "an agency sends again bets that WELCOME has counted",
		changes: []change{{
			file: "../agency/window.go",
			old:  "b.skip(int(stored - b.First))",
			new:  "_ = stored",
		}},
		seeds: 500,
	},
}

// Every mutation still finds the code that it changes.
func TestMutationsApply(t *testing.T) {
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) { m.overlay(t, t.TempDir()) })
	}
}

// The simulation notices every mutation.
func TestMutations(t *testing.T) {
	if os.Getenv(mutationsEnv) == "" {
		t.Skipf("compiles the package %d times: set %s=1", len(mutations), mutationsEnv)
	}
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			program := filepath.Join(dir, "mutant.test")
			build := exec.Command("go", "test", "-c", "-overlay", m.overlay(t, dir), "-o", program, ".")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("the mutant doesn't compile: %v\n%s", err, out)
			}
			run := exec.Command(program, "-test.run", "^TestSimulation$", "-test.timeout", "5m")
			run.Env = append(os.Environ(), fmt.Sprintf("%s=%d", seedsEnv, m.seeds))
			out, err := run.CombinedOutput()
			found := regexp.MustCompile(`seed \d+: ` + errViolation.Error() + `.*`).Find(out)
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || found == nil {
				t.Fatalf("not noticed in %d seeds: %v\n%s", m.seeds, err, out)
			}
			t.Logf("%.200s", found)
		})
	}
}

// overlay writes the mutated files, and the file that tells the go command to use them. It returns
// the latter's name.
func (m mutation) overlay(t *testing.T, dir string) (name string) {
	t.Helper()
	mutants := map[string]string{}
	for _, c := range m.changes {
		file, err := filepath.Abs(c.file)
		if err != nil {
			t.Fatal(err)
		}
		from, again := mutants[file]
		if !again {
			from = file
			mutants[file] = filepath.Join(dir, fmt.Sprintf("%d_%s", len(mutants), filepath.Base(file)))
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), c.old); n != 1 {
			t.Fatalf("%s has %d places to mutate, want 1; it has changed, so change the mutation:\n%s", c.file, n, c.old)
		}
		if err := os.WriteFile(mutants[file], []byte(strings.Replace(string(source), c.old, c.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": mutants})
	if err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
