package engine

import (
	"context"
	"io"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"loteria/codec"
	"loteria/engine/ledger"
)

// path is the way of bets through a server without its sockets: from a loop's
// read buffer to the ledger, and from there to the ACKs' write.
type path struct {
	server *Server
	sess   *session
	in     []byte // what one read brings
	bets   int    // in it
	answer int    // bytes of its ACKs
	acks   sink
}

// sink is a connection whose peer takes everything.
type sink struct{ bytes int }

func (s *sink) send(p []byte) (int, error)   { s.bytes += len(p); return len(p), nil }
func (s *sink) unacknowledged() (int, error) { return 0, nil }
func (s *sink) shutWrite()                   {}
func (s *sink) close()                       {}

// newPath is a server with one agency, which logs every batch and whose reads
// bring a window of batches of 8 kB.
func newPath(t testing.TB, durability string) *path {
	t.Helper()
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Agencies, cfg.EventLoops, cfg.Durability = t.TempDir(), 1, 1, durability
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
	server, err := open(cfg, log, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &path{server: server}
	p.sess = &session{conn: &p.acks, loop: server.loops[0]}
	p.sess.lottery.Peer = p.sess
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
	p.sess.receive(p.in, &lp.box)
	if err := p.server.commit(); err != nil {
		t.Fatal(err)
	}
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
	for _, durability := range []string{DurabilityFsync, DurabilityOS} {
		b.Run(durability, func(b *testing.B) {
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
