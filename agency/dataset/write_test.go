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
	"testing"

	"loteria/agency/dataset"
)

const bundledPath = "../../testdata/dataset.zip"

func TestBundledDatasetIsTheDefault(t *testing.T) {
	const sizeMax = 1_900_000
	info, err := os.Stat(bundledPath)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > sizeMax {
		t.Errorf("it has %d bytes, more than %d", info.Size(), sizeMax)
	}
	archive, err := zip.OpenReader(bundledPath)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	checkArchive(t, &archive.Reader, dataset.Default())
	if t.Failed() {
		t.Log("make it again: go run ./cmd/loteria dataset --out testdata/dataset.zip --force")
	}
}

// checkArchive fails unless the archive has exactly the files that spec makes.
func checkArchive(t *testing.T, archive *zip.Reader, spec dataset.Spec) {
	t.Helper()
	if len(archive.File) != len(spec.Agencies) {
		t.Fatalf("%d entries, want %d", len(archive.File), len(spec.Agencies))
	}
	for i, file := range archive.File {
		if file.Name != dataset.FileName(i+1) {
			t.Errorf("entry %d is %s", i, file.Name)
		}
		entry, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(entry)
		if err != nil {
			t.Fatalf("%s: %v", file.Name, err)
		}
		if !bytes.Equal(got, content(t, spec, i+1)) {
			t.Errorf("%s differs from what the generator makes", file.Name)
		}
	}
}

func TestArchiveIsReproducible(t *testing.T) {
	spec := small(t)
	var one, two bytes.Buffer
	for _, out := range []*bytes.Buffer{&one, &two} {
		if err := spec.WriteZip(context.Background(), out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two archives of one spec differ")
	}
	archive, err := zip.NewReader(bytes.NewReader(one.Bytes()), int64(one.Len()))
	if err != nil {
		t.Fatal(err)
	}
	checkArchive(t, archive, spec)
}

// small returns a small spec of five agencies, the last one without bets.
func small(t *testing.T) dataset.Spec {
	t.Helper()
	spec, err := dataset.Sized(5, 60)
	if err != nil {
		t.Fatal(err)
	}
	if spec.Agencies[4].Bets != 1 {
		t.Fatalf("agency 5 has %d bets", spec.Agencies[4].Bets)
	}
	spec.Agencies[4].Bets = 0
	return spec
}

func TestWriteDir(t *testing.T) {
	spec := small(t)
	dir := filepath.Join(t.TempDir(), "made", "on", "demand")
	if err := spec.WriteDir(context.Background(), dir, false); err != nil {
		t.Fatal(err)
	}
	checkDir(t, dir, spec)

	// If one file exists already, no file is written.
	first := filepath.Join(dir, dataset.FileName(1))
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	if err := spec.WriteDir(context.Background(), dir, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v, want %v", err, fs.ErrExist)
	}
	if _, err := os.Lstat(first); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was written: %v", first, err)
	}

	spec.Seed++
	if err := spec.WriteDir(context.Background(), dir, true); err != nil {
		t.Fatal(err)
	}
	checkDir(t, dir, spec)
}

// checkDir fails unless the folder has exactly the files that spec makes, readable by all users.
func checkDir(t *testing.T, dir string, spec dataset.Spec) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(spec.Agencies) {
		t.Errorf("%d files, want %d: %v", len(entries), len(spec.Agencies), entries)
	}
	for i := range spec.Agencies {
		path := filepath.Join(dir, dataset.FileName(i+1))
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, content(t, spec, i+1)) {
			t.Errorf("%s differs from what the generator makes", path)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: mode %v, error %v", path, info.Mode(), err)
		}
	}
}

func TestWriteZipFile(t *testing.T) {
	spec := small(t)
	path := filepath.Join(t.TempDir(), "set.zip")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := spec.WriteZipFile(context.Background(), path, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v, want %v", err, fs.ErrExist)
	}
	if kept, err := os.ReadFile(path); err != nil || string(kept) != "precious" {
		t.Errorf("the file was touched: %q, error %v", kept, err)
	}
	if err := spec.WriteZipFile(context.Background(), path, true); err != nil {
		t.Fatal(err)
	}
	archive, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	checkArchive(t, &archive.Reader, spec)
}

func TestInterruptedWriteLeavesNothing(t *testing.T) {
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(interrupted)
	for name, write := range map[string]func(dir string) error{
		"zip": func(dir string) error {
			return dataset.Default().WriteZipFile(ctx, filepath.Join(dir, "set.zip"), false)
		},
		"folder": func(dir string) error { return dataset.Default().WriteDir(ctx, dir, false) },
	} {
		dir := t.TempDir()
		if err := write(dir); !errors.Is(err, interrupted) {
			t.Errorf("%s: error %v, want the cause", name, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind: %v, error %v", name, left, err)
		}
	}
}

// cancelAfter cancels a context at the n-th write.
type cancelAfter struct {
	n      int
	cancel context.CancelFunc
}

func (c *cancelAfter) Write(p []byte) (int, error) {
	if c.n--; c.n == 0 {
		c.cancel()
	}
	return len(p), nil
}

func TestWriteAgencyStopsBetweenWrites(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := &cancelAfter{n: 2, cancel: cancel}
	spec := dataset.Spec{Agencies: []dataset.Share{{Bets: dataset.BetsMax}}}
	if err := spec.WriteAgency(ctx, out, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if out.n != 0 {
		t.Errorf("%d writes after the end of the context", -out.n)
	}
}

// full fails like a full disk after n writes.
type full struct{ n int }

var errFull = errors.New("no space left")

func (f *full) Write(p []byte) (int, error) {
	if f.n == 0 {
		return 0, errFull
	}
	f.n--
	return len(p), nil
}

func TestWriteErrorsAreReturned(t *testing.T) {
	ctx := context.Background()
	for n := range 3 {
		if err := dataset.Default().WriteAgency(ctx, &full{n}, 1); !errors.Is(err, errFull) {
			t.Errorf("agency, write %d: error %v", n, err)
		}
		if err := dataset.Default().WriteZip(ctx, &full{n}); !errors.Is(err, errFull) {
			t.Errorf("zip, write %d: error %v", n, err)
		}
	}
}

func TestInvalidSpecWritesNothing(t *testing.T) {
	spec := dataset.Default()
	spec.Agencies[4].Winners = -1
	dir := t.TempDir()
	var out bytes.Buffer
	ctx := context.Background()
	for name, err := range map[string]error{
		"agency":         spec.WriteAgency(ctx, &out, 5),
		"unknown agency": dataset.Default().WriteAgency(ctx, &out, 6),
		"agency 0":       dataset.Default().WriteAgency(ctx, &out, 0),
		"zip":            spec.WriteZip(ctx, &out),
		"zip file":       spec.WriteZipFile(ctx, filepath.Join(dir, "set.zip"), true),
		"folder":         spec.WriteDir(ctx, dir, true),
	} {
		if !errors.Is(err, dataset.ErrInvalidSpec) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 || out.Len() != 0 {
		t.Errorf("written: %v and %d bytes, error %v", left, out.Len(), err)
	}
}
