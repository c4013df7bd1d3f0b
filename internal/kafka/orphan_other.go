//go:build !linux

package kafka

import "syscall"

// ownGroup keeps the Ctrl-C of a terminal from a process: it is for its starter,
// which stops it in order. Only on Linux the process also ends with its starter,
// however that ends.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
