package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"go.uber.org/zap"

	"loteria/agency"
	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/history"
	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
)

// A draw over a log that isn't in files, and whose holder changes. The one that doesn't lead any more
// tells nobody anything and ends with commit.ErrNotLeader; its process goes on. The agencies come to
// the next holder, whatever became of the group that was being committed, and each bet is stored once.
func TestLeadershipEnds(t *testing.T) {
	const agencies, bets, batch = 3, 400, 20
	for lostAt := 1; lostAt <= 12; lostAt++ {
		t.Run(fmt.Sprintf("at operation %d", lostAt), func(t *testing.T) {
			memory := ledgertest.NewMemory(uint64(lostAt))
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			lead := func() *Server {
				cfg := DefaultConfig()
				cfg.DataDir, cfg.Agencies = t.TempDir(), agencies
				s, err := open(cfg, zap.NewNop(), environment{openLog: memoryLog(memory)})
				if err != nil {
					t.Fatal(err)
				}
				kept := keptListener{listener.(*net.TCPListener)}
				s.listener = kept
				if err := kept.reopen(); err != nil {
					t.Fatal(err)
				}
				return s
			}
			first := lead()
			memory.Fail(lostAt, commit.ErrNotLeader)
			ended := make(chan error, 1)
			go func() { ended <- first.Serve(t.Context()) }()

			done := make(chan error, agencies)
			for id := range agencies {
				go func() { done <- play(t.Context(), listener.Addr().String(), codec.Agency(id+1), bets, batch) }()
			}
			if err := <-ended; errors.Is(err, commit.ErrNotLeader) {
				if errors.Is(err, ErrStorage) {
					t.Errorf("the end of a leadership passes for a broken disk: %v", err)
				}
				memory.Kill()
				last := lead()
				if before, after := first.ledger.Term(), last.ledger.Term(); after <= before {
					t.Errorf("term %d comes behind %d", after, before)
				}
				if err := last.Serve(t.Context()); err != nil {
					t.Errorf("the next holder: %v", err)
				}
			} else if err != nil || memory.Failed() {
				t.Fatalf("the first holder: %v; it failed: %v", err, memory.Failed())
			}
			for range agencies {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			wantOnce(t, memory, agencies, bets)
		})
	}
}

func memoryLog(memory *ledgertest.Memory) openLog {
	return func(visit func(ledger.Record) error) (commit.Log, ledger.Tail, error) {
		log, err := memory.Open(visit)
		if err != nil {
			return nil, ledger.Tail{}, err
		}
		tail, err := log.Scan(nil)
		return log, tail, err
	}
}

// play is an agency that uploads its bets and stays until it has confirmed its winners.
func play(ctx context.Context, addr string, id codec.Agency, bets, batch int) error {
	client, err := agency.Dial(ctx, addr, id, agency.WithBatchBets(batch), agency.WithWindow(2))
	if err != nil {
		return err
	}
	defer client.Close()
	var rows strings.Builder
	for i := range bets {
		fmt.Fprintf(&rows, "Ana,Paz,%d,1990-05-23,%d\r\n", 1_000_000+i, 7570+i%10)
	}
	if _, err := client.Upload(ctx, "bets", strings.NewReader(rows.String())); err != nil {
		return err
	}
	winners, err := client.Winners(ctx)
	if err != nil {
		return err
	}
	if n := winners.Count(); n != bets/10 {
		return fmt.Errorf("agency %d has %d winners, want %d", id, n, bets/10)
	}
	return client.Confirm(ctx)
}

// wantOnce checks that the log has each bet of each agency once, and the draw.
func wantOnce(t *testing.T, memory *ledgertest.Memory, agencies, bets int) {
	t.Helper()
	memory.Kill()
	log, err := memory.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var csv bytes.Buffer
	exported, err := history.Export(log.Scan, &csv, nil)
	if err != nil || !exported.Drawn || exported.Bets != int64(agencies*bets) {
		t.Fatalf("exported %+v, %v; want %d bets and the draw", exported, err, agencies*bets)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(csv.String()) {
		seen[line] = true
	}
	if len(seen) != agencies*bets {
		t.Errorf("%d bets are stored once, want %d", len(seen), agencies*bets)
	}
}
