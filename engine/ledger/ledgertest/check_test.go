package ledgertest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"loteria/engine/ledger"
)

// lyingStore is a local ledger that breaks promises, or whose disk does.
type lyingStore struct {
	*Local
	lies       Op   // these operations do nothing and succeed
	sealLies   Op   // the same, but only for the file SEAL and its name
	sealsOnce  bool // Seals after the first do nothing
	unlocked   bool // there is no lock
	optimistic bool // Commit hides its errors
	forgetful  bool // a replay leaves out the last record
}

func (s *lyingStore) Open(visit func(ledger.Record) error) (Log, error) {
	var held *ledger.Record
	replay := visit
	if s.forgetful {
		replay = func(r ledger.Record) (err error) {
			if held != nil {
				err = visit(*held)
			}
			r.Payload = append([]byte(nil), r.Payload...)
			held = &r
			return err
		}
	}
	o := s.Options
	o.FS = &lyingFS{FS: s.FS, store: s}
	l, err := ledger.Open(s.Dir, o, replay)
	if err != nil {
		return nil, err
	}
	return &lyingLedger{l, s}, nil
}

type lyingLedger struct {
	*ledger.Ledger
	store *lyingStore
}

func (l *lyingLedger) Commit(runs [][]byte) error {
	err := l.Ledger.Commit(runs)
	if l.store.optimistic {
		return nil
	}
	return err
}

func (l *lyingLedger) Seal() error {
	if tail, err := l.Scan(nil); err != nil || l.store.sealsOnce && tail.Sealed {
		return err
	}
	return l.Ledger.Seal()
}

type lyingFS struct {
	*FS
	store   *lyingStore
	created string // name of the newest file
}

func (m *lyingFS) Lock(name string) (io.Closer, error) {
	if m.store.unlocked {
		return io.NopCloser(nil), nil
	}
	return m.FS.Lock(name)
}

func (m *lyingFS) SyncDir(dir string) error {
	if m.store.lies&SyncDir != 0 || m.store.sealLies&SyncDir != 0 && m.created == sealName {
		return nil
	}
	return m.FS.SyncDir(dir)
}

func (m *lyingFS) OpenFile(name string, flag int) (ledger.File, error) {
	f, err := m.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	lies := m.store.lies
	if filepath.Base(name) == sealName {
		lies |= m.store.sealLies
	}
	if flag&os.O_CREATE != 0 {
		m.created = filepath.Base(name)
	}
	return &lyingFile{f, lies}, nil
}

const sealName = "SEAL"

type lyingFile struct {
	ledger.File
	lies Op
}

func (f *lyingFile) SyncData() error {
	if f.lies&SyncData != 0 {
		return nil
	}
	return f.File.SyncData()
}

func (f *lyingFile) Sync() error {
	if f.lies&Sync != 0 {
		return nil
	}
	return f.File.Sync()
}

// recorder is a testing.TB that keeps the fatal failure.
type recorder struct {
	testing.TB
	failure error
}

func (r *recorder) Helper() {}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Errorf(format, args...)
	runtime.Goexit()
}

// failure runs a check and returns its failure, or nil. Only fatal failures are seen.
func failure(t *testing.T, check func(t testing.TB)) error {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		check(r)
	}()
	<-done
	return r.failure
}

// The checks notice a ledger that breaks its promises, and pass one that keeps them.
func TestCheckNotices(t *testing.T) {
	t.Parallel()
	crashes := func(t testing.TB, newStore func(seed uint64) Store) {
		for at := 1; at < 40; at++ {
			for seed := range uint64(crashSeeds) {
				checkCrash(t, newStore(seed), seed, at)
			}
		}
	}
	failures := func(t testing.TB, newStore func(seed uint64) Store) {
		for n := 1; !checkFailure(t, newStore(uint64(n)), n); n++ {
		}
	}
	lock := func(t testing.TB, newStore func(seed uint64) Store) { checkLock(t, newStore(1).Open) }
	seals := func(t testing.TB, newStore func(seed uint64) Store) { checkSeal(t, newStore(1).Open) }
	roundTrip := func(t testing.TB, newStore func(seed uint64) Store) {
		checkRoundTrip(t, newStore(1).Open)
	}
	for _, test := range []struct {
		name  string
		spoil func(*lyingStore)
		check func(t testing.TB, newStore func(seed uint64) Store)
	}{
		{"no data sync", func(s *lyingStore) { s.lies = SyncData }, crashes},
		{"no sync", func(s *lyingStore) { s.lies = Sync }, crashes},
		{"no sync of the seal", func(s *lyingStore) { s.sealLies = Sync }, crashes},
		{"no directory sync for the seal", func(s *lyingStore) { s.sealLies = SyncDir }, crashes},
		{"no seal after the first", func(s *lyingStore) { s.sealsOnce = true }, seals},
		{"no directory sync", func(s *lyingStore) { s.lies = SyncDir }, crashes},
		{"errors hidden", func(s *lyingStore) { s.optimistic = true }, failures},
		{"no lock", func(s *lyingStore) { s.unlocked = true }, lock},
		{"last record not replayed", func(s *lyingStore) { s.forgetful = true }, roundTrip},
	} {
		t.Run(test.name, func(t *testing.T) {
			newStore := func(broken bool) func(seed uint64) Store {
				return func(seed uint64) Store {
					o := ledger.Options{SegmentBytes: ledger.SegmentBytesMin}
					s := &lyingStore{Local: &Local{FS: NewFS(seed), Dir: "data", Options: o}}
					if broken {
						test.spoil(s)
					}
					return s
				}
			}
			if err := failure(t, func(t testing.TB) { test.check(t, newStore(false)) }); err != nil {
				t.Errorf("an honest ledger fails: %v", err)
			}
			err := failure(t, func(t testing.TB) { test.check(t, newStore(true)) })
			if err == nil {
				t.Error("it isn't noticed")
			}
			t.Log(err)
		})
	}
}
