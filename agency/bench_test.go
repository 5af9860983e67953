package agency

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"

	"loteria/codec"
)

// repeatReader yields a text several times, but keeps only one copy.
type repeatReader struct {
	text  []byte
	at    int
	times int
}

func (r *repeatReader) Read(b []byte) (int, error) {
	if r.times == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.text[r.at:])
	if r.at += n; r.at == len(r.text) {
		r.at, r.times = 0, r.times-1
	}
	return n, nil
}

// benchRows makes rows like those of the dataset.
func benchRows(rows int) []byte {
	first := []string{"Juan", "María", "Agustina", "José", "Facundo", "Luz Clara"}
	last := []string{"Pérez", "González", "Rodríguez", "Fernández", "Gómez", "Díaz"}
	var b bytes.Buffer
	for n := range rows {
		fmt.Fprintf(&b, "%s,%s,%08d,%04d-%02d-%02d,%d\r\n", first[n%6], last[n/6%6],
			10000000+n*7919%90000000, 1950+n%50, 1+n%12, 1+n%28, n*7919%10000)
	}
	return b.Bytes()
}

const benchRowCount = 10_000

func reportBets(b *testing.B) {
	bets := float64(b.N) * benchRowCount
	b.ReportMetric(bets/b.Elapsed().Seconds(), "bets/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/bets, "ns/bet")
}

// BenchmarkSource measures reading, splitting and validating alone. An operation is 10,000 bets.
func BenchmarkSource(b *testing.B) {
	for name, text := range map[string][]byte{
		"plain":  benchRows(benchRowCount),
		"quoted": bytes.ReplaceAll(benchRows(benchRowCount), []byte(","), []byte(`","`)),
	} {
		if name == "quoted" {
			text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\"\r\n\""))
			text = append([]byte{'"'}, text[:len(text)-1]...)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			limits := batchLimits{bets: BatchBetsDefault, payloadBytes: BatchBytesDefault}
			today := func() codec.Date { return 20261123 }
			s := newSource(newRowReader("bench.csv", &repeatReader{text: text, times: b.N}, testAgency), limits, WindowDefault, today)
			go s.run()
			for batch := range s.batches {
				s.reuse(batch)
			}
			if want := int64(b.N) * benchRowCount; s.err != nil || s.total != want {
				b.Fatalf("%d bets, want %d: %v", s.total, want, s.err)
			}
			reportBets(b)
		})
	}
}

// BenchmarkUpload measures the whole agency over loopback. The server, in the same process, only
// splits frames and acknowledges them. An operation is 10,000 bets.
func BenchmarkUpload(b *testing.B) {
	text := benchRows(benchRowCount)
	for _, batchBytes := range []int{BatchBytesDefault, 64 << 10} {
		b.Run(fmt.Sprintf("batch=%d", batchBytes), func(b *testing.B) {
			b.ReportAllocs()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			served := make(chan error, 1)
			go func() { served <- acknowledgeAll(l) }()
			c, err := Dial(b.Context(), l.Addr().String(), testAgency, WithBatchBets(batchBytes), WithBatchBytes(batchBytes))
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			p, err := c.Upload(b.Context(), "bench.csv", &repeatReader{text: text, times: b.N})
			if want := int64(b.N) * benchRowCount; err != nil || p.Stored != want {
				b.Fatalf("%d bets, want %d: %v", p.Stored, want, err)
			}
			b.StopTimer()
			reportBets(b)
			if err := c.Close(); err != nil {
				b.Error(err)
			}
			if err := <-served; err != nil {
				b.Error(err)
			}
		})
	}
}

// acknowledgeAll serves one connection: a welcome, then an ACK for each frame, with one write for
// all frames of a read.
func acknowledgeAll(l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	hello := make([]byte, len(codec.AppendHello(nil, testAgency)))
	if _, err := io.ReadFull(conn, hello); err != nil {
		return err
	}
	reply := codec.AppendWelcome(nil, codec.Welcome{Window: 64, FrameBytesMax: codec.FrameBytesMaxDefault})
	buf := make([]byte, 1<<20)
	for held := 0; ; {
		if _, err := conn.Write(reply); err != nil {
			return err
		}
		n, err := conn.Read(buf[held:])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		reply = reply[:0]
		rest := buf[:held+n]
		for {
			_, after, ok, err := codec.SplitFrame(rest, codec.FrameBytesMaxDefault)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			rest, reply = after, codec.AppendAck(reply)
		}
		held = copy(buf, rest)
	}
}
