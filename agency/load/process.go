package load

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a process has used since it began.
type usage struct {
	cpu        time.Duration
	memory     int64 // resident, bytes
	memoryPeak int64 // resident, bytes
}

// clockTick is what /proc counts processor time in (USER_HZ), on every
// architecture that Go knows.
const clockTick = time.Second / 100

// errProc says that /proc is not what Linux has there.
var errProc = errors.New("load: /proc is not readable")

// usageOf asks /proc about a process. Where there is none, the report goes
// without.
func usageOf(pid int) (usage, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return usage{}, fmt.Errorf("%w: %w", errProc, err)
	}
	// The second field, the name, is in parentheses and may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return usage{}, fmt.Errorf("%w: %s/stat has %d fields", errProc, dir, len(fields))
	}
	var u usage
	for _, f := range fields[utime : stime+1] {
		ticks, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("%w: %s/stat: %w", errProc, dir, err)
		}
		u.cpu += time.Duration(ticks) * clockTick
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return usage{}, fmt.Errorf("%w: %w", errProc, err)
	}
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(line, []byte{':'})
		var into *int64
		switch string(name) {
		case "VmRSS":
			into = &u.memory
		case "VmHWM":
			into = &u.memoryPeak
		default:
			continue
		}
		kilobytes, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(value), []byte(" kB"))), 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("%w: %s/status: %w", errProc, dir, err)
		}
		*into = kilobytes << 10
	}
	return u, nil
}

// ownCPU is this process's processor time.
func ownCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic("load: getrusage of this process: " + err.Error())
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
