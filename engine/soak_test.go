package engine_test

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"loteria/codec"
	"loteria/codec/certtest"
	"loteria/engine"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

// The soak is a real server over real sockets, for a while: agencies that
// connect, upload, vanish, return and take over, beside those who mean harm.
// It goes in rounds. At the end of each everybody has gone but the server, and
// what is left is counted: then nothing hides behind the load.
//
//	soak_test.go         rounds, what is counted, and the draw at the end
//	soak_agency_test.go  the honest, their bets and the network that fails them
//	abuser_test.go       the others
//	soak_secure_test.go  the others who speak TLS
//
// Every other agency comes over TLS, with a certificate.
//
// It is written against Config and sockets alone.

// soakEnv is how long the soak takes; soakDefault if it isn't set.
//
//	LOTERIA_SOAK=10m go test ./engine -run Soak -v -timeout 20m
const (
	soakEnv     = "LOTERIA_SOAK"
	soakDefault = 4 * time.Second
)

const (
	soakAgencies    = 6 // honest from the beginning
	soakHaunted     = soakAgencies + 1
	soakExpected    = soakAgencies + 1 // the haunted one is served at the end
	soakRoundLength = 4 * time.Second
	soakRoundsMin   = 4 // the first one only warms up
	// soakQuiet bounds how long the server may take to let go of peers that have
	// gone: its longest wait is for a half-closed one.
	soakQuiet = 15 * time.Second
	// soakEnd bounds the last uploads, the draw and the server's end.
	soakEnd = time.Minute
)

// What a soak may grow by, from the median of its first half to that of its second.
// Descriptors and goroutines may not grow at all.
//
// Buffers that are kept are as large as they ever had to be, so the heap grows by
// steps of a megabyte or so, and fewer and fewer of them; winners are a few
// kilobytes a minute. In ten minutes, a leak of 50 bytes a connection shows. The
// resident memory is what the runtime and the kernel make of it.
const (
	soakHeapGrowthMax     = 4 << 20
	soakResidentGrowthMax = 24 << 20
)

// soakCount is what is left when everybody has gone.
type soakCount struct {
	descriptors, goroutines int
	heap, resident          int64
}

func TestSoak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it counts descriptors in /proc and needs all of 127.0.0.0/8, so it runs on Linux only")
	}
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	length := soakDefault
	if v := os.Getenv(soakEnv); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			t.Fatalf("%s=%s: want a duration, such as 10m", soakEnv, v)
		}
		length = d
	}
	rounds := max(int(length/soakRoundLength), soakRoundsMin)

	cfg := engine.DefaultConfig()
	cfg.Addr = "127.0.0.1:0"
	cfg.Agencies = soakExpected
	cfg.WinningNumber = soakWinning
	cfg.DataDir = t.TempDir()
	cfg.ExitGrace = time.Hour // between rounds nobody is there
	cfg.ReadTimeout = 500 * time.Millisecond
	authority := certtest.New(t)
	f := authority.Files(t, certtest.Server(1), authority)
	cfg.TLSAddr, cfg.TLSCert, cfg.TLSKey, cfg.TLSClientCA = "127.0.0.1:0", f.Cert, f.Key, f.CA
	cfg.TLSHandshakes = 8 // those who stand still are in the way
	// It logs, to nowhere.
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zapcore.InfoLevel))
	server := serveLogging(t, cfg, log, ledger.Options{})
	s := &soak{t: t, addr: server.Addr().String(), secureAddr: server.SecureAddr().String(), authority: authority, bets: newSoakBets()}
	for id := codec.Agency(1); id <= soakAgencies; id++ {
		s.agencies = append(s.agencies, s.newAgency(id))
	}

	before := count(t)
	var counts []soakCount
	for round := range rounds {
		s.round(length / time.Duration(rounds))
		c := s.awaitQuiet(before)
		t.Logf("round %d: %d descriptors, %d goroutines, heap %d kB, resident %d kB; %d bets an agency, %d lives, %d cuts, %d abusers' connections",
			round, c.descriptors, c.goroutines, c.heap>>10, c.resident>>10, s.bets.released(), s.lives.Load(), s.cuts.Load(), s.abuses.Load())
		counts = append(counts, c)
		if t.Failed() {
			break
		}
	}
	judgeGrowth(t, counts[1:]) // the first round warms up
	s.draw(server.ended)
	s.checkStored(cfg.DataDir)
	if s.lives.Load() == 0 || s.cuts.Load() == 0 || s.abuses.Load() == 0 || s.takeovers.Load() == 0 {
		t.Errorf("nothing happened: %d lives, %d takeovers, %d cuts, %d abusers' connections", s.lives.Load(), s.takeovers.Load(), s.cuts.Load(), s.abuses.Load())
	}
}

// soak is one run.
type soak struct {
	t          *testing.T
	addr       string
	secureAddr string
	authority  *certtest.Authority
	bets       *soakBets
	agencies   []*soakAgency

	lives, takeovers, cuts, abuses atomic.Int64
}

// round lets everybody do their worst for a while, and go.
func (s *soak) round(length time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var everybody sync.WaitGroup
	everybody.Go(func() { s.bets.release(ctx) })
	for _, a := range s.agencies {
		everybody.Go(func() { a.live(ctx) })
	}
	s.abuse(ctx, &everybody, append(slices.Clone(abuses), haunts(soakHaunted)))
	s.abuseTLS(ctx, &everybody)
	everybody.Wait()
}

// abuse starts one abuser of each kind, again and again until ctx is done. Each kind comes from
// addresses of its own.
func (s *soak) abuse(ctx context.Context, everybody *sync.WaitGroup, kinds []abuse) {
	const addresses = 200
	for kind, a := range kinds {
		everybody.Go(func() {
			for ctx.Err() == nil {
				s.abuses.Add(int64(a.play(ctx, s.addr, func() net.IP { return net.IPv4(127, 1, byte(kind), byte(1+rand.IntN(addresses))) })))
			}
		})
	}
}

// awaitQuiet waits until the server has let go of everybody, and counts.
func (s *soak) awaitQuiet(before soakCount) soakCount {
	s.t.Helper()
	looks := time.NewTicker(5 * time.Millisecond)
	defer looks.Stop()
	timeout := time.After(soakQuiet)
	for {
		c := count(s.t)
		if c.descriptors <= before.descriptors && c.goroutines <= before.goroutines {
			return withMemory(s.t, c)
		}
		select {
		case <-looks.C:
		case <-timeout:
			s.t.Fatalf("%v after everybody has gone: %d descriptors and %d goroutines, there were %d and %d\n%s\n%s", soakQuiet,
				c.descriptors, c.goroutines, before.descriptors, before.goroutines, strings.Join(descriptors(s.t), "\n"), strings.Join(goroutines(), "\n\n"))
		}
	}
}

func count(t *testing.T) soakCount {
	return soakCount{descriptors: len(descriptors(t)), goroutines: len(goroutines())}
}

// goroutines are the stacks of this process's goroutines, but for the idle workers
// that gnet's pool keeps for seconds.
func goroutines() (stacks []string) {
	all := make([]byte, 1<<20)
	for s := range strings.SplitSeq(string(all[:runtime.Stack(all, true)]), "\n\n") {
		_, frames, _ := strings.Cut(s, "\n")
		if !strings.HasPrefix(frames, "github.com/panjf2000/ants/v2.(*goWorker).run") {
			stacks = append(stacks, s)
		}
	}
	return stacks
}

// descriptors lists what this process has open.
func descriptors(t *testing.T) (open []string) {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		// The one that listed the others is gone by now.
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			open = append(open, e.Name()+" "+target)
		}
	}
	return open
}

// withMemory adds what is in use once nothing is left to be collected.
func withMemory(t *testing.T, c soakCount) soakCount {
	runtime.GC() // what pools hold goes with the second collection
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	c.heap = int64(m.HeapAlloc)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscanf(rest, "%d kB", &c.resident); err != nil {
		t.Fatal(err)
	}
	c.resident <<= 10
	return c
}

// judgeGrowth compares the second half of the rounds with the first: the
// medians, since one round is no trend.
func judgeGrowth(t *testing.T, counts []soakCount) {
	median := func(counts []soakCount, of func(soakCount) int64) int64 {
		var values []int64
		for _, c := range counts {
			values = append(values, of(c))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	half := (len(counts) + 1) / 2
	for _, m := range []struct {
		what      string
		of        func(soakCount) int64
		growthMax int64
	}{
		{"heap", func(c soakCount) int64 { return c.heap }, soakHeapGrowthMax},
		{"resident memory", func(c soakCount) int64 { return c.resident }, soakResidentGrowthMax},
	} {
		first, second := median(counts[:half], m.of), median(counts[len(counts)-half:], m.of)
		t.Logf("%s: %d kB in the first half, %d kB in the second", m.what, first>>10, second>>10)
		if second-first > m.growthMax {
			t.Errorf("%s grows by %d kB, at most %d kB are allowed", m.what, (second-first)>>10, m.growthMax>>10)
		}
	}
}

// draw lets every agency finish, among abusers who stay to the end, and waits
// for the server's.
func (s *soak) draw(ended <-chan error) {
	s.bets.finish()
	ctx, cancel := context.WithTimeout(context.Background(), soakEnd)
	defer cancel()
	var honest, abusers sync.WaitGroup
	abusing, stop := context.WithCancel(ctx)
	defer abusers.Wait()
	defer stop()
	s.abuse(abusing, &abusers, abuses)
	s.abuseTLS(abusing, &abusers)
	for _, a := range append(s.agencies, s.newAgency(soakHaunted)) {
		honest.Go(func() { a.finish(ctx) })
	}
	honest.Wait()
	select {
	case err := <-ended:
		if err != nil {
			s.t.Errorf("the server ends with: %v", err)
		}
	case <-ctx.Done():
		s.t.Error("the server doesn't end, and every agency has its winners")
	}
}

// checkStored looks whether each bet is stored once.
func (s *soak) checkStored(dir string) {
	f, err := os.Open(filepath.Join(dir, history.BetsFile))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	stored := make([][]bool, soakExpected+1)
	for id := range stored {
		stored[id] = make([]bool, s.bets.released())
	}
	rows := csv.NewReader(f)
	rows.ReuseRecord = true
	total := 0
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.t.Fatal(err)
		}
		id, errID := strconv.Atoi(row[0])
		i, errIndex := strconv.Atoi(row[3])
		switch {
		case errID != nil || errIndex != nil || id < 1 || id > soakExpected || i >= len(stored[id]):
			s.t.Fatalf("stored is %q", row)
		case stored[id][i]:
			s.t.Fatalf("bet %d of agency %d is stored twice", i, id)
		}
		stored[id][i] = true
		total++
	}
	if want := soakExpected * int(s.bets.released()); total != want {
		s.t.Errorf("%d bets are stored, want %d", total, want)
	}
}
