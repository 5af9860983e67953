package codec

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// benchBatches makes batches as agencies send them. The names are in random order, because a
// processor learns to predict the ends of a few names that repeat. A byte-wise scan would then seem
// twice as fast as it is.
func benchBatches(batchBytes int) (batches [][]byte, bets int) {
	firsts := strings.Split("Juan,María,Agustina,José,Facundo,Luz Clara,Sofía,Martín,Lucía,Ana,Tomás,Valentina,Joaquín,Agustín,Camila,Iván,Rocío,Nicolás,Pedro,Inés,María José,Julián", ",")
	lasts := strings.Split("Pérez,González,Rodríguez,Fernández,Gómez,Díaz,Ruiz,López,Martínez,Sosa,Ibáñez,Paz,Núñez,Romero,Álvarez,Benítez,Acosta,Muñoz,Ríos,Vega", ",")
	r := rand.New(rand.NewPCG(1, 2))
	for range 64 {
		var batch []byte
		for {
			n := len(batch)
			batch = fmt.Appendf(batch, "%s|%s|%08d|%04d-%02d-%02d|%d|1\n",
				firsts[r.IntN(len(firsts))], lasts[r.IntN(len(lasts))], 10_000_000+r.IntN(40_000_000),
				1940+r.IntN(65), 1+r.IntN(12), 1+r.IntN(28), r.IntN(10_000))
			if len(batch) > batchBytes {
				batch = batch[:n]
				break
			}
			bets++
		}
		batches = append(batches, batch)
	}
	return batches, bets
}

func BenchmarkParseBatch(b *testing.B) {
	ordinary, bets := benchBatches(8192)
	b.Run("ordinary", func(b *testing.B) { benchmarkParseBatch(b, ordinary, bets) })

	// The same bets, made so that the fast path doesn't take them.
	var others [][]byte
	for _, batch := range ordinary {
		others = append(others, []byte(strings.ReplaceAll(string(batch), "|1\n", "|123456789\n")))
	}
	b.Run("other", func(b *testing.B) { benchmarkParseBatch(b, others, bets) })
}

func benchmarkParseBatch(b *testing.B, batches [][]byte, bets int) {
	winners := make([]byte, 0, 64<<10)
	bytes := 0
	for _, batch := range batches {
		bytes += len(batch)
	}
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	for b.Loop() {
		count := 0
		for _, batch := range batches {
			parsed, _, err := ParseBatch(batch, testRules, winners)
			if err != nil {
				b.Fatal(err)
			}
			count += parsed.Count
		}
		if count != bets {
			b.Fatalf("%d bets, want %d", count, bets)
		}
	}
	reportBets(b, bets)
}

// reportBets reports the speed of a loop that handles that many bets each time.
func reportBets(b *testing.B, bets int) {
	total := float64(bets) * float64(b.N)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/total, "ns/bet")
	b.ReportMetric(total/b.Elapsed().Seconds(), "bets/s")
}

func BenchmarkParseBet(b *testing.B) {
	line := []byte(maria)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseBet(line, today); err != nil {
			b.Fatal(err)
		}
	}
	reportBets(b, 1)
}

func BenchmarkSplitFrame(b *testing.B) {
	batches, bets := benchBatches(8192)
	var stream []byte
	for _, batch := range batches {
		stream = AppendFrame(stream, batch)
	}
	b.ReportAllocs()
	for b.Loop() {
		frames := 0
		for rest := stream; len(rest) > 0; frames++ {
			var err error
			if _, rest, _, err = SplitFrame(rest, FrameBytesMaxDefault); err != nil {
				b.Fatal(err)
			}
		}
		if frames != len(batches) {
			b.Fatalf("%d frames, want %d", frames, len(batches))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batches)), "ns/frame")
	reportBets(b, bets)
}
