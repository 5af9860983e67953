package engine

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"loteria/codec"
	"loteria/codec/certtest"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

// While a server that has ended its draw exports, nobody is taken any more over TLS either: nobody would
// answer.
func TestClosedBeforeTheExport(t *testing.T) {
	authority := certtest.New(t)
	f := authority.Files(t, certtest.Server(1), authority)
	cfg := DefaultConfig()
	cfg.Addr, cfg.TLSAddr, cfg.TLSCert, cfg.TLSKey = "127.0.0.1:0", "127.0.0.1:0", f.Cert, f.Key
	cfg.Agencies, cfg.DataDir = 1, t.TempDir()
	s, err := Open(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	exported := make(chan struct{})
	scan := s.exports.scan
	s.exports.scan = history.Log(func(visit func(ledger.Record) error) (ledger.Tail, error) {
		<-exported
		return scan(visit)
	})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(t.Context()) }()
	<-s.Ready()
	agency, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agency.Write(codec.AppendFrame(nil, []byte("GET_WINNERS|1"))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(agency, make([]byte, len("0\n"))); err != nil {
		t.Fatal(err)
	}
	if err := agency.Close(); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []net.Addr{s.Addr(), s.SecureAddr()} {
		for deadline := time.Now().Add(10 * time.Second); ; {
			c, err := net.DialTimeout("tcp", addr.String(), time.Second)
			if errors.Is(err, syscall.ECONNREFUSED) {
				break
			}
			if err == nil {
				_ = c.Close() // it is only asked whether somebody takes it
			}
			if time.Now().After(deadline) {
				t.Errorf("%v still takes connections: %v", addr, err)
				break
			}
		}
	}
	close(exported)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
