//go:build !linux

package main

import "syscall"

// noOrphan does what it does only on Linux: elsewhere a process that is killed with
// -9 leaves behind what it has started.
func noOrphan() *syscall.SysProcAttr { return nil }
