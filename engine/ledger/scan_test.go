package ledger_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// Scans beside a writer see all that was committed before they began, and never take a write in
// progress for damage.
func TestScanBesideWriter(t *testing.T) {
	dir := t.TempDir()
	o := ledger.Options{SegmentBytes: 64 << 10, Durability: ledger.OS}
	l, _ := mustOpen(t, dir, o)
	const groups = 400
	var committed atomic.Uint64 // records
	done := make(chan error, 1)
	go func() {
		for i := range groups {
			if err := commit(l, bets(i*7%3000, i), bets(i*13%9000, i), bets(0, i)); err != nil {
				done <- err
				return
			}
			if i%10 == 9 {
				if err := l.Seal(); err != nil {
					done <- err
					return
				}
			}
			committed.Store(l.Stats().Seq)
		}
		done <- nil
	}()
	for scans, running := 0, true; running || scans == 0; scans++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		before := committed.Load()
		var seq uint64
		tail, err := ledger.Scan(dir, o, func(r ledger.Record) error {
			seq++
			i := int(r.Seq-1) / 3
			want := []entry{bets(i*7%3000, i), bets(i*13%9000, i), bets(0, i)}[(r.Seq-1)%3]
			got := entry{Kind: r.Kind, Agency: r.Agency, Count: r.Count, Payload: string(r.Payload)}
			if got != want || r.Seq != seq {
				t.Errorf("record %d, expected number %d, is wrong", r.Seq, seq)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("scan %d: %v", scans, err)
		}
		if seq < before || tail.Seq != seq || tail.SealedSeq > seq {
			t.Fatalf("scan %d: %d records, tail %+v; %d were committed before", scans, seq, tail, before)
		}
	}
	mustClose(t, l)
	if tail, err := ledger.Scan(dir, o, nil); err != nil || tail.Seq != 3*groups || tail.Torn {
		t.Fatalf("at the end: %+v, %v", tail, err)
	}
}

// racingFS calls afterRead once, right after the first read of a file.
type racingFS struct {
	*ledgertest.FS
	afterRead func()
}

func (r *racingFS) OpenFile(name string, flag int) (ledger.File, error) {
	file, err := r.FS.OpenFile(name, flag)
	return &racingFile{file, r}, err
}

type racingFile struct {
	ledger.File
	fs *racingFS
}

func (f *racingFile) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.File.ReadAt(p, offset)
	if hook := f.fs.afterRead; hook != nil {
		f.fs.afterRead = nil
		hook()
	}
	return n, err
}

// The live segment grows while it is scanned. A record across its old end is not a torn write.
func TestScanOfGrowingSegment(t *testing.T) {
	const groups = 100
	fsys := ledgertest.NewFS(1)
	o := ledger.Options{FS: fsys, SegmentBytes: 4 << 20, ReserveBytes: 1 << 20}
	l, _ := mustOpen(t, testDir, o)
	var want, found []entry
	write := func() {
		for range groups {
			want = append(want, bets(8000, len(want)))
			mustCommit(t, l, want[len(want)-1])
		}
	}
	write()
	collect := ledgertest.Collect(&found)
	tail, err := ledger.Scan(testDir, ledger.Options{FS: fsys}, func(r ledger.Record) error {
		if r.Seq == 1 {
			write()
		}
		return collect(r)
	})
	if err != nil || tail.Torn {
		t.Fatalf("%+v, %v", tail, err)
	}
	wantEntries(t, found, want)
}

// A scan's buffer may be older than what the scan reads next. If groups are written in between, the
// zeros in the buffer are not damage, even if the segment is finished in the meantime.
func TestScanWithStaleBuffer(t *testing.T) {
	for _, groups := range []int{1, 60, 200} { // within the buffer, beyond it, into the next segment
		fsys := ledgertest.NewFS(1)
		l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: 4 * ledger.ReadBytes})
		want := []entry{bets(10, 0)}
		mustCommit(t, l, want...)
		racing := &racingFS{FS: fsys, afterRead: func() {
			for i := range groups {
				want = append(want, bets(8000, i+1))
				mustCommit(t, l, want[len(want)-1])
			}
		}}
		var found []entry
		_, err := ledger.Scan(testDir, ledger.Options{FS: racing}, ledgertest.Collect(&found))
		if err != nil {
			t.Fatalf("%d groups: %v", groups, err)
		}
		if len(found) == 0 || ledgertest.Agreement(found, want) != len(found) {
			t.Fatalf("%d groups: found %d records, the first %d are right",
				groups, len(found), ledgertest.Agreement(found, want))
		}
	}
}

// sealedFS calls beforeSeal once, right before a seal is read.
type sealedFS struct {
	*ledgertest.FS
	beforeSeal func()
}

func (s *sealedFS) OpenFile(name string, flag int) (ledger.File, error) {
	if hook := s.beforeSeal; hook != nil && filepath.Base(name) == ledger.SealName && flag == os.O_RDONLY {
		s.beforeSeal = nil
		hook()
	}
	return s.FS.OpenFile(name, flag)
}

// If the ledger is sealed just when its own Scan looks for the seal, the scan sees all that the
// seal covers.
func TestScanOfWhatIsSealedMeanwhile(t *testing.T) {
	fsys := &sealedFS{FS: ledgertest.NewFS(1)}
	l, _ := mustOpen(t, testDir, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
	defer mustClose(t, l)
	mustCommit(t, l, bets(10, 1))
	fsys.beforeSeal = func() {
		mustCommit(t, l, bets(10, 2))
		mustSeal(t, l)
	}
	if tail, err := l.Scan(nil); err != nil || tail.Seq != 2 || tail.SealedSeq != 2 {
		t.Fatalf("%+v, %v", tail, err)
	}
}
