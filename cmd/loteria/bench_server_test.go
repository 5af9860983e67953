package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// A server listens for TLS a little later than for plain agencies. A load over TLS waits for that.
func TestBenchAwaitsTLS(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	later, err := freeAddr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &benchServer{
		addr: plain.Addr().String(), secure: later,
		cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}, // it runs
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.awaitListening(short); !errors.Is(err, errBench) {
		t.Errorf("it doesn't wait for TLS: %v", err)
	}
	secure, err := net.Listen("tcp", later)
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	if err := s.awaitListening(t.Context()); err != nil {
		t.Error(err)
	}
}
