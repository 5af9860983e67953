package engine_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"loteria/codec"
	"loteria/engine"
	"loteria/engine/ledger"
)

// gatedDisk is the real file system that, once it is shut, syncs only as often
// as the test says.
type gatedDisk struct {
	ledger.Disk
	shut    atomic.Bool
	syncing chan struct{} // a sync has begun
	pass    chan struct{} // it may go on
}

func (d *gatedDisk) OpenFile(name string, flag int) (ledger.File, error) {
	f, err := d.Disk.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &gatedFile{f, d}, nil
}

type gatedFile struct {
	ledger.File
	disk *gatedDisk
}

func (f *gatedFile) SyncData() error {
	if f.disk.shut.Load() {
		f.disk.syncing <- struct{}{}
		<-f.disk.pass
	}
	return f.File.SyncData()
}

// The grace ends while the last group syncs, and an agency is back by then: it
// is looked at before the verdict, the draw takes place, and nothing is missing.
func TestEndCountsWhoIsBackInTime(t *testing.T) {
	for _, test := range []struct {
		name   string
		says   string
		goesOn func(*wire)
	}{
		{"to ask", "GET_WINNERS|1", func(w *wire) { w.hears(betJuan) }},
		{"with another bet", betMaria, func(w *wire) { w.hears("ACK").say("GET_WINNERS|1").hears(betJuan) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := liveConfig(t)
			cfg.Agencies, cfg.ExitGrace = 1, 0
			disk := &gatedDisk{syncing: make(chan struct{}, 8), pass: make(chan struct{})}
			s := serveLiveOn(t, cfg, ledger.Options{FS: disk, SegmentBytes: ledger.SegmentBytesMin})
			open := sync.OnceFunc(func() { disk.shut.Store(false); close(disk.pass) })
			t.Cleanup(open) // before the server is stopped
			awaitSync := func() {
				t.Helper()
				awaitThat(t, "a sync", func() bool { return len(disk.syncing) > 0 })
				<-disk.syncing
			}

			disk.shut.Store(true)
			first := s.dial(t).say(betJuan)
			awaitSync()
			// Behind the first sync: another bet, and both are gone. The second group begins with two
			// connections and ends with none.
			second := s.dial(t)
			s.awaitAccepted(t)
			second.say(betMaria)
			s.awaitRead(t)
			for _, w := range []*wire{first, second} {
				w.does(resets)
			}
			s.awaitRead(t)
			disk.pass <- struct{}{}
			awaitSync()
			back := s.dial(t)
			s.awaitAccepted(t)
			back.say(test.says)
			s.awaitRead(t)
			open()

			test.goesOn(back)
			back.close()
			if err := s.end(t); err != nil {
				t.Errorf("result %v", err)
			}
			if n := s.count("sorteo", "success"); n != 1 {
				t.Errorf("the draw was logged %d times", n)
			}
		})
	}
}

// Event loops that end by themselves end the server, whatever else is going on.
func TestEndOfTheEngine(t *testing.T) {
	for _, test := range []struct {
		name string
		// play brings the server to where its engine ends.
		play func(t *testing.T, s *liveServer)
		// also what may come at the same time; clean: it may then be the reason.
		also   func(s *liveServer)
		clean  bool
		rounds int // what comes first differs
	}{
		{"nobody came", func(*testing.T, *liveServer) {}, func(*liveServer) {}, false, 1},
		{"agencies are missing", func(t *testing.T, s *liveServer) { s.dial(t).waits(1) }, func(*liveServer) {}, false, 1},
		// What the answer behind the winners says is that they count as served.
		{"everything is served", func(t *testing.T, s *liveServer) {
			one, two := s.dial(t).waits(1), s.dial(t).say("GET_WINNERS|2").hears("")
			one.hears("")
			for _, w := range []*wire{one, two} {
				w.say("").hears(codec.CodeEmptyBatch.String())
			}
		}, func(*liveServer) {}, true, 5},
		{"and it is told to stop", func(t *testing.T, s *liveServer) { s.dial(t).waits(1) }, func(s *liveServer) { s.stop() }, true, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range test.rounds {
				cfg := liveConfig(t)
				cfg.NoExport = true
				s := serveLive(t, cfg)
				test.play(t, s)
				s.LoopEnds()
				test.also(s)
				if err := s.end(t); !errors.Is(err, engine.ErrEngine) && (err != nil || !test.clean) {
					t.Fatalf("result %v", err)
				}
			}
		})
	}
}
