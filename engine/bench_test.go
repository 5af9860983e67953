package engine_test

import (
	"fmt"
	"testing"

	"go.uber.org/zap"

	"loteria/agency/load"
	"loteria/engine"
	"loteria/engine/ledger"
)

// benchBets is how many bets an operation of BenchmarkServer has.
const benchBets = 10_000

// BenchmarkServer is the whole engine over loopback, durable, with the load
// generator in the same process: 10,000 bets an operation, until the draw. It
// doesn't log; `loteria bench` measures a server as it is run. For a profile of the server
// alone leave the generator out: go tool pprof -ignore 'agency/load'.
func BenchmarkServer(b *testing.B) {
	for _, c := range []struct{ agencies, window, batchBets int }{
		{agencies: 50, window: 32},
		{agencies: 5, window: 1, batchBets: 150},
	} {
		b.Run(fmt.Sprintf("agencies=%d/window=%d", c.agencies, c.window), func(b *testing.B) {
			cfg := engine.DefaultConfig()
			cfg.Addr, cfg.DataDir, cfg.NoExport = "127.0.0.1:0", b.TempDir(), true
			cfg.Agencies, cfg.WinningNumber = c.agencies, load.WinningNumber
			server := serveLogging(b, cfg, zap.NewNop(), ledger.Options{})
			o := load.DefaultOptions()
			o.Agencies, o.Window, o.BatchBets = c.agencies, c.window, c.batchBets
			o.Duration, o.Bets = 0, int64(b.N)*benchBets
			b.ReportAllocs()
			b.ResetTimer()
			result, err := load.Run(b.Context(), o, load.Target{Addr: server.Addr().String()}, nil)
			b.StopTimer()
			if err != nil {
				b.Fatal(err)
			}
			if err := server.end(b); err != nil || result.Bets != o.Bets {
				b.Fatalf("%d bets of %d, %v", result.Bets, o.Bets, err)
			}
			// Of the time that bets were sent; making and connecting is in ns/op.
			b.ReportMetric(result.BetsPerSecond, "bets/s")
			b.ReportMetric(result.ACK.P99US, "ack-p99-µs")
		})
	}
}
