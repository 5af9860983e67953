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
	h.awaitRead()
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

// A peer that says a byte now and then stands still all the same: it makes room in the end.
func TestHandshakesThatTrickle(t *testing.T) {
	all := NewHandshakes(1)
	near, far := net.Pipe()
	defer func() { _ = errors.Join(near.Close(), far.Close()) }()
	h := all.Begin(t.Context(), near)
	go h.Run(func() {
		for {
			if _, err := h.Read(make([]byte, 1)); err != nil {
				return
			}
		}
	})
	go func() {
		trickle := time.NewTicker(handshakePatience / 10)
		defer trickle.Stop()
		for range trickle.C {
			if _, err := far.Write([]byte{1}); err != nil {
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if all.Begin(ctx, nil) == nil {
		t.Error("nobody else gets in")
	}
}

// Who has answered and waits for a core keeps its place, however long that takes.
func TestHandshakesThatQueue(t *testing.T) {
	all := NewHandshakes(1)
	near, far := net.Pipe()
	defer func() { _ = errors.Join(near.Close(), far.Close()) }()
	h := all.Begin(t.Context(), near)
	read := make(chan struct{})
	go h.Run(func() {
		_, _ = h.Read(make([]byte, 1))
		close(read)
	})
	h.awaitRead()
	for range cap(all.calculate) {
		all.calculate <- struct{}{} // all cores are taken from now on
	}
	if _, err := far.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*handshakePatience)
	defer cancel()
	if all.Begin(ctx, nil) != nil {
		t.Error("another one took its place")
	}
	for range cap(all.calculate) {
		<-all.calculate
	}
	<-read
	if h.End(); h.IsCrowded() {
		t.Error("it was closed")
	}
}

// awaitRead waits until the only handshake that runs waits for its peer.
func (h *Handshaking) awaitRead() {
	for waits := false; !waits; runtime.Gosched() {
		h.all.mu.Lock()
		waits = !h.waits.IsZero() && len(h.all.calculate) == 0
		h.all.mu.Unlock()
	}
}
