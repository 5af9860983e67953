//go:build !race

// Under the race detector sync.Pool drops objects at random, so allocations can't be counted.

package main

import (
	"testing"

	"go.uber.org/zap"
)

// The line that the server writes for every batch costs no allocation.
func TestLineAllocations(t *testing.T) {
	log, closeLog, err := newLogger(logConfig{Level: "info", Format: "line"}, new(discard))
	if err != nil {
		t.Fatal(err)
	}
	fields := []zap.Field{zap.String("result", "success"), zap.Int("cantidad", 150), zap.Uint32("agencia", 3)}
	if n := testing.AllocsPerRun(1000, func() {
		if entry := log.Check(zap.InfoLevel, "apuesta_recibida"); entry != nil {
			entry.Write(fields...)
		}
	}); n >= 1 {
		t.Errorf("%v allocations a line", n)
	}
	if err := closeLog(); err != nil {
		t.Error(err)
	}
}

type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }
