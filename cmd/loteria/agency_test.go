package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"loteria/agency"
	"loteria/codec"
)

// lonelyServer serves a draw of one agency, and keeps what the agency says.
type lonelyServer struct {
	t        *testing.T
	listener net.Listener
	// received answers a receipt; the connection ends if it returns nil.
	received func() []byte
	// drawn is called before the winners are sent.
	drawn func()

	serving sync.WaitGroup
	mu      sync.Mutex
	said    []string
	stored  int64
	sum     codec.Checksum
	winners []byte
}

// startLonelyServer starts a server that ends with the test. Set its functions before an agency
// connects.
func startLonelyServer(t *testing.T) *lonelyServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &lonelyServer{
		t: t, listener: l, drawn: func() {},
		received: func() []byte { return codec.AppendAck(nil) },
	}
	s.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.serving.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(s.stop)
	return s
}

// stop returns when the connections have ended.
func (s *lonelyServer) stop() {
	_ = s.listener.Close() // it may be closed already
	s.serving.Wait()
}

func (s *lonelyServer) serve(conn net.Conn) {
	defer conn.Close()
	for in := bufio.NewReader(conn); ; {
		var n int
		if _, err := fmt.Fscanf(in, "%d\n", &n); err != nil {
			return
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(in, payload); err != nil {
			return
		}
		answer := s.answer(payload)
		if answer == nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

func (s *lonelyServer) answer(payload []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, string(payload))
	rules := codec.Rules{Today: 20261123, WinningNumber: 7574}
	r, winners, err := codec.ParseRequest(payload, rules, s.winners)
	if err != nil {
		s.t.Errorf("%q: %v", payload, err)
		return nil
	}
	switch s.winners = winners; r.Kind {
	case codec.RequestHello:
		return codec.AppendWelcome(nil, codec.Welcome{
			Stored: s.stored, Window: 64, FrameBytesMax: codec.FrameBytesMaxDefault, Checksum: s.sum,
		})
	case codec.RequestBets:
		s.stored += int64(r.Batch.Count)
		s.sum = s.sum.Add(payload)
		return codec.AppendAck(nil)
	case codec.RequestReceived:
		return s.received()
	}
	s.drawn()
	return codec.AppendFrame(nil, winners[:max(0, len(winners)-1)])
}

// receipts is how often the agency has confirmed its winners.
func (s *lonelyServer) receipts() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, payload := range s.said {
		if payload == "RECEIVED|1" {
			n++
		}
	}
	return n
}

// config is the configuration of this server's agency. It has one bet, which wins.
func (s *lonelyServer) config(change func(*agencyConfig)) agencyConfig {
	s.t.Helper()
	bets := filepath.Join(s.t.TempDir(), "bets.csv")
	if err := os.WriteFile(bets, []byte("Juan,Pérez,12345678,1990-05-23,7574\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	var cfg agencyConfig
	if err := loadEnvironment(&cfg); err != nil {
		s.t.Fatal(err)
	}
	cfg.ID, cfg.Server, cfg.Bets = 1, s.listener.Addr().String(), bets
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// run runs this server's agency.
func (s *lonelyServer) run(ctx context.Context, change func(*agencyConfig)) (*observer.ObservedLogs, error) {
	s.t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	_, err := runAgency(ctx, s.config(change), zap.New(core), agencyHooks{})
	return logs, err
}

const lonelyWinner = "Juan|Pérez|12345678|1990-05-23|7574|1"

// wantConfirmed wants one line about the receipt.
func wantConfirmed(t *testing.T, logs *observer.ObservedLogs, result string) {
	t.Helper()
	lines := logs.FilterMessage("ganadores_confirmados")
	level := map[string]int{
		"success": lines.FilterLevelExact(zap.InfoLevel).Len(),
		"fail":    lines.FilterLevelExact(zap.WarnLevel).Len(),
	}
	withResult := lines.FilterField(zap.String("result", result))
	if lines.Len() != 1 || withResult.Len() != 1 || level[result] != 1 {
		t.Errorf("logged %v, want one line with result %s", lines.All(), result)
	}
}

// An agency confirms its winners only when their file has all of them, whatever was there before.
func TestAgencyConfirmsWhatItKeeps(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, path string){
		"a new file": func(*testing.T, string) {},
		"a file that is there": func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("old\n", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a link": func(t *testing.T, path string) {
			err := errors.Join(
				os.WriteFile(path+".target", nil, 0o600), os.Symlink(path+".target", path))
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "winners")
			prepare(t, path)
			s := startLonelyServer(t)
			s.received = func() []byte {
				if got, err := os.ReadFile(path); err != nil || string(got) != lonelyWinner {
					t.Errorf("the winners are confirmed, and their file has %q, %v", got, err)
				}
				return codec.AppendAck(nil)
			}
			logs, err := s.run(t.Context(), func(cfg *agencyConfig) { cfg.Winners = path })
			if err != nil || s.receipts() != 1 {
				t.Errorf("%d receipts, %v", s.receipts(), err)
			}
			wantConfirmed(t, logs, "success")
			want := fs.FileMode(readable)
			if name != "a new file" {
				want = 0o600 // the winners are people: who may read them is for others to say
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
				t.Errorf("the file is %v, %v; want mode %v", info, err, want)
			}
		})
	}
	t.Run("nowhere", func(t *testing.T) {
		s := startLonelyServer(t)
		logs, err := s.run(t.Context(), nil)
		if err != nil || s.receipts() != 1 {
			t.Errorf("%d receipts, %v", s.receipts(), err)
		}
		wantConfirmed(t, logs, "success")
	})
}

// An agency doesn't confirm winners that it can't write.
func TestAgencyConfirmsNothingElse(t *testing.T) {
	notConfirmed := func(t *testing.T, s *lonelyServer, path string, want error) {
		logs, err := s.run(t.Context(), func(cfg *agencyConfig) { cfg.Winners = path })
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "AGENCY_WINNERS="+path) ||
			exitCode(err) != exitInput {
			t.Errorf("got %v, want %v", err, want)
		}
		if n := logs.FilterMessage("ganadores_confirmados").Len(); n > 0 || s.receipts() > 0 {
			t.Errorf("confirmed %d times, with %d log lines", s.receipts(), n)
		}
	}
	t.Run("a full device", func(t *testing.T) {
		const device = "/dev/full"
		if _, err := os.Stat(device); err != nil {
			t.Skipf("this machine has no %s, on which every write fails: %v", device, err)
		}
		notConfirmed(t, startLonelyServer(t), device, syscall.ENOSPC)
	})
	t.Run("a folder that is gone", func(t *testing.T) {
		folder := filepath.Join(t.TempDir(), "folder")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		s := startLonelyServer(t)
		s.drawn = func() {
			if err := os.RemoveAll(folder); err != nil {
				t.Error(err)
			}
		}
		notConfirmed(t, s, filepath.Join(folder, "winners"), os.ErrNotExist)
	})
}

// Without a temporary file, the winners replace the whole content of their file.
func TestWinnersWrittenInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "winners")
	for _, winners := range []string{strings.Repeat(lonelyWinner+"\n", 100_000), lonelyWinner, ""} {
		if err := (&winnersFile{name: path}).write([]byte(winners)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != winners {
			t.Errorf("%d bytes, %v; want %d", len(got), err, len(winners))
		}
	}
}

// An agency that can't confirm warns if the server is gone, fails if the server has lost the draw,
// and ends at a signal.
func TestAgencyCannotConfirm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "winners")
	keep := func(cfg *agencyConfig) { cfg.Winners, cfg.RetryFor = path, 100*time.Millisecond }
	t.Run("gone", func(t *testing.T) {
		s := startLonelyServer(t)
		s.received = func() []byte {
			_ = s.listener.Close()
			return nil
		}
		logs, err := s.run(t.Context(), keep)
		if err != nil {
			t.Error(err)
		}
		wantConfirmed(t, logs, "fail")
		if got, err := os.ReadFile(path); err != nil || string(got) != lonelyWinner {
			t.Errorf("the file has %q, %v", got, err)
		}
	})
	t.Run("without a draw", func(t *testing.T) {
		s := startLonelyServer(t)
		s.received = func() []byte { return codec.AppendError(nil, codec.CodeLotteryHasntEnded, "") }
		_, err := s.run(t.Context(), keep)
		if !errors.Is(err, agency.ErrLostBets) || exitCode(err) != exitRejected {
			t.Errorf("got %v", err)
		}
	})
	t.Run("signal", func(t *testing.T) {
		s := startLonelyServer(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.received = func() []byte {
			cancel()
			return nil
		}
		if _, err := s.run(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// An agency whose input is not what was uploaded ends with its own exit code, and sends no bets.
func TestAgencyOfAnotherFile(t *testing.T) {
	s := startLonelyServer(t)
	s.stored, s.sum = 1, s.sum.Add([]byte("Otra|Persona|11111111|1990-05-23|1|1"))
	_, err := s.run(t.Context(), nil)
	if !errors.Is(err, agency.ErrOtherBets) || exitCode(err) != exitRejected {
		t.Errorf("got %v", err)
	}
	s.stop() // everything that was sent has been read then
	if got := strings.Join(s.said, " "); got != "HELLO|1" {
		t.Errorf("the agency said %s", got)
	}
}
