package compose

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"loteria/agency/dataset"
)

// repository is the checkout's root, seen from this package.
const repository = ".."

// checkedIn is the compose file for five agencies, seen from the root.
const checkedIn = "compose/docker-compose-dev.yaml"

// checkout copies what a fresh clone has and Docker needs, and returns its root.
func checkout(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"agency", "cmd", "codec", "compose", "engine", "testdata"} {
		if err := os.CopyFS(filepath.Join(root, dir), os.DirFS(filepath.Join(repository, dir))); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{".dockerignore", "generar-compose.sh", "go.mod", "go.sum"} {
		content := readFile(t, filepath.Join(repository, file))
		info, err := os.Stat(filepath.Join(repository, file))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(root, file), content, info.Mode())
	}
	return root
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func writeFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// generate runs the script of a checkout, in its root, and returns its exit
// code and what it said. environment goes before the process's own.
func generate(t *testing.T, root string, environment []string, args ...string) (code int, said string) {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed, and the script is written in it")
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), bash, append([]string{"./generar-compose.sh"}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, &out, &out
	cmd.Env = append(os.Environ(), environment...)
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// onlyTools makes a PATH of the named programs, as they are on this machine.
func onlyTools(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return "PATH=" + dir
}

// withoutUnpacker are the programs that the script needs in any case.
var withoutUnpacker = []string{"cat", "chmod", "dirname", "mkdir", "mktemp", "mv", "rm", "tr"}

// bundled is the bets of one agency of the dataset.
func bundled(t *testing.T, agency int) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := dataset.Default().WriteAgency(t.Context(), &out, agency); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestCheckedInFileIsWhatTheScriptWrites(t *testing.T) {
	root := checkout(t)
	want := readFile(t, filepath.Join(root, checkedIn))
	for _, args := range [][]string{{"docker-compose-dev.yaml", "5"}, {"docker-compose-dev.yaml"}, {checkedIn, "5"}} {
		provideBets(t, root, 5)
		if code, said := generate(t, root, nil, args...); code != 0 {
			t.Fatalf("%q: exit code %d: %s", args, code, said)
		}
		if got := readFile(t, filepath.Join(root, args[0])); got != want {
			t.Errorf("%q: writes something else than %s. Is the change right? Then run ./generar-compose.sh %s 5", args, checkedIn, checkedIn)
		}
	}
}

// provideBets puts files for agencies 1 to n into .data/, so that the script
// needs neither an unpacker nor Docker.
func provideBets(t *testing.T, root string, n int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(root, ".data"), 0o755); err != nil {
		t.Fatal(err)
	}
	for agency := 1; agency <= n; agency++ {
		writeFile(t, filepath.Join(root, ".data", dataset.FileName(agency)), "", 0o644)
	}
}

func TestScriptWritesAServiceAnAgency(t *testing.T) {
	root := checkout(t)
	provideBets(t, root, 40)
	for _, n := range []string{"40", "1"} { // fewer after more: nothing of the first is left
		if code, said := generate(t, root, nil, "x.yaml", n); code != 0 {
			t.Fatalf("exit code %d: %s", code, said)
		}
		file := readFile(t, filepath.Join(root, "x.yaml"))
		for want, count := range map[string]int{
			"\n  server:\n":      1,
			"\n  client":         map[string]int{"1": 1, "40": 40}[n],
			"AGENCY_ID: " + n:    1,
			"\n  client" + n:     1,
			"_AGENCIES:-" + n:    2,
			"condition: service": 1,
			"healthcheck:":       1,
		} {
			if got := strings.Count(file, want); got != count {
				t.Errorf("%s agencies: %q stands there %d times, want %d", n, want, got, count)
			}
		}
	}
}

func TestScriptRefusesBadArguments(t *testing.T) {
	root := checkout(t)
	const before = "as it was\n"
	for _, args := range [][]string{
		{},
		{"x.yaml", "5", "5"},
		{"x.yaml", "0"},
		{"x.yaml", "-1"},
		{"x.yaml", "05"},
		{"x.yaml", "1001"},
		{"x.yaml", "99999999999999999999"},
		{"x.yaml", "cinco"},
		{"x.yaml", "5 5"},
		{"x.yaml", "a[$(touch hacked)]"},
		{""},
		{"--help"},
		{"compose"},
		{"nowhere/x.yaml"},
	} {
		writeFile(t, filepath.Join(root, "x.yaml"), before, 0o644)
		code, said := generate(t, root, nil, args...)
		if code != 2 || !strings.Contains(said, "usage: ./generar-compose.sh FILE [N]") {
			t.Errorf("%q: exit code %d, want 2 and the usage: %s", args, code, said)
		}
		if got := readFile(t, filepath.Join(root, "x.yaml")); got != before {
			t.Errorf("%q: the file was changed", args)
		}
	}
	if left, err := filepath.Glob(filepath.Join(root, ".data", "*")); len(left) > 0 || err != nil {
		t.Errorf("made without right arguments: %q %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(root, "hacked")); err == nil {
		t.Error("an argument was run as a command")
	}
}

func TestScriptUnpacksWhatIsNotThere(t *testing.T) {
	if _, err := exec.LookPath("unzip"); err != nil {
		t.Skip("unzip is not installed; with Docker instead, TestDraw unpacks")
	}
	root := checkout(t)
	const mine = "Juan,Pérez,12345678,1990-05-23,7574\r\n"
	provideBets(t, root, 0)
	writeFile(t, filepath.Join(root, ".data", dataset.FileName(2)), mine, 0o644)
	if code, said := generate(t, root, nil, "x.yaml", "3"); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	for agency, want := range map[int]string{1: string(bundled(t, 1)), 2: mine, 3: string(bundled(t, 3))} {
		if readFile(t, filepath.Join(root, ".data", dataset.FileName(agency))) != want {
			t.Errorf("agency %d has other bets than it should", agency)
		}
	}
	left, err := filepath.Glob(filepath.Join(root, ".data", "*"))
	if err != nil || len(left) != 3 {
		t.Errorf("in .data: %q %v, want three agencies' files", left, err)
	}
}

func TestScriptSaysWhatIsMissing(t *testing.T) {
	for _, test := range []struct {
		n    string
		have int // agencies that have a file
		want string
	}{
		{"5", 0, "install unzip, or start Docker"},
		{"7", 5, "no bets for agency 6 7: "},
	} {
		root := checkout(t)
		provideBets(t, root, test.have)
		const before = "as it was\n"
		writeFile(t, filepath.Join(root, "x.yaml"), before, 0o644)
		code, said := generate(t, root, []string{onlyTools(t, withoutUnpacker...)}, "x.yaml", test.n)
		if code != 1 || !strings.Contains(said, test.want) {
			t.Errorf("%s agencies: exit code %d, want 1 and %q: %s", test.n, code, test.want, said)
		}
		if got := readFile(t, filepath.Join(root, "x.yaml")); got != before {
			t.Errorf("%s agencies: the file was changed", test.n)
		}
		left, err := filepath.Glob(filepath.Join(root, ".data", "*"))
		if err != nil || len(left) != test.have {
			t.Errorf("%s agencies: in .data: %q %v", test.n, left, err)
		}
	}
}
