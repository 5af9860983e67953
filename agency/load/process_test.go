package load

import (
	"errors"
	"os"
	"runtime"
	"testing"
)

func TestUsage(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is /proc on Linux only")
	}
	for before := ownCPU(); ownCPU() < before+2*clockTick; {
	}
	u, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if u.cpu <= 0 || u.memory <= 0 || u.memoryPeak < u.memory {
		t.Errorf("%+v", u)
	}
	// Two ways to ask, one of them in ticks.
	if own := ownCPU(); u.cpu > own+clockTick || u.cpu < own/2 {
		t.Errorf("/proc has %v of processor time, getrusage %v", u.cpu, own)
	}
}

func TestUsageOfNobody(t *testing.T) {
	if _, err := usageOf(-1); !errors.Is(err, errProc) {
		t.Error(err)
	}
}
