package engine_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"loteria/codec"
	"loteria/engine"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
	"loteria/engine/lottery"
)

// A sync fails under a whole server, and then its machine crashes: nothing
// more is acknowledged, everybody is told, the server ends with ErrStorage.
// What is left of the disk holds what was acknowledged, and of the rest
// nothing or all; the next start goes on from there and the draw comes out right.
func TestStorageSyncFails(t *testing.T) {
	kept := map[int]int{}
	for seed := range uint64(12) {
		cfg := liveConfig(t)
		cfg.Agencies = 1
		fsys := ledgertest.NewFS(seed)
		// The settings are the first sync, the first batch is the second.
		fsys.Break(ledgertest.Fault{Op: ledgertest.SyncData, N: 3})
		s := serveLiveOn(t, cfg, ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
		agency, other := s.dial(t), s.dial(t)
		agency.say("HELLO|1", betJuan).hears(welcomed(), "ACK")
		other.say("").hears(codec.CodeEmptyBatch.String())
		for _, w := range []*wire{agency.say(betMaria), other} {
			w.hears(codec.CodeStorage.String()).hearsEnd()
			w.close()
		}
		if err := s.end(t); !errors.Is(err, engine.ErrStorage) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("seed %d: the server ends with %v", seed, err)
		}

		fsys.Crash()
		if err := os.MkdirAll(history.Dir(cfg.DataDir), 0o700); err != nil {
			t.Fatal(err)
		}
		for path, data := range fsys.Files() { // a real disk, so that there can be exports
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		found, err := history.Verify(history.In(cfg.DataDir))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		stored, both := int(found.Bets), []string{betJuan, betMaria}
		s = serveLive(t, cfg)
		kept[stored]++
		agency = s.dial(t).say("HELLO|1").hears(welcomed(both[:stored]...))
		for _, bet := range both[stored:] {
			agency.say(bet).hears("ACK")
		}
		agency.say("GET_WINNERS|1").hears(betJuan).confirms(1).close()
		if err := s.end(t); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		wantExports(t, cfg.DataDir, "1,Juan,Pérez,12345678,1990-05-23,7574\r\n1,María,Gómez,87654321,1985-07-10,2311\r\n",
			"1,Juan,Pérez,12345678,1990-05-23,7574\r\n")
	}
	if kept[0] > 0 || kept[1] == 0 || kept[2] == 0 {
		t.Errorf("bets stored after the crash, and how often: %v; want 1 and 2", kept)
	}
}

// makeRoom is what who has a full disk is told at last.
const makeRoom = ": make room and start again: what was acknowledged is kept"

// A disk that fills up in a draw: the server ends, its last line says what to do,
// and once that is done the next start has all that was acknowledged.
func TestStorageFills(t *testing.T) {
	cfg := liveConfig(t)
	cfg.Agencies = 1
	fsys := ledgertest.NewFS(1)
	const reserved = 16 << 10
	options := ledger.Options{FS: fsys, ReserveBytes: reserved}
	fsys.LimitSpace(reserved + 1)
	s := serveLiveOn(t, cfg, options)
	agency := s.dial(t).say("HELLO|1").hears(welcomed())
	batch := strings.TrimSuffix(strings.Repeat(betMaria+"\n", reserved/2/len(betMaria)), "\n")
	agency.say(batch).hears("ACK")
	agency.say(batch, batch).hears(codec.CodeStorage.String()).hearsEnd()
	agency.close()
	err := s.end(t)
	var full *ledger.NoSpaceError
	if !errors.Is(err, engine.ErrStorage) || !errors.As(err, &full) || full.Needs != reserved || !strings.HasSuffix(err.Error(), makeRoom) {
		t.Errorf("the server ends with %v, want it to need %d bytes", err, reserved)
	}
	fsys.LimitSpace(-1)
	s = serveLiveOn(t, cfg, options)
	s.dial(t).say("HELLO|1").hears(welcomed(strings.Split(batch, "\n")...)).close()
}

// A disk that is full or broken when the server starts is storage, and not
// configuration; what the operator can set right is configuration.
func TestStorageAtStart(t *testing.T) {
	for _, test := range []struct {
		name    string
		err     error
		storage bool
		full    bool
	}{
		{"disk full", syscall.ENOSPC, true, true},
		{"quota", syscall.EDQUOT, true, true},
		{"broken", syscall.EIO, true, false},
		{"read-only", syscall.EROFS, true, false},
		{"not permitted", syscall.EACCES, false, false},
		{"in use", ledger.ErrLocked, false, false},
		{"disk full, by its path", &fs.PathError{Op: "open", Path: "x", Err: syscall.ENOSPC}, true, true},
		{"not permitted, by its path", &fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, false, false},
	} {
		for _, op := range []ledgertest.Op{ledgertest.Mkdir, ledgertest.Create, ledgertest.Allocate, ledgertest.Write, ledgertest.Sync, ledgertest.SyncDir} {
			fsys := ledgertest.NewFS(1)
			fsys.Break(ledgertest.Fault{Op: op, N: 1, Err: test.err})
			_, err := engine.OpenWith(liveConfig(t), zap.NewNop(), ledger.Options{FS: fsys, SegmentBytes: ledger.SegmentBytesMin})
			if !errors.Is(err, test.err) || errors.Is(err, engine.ErrStorage) != test.storage {
				t.Errorf("%s at %v: %v, want ErrStorage: %v", test.name, op, err, test.storage)
			}
			if strings.HasSuffix(err.Error(), makeRoom) != test.full {
				t.Errorf("%s at %v: it says %q, want %q at its end: %v", test.name, op, err, makeRoom, test.full)
			}
			if fsys.OpenFiles() != 0 {
				t.Errorf("%s at %v: %d files are left open", test.name, op, fsys.OpenFiles())
			}
		}
	}
}

// SERVER_DURABILITY=os: a warning at start, no sync for an ACK, and everything
// else as it is with fsync.
func TestStorageDurabilityOS(t *testing.T) {
	type run struct{ syncs, writes, warnings int }
	runs := map[string]run{}
	for _, durability := range []string{engine.DurabilityFsync, engine.DurabilityOS} {
		cfg := liveConfig(t)
		cfg.Agencies, cfg.Durability = 1, durability
		disk := &countingDisk{}
		s := serveLiveOn(t, cfg, ledger.Options{FS: disk, SegmentBytes: ledger.SegmentBytesMin})
		agency := s.dial(t).say("HELLO|1").hears(welcomed())
		for range 3 {
			agency.say(betJuan).hears("ACK")
		}
		agency.say("GET_WINNERS|1").hears(betJuan + "\n" + betJuan + "\n" + betJuan).confirms(1).close()
		if err := s.end(t); err != nil {
			t.Fatalf("%s: %v", durability, err)
		}
		line := "1,Juan,Pérez,12345678,1990-05-23,7574\r\n"
		wantExports(t, cfg.DataDir, line+line+line, line+line+line)
		warnings := s.logs.FilterMessage("config").FilterLevelExact(zapcore.WarnLevel).FilterField(zap.String("SERVER_DURABILITY", engine.DurabilityOS)).Len()
		runs[durability] = run{disk.dataSyncs, disk.writes, warnings}
	}
	// A segment's header, the settings, 3 batches, a report, the seal, a receipt, and the seal again when
	// the ledger is closed; a sync of data for each but the header and the seals, or only before each seal.
	want := map[string]run{engine.DurabilityFsync: {syncs: 6, writes: 9}, engine.DurabilityOS: {syncs: 2, writes: 9, warnings: 1}}
	for durability, got := range runs {
		if got != want[durability] {
			t.Errorf("%s: %+v, want %+v", durability, got, want[durability])
		}
	}
}

// countingDisk counts what a ledger does to its files. Read it when the server
// has ended.
type countingDisk struct {
	ledger.Disk
	dataSyncs, writes int
}

func (d *countingDisk) OpenFile(name string, flag int) (ledger.File, error) {
	f, err := d.Disk.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &countingFile{f, d}, nil
}

type countingFile struct {
	ledger.File
	disk *countingDisk
}

func (f *countingFile) SyncData() error { f.disk.dataSyncs++; return f.File.SyncData() }

func (f *countingFile) WriteAt(p []byte, offset int64) (int, error) {
	f.disk.writes++
	return f.File.WriteAt(p, offset)
}

// Verify finds what a server's ledger holds, and damage of either kind.
func TestVerify(t *testing.T) {
	batch := func(bets string) []byte { return ledger.AppendRecord(nil, ledger.Bets, 1, 1, []byte(bets)) }
	report := ledger.AppendRecord(nil, ledger.Reported, 1, 0, nil)
	one := history.Settings{Agencies: 1, WinningNumber: 2311}
	two := history.Settings{Agencies: 2, WinningNumber: 7574}
	for _, test := range []struct {
		name    string
		records [][]byte
		damage  func(segment []byte) []byte
		want    history.Verified // of the Tail only Seq
		err     error            // nil: none
	}{
		{name: "only the settings", records: [][]byte{two.AppendRecord(nil)},
			want: history.Verified{Tail: ledger.Tail{Stats: ledger.Stats{Seq: 1}}, Settings: two}},
		{name: "one has reported", records: [][]byte{two.AppendRecord(nil), batch(betJuan), batch(betMaria), report},
			want: history.Verified{Tail: ledger.Tail{Stats: ledger.Stats{Seq: 4}}, Settings: two, Bets: 2, Winners: 1, Reported: []codec.Agency{1}}},
		{name: "drawn", records: [][]byte{one.AppendRecord(nil), batch(betMaria), report},
			want: history.Verified{Tail: ledger.Tail{Stats: ledger.Stats{Seq: 3}}, Settings: one, Bets: 1, Winners: 1, Reported: []codec.Agency{1}, Drawn: true}},
		{name: "a flipped bit", records: [][]byte{two.AppendRecord(nil), batch(betJuan), batch(betMaria)},
			damage: func(b []byte) []byte { b[len(b)-20] ^= 4; return b },
			want:   history.Verified{Tail: ledger.Tail{Stats: ledger.Stats{Seq: 2}}, Settings: two, Bets: 1, Winners: 1}, err: ledger.ErrCorrupt},
		{name: "a torn write", records: [][]byte{two.AppendRecord(nil), batch(betJuan), batch(betMaria)},
			damage: func(b []byte) []byte { return b[:len(b)-8] },
			want:   history.Verified{Tail: ledger.Tail{Stats: ledger.Stats{Seq: 2}, Torn: true}, Settings: two, Bets: 1, Winners: 1}},
		{name: "bets behind the report", records: [][]byte{two.AppendRecord(nil), report, batch(betJuan)},
			want: history.Verified{Tail: ledger.Tail{Stats: ledger.Stats{Seq: 2}}, Settings: two, Reported: []codec.Agency{1}}, err: lottery.ErrReplay},
		{name: "no settings", records: [][]byte{report}, err: lottery.ErrReplay},
		{name: "nothing", err: history.ErrNoLedger},
	} {
		t.Run(test.name, func(t *testing.T) {
			dataDir := t.TempDir()
			l, err := ledger.Open(history.Dir(dataDir), ledger.Options{SegmentBytes: ledger.SegmentBytesMin}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range test.records {
				if err := l.Commit([][]byte{r}); err != nil {
					t.Fatal(err)
				}
			}
			used := l.Stats().Bytes
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if test.damage != nil {
				path := filepath.Join(history.Dir(dataDir), "00000000000000000001.ledger")
				segment, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, test.damage(segment[:used]), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := history.Verify(history.In(dataDir))
			if test.err == nil && err != nil || test.err != nil && !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if damaged := errors.Is(test.err, ledger.ErrCorrupt) || errors.Is(test.err, lottery.ErrReplay); errors.Is(err, history.ErrDamaged) != damaged {
				t.Errorf("error %v, ErrDamaged expected: %v", err, damaged)
			}
			if got.Seq != test.want.Seq || got.Torn != test.want.Torn || got.Settings != test.want.Settings ||
				got.Bets != test.want.Bets || got.Winners != test.want.Winners || got.Drawn != test.want.Drawn || !slices.Equal(got.Reported, test.want.Reported) {
				t.Errorf("got %+v\nwant %+v", got, test.want)
			}
			cfg := liveConfig(t)
			cfg.DataDir, cfg.Agencies, cfg.WinningNumber = dataDir, max(got.Settings.Agencies, 1), got.Settings.WinningNumber
			s, err := engine.Open(cfg, zap.NewNop())
			switch {
			case errors.Is(test.err, history.ErrNoLedger):
			case test.err != nil && !errors.Is(err, test.err) || test.err == nil && err != nil:
				t.Errorf("Verify says %v, Open %v", test.err, err)
			}
			if err == nil {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
