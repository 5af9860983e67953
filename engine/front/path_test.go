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

// path is the path of bets through a server without sockets: from a loop's read buffer to the
// ledger, and from there to the write of the ACKs.
type path struct {
	*rig
	sess   *Session
	in     []byte // what one read brings
	bets   int    // bets in in
	answer int    // bytes of the ACKs for in
	acks   sink
}

// sink is a connection whose peer takes everything.
type sink struct{ bytes int }

func (s *sink) Send(p []byte) (int, error)   { s.bytes += len(p); return len(p), nil }
func (s *sink) Unacknowledged() (int, error) { return 0, nil }
func (s *sink) ShutWrite()                   {}
func (s *sink) Drop()                        {}

// newPath makes a server with one agency. It logs every batch, and each read brings a whole window
// of batches of 8 kB.
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

// pass takes one read along the whole path.
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

// BenchmarkPath measures what the server does with bets, without the network. An operation is one
// read of 64 batches.
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
