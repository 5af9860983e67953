package ledgertest

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"
	"testing"

	"loteria/engine/ledger"
)

const create = os.O_RDWR | os.O_CREATE | os.O_EXCL

// made creates the file f with that many sectors full of the letter a, and perhaps syncs it and its
// name.
func made(t *testing.T, fsys *FS, sectors int, sync bool) ledger.File {
	t.Helper()
	f, err := fsys.OpenFile("f", create)
	if err == nil {
		_, err = f.WriteAt(bytes.Repeat([]byte{'a'}, sectors*SectorBytes), 0)
	}
	if err == nil && sync {
		err = errors.Join(f.Sync(), fsys.SyncDir("."))
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// replaced makes the file f, and renames another one to it, which is full of the letter b.
func replaced(t *testing.T, fsys *FS, sync, syncDir bool) {
	t.Helper()
	made(t, fsys, 1, true)
	f, err := fsys.OpenFile("g", create)
	if err == nil {
		_, err = f.WriteAt(bytes.Repeat([]byte{'b'}, SectorBytes), 0)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if err == nil {
		err = fsys.Rename("g", "f")
	}
	if err == nil && syncDir {
		err = fsys.SyncDir(".")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// outcomes calls what with many seeds and counts its results.
func outcomes(what func(seed uint64) string) map[string]int {
	counts := map[string]int{}
	for seed := range uint64(300) {
		counts[what(seed)]++
	}
	return counts
}

// sectors returns the file f as a letter for each sector: ? for a torn one, . for zeros. It returns
// "gone" if there is no file.
func sectors(fsys *FS) string {
	data, ok := fsys.Files()["f"]
	if !ok {
		return "gone"
	}
	var s []byte
	for part := range slices.Chunk(data, SectorBytes) {
		letter := part[0]
		switch {
		case !bytes.Equal(part, bytes.Repeat([]byte{letter}, SectorBytes)):
			letter = '?'
		case letter == 0:
			letter = '.'
		}
		s = append(s, letter)
	}
	return string(s)
}

func wantOutcomes(t *testing.T, got map[string]int, want ...string) {
	t.Helper()
	names := slices.Sorted(maps.Keys(got))
	if !slices.Equal(names, slices.Sorted(slices.Values(want))) {
		t.Errorf("the outcomes are %q, want %q", names, want)
	}
}

// A crash keeps what was synced, and any part of the rest, but nothing else.
func TestCrashKeeps(t *testing.T) {
	write := func(t *testing.T, f ledger.File, letter byte, sectors int, at int64) {
		t.Helper()
		if _, err := f.WriteAt(bytes.Repeat([]byte{letter}, sectors*SectorBytes), at); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name string
		do   func(t *testing.T, fsys *FS)
		want []string
	}{
		{"nothing synced", func(t *testing.T, fsys *FS) { made(t, fsys, 2, false) },
			[]string{"gone", "", "..", "a.", ".a", "aa"}},
		{"all synced", func(t *testing.T, fsys *FS) { made(t, fsys, 2, true) }, []string{"aa"}},
		{"overwritten", func(t *testing.T, fsys *FS) { write(t, made(t, fsys, 2, true), 'b', 2, 0) },
			[]string{"aa", "ab", "ba", "bb"}},
		{"overwritten, data synced", func(t *testing.T, fsys *FS) {
			f := made(t, fsys, 2, true)
			write(t, f, 'b', 1, 0)
			if err := f.SyncData(); err != nil {
				t.Fatal(err)
			}
			write(t, f, 'c', 1, SectorBytes)
		}, []string{"ba", "bc"}},
		{"grown, data synced", func(t *testing.T, fsys *FS) {
			f := made(t, fsys, 1, true)
			write(t, f, 'b', 1, SectorBytes)
			if err := f.SyncData(); err != nil {
				t.Fatal(err)
			}
		}, []string{"ab"}},
		{"replaced", func(t *testing.T, fsys *FS) { replaced(t, fsys, true, false) }, []string{"a", "b"}},
		{"replaced, name synced", func(t *testing.T, fsys *FS) { replaced(t, fsys, true, true) }, []string{"b"}},
		{"replaced, only name synced", func(t *testing.T, fsys *FS) { replaced(t, fsys, false, true) },
			[]string{"", ".", "b"}},
		{"truncated", func(t *testing.T, fsys *FS) {
			if err := made(t, fsys, 2, true).Truncate(SectorBytes); err != nil {
				t.Fatal(err)
			}
		}, []string{"a", "aa", "a."}},
		{"truncated, data synced", func(t *testing.T, fsys *FS) {
			f := made(t, fsys, 2, true)
			if err := errors.Join(f.Truncate(SectorBytes), f.SyncData()); err != nil {
				t.Fatal(err)
			}
		}, []string{"a", "aa", "a."}},
		{"truncated, synced", func(t *testing.T, fsys *FS) {
			f := made(t, fsys, 2, true)
			if err := errors.Join(f.Truncate(SectorBytes), f.Sync()); err != nil {
				t.Fatal(err)
			}
		}, []string{"a"}},
		{"removed", func(t *testing.T, fsys *FS) {
			made(t, fsys, 1, true)
			if err := fsys.Remove("f"); err != nil {
				t.Fatal(err)
			}
		}, []string{"a", "gone"}},
		{"removed, directory synced", func(t *testing.T, fsys *FS) {
			made(t, fsys, 1, true)
			if err := errors.Join(fsys.Remove("f"), fsys.SyncDir(".")); err != nil {
				t.Fatal(err)
			}
		}, []string{"gone"}},
		{"name synced, content not", func(t *testing.T, fsys *FS) {
			made(t, fsys, 1, false)
			if err := fsys.SyncDir("."); err != nil {
				t.Fatal(err)
			}
		}, []string{"", ".", "a"}},
		{"a failed sync, and one that succeeds", func(t *testing.T, fsys *FS) {
			f := made(t, fsys, 1, true)
			write(t, f, 'b', 1, 0)
			fsys.Break(Fault{Op: AnySync, N: 1})
			if err := f.SyncData(); !errors.Is(err, ErrInjected) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("the sync returned %v", err)
			}
			if err := f.SyncData(); err != nil || sectors(fsys) != "b" {
				t.Fatalf("the second sync returned %v; the process reads %s", err, sectors(fsys))
			}
		}, []string{"a", "b"}},
		{"a write that fails", func(t *testing.T, fsys *FS) {
			f := made(t, fsys, 2, true)
			fsys.Break(Fault{N: 1, Err: syscall.ENOSPC})
			n, err := f.WriteAt(bytes.Repeat([]byte{'b'}, 2*SectorBytes), 0)
			if !errors.Is(err, syscall.ENOSPC) || n > 2*SectorBytes {
				t.Fatalf("it wrote %d bytes: %v", n, err)
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}, []string{"aa", "ba"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := outcomes(func(seed uint64) string {
				fsys := NewFS(seed)
				test.do(t, fsys)
				fsys.Crash()
				return sectors(fsys)
			})
			wantOutcomes(t, got, test.want...)
		})
	}
}

// Kill closes the process's files and locks, and keeps all that it wrote.
func TestKillKeeps(t *testing.T) {
	fsys := NewFS(1)
	f := made(t, fsys, 2, false)
	if _, err := fsys.Lock("LOCK"); err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Lock("LOCK"); !errors.Is(err, ledger.ErrLocked) {
		t.Fatalf("the second lock: %v", err)
	}
	fsys.Break(Fault{N: 1, Dead: true})
	for range 2 {
		if err := f.Sync(); !errors.Is(err, ErrInjected) {
			t.Fatalf("Sync of a dead process: %v", err)
		}
	}
	fsys.Kill()
	if sectors(fsys) != "aa" || fsys.OpenFiles() != 0 {
		t.Errorf("it left %s, and %d files open", sectors(fsys), fsys.OpenFiles())
	}
	if _, err := f.WriteAt([]byte{1}, 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a write to a file of the dead process returned %v", err)
	}
	if _, err := fsys.Lock("LOCK"); err != nil {
		t.Errorf("the lock is still held: %v", err)
	}
}

// If a crash loses a directory whose name wasn't synced, it loses what is in it, too.
func TestCrashLosesDirectory(t *testing.T) {
	got := outcomes(func(seed uint64) string {
		fsys := NewFS(seed)
		fsys.Break(Fault{Op: Mkdir, N: 1})
		if err := fsys.MkdirAll("d"); err == nil {
			t.Fatal("Mkdir didn't fail")
		}
		f, err := fsys.OpenFile("d/f", create)
		if errors.Is(err, fs.ErrNotExist) {
			return "not made"
		}
		if err := errors.Join(err, f.Sync(), fsys.SyncDir("d")); err != nil {
			t.Fatal(err)
		}
		fsys.Crash()
		if len(fsys.Files()) == 0 {
			return "lost"
		}
		return "kept"
	})
	wantOutcomes(t, got, "not made", "lost", "kept")
}

// The same seed and the same operations give the same result.
func TestDeterminism(t *testing.T) {
	for seed := range uint64(50) {
		var runs [2]string
		for i := range runs {
			fsys := NewFS(seed)
			made(t, fsys, 40, false)
			fsys.Crash()
			runs[i] = sectors(fsys)
		}
		if runs[0] != runs[1] {
			t.Fatalf("seed %d: %s and %s", seed, runs[0], runs[1])
		}
	}
}

// A full disk takes nothing more, but reserved space can be written.
func TestLimitSpace(t *testing.T) {
	fsys := NewFS(1)
	fsys.LimitSpace(3 * SectorBytes)
	f := made(t, fsys, 1, true)
	if err := f.Allocate(3 * SectorBytes); err != nil {
		t.Fatal(err)
	}
	if err := f.Allocate(4 * SectorBytes); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Allocate: %v", err)
	}
	n, err := f.WriteAt(bytes.Repeat([]byte{'b'}, 3*SectorBytes), SectorBytes)
	if !errors.Is(err, syscall.ENOSPC) || n != 2*SectorBytes || sectors(fsys) != "abb" {
		t.Errorf("WriteAt wrote %d: %v, %s", n, err, sectors(fsys))
	}
	if err := f.Truncate(0); err != nil || fsys.UsedBytes() != 0 {
		t.Errorf("Truncate: %v, %d bytes in use", err, fsys.UsedBytes())
	}
}
