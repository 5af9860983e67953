package front

import (
	"context"
	"io"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"loteria/codec"
	"loteria/engine/ledger"
	"loteria/engine/lottery"
)

// path is the way of bets through a server without its sockets: from a loop's
// read buffer to the ledger, and from there to the ACKs' write.
type path struct {
	*rig
	sess   *Session
	in     []byte // what one read brings
	bets   int    // in it
	answer int    // bytes of its ACKs
	acks   sink
}

// sink is a connection whose peer takes everything.
type sink struct{ bytes int }

func (s *sink) Send(p []byte) (int, error)   { s.bytes += len(p); return len(p), nil }
func (s *sink) Unacknowledged() (int, error) { return 0, nil }
func (s *sink) ShutWrite()                   {}
func (s *sink) Drop()                        {}

// newPath is a server with one agency, which logs every batch and whose reads
// bring a window of batches of 8 kB.
func newPath(t testing.TB, durability ledger.Durability) *path {
	t.Helper()
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
	cfg := testConfig()
	p := &path{rig: newRig(t, cfg, lottery.Rules{Agencies: 1}, 1, t.TempDir(), ledger.Options{Durability: durability}, log)}
	t.Cleanup(func() {
		if err := p.ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	p.sess = &Session{conn: &p.acks, loop: p.front.loops[0]}
	p.sess.Session.Peer = p.sess
	const batchBytes = 8 << 10
	line := betMaria + "\n"
	perBatch := batchBytes / len(line)
	for range cfg.Window {
		p.in = codec.AppendFrame(p.in, []byte(strings.Repeat(line, perBatch)))
		p.bets += perBatch
	}
	p.answer = cfg.Window * len(codec.AppendAck(nil))
	return p
}

// pass takes one read all the way.
func (p *path) pass(t testing.TB) {
	before := p.acks.bytes
	lp := p.sess.loop
	p.sess.receive(p.in, &lp.rd)
	p.commit(t)
	if err := lp.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := p.acks.bytes - before; got != p.answer {
		t.Fatalf("%d bytes of answers, want %d", got, p.answer)
	}
}

// BenchmarkPath is what the server does with bets, without the network: an
// operation is one read of 64 batches.
func BenchmarkPath(b *testing.B) {
	for _, durability := range []ledger.Durability{ledger.Fsync, ledger.OS} {
		b.Run(map[ledger.Durability]string{ledger.Fsync: "fsync", ledger.OS: "os"}[durability], func(b *testing.B) {
			p := newPath(b, durability)
			p.pass(b)
			b.SetBytes(int64(len(p.in)))
			b.ReportAllocs()
			for b.Loop() {
				p.pass(b)
			}
			b.ReportMetric(float64(p.bets)*float64(b.N)/b.Elapsed().Seconds(), "bets/s")
		})
	}
}
