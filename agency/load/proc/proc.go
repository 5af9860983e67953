// Package proc reads Linux's /proc about a process that runs, or that has ended but was not waited
// for.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// ErrUnreadable says that /proc doesn't have what Linux has there: this is another system, or there
// is no such process.
var ErrUnreadable = errors.New("/proc is not readable")

// Usage is what a process has used since it began.
type Usage struct {
	CPU        time.Duration
	Memory     int64 // resident bytes; 0 if the process has ended
	MemoryPeak int64 // resident bytes at their peak; 0 if the process has ended
}

// clockTick is the unit of processor time in /proc (USER_HZ), on every architecture that Go
// supports.
const clockTick = time.Second / 100

// Indexes of the fields of a process's stat, counted from the field after its name.
const (
	fieldState = 0  // 3 in proc(5)
	fieldUtime = 11 // 14
	fieldStime = 12 // 15
)

// UsageOf returns what the process has used. Errors wrap [ErrUnreadable].
func UsageOf(pid int) (Usage, error) {
	stat, err := statOf(pid)
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	for _, f := range stat[fieldUtime : fieldStime+1] {
		ticks, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("%w: %s: %w", ErrUnreadable, file(pid, "stat"), err)
		}
		u.CPU += time.Duration(ticks) * clockTick
	}
	status, err := os.ReadFile(file(pid, "status"))
	if err != nil {
		return Usage{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(line, []byte{':'})
		var into *int64
		switch string(name) {
		case "VmRSS":
			into = &u.Memory
		case "VmHWM":
			into = &u.MemoryPeak
		default:
			continue
		}
		kilobytes, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(value), []byte(" kB"))), 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("%w: %s: %w", ErrUnreadable, file(pid, "status"), err)
		}
		*into = kilobytes << 10
	}
	return u, nil
}

// Ended reports whether the process has ended and was not waited for yet. It doesn't wait for the
// process itself. Errors wrap [ErrUnreadable].
func Ended(pid int) (bool, error) {
	stat, err := statOf(pid)
	if err != nil {
		return false, err
	}
	return string(stat[fieldState]) == "Z", nil
}

// statOf returns the fields of a process's stat after its name, up to fieldStime at least.
func statOf(pid int) ([][]byte, error) {
	stat, err := os.ReadFile(file(pid, "stat"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	// The name is in parentheses, and may contain any bytes.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= fieldStime {
		return nil, fmt.Errorf("%w: %s has %d fields", ErrUnreadable, file(pid, "stat"), len(fields))
	}
	return fields, nil
}

func file(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }
