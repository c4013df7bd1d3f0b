package main

import "syscall"

// noOrphan makes a process end with the one that has started it, however that ends.
func noOrphan() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
