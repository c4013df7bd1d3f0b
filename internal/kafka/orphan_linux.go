package kafka

import "syscall"

// ownGroup makes a process end with the one that has started it, however that
// ends, and keeps from it the Ctrl-C of a terminal, which is for its starter: that
// stops it in order.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
