// Package mutationtest checks tests: it puts one mistake into the program after the other, and the
// tests have to notice each. A package that uses it keeps its own list of mistakes.
package mutationtest

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

// Env turns [Run] on. Compiling a mutation takes seconds. CI sets it.
//
//	LOTERIA_MUTATIONS=1 go test ./engine -run '^TestMutations$' -v
const Env = "LOTERIA_MUTATIONS"

// Mutation puts one mistake into the program. A simulation has to find it within Seeds runs, or
// another test has to.
type Mutation struct {
	Name    string
	Changes []Change
	Seeds   int    // 0: the test is no simulation
	Test    string // empty: TestSimulation
}

// Change replaces one place of a file.
type Change struct {
	File     string // from the directory of the package under test
	Old, New string // Old must be in the file exactly once
}

// Simulation is how the package under test has its simulations run.
type Simulation struct {
	SeedsEnv  string // the variable that sets how many seeds they run
	Violation error  // they report "seed N: " and this error
}

// Apply checks that every mutation still finds the code that it changes.
func Apply(t *testing.T, mutations []Mutation) {
	for _, m := range mutations {
		t.Run(m.Name, func(t *testing.T) { m.overlay(t, t.TempDir()) })
	}
}

// Run checks that the tests of the package in the working directory notice every mutation. It skips
// the test unless Env is set.
func Run(t *testing.T, mutations []Mutation, s Simulation) {
	if os.Getenv(Env) == "" {
		t.Skipf("compiles the package %d times: set %s=1", len(mutations), Env)
	}
	for _, m := range mutations {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel() // what it runs uses one processor for most of its time
			m.run(t, s)
		})
	}
}

func (m Mutation) run(t *testing.T, s Simulation) {
	dir := t.TempDir()
	program := filepath.Join(dir, "mutant.test")
	build := exec.Command("go", "test", "-c", "-ldflags=-w", "-overlay", m.overlay(t, dir), "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the mutant doesn't compile: %v\n%s", err, out)
	}
	test, want := m.Test, `\w+_test.go.*`
	if test == "" {
		test = "TestSimulation"
	}
	if m.Seeds > 0 {
		want = `seed \d+: ` + s.Violation.Error() + `.*`
	}
	run := exec.Command(program, "-test.run", "^"+test+"$", "-test.timeout", "10m")
	run.Env = append(os.Environ(), fmt.Sprintf("%s=%d", s.SeedsEnv, m.Seeds))
	out, err := run.CombinedOutput()
	found := regexp.MustCompile(want).Find(out)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || found == nil {
		t.Fatalf("not noticed in %d seeds: %v\n%s", m.Seeds, err, out)
	}
	t.Logf("%.200s", found)
}

// overlay writes the mutated files, and the file that tells the go command to use them. It returns
// the latter's name.
func (m Mutation) overlay(t *testing.T, dir string) (name string) {
	t.Helper()
	mutants := map[string]string{}
	for _, c := range m.Changes {
		file, err := filepath.Abs(c.File)
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
		if n := strings.Count(string(source), c.Old); n != 1 {
			t.Fatalf("%s has %d places to mutate, want 1; it has changed, so change the mutation:\n%s",
				c.File, n, c.Old)
		}
		mutant := strings.Replace(string(source), c.Old, c.New, 1)
		if err := os.WriteFile(mutants[file], []byte(mutant), 0o600); err != nil {
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
