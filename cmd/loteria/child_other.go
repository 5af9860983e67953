//go:build !linux

package main

import "os/exec"

// startChild starts cmd. Here the child outlives this process if that one is killed.
func startChild(cmd *exec.Cmd) error { return cmd.Start() }
