package channel

import (
	"context"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"
)

// Handshakes that calculate are no more than there are cores, and each gets its turn.
func TestHandshakesTakeTurns(t *testing.T) {
	all := NewHandshakes(8)
	near, far := net.Pipe()
	defer func() { _ = errors.Join(near.Close(), far.Close()) }()
	h := all.Begin(context.Background(), near)
	read := make(chan struct{})
	go h.Run(func() {
		_, _ = h.Read(make([]byte, 1))
		close(read)
	})
	// While it waits for its peer, all others may calculate.
	for range cap(all.calculate) {
		other := all.Begin(context.Background(), nil)
		go other.Run(func() { <-read })
	}
	for len(all.calculate) < cap(all.calculate) {
		runtime.Gosched()
	}
	if _, err := far.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-read:
		t.Error("it calculates beside as many others as there are cores")
	case <-time.After(20 * time.Millisecond):
	}
}
