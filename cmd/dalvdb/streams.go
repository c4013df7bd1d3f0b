package main

import (
	"io"
	"os"
)

// streams are where a command reads and writes.
type streams struct {
	in  io.Reader
	out io.Writer // data
	err io.Writer // words for people

	// People are looking at err: hints and progress are welcome there.
	interactive bool

	// People are looking at out: what is written there may have colours and move.
	terminal bool
}

func stdStreams() streams {
	return streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, interactive: isTerminal(os.Stderr), terminal: isTerminal(os.Stdout)}
}

// isTerminal reports whether f is a character device, which is what a terminal
// is and a pipe, a file or a log collector is not. /dev/null is one too; what
// is written for people there is lost, and that is what was asked for.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
