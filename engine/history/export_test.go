package history

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"loteria/engine/ledger"
)

// writeLedger makes a ledger of two agencies in a new data directory.
func writeLedger(t *testing.T, records ...[]byte) (dataDir string) {
	t.Helper()
	dataDir = t.TempDir()
	l, err := ledger.Open(Dir(dataDir), ledger.Options{SegmentBytes: ledger.SegmentBytesMin}, nil)
	if err != nil {
		t.Fatal(err)
	}
	opened := Settings{Agencies: 2, WinningNumber: 7574}.AppendRecord(nil)
	if err := l.Commit(append([][]byte{opened}, records...)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dataDir
}

func betsRecord(agency, count uint32, payload string) []byte {
	return ledger.AppendRecord(nil, ledger.Bets, agency, count, []byte(payload))
}

func reportRecord(agency uint32) []byte {
	return ledger.AppendRecord(nil, ledger.Reported, agency, 0, nil)
}

func TestExport(t *testing.T) {
	for _, test := range []struct {
		name          string
		records       [][]byte
		bets, winners string
		want          Exported
	}{
		{"empty", nil, "", "", Exported{}},
		{
			"in ledger order, across agencies",
			[][]byte{betsRecord(2, 1, "Eva|Ruiz|1|1990-05-23|1|2"), betsRecord(1, 1, "Ana|Díaz|2|2000-02-29|2|1"), betsRecord(2, 1, "Eva|Ruiz|1|1990-05-23|1|2")},
			"2,Eva,Ruiz,1,1990-05-23,1\r\n1,Ana,Díaz,2,2000-02-29,2\r\n2,Eva,Ruiz,1,1990-05-23,1\r\n", "",
			Exported{Bets: 3},
		},
		{
			"winners as they were sent, compared as integers",
			[][]byte{betsRecord(1, 4, "A|B|1|1990-05-23|7574|1\nC|D|2|1990-05-23|07574|1\nE|F|3|1990-05-23|75740|1\nG|H|07|1990-05-23|000007574|1\n")},
			"1,A,B,1,1990-05-23,7574\r\n1,C,D,2,1990-05-23,07574\r\n1,E,F,3,1990-05-23,75740\r\n1,G,H,07,1990-05-23,000007574\r\n",
			"1,A,B,1,1990-05-23,7574\r\n1,C,D,2,1990-05-23,07574\r\n1,G,H,07,1990-05-23,000007574\r\n",
			Exported{Bets: 4, Winners: 3},
		},
		{
			"what CSV has to quote",
			[][]byte{betsRecord(1, 3, "Pérez, Juan|el \"Flaco\"|1|1990-05-23|7574|1\n Ana| |2|1990-05-23|7|1\nD'Angelo|O;P|3|1990-05-23|7|1")},
			"1,\"Pérez, Juan\",\"el \"\"Flaco\"\"\",1,1990-05-23,7574\r\n1,\" Ana\",\" \",2,1990-05-23,7\r\n1,D'Angelo,O;P,3,1990-05-23,7\r\n",
			"1,\"Pérez, Juan\",\"el \"\"Flaco\"\"\",1,1990-05-23,7574\r\n",
			Exported{Bets: 3, Winners: 1},
		},
		{
			"servers that change",
			[][]byte{ledger.AppendRecord(nil, ledger.Members, 0, 1, []byte("voters=1")), betsRecord(1, 1, "A|B|1|1990-05-23|1|1")},
			"1,A,B,1,1990-05-23,1\r\n", "",
			Exported{Bets: 1},
		},
		{
			"one report is no draw",
			[][]byte{betsRecord(1, 1, "A|B|1|1990-05-23|7574|1"), reportRecord(1)},
			"1,A,B,1,1990-05-23,7574\r\n", "1,A,B,1,1990-05-23,7574\r\n",
			Exported{Bets: 1, Winners: 1},
		},
		{
			"drawn",
			[][]byte{reportRecord(2), betsRecord(1, 1, "A|B|1|1990-05-23|7575|1"), reportRecord(1)},
			"1,A,B,1,1990-05-23,7575\r\n", "",
			Exported{Bets: 1, Drawn: true},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := writeLedger(t, test.records...)
			var bets, winners bytes.Buffer
			got, err := Export(In(dir), &bets, &winners)
			if err != nil || got != test.want {
				t.Errorf("got %+v, error %v; want %+v", got, err, test.want)
			}
			if bets.String() != test.bets {
				t.Errorf("bets\n%s, want\n%s", bets.String(), test.bets)
			}
			if winners.String() != test.winners {
				t.Errorf("winners\n%s, want\n%s", winners.String(), test.winners)
			}
			// Only the winners, and only the counts.
			var alone bytes.Buffer
			got, err = Export(In(dir), nil, &alone)
			if err != nil || got != test.want || alone.String() != test.winners {
				t.Errorf("winners alone: %+v, error %v, %q", got, err, alone.String())
			}
			if got, err := Export(In(dir), nil, nil); err != nil || got != test.want {
				t.Errorf("only counted: %+v, error %v", got, err)
			}
			if err := ExportFiles(In(dir), dir); err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]string{BetsFile: test.bets, WinnersFile: test.winners} {
				if content, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(content) != want {
					t.Errorf("%s has %q, error %v; want %q", name, content, err, want)
				}
			}
		})
	}
}

// ExportFiles replaces older files and leaves no temporary ones.
func TestExportFilesReplace(t *testing.T) {
	dir := writeLedger(t, betsRecord(1, 1, "A|B|1|1990-05-23|7575|1"))
	for range 2 {
		if err := os.WriteFile(filepath.Join(dir, BetsFile), []byte("older, and longer than what is exported now"), 0o644); err != nil {
			t.Fatal(err)
		}
		// A server that was killed while it exported leaves a temporary file.
		if err := os.WriteFile(filepath.Join(dir, BetsFile+".tmp"), []byte("half of what was to be exported then"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := ExportFiles(In(dir), dir); err != nil {
			t.Fatal(err)
		}
	}
	if content, err := os.ReadFile(filepath.Join(dir, BetsFile)); err != nil || string(content) != "1,A,B,1,1990-05-23,7575\r\n" {
		t.Errorf("%q, error %v", content, err)
	}
	wantEntries(t, dir, BetsFile, "ledger", WinnersFile)
}

// ExportFiles leaves the older files if it fails.
func TestExportFilesFail(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, BetsFile), []byte("older"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ExportFiles(In(dir), dir); !errors.Is(err, ErrNoLedger) {
		t.Errorf("error %v", err)
	}
	if content, err := os.ReadFile(filepath.Join(dir, BetsFile)); err != nil || string(content) != "older" {
		t.Errorf("%q, error %v", content, err)
	}
	wantEntries(t, dir, BetsFile)
}

func wantEntries(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if len(got) != len(want) {
		t.Fatalf("%s holds %v, want %v", dir, got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s holds %v, want %v", dir, got, want)
		}
	}
}

func TestExportErrors(t *testing.T) {
	empty := t.TempDir()
	if err := os.Mkdir(Dir(empty), 0o755); err != nil {
		t.Fatal(err)
	}
	damaged := writeLedger(t, betsRecord(1, 1, "A|B|1|1990-05-23|7575|1"))
	segments, err := filepath.Glob(filepath.Join(Dir(damaged), "*.ledger"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %v, error %v", segments, err)
	}
	content, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	content[bytes.Index(content, []byte("A|B|1"))] ^= 1
	if err := os.WriteFile(segments[0], content, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, dir string
		want      error
	}{
		{"no directory", filepath.Join(empty, "nothing"), ErrNoLedger},
		{"no ledger", t.TempDir(), ErrNoLedger},
		{"an empty ledger directory", empty, ErrNoLedger},
		{"a damaged ledger", damaged, ledger.ErrCorrupt},
	} {
		if _, err := Export(In(test.dir), io.Discard, io.Discard); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.name, err, test.want)
		}
	}
}

// Export returns a writer's error.
func TestExportWriterFails(t *testing.T) {
	dir := writeLedger(t, betsRecord(1, 1, "A|B|1|1990-05-23|7574|1"))
	if _, err := Export(In(dir), brokenWriter{}, nil); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("bets: error %v", err)
	}
	if _, err := Export(In(dir), nil, brokenWriter{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("winners: error %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// Export can read the ledger while a server has it locked and open for writing.
func TestExportBesideWriter(t *testing.T) {
	dir := t.TempDir()
	l, err := ledger.Open(Dir(dir), ledger.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := l.Commit([][]byte{Settings{Agencies: 1, WinningNumber: 7574}.AppendRecord(nil)}); err != nil {
		t.Fatal(err)
	}
	for n := range int64(3) {
		if got, err := Export(In(dir), nil, io.Discard); err != nil || got != (Exported{Bets: n, Winners: n}) {
			t.Errorf("after %d batches: %+v, error %v", n, got, err)
		}
		if err := l.Commit([][]byte{betsRecord(1, 1, "A|B|1|1990-05-23|7574|1")}); err != nil {
			t.Fatal(err)
		}
	}
}
