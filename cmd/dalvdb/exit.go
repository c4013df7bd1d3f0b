package main

import (
	"errors"
	"fmt"
)

// The exit codes; scripts rely on them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // the command line, the configuration or the request is wrong
	exitNotFound    = 3
	exitRejected    = 4 // rejected or refused
	exitDenied      = 5 // no credential, or one that does not allow it
	exitUnavailable = 6 // try again
)

// An exitError is an error with the code that the process ends with.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usageError says that the command line or the configuration is wrong.
func usageError(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// errSilent ends a command whose output has already said everything.
var errSilent = errors.New("")

// exitCode returns what the process ends with.
func exitCode(err error) int {
	var coded *exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &coded):
		return coded.code
	default:
		return clientExitCode(err)
	}
}
