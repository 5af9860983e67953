package engine_test

import (
	"sync"
	"sync/atomic"
	"testing"

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
			// Behind the first sync: another bet, and both say that it was their last
			// word. The second group begins with an agency and ends with none.
			second := s.dial(t)
			s.awaitAccepted(t, second)
			second.say(betMaria)
			s.awaitRead(t)
			for _, w := range []*wire{first, second} {
				w.does(halfCloses)
			}
			s.awaitRead(t)
			disk.pass <- struct{}{}
			awaitSync()
			back := s.dial(t)
			s.awaitAccepted(t, back)
			back.say(test.says)
			s.awaitRead(t)
			open()

			first.hears("ACK").hearsEnd()
			second.hears("ACK").hearsEnd()
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
