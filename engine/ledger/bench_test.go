package ledger_test

import (
	"strconv"
	"testing"

	"loteria/engine/ledger"
	"loteria/engine/ledger/ledgertest"
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

// BenchmarkSave saves entries of 64 records of 8 kB, and such of one record, as a server does that others follow.
func BenchmarkSave(b *testing.B) {
	for _, records := range []int{64, 1} {
		b.Run(strconv.Itoa(records), func(b *testing.B) {
			e, err := ledger.OpenEntryLog(b.TempDir(), ledger.EntryOptions{ID: clusterID, Create: true, First: clusterFirst}, nil)
			if err != nil {
				b.Fatal(err)
			}
			var run []byte
			for n := range records {
				run = bets(benchPayloadBytes, n).AppendTo(run)
			}
			b.SetBytes(int64(records) * benchPayloadBytes)
			b.ReportAllocs()
			index := uint64(0)
			for b.Loop() {
				index++
				state := ledger.State{Term: 1, Commit: index - 1}
				if err := e.Save(state, []ledger.Entry{{Index: index, Term: 1, Records: run}}); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			if err := e.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkSaveMany saves a hundred entries of 8 kB at a time, as a server does that is behind.
func BenchmarkSaveMany(b *testing.B) {
	const many = 100
	e, err := ledger.OpenEntryLog(b.TempDir(), ledger.EntryOptions{ID: clusterID, Create: true, First: clusterFirst}, nil)
	if err != nil {
		b.Fatal(err)
	}
	run := ledgertest.Run(bets(benchPayloadBytes, 1))
	entries := make([]ledger.Entry, many)
	b.SetBytes(many * benchPayloadBytes)
	b.ReportAllocs()
	last := uint64(0)
	for b.Loop() {
		for i := range entries {
			entries[i] = ledger.Entry{Index: last + uint64(i) + 1, Term: 1, Records: run}
		}
		if err := e.Save(ledger.State{Term: 1, Commit: last}, entries); err != nil {
			b.Fatal(err)
		}
		last += many
	}
	b.StopTimer()
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkEntries reads entries of 64 records of 8 kB back, one at a time, from the operating system's cache.
func BenchmarkEntries(b *testing.B) {
	const entries, records = 64, 64
	e, err := ledger.OpenEntryLog(b.TempDir(), ledger.EntryOptions{ID: clusterID, Create: true, First: clusterFirst}, nil)
	if err != nil {
		b.Fatal(err)
	}
	var run []byte
	for n := range records {
		run = bets(benchPayloadBytes, n).AppendTo(run)
	}
	for index := range uint64(entries) {
		if err := e.Save(ledger.State{Term: 1}, []ledger.Entry{{Index: index + 1, Term: 1, Records: run}}); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(records * benchPayloadBytes)
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		index := n%entries + 1
		n++
		if _, err := e.Entries(index, index, 1); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}
