package ledger_test

import (
	"testing"

	"loteria/engine/ledger"
)

const benchPayloadBytes = 8 << 10

func BenchmarkAppendRecord(b *testing.B) {
	payload := []byte(bets(benchPayloadBytes, 1).Payload)
	run := make([]byte, 0, ledger.RecordBytes(len(payload)))
	b.SetBytes(benchPayloadBytes)
	b.ReportAllocs()
	for b.Loop() {
		run = ledger.AppendRecord(run[:0], ledger.Bets, 1, 200, payload)
	}
}

// BenchmarkCommit commits groups of 64 records of 8 kB in two runs, as from two event loops.
func BenchmarkCommit(b *testing.B) {
	const recordsPerRun, runCount = 32, 2
	for _, durability := range []ledger.Durability{ledger.Fsync, ledger.OS} {
		b.Run(durability.String(), func(b *testing.B) {
			l, _ := mustOpen(b, b.TempDir(), ledger.Options{Durability: durability})
			runs := make([][]byte, runCount)
			for i := range runs {
				for n := range recordsPerRun {
					runs[i] = bets(benchPayloadBytes, n).AppendTo(runs[i])
				}
			}
			b.SetBytes(runCount * recordsPerRun * benchPayloadBytes)
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Commit(runs); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			mustClose(b, l)
		})
	}
}

// BenchmarkReplay reads 512 MB of records of 8 kB from the operating system's cache.
func BenchmarkReplay(b *testing.B) {
	dir := b.TempDir()
	l, _ := mustOpen(b, dir, ledger.Options{Durability: ledger.OS})
	var run []byte
	for n := range 64 {
		run = bets(benchPayloadBytes, n).AppendTo(run)
	}
	for range 1000 {
		if err := l.Commit([][]byte{run}); err != nil {
			b.Fatal(err)
		}
	}
	mustClose(b, l)
	b.SetBytes(l.Stats().Bytes)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ledger.Scan(dir, ledger.Options{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
