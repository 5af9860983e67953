package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/codec"
	"loteria/engine"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

// servers are several servers of one draw in this process, on real sockets and disks.
type servers struct {
	t       *testing.T
	cfgs    []engine.Config // by id
	running []*runningMember
	core    zapcore.Core
	warned  *observer.ObservedLogs // what all of them warned of
}

type runningMember struct {
	*engine.Member
	stop  context.CancelFunc
	ended chan error
}

// clusters counts those of this process: each has addresses of its own.
var clusters atomic.Uint64

func newServers(t *testing.T, count, agencies int, set ...func(*engine.Config)) *servers {
	t.Helper()
	s := &servers{t: t, cfgs: make([]engine.Config, count+1), running: make([]*runningMember, count+1)}
	s.core, s.warned = observer.New(zap.WarnLevel)
	// Addresses of this process alone: a port that is free now can be somebody's in a moment.
	pid, before := os.Getpid(), 10*int(clusters.Add(1))
	var peers []string
	for id := 1; id <= count; id++ {
		peers = append(peers, fmt.Sprintf("%d=127.%d.%d.%d:4119", id, 64+pid>>8&63, pid&255, before+id))
	}
	for id := 1; id <= count; id++ {
		cfg := engine.DefaultConfig()
		cfg.ID, cfg.Agencies, cfg.DataDir = uint64(id), agencies, t.TempDir()
		if err := cfg.Peers.UnmarshalText([]byte(strings.Join(peers, ","))); err != nil {
			t.Fatal(err)
		}
		host, _, _ := strings.Cut(cfg.Peers[id-1].Addr, ":")
		cfg.Addr = host + ":4120"
		for _, f := range set {
			f(&cfg)
		}
		s.cfgs[id] = cfg
		s.start(id)
	}
	t.Cleanup(func() {
		for id := range s.running {
			s.halt(id)
		}
	})
	return s
}

func (s *servers) start(id int) {
	s.t.Helper()
	log := zap.New(s.core)
	if testing.Verbose() {
		log = zap.Must(zap.NewDevelopment()).With(zap.Int("s", id))
		log = log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewTee(c, s.core) }))
	}
	m, err := engine.Join(s.cfgs[id], log)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &runningMember{Member: m, stop: stop, ended: make(chan error, 1)}
	s.running[id] = r
	go func() { r.ended <- m.Serve(ctx) }()
}

// halt stops a server as a signal does.
func (s *servers) halt(id int) {
	r := s.running[id]
	if r == nil {
		return
	}
	r.stop()
	s.running[id] = nil
	if err := <-r.ended; err != nil {
		s.t.Errorf("server %d: %v", id, err)
	}
}

func (s *servers) wantEnd() {
	s.t.Helper()
	for id, r := range s.running {
		if r == nil {
			continue
		}
		if err := <-r.ended; err != nil {
			s.t.Errorf("server %d: %v", id, err)
		}
		s.running[id] = nil
	}
}

func (s *servers) addrs() string {
	var all []string
	for _, cfg := range s.cfgs[1:] {
		all = append(all, cfg.Addr)
	}
	return strings.Join(all, ",")
}

func (s *servers) wantSameExports() {
	s.t.Helper()
	var first [2]string
	for id := 1; id < len(s.cfgs); id++ {
		for i, name := range []string{history.BetsFile, history.WinnersFile} {
			b, err := os.ReadFile(filepath.Join(s.cfgs[id].DataDir, name))
			if err != nil {
				s.t.Error(err)
			}
			if id == 1 {
				first[i] = string(b)
			} else if string(b) != first[i] || len(b) == 0 {
				s.t.Errorf("server %d has another %s (%d bytes) than server 1 (%d)", id, name, len(b), len(first[i]))
			}
		}
	}
}

// play has agencies hold a draw, until all servers have ended.
func (s *servers) play(agencies int) {
	s.t.Helper()
	s.playAgencies(agencies)
	s.wantEnd()
	s.wantSameExports()
}

// playAgencies has agencies hold a draw, until they have their winners.
func (s *servers) playAgencies(agencies int) {
	s.t.Helper()
	done := make(chan error, agencies)
	for id := range agencies {
		go func() { done <- engine.Play(s.t.Context(), s.addrs(), codec.Agency(id+1), 400, 20) }()
	}
	for range agencies {
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	}
}

// Three servers hold a draw, and all end by themselves with the same files. Started again, they serve
// the agencies that come again, and end again.
func TestSeveralServers(t *testing.T) {
	t.Parallel()
	const agencies = 3
	s := newServers(t, 3, agencies)
	s.play(agencies)
	for id := 1; id <= 3; id++ {
		s.start(id)
	}
	s.play(agencies)
	if t.Failed() {
		return
	}
	// Each knows that the end is committed, whoever led.
	for id := 1; id <= 3; id++ {
		tail, err := ledger.Scan(history.Dir(s.cfgs[id].DataDir), ledger.Options{}, nil)
		if e := tail.Entries; err != nil || e.State.Commit != e.LastIndex {
			t.Errorf("server %d knows of %d committed entries of %d, %v", id, e.State.Commit, e.LastIndex, err)
		}
	}
	// Servers of a draw that has ended, and of which no majority comes back, don't wait for ever.
	s.cfgs[2].ExitGrace = 0
	s.start(2)
	s.wantEnd()
}

// A server is away while the draw ends. The last leader waits for it, and names it. Once the server is
// back, it hears of the end, and all end.
func TestServerComesBackBehindTheEnd(t *testing.T) {
	t.Parallel()
	const away = 3
	s := newServers(t, 3, 2, func(cfg *engine.Config) { cfg.ExitGrace = graceMin })
	<-s.running[away].Ready()
	s.halt(away)
	s.playAgencies(2)
	awaitThat(t, "the last leader names the server that is away", func() bool {
		lines := s.warned.FilterMessage("espera").FilterField(zap.String("servidores", strconv.Itoa(away)))
		return lines.Len() > 0
	})
	s.start(away)
	s.wantEnd()
	s.wantSameExports()
}

// Five servers hold a draw. Those that know of its end stay until all of them do.
func TestFiveServersStay(t *testing.T) {
	t.Parallel()
	s := newServers(t, 5, 2)
	s.play(2)
	for id := 1; id <= 5; id++ {
		var ends []bool
		reader := history.Reader{
			OnBets:     func(codec.Agency, int, []byte, ledger.Checksum) error { return nil },
			OnReported: func(codec.Agency, bool) error { return nil },
			OnServed:   func(codec.Agency) error { return nil },
			OnEnded: func(e history.End) error {
				ends = append(ends, e.Stay)
				return nil
			},
		}
		_, err := ledger.Scan(history.Dir(s.cfgs[id].DataDir), ledger.Options{}, reader.Visit)
		if n := len(ends); err != nil || n < 2 || !ends[n-2] || ends[n-1] {
			t.Errorf("server %d: the ends let nobody go: %v, %v", id, ends, err)
		}
	}
}
