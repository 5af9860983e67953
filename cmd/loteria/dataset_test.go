package main

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// datasetCommand runs `loteria dataset` and returns what it wrote.
func datasetCommand(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := newDatasetCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

func TestDatasetMakesTheBundledOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made.zip")
	stdout, stderr, err := datasetCommand(t, "--out", path)
	if err != nil {
		t.Fatal(err)
	}
	if stdout != "" {
		t.Errorf("standard output: %q", stdout)
	}
	const want = `  agency   bets  winners of 7574
       1  26936                2
       2  25518                3
       3  16014                3
       4   9238                2
       5    991                0
   total  78697               10
`
	if stderr != want {
		t.Errorf("summary:\n%s\nwant:\n%s", stderr, want)
	}
	made, bundled := unzip(t, path), unzip(t, filepath.Join("..", "..", "testdata", "dataset.zip"))
	if len(made) != 5 || len(bundled) != 5 {
		t.Fatalf("%d and %d entries", len(made), len(bundled))
	}
	for name, content := range bundled {
		if made[name] != content {
			t.Errorf("%s differs from the bundled one", name)
		}
	}
}

// unzip returns the content of every entry by name.
func unzip(t *testing.T, path string) map[string]string {
	t.Helper()
	archive, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	files := make(map[string]string)
	for _, file := range archive.File {
		entry, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(entry)
		if err != nil {
			t.Fatal(err)
		}
		files[file.Name] = string(content)
	}
	return files
}

func TestDatasetToFolderAndStandardOutput(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	size := []string{"--agencies", "43", "--bets", "5000", "--seed", "9", "--winning-number", "12"}
	_, stderr, err := datasetCommand(t, append(size, "--out", dir)...)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(stderr, "\n"); lines != 1+20+1+1 || !strings.Contains(stderr, "21 to 43") {
		t.Errorf("summary of %d lines:\n%s", lines, stderr)
	}
	written, err := os.ReadDir(dir)
	if err != nil || len(written) != 43 {
		t.Fatalf("%d files, error %v", len(written), err)
	}

	stdout, stderr, err := datasetCommand(t, append(size, "--out", "-", "--agency", "42")...)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "agency-42.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if stdout == "" || stdout != string(content) {
		t.Errorf("standard output differs from agency 42's file: %d and %d bytes",
			len(stdout), len(content))
	}
	if !strings.Contains(stdout, ",12\r\n") {
		t.Error("nobody plays the winning number")
	}
	if strings.Count(stderr, "\n") != 2 || strings.Contains(stderr, "total") {
		t.Errorf("summary of one agency:\n%s", stderr)
	}
}

func TestDatasetOverwritesOnlyWhenForced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made.zip")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--bets", "100", "--out", path}
	_, _, err := datasetCommand(t, args...)
	if err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("error %v", err)
	}
	if kept, err := os.ReadFile(path); err != nil || string(kept) != "precious" {
		t.Errorf("the file was touched: %q, error %v", kept, err)
	}
	if _, _, err := datasetCommand(t, append(args, "--force")...); err != nil {
		t.Error(err)
	}
	if files := unzip(t, path); len(files) != 5 {
		t.Errorf("%d entries", len(files))
	}
}

func TestDatasetRefusesBadFlags(t *testing.T) {
	out := filepath.Join(t.TempDir(), "made")
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"--agencies", "0"}, "0 agencies: choose 1 to 100000"},
		{[]string{"--bets", "100000001"}, "choose 0 to 100000000"},
		{[]string{"--bets", "many"}, "invalid argument"},
		{[]string{"--seed", "-1"}, "invalid argument"},
		{[]string{"--winning-number", "10000"}, "winning number 10000: choose 0 to 9999"},
		{[]string{"--agency", "3"}, "--agency goes with --out -"},
		{[]string{"--out", "-"}, "add --agency 1 to 5"},
		{[]string{"--out", "-", "--agency", "6"}, "agency 6: choose 1 to 5"},
		{[]string{"--out", "-", "--agency", "-1"}, "agency -1: choose 1 to 5"},
		{[]string{"--out", ""}, "--out is empty"},
		{[]string{"extra"}, "extra"},
	} {
		stdout, _, err := datasetCommand(t, append([]string{"--out", out}, test.args...)...)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%v: error %v, want %q", test.args, err, test.says)
		}
		if stdout != "" {
			t.Errorf("%v: standard output %q", test.args, stdout)
		}
	}
	if _, err := os.Lstat(out); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
}
