package dataset_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"loteria/agency/dataset"
)

func TestOpen(t *testing.T) {
	spec := small(t)
	root := t.TempDir()
	ctx := context.Background()
	dir := filepath.Join(root, "folder.zip") // a folder, despite its name
	archive := filepath.Join(root, "Set.ZIP")
	if err := spec.WriteDir(ctx, dir, false); err != nil {
		t.Fatal(err)
	}
	if err := spec.WriteZipFile(ctx, archive, false); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path   string
		agency int
		name   string
	}{
		{dir, 2, filepath.Join(dir, "agency-2.csv")},
		{dir, 5, filepath.Join(dir, "agency-5.csv")},
		{archive, 2, archive + ":agency-2.csv"},
		{archive, 5, archive + ":agency-5.csv"},
		{filepath.Join(dir, "agency-3.csv"), 3, filepath.Join(dir, "agency-3.csv")},
	} {
		bets, name, err := dataset.Open(test.path, test.agency)
		if err != nil {
			t.Errorf("%s: %v", test.path, err)
			continue
		}
		got, err := io.ReadAll(bets)
		if err != nil {
			t.Errorf("%s: %v", test.path, err)
		}
		if err := bets.Close(); err != nil {
			t.Errorf("%s: close: %v", test.path, err)
		}
		if name != test.name {
			t.Errorf("%s: called %s, want %s", test.path, name, test.name)
		}
		if !bytes.Equal(got, content(t, spec, test.agency)) {
			t.Errorf("%s: other bets than agency %d's", test.path, test.agency)
		}
	}
}

// Open takes a CSV file of any name for any agency.
func TestOpenTakesACSVFileOfAnyName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bets")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	bets, name, err := dataset.Open(path, 77)
	if err != nil {
		t.Fatal(err)
	}
	defer bets.Close()
	if name != path {
		t.Errorf("called %s", name)
	}
}

func TestOpenRefuses(t *testing.T) {
	root := t.TempDir()
	file := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "folder", "agency-2.csv"), 0o700); err != nil {
		t.Fatal(err)
	}
	good := archiveOf(t, &zip.FileHeader{Name: "agency-1.csv"}, &zip.FileHeader{Name: "sub/agency-2.csv"})
	file("good.zip", good)
	file("cut.zip", good[:len(good)/2])
	file("empty.zip", nil)
	file("text.zip", []byte("Juan,Pérez,12345678,1990-05-23,7574\r\n"))
	file("encrypted.zip", archiveOf(t, &zip.FileHeader{Name: "agency-1.csv", Flags: 1}))
	file("method.zip", archiveOf(t, &zip.FileHeader{Name: "agency-1.csv", Method: 99}))

	for _, test := range []struct {
		path   string
		agency int
		want   error
		says   string
	}{
		{"", 1, fs.ErrNotExist, "name a CSV file, or a zip or folder that holds agency-1.csv"},
		{"missing", 3, fs.ErrNotExist, "name a CSV file, or a zip or folder that holds agency-3.csv"},
		{"missing.zip", 3, fs.ErrNotExist, "missing.zip"},
		{"folder", 1, dataset.ErrNoAgencyFile, "folder: no file for this agency: it holds no agency-1.csv"},
		{"folder", 2, dataset.ErrNoAgencyFile, "folder: no file for this agency: it holds no agency-2.csv"},
		{"good.zip", 2, dataset.ErrNoAgencyFile, "good.zip: no file for this agency: it holds no agency-2.csv"},
		{"good.zip", -1, dataset.ErrNoAgencyFile, "agency--1.csv"},
		{"cut.zip", 1, dataset.ErrNotZip, "make it again"},
		{"empty.zip", 1, dataset.ErrNotZip, "make it again"},
		{"text.zip", 1, dataset.ErrNotZip, "name a CSV file"},
		{"encrypted.zip", 1, dataset.ErrNotZip, "encrypted.zip:agency-1.csv: not a readable zip archive: it is encrypted"},
		{"method.zip", 1, dataset.ErrNotZip, "method.zip:agency-1.csv: not a readable zip archive (zip: unsupported"},
	} {
		path := test.path
		if path != "" {
			path = filepath.Join(root, path)
		}
		bets, name, err := dataset.Open(path, test.agency)
		if bets != nil || name != "" {
			t.Errorf("%s: opened as %q", test.path, name)
		}
		if !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.path, err, test.want)
			continue
		}
		if message := err.Error(); !strings.Contains(message, test.says) || strings.Contains(message, "\n") {
			t.Errorf("%s: message %q, want one line with %q", test.path, message, test.says)
		}
	}
}

// archiveOf returns an archive with exactly these entries. Each has a few bytes of content.
func archiveOf(t *testing.T, entries ...*zip.FileHeader) []byte {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, header := range entries {
		entry, err := archive.CreateRaw(header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := entry.Write([]byte("bets")); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Damage inside an entry must be an error, and not look like the end of the bets.
func TestReadingADamagedEntryFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "set.zip")
	if err := dataset.Default().WriteZipFile(context.Background(), path, false); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/4] ^= 1 // within agency 1's compressed bets
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	bets, _, err := dataset.Open(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer bets.Close()
	if _, err := io.Copy(io.Discard, bets); err == nil {
		t.Error("a flipped bit was read without an error")
	}
}

func TestOpenFirstGoesPastWhatHasNoBets(t *testing.T) {
	spec := small(t)
	root := t.TempDir()
	full, own, archive := filepath.Join(root, "full"), filepath.Join(root, "own"), filepath.Join(root, "set.zip")
	if err := spec.WriteDir(t.Context(), full, false); err != nil {
		t.Fatal(err)
	}
	if err := spec.WriteZipFile(t.Context(), archive, false); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(own, "agency-2.csv"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(root, "damaged.zip")
	if err := os.WriteFile(damaged, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(root, "nowhere")
	for _, test := range []struct {
		paths  []string
		agency int
		name   string // "" if there is an error
		err    error
	}{
		{[]string{own, archive}, 2, filepath.Join(own, "agency-2.csv"), nil},
		{[]string{own, archive}, 1, archive + ":agency-1.csv", nil},
		{[]string{nowhere, full}, 1, filepath.Join(full, "agency-1.csv"), nil},
		{[]string{damaged, full}, 1, "", dataset.ErrNotZip},
		{[]string{own, archive}, 77, "", dataset.ErrNoAgencyFile},
		{[]string{own, nowhere}, 1, "", dataset.ErrNoAgencyFile},
		{[]string{own, nowhere}, 1, "", fs.ErrNotExist},
		{nil, 1, "", fs.ErrNotExist},
	} {
		bets, name, err := dataset.OpenFirst(test.paths, test.agency)
		if name != test.name || !errors.Is(err, test.err) {
			t.Errorf("%q, agency %d: %q %v, want %q %v", test.paths, test.agency, name, err, test.name, test.err)
		}
		if err == nil {
			if err := bets.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			continue
		}
		for _, path := range test.paths {
			if test.err != dataset.ErrNotZip && !strings.Contains(err.Error(), path) {
				t.Errorf("%q: the error doesn't name all of them: %v", test.paths, err)
			}
		}
	}
}
