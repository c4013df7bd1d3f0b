//go:build !linux

package process_test

import "syscall"

// noOrphan does what it does only on Linux: elsewhere a test that is killed
// leaves its processes behind.
func noOrphan() *syscall.SysProcAttr { return nil }
