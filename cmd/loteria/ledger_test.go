package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"loteria/codec"
)

// goldenLedger copies a ledger of testdata/ledgers into a new data directory.
func goldenLedger(t *testing.T, name string) (dataDir string) {
	t.Helper()
	dataDir = t.TempDir()
	golden := os.DirFS(filepath.Join("..", "..", "testdata", "ledgers", name))
	if err := os.CopyFS(filepath.Join(dataDir, "ledger"), golden); err != nil {
		t.Fatal(err)
	}
	return dataDir
}

// The golden ledger's segments.
const (
	goldenSealed = "00000000000000000001.ledger"
	goldenLive   = "00000000000000000006.ledger"
	goldenSeal   = "SEAL" // of v1-sealed
)

const goldenVerified = goldenWhole + "seal      none\n"

const goldenWhole = `settings  2 agencies, winning number 7574
records   7 in 2 segments, 5544 bytes
bets      123, 2 of them win
reported  2 of 2: 1, 2
draw      held
served    0 of 2
end       whole
`

const goldenDumpHead = `1 opened agency=0 count=1 bytes=40 "version=1 agencies=2 winning_number=7574"
2 bets agency=1 count=2 bytes=79 "Juan|Pérez|12345678|1990-05-23|7574|1\nMaría|Gómez|87654321|1985-07-10|2311|1"
3 bets agency=2 count=1 bytes=41 "Carlos|López|99887766|1982-02-17|7574|2\n"
`

// The output and the exit code of `loteria ledger verify` and `dump`, for whole ledgers and damaged
// ones. The commands change no file.
func TestLedgerCommand(t *testing.T) {
	rewrite := func(name string, change func([]byte) []byte) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, change(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(b []byte) []byte { b[2000] ^= 1; return b }
	cut := func(b []byte) []byte { return b[:len(b)-8] }
	for _, test := range []struct {
		name   string
		golden string // "v1" if empty; "none" for a directory without a ledger
		damage func(t *testing.T, dir string)
		args   string
		code   int
		stdout string // the whole output; if it ends with ..., only its beginning
		stderr string // a part of the output
	}{
		{name: "verify", args: "verify", stdout: goldenVerified},
		{name: "dump", args: "dump --to 3", stdout: goldenDumpHead},
		{name: "dump from and limit", args: "dump --from 2 --limit 1 --payload 4", stdout: `2 bets agency=1 count=2 bytes=79 "Juan"...` + "\n"},
		{name: "dump to before limit", args: "dump --to 1 --limit 5 --payload 0", stdout: `1 opened agency=0 count=1 bytes=40 ""...` + "\n"},
		{name: "dump limit before to", args: "dump --from 7 --limit 9", stdout: `7 reported agency=2 count=0 bytes=0 ""` + "\n"},
		{name: "dump behind the end", args: "dump --from 8"},
		{name: "dump of nothing", args: "dump --from 3 --to 2", code: exitInput, stderr: "--from 3 is after --to 2"},
		{name: "dump less than nothing", args: "dump --payload -1", code: exitInput, stderr: "use 0 or more"},
		{name: "verify without a ledger", golden: "none", args: "verify", code: exitInput, stderr: "no ledger here"},
		{name: "dump without a ledger", golden: "none", args: "dump", code: exitInput, stderr: "no ledger here"},
		{name: "verify a later version", golden: "v99", args: "verify", code: exitInput, stderr: "version 99, this one reads 1"},
		{name: "dump a later version", golden: "v99", args: "dump", code: exitInput, stderr: "version 99, this one reads 1"},
		{name: "verify a flipped bit, sealed", damage: rewrite(goldenSealed, flip), args: "verify", code: exitStorage,
			stdout: "settings  2 agencies, winning number 7574\nrecords   4 in 1 segments, ...", stderr: goldenSealed + ", offset 360, record 5: the record's payload is damaged"},
		{name: "verify a flipped bit, live", damage: rewrite(goldenLive, flip), args: "verify", code: exitStorage,
			stdout: "settings  2 agencies, winning number 7574\nrecords   5 in 2 segments, ...", stderr: goldenLive + ", offset 64, record 6: the record's payload is damaged"},
		{name: "dump a flipped bit", damage: rewrite(goldenSealed, flip), args: "dump", code: exitStorage, stdout: goldenDumpHead + "4 reported agency=1 count=0 bytes=0 \"\"\n", stderr: goldenSealed + ", offset 360, record 5"},
		{name: "verify a truncated sealed segment", damage: rewrite(goldenSealed, cut), args: "verify", code: exitStorage, stdout: "settings ...", stderr: "record 5: the record's payload is cut off"},
		{name: "verify a torn end", damage: rewrite(goldenLive, cut), args: "verify", stdout: "settings  2 agencies, winning number 7574\nrecords   6 in 2 segments, 5512 bytes\nbets      123, 2 of them win\nreported  1 of 2: 1\ndraw      not held\nserved    0 of 2\nend       torn write in ..."},
		{name: "verify a sealed ledger", golden: "v1-sealed", args: "verify", stdout: goldenWhole + "seal      through record 7\n"},
		{name: "verify an unfinished seal", golden: "v1-sealed", damage: rewrite(goldenSeal, cut), args: "verify", stdout: goldenWhole + "seal      unfinished\n"},
		{name: "verify a torn end before the seal", golden: "v1-sealed", damage: rewrite(goldenLive, cut), args: "verify", code: exitStorage,
			stdout: "settings  2 agencies, winning number 7574\nrecords   6 in 2 segments, 5512 bytes\nbets      123, 2 of them win\nreported  1 of 2: 1\ndraw      not held\nserved    0 of 2\nend       DAMAGED: all of the above stands before the damage\nseal      through record 7\n",
			stderr: goldenLive + ", offset 2608, record 7: the ledger was sealed through record 7 and ends at record 6: a segment was removed or cut short"},
		{name: "verify a missing last segment", damage: remove(goldenLive), args: "verify",
			stdout: "settings  2 agencies, winning number 7574\nrecords   5 in 1 segments, 2904 bytes\nbets      63, 2 of them win\nreported  1 of 2: 1\ndraw      not held\nserved    0 of 2\nend       whole\nseal      none\n"},
		{name: "verify a missing last segment before the seal", golden: "v1-sealed", damage: remove(goldenLive), args: "verify", code: exitStorage,
			stdout: "settings  2 agencies, winning number 7574\nrecords   5 in 1 segments, ...", stderr: "the ledger was sealed through record 7 and ends at record 5"},
		{name: "dump a missing last segment before the seal", golden: "v1-sealed", damage: remove(goldenLive), args: "dump --to 3", stdout: goldenDumpHead},
		{name: "dump all before a missing last segment", golden: "v1-sealed", damage: remove(goldenLive), args: "dump", code: exitStorage,
			stdout: goldenDumpHead + "4 ...", stderr: "the ledger was sealed through record 7 and ends at record 5"},
		{name: "verify without any segment", golden: "v1-sealed", damage: func(t *testing.T, dir string) {
			remove(goldenSealed)(t, dir)
			remove(goldenLive)(t, dir)
		}, args: "verify", code: exitStorage, stdout: "settings  not readable\nrecords   0 in 0 segments, ...", stderr: "the ledger was sealed through record 7 and ends at record 0"},
		{name: "verify a ledger of several servers", golden: "v2", args: "verify",
			stdout: "settings  2 agencies, winning number 7574\nrecords   9 in 2 segments, 4344 bytes\nbets      92, 0 of them win\nreported  1 of 2: 2\ndraw      not held\nserved    0 of 2\nend       whole, as far as it is known to be committed\nseal      the state: promised entries 1 to 5, committed 1 to 4, term 300, vote for server 3\n"},
		{name: "dump a ledger of several servers", golden: "v2", args: "dump --payload 5", stdout: `1 opened agency=0 count=1 bytes=40 "versi"...
2 entry agency=0 count=1 bytes=3 "1 1"
3 entry agency=0 count=3 bytes=3 "2 1"
` + "..."},
		{name: "verify a ledger of several servers that was cut short", golden: "v2", damage: remove("00000000000000000008.ledger"), args: "verify", code: exitStorage,
			stdout: "settings  2 agencies, winning number 7574\nrecords   ...", stderr: "promised the log through entry 4, and it ends at entry 3"},
		{name: "verify a ledger of several servers without its state", golden: "v2", damage: remove("STATE"), args: "verify", code: exitStorage,
			stdout: "settings  not readable\n...", stderr: "STATE, offset 0, record 1: the state is missing"},
		{name: "verify a missing segment", damage: remove(goldenSealed), args: "verify", code: exitStorage, stdout: "settings  not readable\nrecords   0 ...", stderr: "the first segment, " + goldenSealed + ", is missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			clearEnvironment(t)
			dataDir := t.TempDir()
			switch test.golden {
			case "none":
			case "":
				dataDir = goldenLedger(t, "v1")
			default:
				dataDir = goldenLedger(t, test.golden)
			}
			dir := filepath.Join(dataDir, "ledger")
			if test.damage != nil {
				test.damage(t, dir)
			}
			t.Setenv("SERVER_DATA_DIR", dataDir)
			before := filesIn(t, dir)
			var stdout, stderr bytes.Buffer
			args := append([]string{"ledger"}, strings.Fields(test.args)...)
			if code := run(args, &stdout, &stderr); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			want, beginning := strings.CutSuffix(test.stdout, "...")
			if stdout.String() != test.stdout &&
				!(beginning && strings.HasPrefix(stdout.String(), want)) {
				t.Errorf("it prints\n%s\nwant\n%s", stdout.String(), test.stdout)
			}
			if !strings.Contains(stderr.String(), test.stderr) ||
				(stderr.Len() == 0) != (test.code == exitDone) {
				t.Errorf("it says %q, want %q", stderr.String(), test.stderr)
			}
			for name, content := range filesIn(t, dir) {
				if before[name] != content {
					t.Errorf("it changes %s", name)
				}
			}
		})
	}
}

func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = string(b)
	}
	return files
}

func TestAgencyList(t *testing.T) {
	ids := make([]codec.Agency, agenciesNamedMax+2)
	for i := range ids {
		ids[i] = codec.Agency(i + 1)
	}
	for want, got := range map[string]string{
		"0 of 3":       agencyList(nil, 3),
		"2 of 3: 1, 2": agencyList(ids[:2], 3),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	got := agencyList(ids, 100)
	if !strings.HasPrefix(got, "42 of 100: 1, 2, ") || !strings.HasSuffix(got, ", 40 and 2 more") {
		t.Errorf("many: %q", got)
	}
}
