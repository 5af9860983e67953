package main

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// startChild starts cmd as a process that doesn't outlive this one, however this one ends.
//
// The kernel kills the child when the thread that started it ends, not only with the whole process.
// Go ends a thread when a goroutine ends that is locked to it. So one goroutine starts all children,
// and stays locked to a thread of its own for ever.
func startChild(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error, 1)
	parent() <- func() { started <- cmd.Start() }
	return <-started
}

var parent = sync.OnceValue(func() chan<- func() {
	starts := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range starts { // is never closed
			start()
		}
	}()
	return starts
})
