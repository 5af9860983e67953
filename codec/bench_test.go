package codec

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkParseBatch(b *testing.B) {
	var sb strings.Builder
	n := 0
	names := []string{"Juan", "María", "Agustina", "José", "Facundo", "Luz Clara"}
	last := []string{"Pérez", "González", "Rodríguez", "Fernández", "Gómez", "Díaz"}
	for sb.Len() < 8192 {
		fmt.Fprintf(&sb, "%s|%s|%08d|%04d-%02d-%02d|%d|1\n", names[n%6], last[(n/6)%6], 30000000+n*7919, 1950+n%50, 1+n%12, 1+n%28, (n*7919)%10000)
		n++
	}
	p := []byte(sb.String())
	w := make([]byte, 0, 4096)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		bt, _, err := ParseBatch(p, Rules{20261123, 7574}, w[:0])
		if err != nil || bt.Count != n {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/bet")
}
