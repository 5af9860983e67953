//go:build linux

package proc

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ownCPU returns this process's processor time from getrusage.
func ownCPU(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestUsage(t *testing.T) {
	var least time.Duration
	for begun := ownCPU(t); least < begun+10*clockTick; {
		least = ownCPU(t)
	}
	u, err := UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if u.Memory <= 0 || u.MemoryPeak < u.Memory {
		t.Errorf("%+v", u)
	}
	// /proc rounds both times, the user's and the system's, down to whole ticks.
	if most := ownCPU(t); u.CPU < least-2*clockTick || u.CPU > most {
		t.Errorf("/proc has %v of processor time, getrusage %v to %v", u.CPU, least, most)
	}
}

func TestOfNobody(t *testing.T) {
	if _, err := UsageOf(-1); !errors.Is(err, ErrUnreadable) {
		t.Error(err)
	}
	if _, err := Ended(-1); !errors.Is(err, ErrUnreadable) {
		t.Error(err)
	}
}

// A process that has ended is reported as ended until it is waited for. Its usage can still be
// read.
func TestEnded(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if ended, err := Ended(pid); ended || err != nil {
		t.Errorf("a running process is reported as ended: %v, %v", ended, err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	// WNOWAIT waits for the end, but leaves the process as it is.
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	if ended, err := Ended(pid); !ended || err != nil {
		t.Errorf("an ended process is reported as ended: %v, %v", ended, err)
	}
	if u, err := UsageOf(pid); err != nil || u.Memory != 0 {
		t.Errorf("an ended process uses %+v, %v", u, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}
