package ledger_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

func mustSeal(t testing.TB, l *ledger.Ledger) {
	t.Helper()
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
}

// sealed commits the groups before, seals, and commits the groups after. It returns the files that
// the process leaves when it is killed.
func sealed(t testing.TB, before, after [][]entry) image {
	t.Helper()
	fsys := ledgertest.NewFS(1)
	l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
	for _, group := range before {
		mustCommit(t, l, group...)
	}
	mustSeal(t, l)
	for _, group := range after {
		mustCommit(t, l, group...)
	}
	fsys.Kill()
	return imageOf(fsys)
}

// scanTail scans the files and returns the tail.
func scanTail(files image) (ledger.Tail, error) {
	return ledger.Scan(testDir, ledger.Options{FS: files.fs()}, nil)
}

// The tail rule of a sealed ledger: what is written before the seal and after it, how it is
// damaged, and what a replay makes of it.
func TestSealedTail(t *testing.T) {
	const (
		first  = "00000000000000000001.ledger"
		second = "00000000000000000003.ledger"
		third  = "00000000000000000005.ledger"
	)
	oneSegment := [][]entry{{bets(1000, 1), bets(300, 2)}, {bets(1000, 3)}}
	twoSegments := [][]entry{{bets(1800, 1), bets(1800, 2)}, {bets(1000, 3)}, {bets(1000, 4)}}
	last := [][]entry{{bets(3000, 5)}} // gets a segment of its own after twoSegments
	cut := func(file string, n, at int) func(image) {
		return func(files image) { files[file] = files[file][:files.place(file, n)+at] }
	}
	zero := func(file string, from, to int) func(image) {
		return func(files image) { clear(files[file][from:to]) }
	}
	remove := func(names ...string) func(image) {
		return func(files image) {
			for _, name := range names {
				delete(files, name)
			}
		}
	}
	seal := func(change func(seal []byte, files image) []byte) func(image) {
		return func(files image) { files[ledger.SealName] = change(files[ledger.SealName], files) }
	}
	foreign := sealed(t, twoSegments, nil)

	cases := []struct {
		name          string
		before, after [][]entry
		damage        func(image)
		survive       int    // records that must be there if the ledger opens
		sealed        int    // the last record that the seal covers, as Scan says; -1 if there is no seal
		refused       string // part of the reason, if it must not open
	}{
		{"undamaged", oneSegment, nil, func(image) {}, 3, 3, ""},
		{"undamaged segments", twoSegments, nil, func(image) {}, 4, 4, ""},
		{"undamaged, with records after the seal", twoSegments, last, func(image) {}, 5, 4, ""},
		{"nothing to seal", nil, last, func(image) {}, 1, -1, ""},

		// Sealed records are missing.
		{"the last record", oneSegment, nil, cut(first, 2, 0), 2, 3,
			"sealed through record 3 and ends at record 2: a segment was removed or cut short"},
		{"half of the last payload", oneSegment, nil, cut(first, 2, 500), 2, 3,
			"sealed through record 3 and ends at record 2: a segment was removed or cut short " +
				"(the record's payload is cut off by the end of the file)"},
		{"a sector of the last payload", oneSegment, nil, zero(first, 2048, 2560), 2, 3, "sealed through record 3 and ends at record 2"},
		{"all records", oneSegment, nil, cut(first, 0, 0), 0, 3, "sealed through record 3 and ends at record 0"},
		{"the only segment's content", oneSegment, nil, func(files image) { files[first] = nil }, 0, 3, "sealed through record 3 and ends at record 0"},
		{"zeros in place of the only segment", oneSegment, nil, func(files image) { clear(files[first]) }, 0, 3, "sealed through record 3 and ends at record 0"},
		{"the only segment", oneSegment, nil, remove(first), 0, 3, "sealed through record 3 and ends at record 0"},
		{"the last segment", twoSegments, nil, remove(second), 2, 4, "sealed through record 4 and ends at record 2"},
		{"the last segment's content", twoSegments, nil, func(files image) { files[second] = nil }, 2, 4, "sealed through record 4 and ends at record 2"},
		{"the last segment's records", twoSegments, nil, cut(second, 0, 0), 2, 4, "sealed through record 4 and ends at record 2"},
		{"all segments", twoSegments, nil, remove(first, second), 0, 4, "sealed through record 4 and ends at record 0"},
		{"the first segment", twoSegments, nil, remove(first), 0, 4, "the first segment, " + first + ", is missing"},
		{"the last two segments", twoSegments, last, remove(second, third), 2, 4, "sealed through record 4 and ends at record 2"},
		{"the segment before the last", twoSegments, last, remove(second), 2, 4, "records 3 to 4 are missing"},

		// The seal doesn't cover records after it.
		{"after the seal: a record", oneSegment, [][]entry{{bets(9, 4)}, {bets(9, 5)}}, cut(first, 4, 0), 4, 3, ""},
		{"after the seal: part of a record", oneSegment, [][]entry{{bets(9, 4)}, {bets(9, 5)}}, cut(first, 4, 33), 4, 3, ""},
		{"after the seal: all records", oneSegment, [][]entry{{bets(9, 4)}, {bets(9, 5)}}, cut(first, 3, 0), 3, 3, ""},
		{"after the seal: a segment", twoSegments, last, remove(third), 4, 4, ""},
		{"after the seal: a segment's content", twoSegments, last, func(files image) { files[third] = nil }, 4, 4, ""},
		{"after the seal: a bit", oneSegment, [][]entry{{bets(9, 4)}}, func(files image) {
			files[first][files.place(first, 3)+34] ^= 1
		}, 3, 3, "payload is damaged"},

		// The seal itself.
		{"no seal", twoSegments, nil, remove(ledger.SealName), 4, -1, ""},
		{"no seal and no last segment", twoSegments, nil, remove(ledger.SealName, second), 2, -1, ""},
		{"zeros in place of the seal", twoSegments, nil, zero(ledger.SealName, 0, ledger.SegmentHeaderBytes), 4, 0, ""},
		{"something after the seal's content", twoSegments, nil, seal(func(s []byte, _ image) []byte {
			return append(s, 1, 2, 3)
		}), 4, 4, ""},
		{"seal of another ledger", twoSegments, nil, seal(func([]byte, image) []byte {
			return foreign[ledger.SealName]
		}), 0, 4, "the seal belongs to another ledger"},
		{"seal of another ledger, and no segments", twoSegments, nil, func(files image) {
			clear(files)
			files[ledger.SealName] = foreign[ledger.SealName]
		}, 0, 4, "sealed through record 4 and ends at record 0"},
		{"seal that covers nothing, which nobody writes", twoSegments, nil, seal(func([]byte, image) []byte {
			return ledger.EncodeSegmentHeader(ledger.FormatVersion, [16]byte([]byte("another ledger's")))
		}), 4, 0, ""},
		{"older seal", append(slices.Clone(twoSegments), last...), nil, func(files image) {
			older := files.clone()
			delete(older, third)
			delete(older, ledger.SealName)
			fsys := older.fs()
			l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
			mustSeal(t, l)
			files[ledger.SealName] = imageOf(fsys)[ledger.SealName]
		}, 5, 4, ""},
		{"seal of another copy of the ledger", twoSegments, nil, func(files image) {
			diverged := files.clone()
			delete(diverged, second)
			delete(diverged, ledger.SealName)
			fsys := diverged.fs()
			l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
			mustCommit(t, l, bets(1000, 8), bets(1000, 9))
			mustSeal(t, l)
			files[ledger.SealName] = imageOf(fsys)[ledger.SealName]
		}, 3, 4, "the seal or a segment is from another copy"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			files := sealed(t, c.before, c.after)
			c.damage(files)
			tail, _ := scanTail(files)
			if tail.Sealed != (c.sealed >= 0) || tail.SealedSeq != uint64(max(c.sealed, 0)) {
				t.Errorf("want a seal through record %d, found %+v", c.sealed, tail)
			}
			survived, err := reopen(t, files, slices.Concat(append(slices.Clone(c.before), c.after...)...))
			if survived != c.survive {
				t.Errorf("%d records survived, want %d", survived, c.survive)
			}
			switch {
			case c.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.refused != "" &&
				(!errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("got %v, want ErrCorrupt because %q", err, c.refused)
			case c.refused != "" && tail.Torn:
				t.Errorf("Open refuses, but Scan says that it will cut off the tail: %+v", tail)
			}
		})
	}
}

// The last segment of a sealed ledger is cut at every byte, with nothing or zeros after the cut. If
// sealed records are lost, Open refuses. Otherwise it finds them all and, if nothing follows the
// cut, all other whole records.
func TestSealedTruncationAtEveryByte(t *testing.T) {
	const last = "00000000000000000003.ledger"
	before := [][]entry{{bets(1800, 1), bets(1800, 2)}, {bets(500, 3)}, {bets(300, 4), bets(15, 5)}}
	after := [][]entry{{bets(100, 6)}, {bets(40, 7)}}
	want := slices.Concat(append(before, after...)...)
	files := sealed(t, before, after)
	sealedEnd, end := files.place(last, 3), files.end(last)
	for size := 0; size <= end; size++ {
		whole := 2
		for whole < len(want) && size >= ledger.SegmentHeaderBytes && files.place(last, whole-1) <= size {
			whole++
		}
		for _, zeros := range []int{0, len(files[last]) - size} {
			damaged := files.clone()
			damaged[last] = append(damaged[last][:size], make([]byte, zeros)...)
			survived, err := reopen(t, damaged, want)
			sealedLost := len(damaged[last]) < sealedEnd ||
				!slices.Equal(damaged[last][:sealedEnd], files[last][:sealedEnd])
			switch {
			case sealedLost && !errors.Is(err, ledger.ErrCorrupt):
				t.Fatalf("cut to %d bytes, %d zeros: %d records and %v", size, zeros, survived, err)
			case sealedLost && zeros == 0 &&
				!strings.Contains(err.Error(),
					fmt.Sprintf("sealed through record 5 and ends at record %d", whole)):
				t.Fatalf("cut to %d bytes: %v, want that it ends at record %d", size, err, whole)
			case !sealedLost && zeros == 0 && (err != nil || survived != whole):
				t.Fatalf("cut to %d bytes: %d of %d whole records, %v", size, survived, whole, err)
			case !sealedLost && survived < 5:
				t.Fatalf("cut to %d bytes, %d zeros: %d records and %v", size, zeros, survived, err)
			}
		}
	}
}

// A seal that is cut at any byte, or has any bit flipped, doesn't tell how far the log goes. It
// still tells that there was a seal, and all records are found.
func TestDamagedSeal(t *testing.T) {
	groups := [][]entry{{bets(1800, 1), bets(1800, 2)}, {bets(1000, 3)}}
	pristine, want := sealed(t, groups, nil), slices.Concat(groups...)
	seal := pristine[ledger.SealName]
	if len(seal) != ledger.SegmentHeaderBytes {
		t.Fatalf("the seal has %d bytes, want %d", len(seal), ledger.SegmentHeaderBytes)
	}
	check := func(damage string, damaged []byte) {
		t.Helper()
		files := pristine.clone()
		files[ledger.SealName] = damaged
		tail, err := scanTail(files)
		if err != nil || !tail.Sealed || tail.SealedSeq != 0 {
			t.Fatalf("%s: %+v, %v", damage, tail, err)
		}
		if survived, err := reopen(t, files, want); err != nil || survived != len(want) {
			t.Fatalf("%s: %d of %d records, %v", damage, survived, len(want), err)
		}
	}
	for size := range seal {
		check(fmt.Sprintf("cut to %d bytes", size), seal[:size])
	}
	for bit := range 8 * len(seal) {
		damaged := slices.Clone(seal)
		damaged[bit/8] ^= 1 << (bit % 8)
		check(fmt.Sprintf("bit %d", bit), damaged)
	}
}

// Seal overwrites a damaged or unfinished seal. Open and Close leave it as it is: they can't know
// whether the log still has all that was sealed.
func TestDamagedSealIsLeftAlone(t *testing.T) {
	for _, damaged := range [][]byte{nil, make([]byte, 10), make([]byte, ledger.SegmentHeaderBytes)} {
		files := sealed(t, [][]entry{{bets(10, 1)}}, nil)
		files[ledger.SealName] = damaged
		fsys := files.fs()
		o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin}
		l, _ := mustOpen(t, testDir, o)
		mustCommit(t, l, bets(10, 2))
		mustClose(t, l)
		if got := imageOf(fsys)[ledger.SealName]; !slices.Equal(got, damaged) {
			t.Fatalf("the seal was %x, is %x", damaged, got)
		}
		l, _ = mustOpen(t, testDir, o)
		mustSeal(t, l)
		fsys.Crash()
		l, _ = mustOpen(t, testDir, o)
		mustClose(t, l)
		if tail := l.Recovered(); tail.SealedSeq != 2 {
			t.Fatalf("sealed anew, it is %+v", tail)
		}
	}
}

// A seal of a version that doesn't exist yet is refused as such, and nothing is changed.
func TestSealOfUnknownVersion(t *testing.T) {
	files := sealed(t, [][]entry{{bets(10, 1)}}, nil)
	files[ledger.SealName] = ledger.EncodeSegmentHeader(99, [16]byte([]byte("not yet invented")))
	if _, err := reopen(t, files, nil); !errors.Is(err, ledger.ErrVersion) ||
		!strings.Contains(err.Error(), "SEAL has version 99, this one reads 1") {
		t.Errorf("got %v, want ErrVersion", err)
	}
}

// Each operation of a first Seal and of a later one fails in turn. The error is final, the records
// are safe, and the seal is the old one, the new one, or unfinished. The next process can seal.
func TestSealFails(t *testing.T) {
	const all = ledgertest.Changes | ledgertest.Read | ledgertest.OpenOld
	for _, durability := range []ledger.Durability{ledger.Fsync, ledger.OS} {
		for _, again := range []bool{false, true} {
			operations := 0
			for n, done := 1, false; !done; n++ {
				for seed := range uint64(20) {
					fsys := ledgertest.NewFS(seed)
					o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin, Durability: durability}
					l, _ := mustOpen(t, testDir, o)
					want := []entry{bets(700, 1), bets(10, 2)}
					mustCommit(t, l, want[0])
					old := uint64(0)
					if again {
						mustSeal(t, l)
						old = 1
					}
					mustCommit(t, l, want[1])
					fsys.Break(ledgertest.Fault{Op: all, N: n})
					err := l.Seal()
					if done = fsys.Broken() == 0; done {
						if err != nil {
							t.Fatal(err)
						}
						continue
					}
					operations = n
					when := fmt.Sprintf("durability %v, again %v, seed %d, %v failed",
						durability, again, seed, fsys.Broken())
					if !errors.Is(err, ledger.ErrFailed) || !errors.Is(err, syscall.EIO) ||
						errors.Is(err, ledger.ErrGone) {
						t.Fatalf("%s: %v", when, err)
					}
					if seal, more := l.Seal(), commit(l, bets(1, 3)); seal != err || more != err {
						t.Fatalf("%s with %v, later with %v and %v", when, err, seal, more)
					}
					if open := fsys.OpenFiles(); open != 1 {
						t.Fatalf("%s: %d files are open, want the segment", when, open)
					}
					if fsys.Broken()&ledgertest.SyncData != 0 {
						want = want[:old] // with Durability OS, only what was sealed is promised
					}
					if seed%2 == 0 {
						fsys.Kill()
					} else {
						fsys.Crash()
					}
					l, found := mustOpen(t, testDir, o)
					if ledgertest.Agreement(found, want) != len(want) {
						t.Fatalf("%s: %d of %d records are found", when, len(found), len(want))
					}
					if got := l.Recovered().SealedSeq; got != old && got != 2 && (again || got != 0) {
						t.Fatalf("%s: it was sealed through %d, then %+v", when, old, l.Recovered())
					}
					mustSeal(t, l)
					fsys.Crash()
					l, _ = mustOpen(t, testDir, o)
					mustClose(t, l)
					if got := l.Recovered().SealedSeq; got != uint64(len(found)) {
						t.Fatalf("%s: sealed anew through %d, then %+v", when, len(found), l.Recovered())
					}
				}
			}
			if operations < 5 {
				t.Errorf("a Seal takes %d operations: the test lacks some", operations)
			}
		}
	}
}

// With Durability OS, sealed records survive a crash of the machine.
func TestSealWithoutSyncedCommits(t *testing.T) {
	for seed := range uint64(100) {
		fsys := ledgertest.NewFS(seed)
		o := ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin, Durability: ledger.OS}
		l, _ := mustOpen(t, testDir, o)
		want := []entry{bets(700, 1), bets(1900, 2), bets(10, 3)}
		mustCommit(t, l, want...)
		mustSeal(t, l)
		mustCommit(t, l, bets(900, 4))
		fsys.Crash()
		l, found := mustOpen(t, testDir, o)
		mustClose(t, l)
		if ledgertest.Agreement(found, want) != len(want) || l.Recovered().SealedSeq < uint64(len(want)) {
			t.Fatalf("seed %d: found %d records, %+v", seed, len(found), l.Recovered())
		}
	}
}

// If everything is sealed, Seal and Close change nothing.
func TestSealAgain(t *testing.T) {
	fsys := ledgertest.NewFS(1)
	l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
	mustSeal(t, l)
	if names := slices.Collect(maps.Keys(imageOf(fsys))); len(names) != 1 {
		t.Fatalf("a ledger without records is sealed: %q", names)
	}
	mustCommit(t, l, bets(10, 1))
	mustSeal(t, l)
	before := fsys.Count(ledgertest.Changes)
	mustSeal(t, l)
	mustClose(t, l)
	if changes := fsys.Count(ledgertest.Changes) - before; changes != 0 {
		t.Errorf("%d operations changed something", changes)
	}
}

// listingFS calls afterList right after a scan has listed the segments.
type listingFS struct {
	*ledgertest.FS
	afterList func()
}

func (f *listingFS) ReadDir(dir string) ([]string, error) {
	names, err := f.FS.ReadDir(dir)
	f.afterList()
	return names, err
}

// A scan beside a server that begins segments and seals doesn't report missing segments.
func TestScanWhileSealing(t *testing.T) {
	for _, sealedBefore := range []bool{false, true} {
		fsys := ledgertest.NewFS(1)
		l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
		want := []entry{bets(3000, 1)}
		mustCommit(t, l, want...)
		if sealedBefore {
			mustSeal(t, l)
		}
		listing := &listingFS{fsys, func() {
			for i := range 3 {
				mustCommit(t, l, bets(3000, 2+i))
			}
			mustSeal(t, l)
		}}
		var found []entry
		tail, err := ledger.Scan(testDir, ledger.Options{FS: listing}, ledgertest.Collect(&found))
		if err != nil || tail.Sealed != sealedBefore {
			t.Fatalf("sealed before %v: %+v, %v", sealedBefore, tail, err)
		}
		wantEntries(t, found, want)
	}
}

// diskOrMemory is a file system, with functions that remove and read a ledger's directory as
// another process could.
type diskOrMemory struct {
	ledger.FS
	dir       string
	removeAll func(t *testing.T, dir string)
	files     func(t *testing.T, dir string) image
}

func disksAndMemory(t *testing.T) map[string]diskOrMemory {
	memory := ledgertest.NewFS(1)
	return map[string]diskOrMemory{
		"memory": {
			memory, testDir,
			func(_ *testing.T, dir string) { memory.RemoveAll(dir) },
			func(*testing.T, string) image { return imageOf(memory) },
		},
		"disk": {ledger.Disk{}, filepath.Join(t.TempDir(), "data"), func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, dir string) image {
			files := image{}
			names, err := ledger.Disk{}.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			return files
		}},
	}
}

// Somebody removes or replaces the directory of an open ledger. A Commit within its segment doesn't
// notice. A Commit that begins a segment, Seal, Close and Scan do, and leave unchanged what is in
// the directory now.
func TestGone(t *testing.T) {
	damages := map[string]func(t *testing.T, f diskOrMemory){
		"directory": func(t *testing.T, f diskOrMemory) { f.removeAll(t, f.dir) },
		"segment": func(t *testing.T, f diskOrMemory) {
			if err := f.Remove(filepath.Join(f.dir, ledger.SegmentName(1))); err != nil {
				t.Fatal(err)
			}
		},
		"replaced by an empty directory": func(t *testing.T, f diskOrMemory) {
			f.removeAll(t, f.dir)
			if err := f.MkdirAll(f.dir); err != nil {
				t.Fatal(err)
			}
		},
		"replaced by an empty file": func(t *testing.T, f diskOrMemory) {
			f.removeAll(t, f.dir)
			if err := f.MkdirAll(f.dir); err != nil {
				t.Fatal(err)
			}
			file, err := f.OpenFile(filepath.Join(f.dir, ledger.SegmentName(1)), os.O_RDWR|os.O_CREATE|os.O_EXCL)
			if err == nil {
				err = file.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"replaced by another ledger": func(t *testing.T, f diskOrMemory) {
			f.removeAll(t, f.dir)
			if memory, ok := f.FS.(*ledgertest.FS); ok {
				for name, data := range sealed(t, [][]entry{{bets(10, 7)}}, nil) {
					memory.Install(filepath.Join(f.dir, name), data)
				}
				return
			}
			l, _ := mustOpen(t, f.dir, ledger.Options{FS: f, SegmentBytes: ledger.SegmentBytesMin})
			mustCommit(t, l, bets(10, 7))
			mustSeal(t, l)
			mustClose(t, l)
		},
	}
	ends := map[string]func(t *testing.T, l *ledger.Ledger) error{
		"Seal": func(t *testing.T, l *ledger.Ledger) error {
			err := l.Seal()
			more, errClose := commit(l, bets(1, 1)), l.Close()
			if !errors.Is(err, ledger.ErrFailed) || more != err || !errors.Is(errClose, ledger.ErrGone) {
				t.Errorf("Seal returned %v, Commit %v, Close %v", err, more, errClose)
			}
			return err
		},
		"Close": func(_ *testing.T, l *ledger.Ledger) error { return l.Close() },
		"new segment": func(t *testing.T, l *ledger.Ledger) error {
			err := commit(l, bets(3900, 1))
			if errClose := l.Close(); !errors.Is(err, ledger.ErrFailed) || !errors.Is(errClose, ledger.ErrGone) {
				t.Errorf("Commit returned %v, Close %v", err, errClose)
			}
			return err
		},
	}
	for damage, do := range damages {
		for end, last := range ends {
			for _, sealBefore := range []bool{false, true} {
				for name, f := range disksAndMemory(t) {
					t.Run(fmt.Sprintf("%s, %s, %s, sealed %v", damage, end, name, sealBefore), func(t *testing.T) {
						l, _ := mustOpen(t, f.dir, ledger.Options{FS: f, SegmentBytes: ledger.SegmentBytesMin})
						mustCommit(t, l, bets(500, 1))
						if sealBefore {
							mustSeal(t, l)
						}
						do(t, f)
						var before image
						if strings.HasPrefix(damage, "replaced") {
							before = f.files(t, f.dir)
						}
						for i := range 2 { // before and after a commit: the other ledger has one record
							tail, err := l.Scan(nil)
							if !errors.Is(err, ledger.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
								t.Errorf("Scan found %+v, %v", tail, err)
							}
							if i == 0 {
								mustCommit(t, l, bets(500, 2))
							}
						}
						err := last(t, l)
						if !errors.Is(err, ledger.ErrGone) || !strings.Contains(err.Error(), ledger.SegmentName(1)) {
							t.Errorf("got %v, want ErrGone", err)
						}
						if before != nil && !maps.EqualFunc(f.files(t, f.dir), before, slices.Equal[[]byte]) {
							t.Error("the directory's new content was changed")
						}
					})
				}
			}
		}
	}
}

// Close reports that the directory is gone even after a failed write.
func TestGoneAfterFailure(t *testing.T) {
	fsys := ledgertest.NewFS(1)
	l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
	fsys.Break(ledgertest.Fault{Op: ledgertest.Write, N: 1, Err: syscall.ENOSPC})
	if err := commit(l, bets(10, 1)); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ledger.ErrGone) {
		t.Fatalf("Commit returned %v", err)
	}
	fsys.RemoveAll(testDir)
	if err := l.Close(); !errors.Is(err, ledger.ErrGone) || fsys.OpenFiles() != 0 {
		t.Fatalf("Close returned %v, %d files are open", err, fsys.OpenFiles())
	}
}

// If the directory is moved away and back again, nothing is lost.
func TestMovedBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	l, _ := mustOpen(t, dir, ledger.Options{})
	want := []entry{bets(10, 1), bets(20, 2)}
	mustCommit(t, l, want[0])
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, l, want[1])
	if err := l.Close(); !errors.Is(err, ledger.ErrGone) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Close returned %v", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	l, found := mustOpen(t, dir, ledger.Options{})
	mustClose(t, l)
	wantEntries(t, found, want)
}
