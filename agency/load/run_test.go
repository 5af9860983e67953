package load_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"loteria/agency/load"
	"loteria/codec"
	"loteria/codec/certtest"
	"loteria/engine"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

// gnet's pool has goroutines from the start of the program, which IgnoreCurrent ignores.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(),
		// The server enrolls connections in gnet's pool, whose workers stay for a while.
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"))
}

// served is a real server, and how it ended.
type served struct {
	cfg   engine.Config
	addr  string
	ended chan error
}

func serve(t *testing.T, change func(*engine.Config)) *served {
	t.Helper()
	cfg := engine.DefaultConfig()
	cfg.Addr, cfg.DataDir = "127.0.0.1:0", t.TempDir()
	cfg.WinningNumber = load.WinningNumber
	cfg.Durability = engine.DurabilityOS // faster; the tests don't look at the figures
	cfg.ExitGrace = 0
	if change != nil {
		change(&cfg)
	}
	server, err := engine.Open(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &served{cfg: cfg, ended: make(chan error, 1)}
	go func() { s.ended <- server.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-s.ended; err != nil && !t.Failed() && change == nil {
			t.Error(err)
		}
	})
	<-server.Ready()
	s.addr = server.Addr().String()
	if addr := server.SecureAddr(); addr != nil {
		s.addr = addr.String()
	}
	return s
}

// stored waits for the server to end, and returns how many bets its ledger holds.
func (s *served) stored(t *testing.T) (bets int64) {
	t.Helper()
	err := <-s.ended
	s.ended <- nil // for the cleanup
	if err != nil {
		t.Fatal(err)
	}
	_, err = ledger.Scan(history.Dir(s.cfg.DataDir), ledger.Options{}, func(r ledger.Record) error {
		if r.Kind == ledger.Bets {
			bets += int64(r.Count)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bets
}

// Every kind of load ends with a draw: the server holds what was acknowledged, every agency has its
// winners, and the server ends.
func TestRun(t *testing.T) { testRun(t, "") }

// So it does over TLS.
func TestRunOverTLS(t *testing.T) {
	for _, kind := range []string{"server", "mutual"} {
		t.Run(kind, func(t *testing.T) { testRun(t, kind) })
	}
}

// secured makes a server listen for TLS, and ask for certificates if it is to be mutual.
func secured(t *testing.T, mutual bool, cfg *engine.Config) func(codec.Agency) (*tls.Config, error) {
	t.Helper()
	authority := certtest.New(t)
	files := authority.Files(t, certtest.Server(1), authority)
	cfg.TLSAddr, cfg.TLSCert, cfg.TLSKey = "127.0.0.1:0", files.Cert, files.Key
	if mutual {
		cfg.TLSClientCA = files.CA
	}
	return func(id codec.Agency) (*tls.Config, error) {
		config := &tls.Config{
			ServerName: "localhost", RootCAs: authority.Pool(), NextProtos: []string{codec.TLSProtocol},
		}
		if mutual {
			config.Certificates = []tls.Certificate{authority.Issue(t, certtest.Agency(id))}
		}
		return config, nil
	}
}

// testRun runs loads over a kind of TLS, "server" or "mutual", or over none.
func testRun(t *testing.T, kind string) {
	for _, c := range []struct {
		name string
		o    load.Options
		poll bool
	}{
		{name: "bets", o: load.Options{Agencies: 7, Bets: 50_001, Window: 32, BatchBytes: 8192}},
		{name: "fewest bets", o: load.Options{Agencies: 7, Bets: 7, Window: 32, BatchBytes: 8192}},
		{name: "duration", o: load.Options{Agencies: 3, Duration: 100 * time.Millisecond, Window: 8, BatchBytes: 8192}},
		{name: "window of one", o: load.Options{Agencies: 2, Bets: 10_000, Window: 1, BatchBytes: 8192, BatchBets: 150}},
		{name: "more than the server's window", o: load.Options{Agencies: 2, Bets: 100_000, Window: 200, BatchBytes: 1000}},
		{name: "stop and wait", o: load.Options{Agencies: 2, Bets: 5000, Window: 1, BatchBytes: 8192, StopAndWait: true}},
		{name: "stop and wait, poll", o: load.Options{Agencies: 2, Bets: 5000, Window: 1, BatchBytes: 8192, StopAndWait: true}, poll: true},
		{name: "connection per message", o: load.Options{Agencies: 2, Bets: 3000, Window: 1, BatchBytes: 8192, ConnectionPerMessage: true}},
		{name: "connection per message, poll", o: load.Options{Agencies: 2, Bets: 3000, Window: 1, BatchBytes: 8192, ConnectionPerMessage: true}, poll: true},
		{name: "paced bets", o: load.Options{Agencies: 3, Bets: 20_000, Window: 4, BatchBytes: 8192, Rate: 200_000}},
		{name: "paced duration", o: load.Options{Agencies: 3, Duration: 100 * time.Millisecond, Window: 4, BatchBytes: 8192, Rate: 200_000}},
		{name: "paced slowly", o: load.Options{Agencies: 3, Duration: 20 * time.Millisecond, Window: 4, BatchBytes: 8192, Rate: 1000}},
		{name: "waiting", o: load.Options{Agencies: 3, Waiting: 40, Bets: 10_000, Window: 4, BatchBytes: 8192}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var target load.Target
			s := serve(t, func(cfg *engine.Config) {
				if kind != "" {
					target.TLS = secured(t, kind == "mutual", cfg)
				}
				cfg.Agencies = c.o.Agencies + c.o.Waiting
				cfg.ExitGrace = 10 * time.Second // some agencies connect again
				if c.poll {
					cfg.Winners = engine.WinnersPoll
				}
			})
			var meter load.Meter
			target.Addr, target.PIDs = s.addr, []int{os.Getpid()}
			r, err := load.Run(t.Context(), c.o, target, &meter)
			if err != nil {
				t.Fatal(err)
			}
			if c.o.Bets > 0 && r.Bets != c.o.Bets {
				t.Errorf("%d bets, want %d", r.Bets, c.o.Bets)
			}
			if r.Bets == 0 || r.Batches == 0 || r.ACK.Count != r.Batches || r.Seconds <= 0 || r.BetsPerSecond <= 0 || r.Bytes <= 0 {
				t.Errorf("%+v", r)
			}
			if meter.Bets() != r.Bets {
				t.Errorf("the meter has %d bets, the result %d", meter.Bets(), r.Bets)
			}
			if want := r.Bets + int64(c.o.Waiting); s.stored(t) != want {
				t.Errorf("the ledger doesn't hold the %d bets", want)
			}
			if r.Draw == nil || r.Draw.Winners < int64(c.o.Waiting) {
				t.Errorf("draw: %+v", r.Draw)
			}
			if (r.Waiting != nil) != (c.o.Waiting > 0) {
				t.Errorf("waiting: %+v", r.Waiting)
			}
		})
	}
}

// A server that draws another number sends wrong winners.
func TestRunChecksWinners(t *testing.T) {
	o := load.Options{Agencies: 2, Bets: 20_000, Window: 4, BatchBytes: 8192}
	s := serve(t, func(cfg *engine.Config) { cfg.Agencies, cfg.WinningNumber = o.Agencies, load.WinningNumber+1 })
	if _, err := load.Run(t.Context(), o, load.Target{Addr: s.addr}, nil); !errors.Is(err, load.ErrWinners) {
		t.Error(err)
	}
}

// The error contains the server's rejection.
func TestRunTellsRejections(t *testing.T) {
	o := load.Options{Agencies: 3, Bets: 20_000, Window: 4, BatchBytes: 8192}
	for _, c := range []struct {
		name   string
		change func(*engine.Config)
		manner func(*load.Options)
		want   string
	}{
		{"too few agencies", func(cfg *engine.Config) { cfg.Agencies = 2 }, nil, "ERROR_INVALID_AGENCY"},
		{"small frames", func(cfg *engine.Config) { cfg.FrameBytesMax = 4096 }, nil, "--batch-bytes"},
		{"small frames, no HELLO", func(cfg *engine.Config) { cfg.FrameBytesMax = 4096 },
			func(o *load.Options) { o.StopAndWait, o.Window = true, 1 }, "ERROR_FRAME_TOO_LARGE"},
		{"small frames, no HELLO, while others wait", func(cfg *engine.Config) { cfg.Agencies, cfg.FrameBytesMax = 43, 4096 },
			func(o *load.Options) { o.Waiting, o.StopAndWait, o.Window = 40, true, 1 }, "ERROR_FRAME_TOO_LARGE"},
		{"small frames, by message", func(cfg *engine.Config) { cfg.FrameBytesMax = 4096 },
			func(o *load.Options) { o.ConnectionPerMessage, o.Window = true, 1 }, "ERROR_FRAME_TOO_LARGE"},
		{"too few connections", func(cfg *engine.Config) { cfg.Agencies, cfg.ConnectionsMax = 3, 1 }, nil, "ERROR_TOO_MANY_CONNECTIONS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, c.change)
			o := o
			if c.manner != nil {
				c.manner(&o)
			}
			_, err := load.Run(t.Context(), o, load.Target{Addr: s.addr}, nil)
			if !errors.Is(err, load.ErrServer) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// interrupted runs a long load, calls look while it sends, and cancels it.
func interrupted(t *testing.T, o load.Options, look func()) {
	t.Helper()
	s := serve(t, func(cfg *engine.Config) { cfg.Agencies = o.Agencies + o.Waiting })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var meter load.Meter
	ended := make(chan error, 1)
	go func() {
		_, err := load.Run(ctx, o, load.Target{Addr: s.addr}, &meter)
		ended <- err
	}()
	for meter.Bets() == 0 {
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	look()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// An interrupted load ends at once.
func TestRunInterrupted(t *testing.T) {
	interrupted(t, load.Options{Agencies: 2, Waiting: 2, Duration: time.Minute, Window: 4, BatchBytes: 8192}, func() {})
}

// A waiting agency needs a descriptor, but no goroutine.
func TestWaitingIsCheap(t *testing.T) {
	descriptors := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("descriptors can be counted on Linux only")
		}
		return len(all)
	}
	const waiting, others = 300, 100
	descriptorsBefore, goroutinesBefore := descriptors(), runtime.NumGoroutine()
	interrupted(t, load.Options{Agencies: 1, Waiting: waiting, Duration: time.Minute, Window: 1, BatchBytes: 8192, StopAndWait: true}, func() {
		// The server's descriptors are in this process too.
		if n := descriptors() - descriptorsBefore; n < 2*waiting || n > 2*waiting+others {
			t.Errorf("%d descriptors", n)
		}
		if n := runtime.NumGoroutine() - goroutinesBefore; n > others {
			t.Errorf("%d goroutines", n)
		}
	})
}

// stallingServer acknowledges every batch, the first one after a stall.
func stallingServer(t *testing.T, stall time.Duration) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf := make([]byte, 0, 1<<20)
		for held := true; ; {
			n, err := conn.Read(buf[len(buf):cap(buf)])
			if err != nil {
				return
			}
			buf = buf[:len(buf)+n]
			for {
				_, rest, ok, err := codec.SplitFrame(buf, cap(buf))
				if err != nil || !ok {
					break
				}
				buf = append(buf[:0], rest...)
				if held {
					<-time.After(stall)
					held = false
				}
				if _, err := conn.Write(codec.AppendAck(nil)); err != nil {
					return
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return l.Addr().String()
}

// A paced load counts a stall for all batches that were due meanwhile, a closed loop only for those
// that it hit.
func TestStallsAreCounted(t *testing.T) {
	const stall = 100 * time.Millisecond
	for _, c := range []struct {
		name string
		rate float64
	}{
		{"paced", 100_000}, // all bets are due in 20 ms
		{"closed", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := load.Options{Agencies: 1, Bets: 2000, Window: 1, BatchBytes: 8192, BatchBets: 20, Rate: c.rate}
			r, err := load.Run(t.Context(), o, load.Target{Addr: stallingServer(t, stall), Bare: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.ACK.MaxUS < 1e3*float64(stall.Milliseconds())*0.9 {
				t.Errorf("nobody noticed the stall: %+v", r.ACK)
			}
			// The last batch was due 80 ms before the stall's end.
			if paced := r.ACK.MinUS > 40e3; paced != (c.rate > 0) {
				t.Errorf("the quickest batch took %v µs", r.ACK.MinUS)
			}
		})
	}
}

// The yardstick's file gets every byte that was sent.
func TestYardstick(t *testing.T) {
	for _, o := range []load.Options{
		{Agencies: 5, Bets: 100_000, Window: 16, BatchBytes: 8192},
		{Agencies: 1, Bets: 100_000, Window: 64, BatchBytes: 1 << 20},
		{Agencies: 2, Bets: 10_000, Window: 1, BatchBytes: 8192, StopAndWait: true},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		const groupBytes = 1 << 20
		log := newFileLog(t)
		y := load.Yardstick{Log: log, Connections: o.Agencies, GroupBytes: groupBytes}
		type outcome struct {
			groups *load.Groups
			err    error
		}
		ended := make(chan outcome, 1)
		go func() {
			groups, err := y.Serve(t.Context(), l)
			ended <- outcome{groups, err}
		}()
		r, err := load.Run(t.Context(), o, load.Target{Addr: l.Addr().String(), Bare: true}, nil)
		end := <-ended
		if err := errors.Join(err, end.err); err != nil {
			t.Fatal(err)
		}
		if r.Bets != o.Bets || end.groups.Bytes != r.Bytes || end.groups.Count < 1 || end.groups.BytesMax > 2*groupBytes {
			t.Errorf("sent %+v, written %+v", r, end.groups)
		}
		if info, err := log.Stat(); err != nil || info.Size() != r.Bytes {
			t.Errorf("the file: %v, %v; want %d bytes", info, err, r.Bytes)
		}
	}
}

func TestYardstickRefusesWhatIsNoFrame(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := load.Yardstick{Log: newFileLog(t), Connections: 1}.Serve(t.Context(), l)
		ended <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "no frame") {
		t.Error(err)
	}
}

// fileLog is a log in a file of its own.
type fileLog struct{ *os.File }

func newFileLog(t *testing.T) fileLog {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return fileLog{file}
}

func (l fileLog) Commit(pieces [][]byte) error {
	for _, p := range pieces {
		if _, err := l.Write(p); err != nil {
			return err
		}
	}
	return l.Sync()
}

func TestProbeSync(t *testing.T) {
	log := newFileLog(t)
	d, err := load.ProbeSync(log, 10_000, 5, time.Minute)
	if err != nil || d.Sync.Count != 5 || d.GroupBytes != 10_000 || d.Sync.MinUS <= 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if info, err := log.Stat(); err != nil || info.Size() != 5*10_000 {
		t.Errorf("%v, %v", info, err)
	}
}
