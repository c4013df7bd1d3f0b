package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience bounds every wait for a process; reaching it is a failure.
const patience = 60 * time.Second

// proc is a process beside a script.
type proc struct {
	cmd      *exec.Cmd
	out, err *stream
	ended    chan struct{} // closed when the process has ended
	result   error         // of Wait, once ended
}

func startProc(ts *testscript.TestScript, name string, args ...string) (*proc, error) {
	p := &proc{cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.out, p.err = newStream(p.ended), newStream(p.ended)
	p.cmd.Dir = ts.MkAbs(".")
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.err
	p.cmd.Env = os.Environ()
	for _, name := range []string{"DALVDB_DATA", "DALVDB_URL", "DALVDB_TOKEN", "DALVDB_CONFIG", "HOME", "GORACE"} {
		if value := ts.Getenv(name); value != "" {
			p.cmd.Env = append(p.cmd.Env, name+"="+value)
		}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.result = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop asks the process to end and returns how it did.
func (p *proc) stop(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return err
	}
	late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.ended
	return p.result
}

func (p *proc) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stream is what a process writes, for who waits for it.
type stream struct {
	ended <-chan struct{} // of the process
	mu    sync.Mutex
	text  bytes.Buffer
	more  chan struct{} // closed and replaced at each write
}

func newStream(ended <-chan struct{}) *stream {
	return &stream{ended: ended, more: make(chan struct{})}
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	close(s.more)
	s.more = make(chan struct{})
	return len(p), nil
}

func (s *stream) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until the process has written text.
func (s *stream) await(text string) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	over := false
	for {
		s.mu.Lock()
		found, more := bytes.Contains(s.text.Bytes(), []byte(text)), s.more
		s.mu.Unlock()
		if found {
			return nil
		}
		if over {
			return fmt.Errorf("ended without writing %q:\n%s", text, s)
		}
		select {
		case <-more:
		case <-s.ended:
			over = true // what it wrote last is there by now
		case <-late.C:
			return fmt.Errorf("has not written %q:\n%s", text, s)
		}
	}
}
