package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// demoNode is "dalvdb serve" in a process of its own: this very program, started
// once more.
type demoNode struct {
	data string
	log  string // the file that its log goes to

	// Of the process that was started last; nil before the first.
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	told  struct{ Devices, Backends string }
}

// start starts the node on free ports and returns when it is ready.
func (n *demoNode) start(ctx context.Context, flags ...string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	log, err := os.OpenFile(n.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	first := &firstLine{line: make(chan []byte, 1)}
	cmd := exec.Command(self) //nolint:noctx // it outlives the call; kill and stop end it
	cmd.Args = append([]string{
		"dalvdb", "serve", "--data", n.data, "--listen", "127.0.0.1:0", "--backend-listen", "127.0.0.1:0", "-o", "json",
	}, flags...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = environment(), first, log, noOrphan()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	n.cmd, n.ended = cmd, ended
	go func() {
		_ = cmd.Wait() // how it ended is in its ProcessState
		close(ended)
	}()
	select {
	case line := <-first.line:
		if err := json.Unmarshal(line, &n.told); err != nil {
			return fmt.Errorf("the node says %q: %w", line, err)
		}
	case <-ended:
		return n.complaint()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return n.awaitReady(ctx)
}

// readyEvery is how often a node is asked whether it is ready.
const readyEvery = 10 * time.Millisecond

func (n *demoNode) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.told.Backends+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			if err := res.Body.Close(); err == nil && res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-n.ended:
			return n.complaint()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// complaint is the error of a node that has ended and was not to: the last that it
// has logged.
func (n *demoNode) complaint() error {
	raw, _ := os.ReadFile(n.log)
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return fmt.Errorf("the node ended: %v\n%s", n.cmd.ProcessState, strings.Join(lines[max(0, len(lines)-5):], "\n"))
}

// kill is kill -9. It returns when the process has ended, and does nothing if it
// had ended before.
func (n *demoNode) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	<-n.ended
}

// killed reports whether SIGKILL ended the process.
func (n *demoNode) killed() bool {
	status, ok := n.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// stop asks the node to end, and returns when it has.
func (n *demoNode) stop(ctx context.Context) error {
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-n.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if code := n.cmd.ProcessState.ExitCode(); code != exitDone {
		return n.complaint()
	}
	return nil
}

// environment is that of this process without what "serve" would take from it.
func environment() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, envPrefix) {
			env = append(env, v)
		}
	}
	return env
}

// firstLine sends the first line that is written to it, and drops the rest.
type firstLine struct {
	line chan []byte // has room for one
	sent bool
	text []byte
}

func (f *firstLine) Write(p []byte) (int, error) {
	if f.sent {
		return len(p), nil
	}
	f.text = append(f.text, p...)
	if line, _, whole := bytes.Cut(f.text, []byte("\n")); whole {
		f.line <- line
		f.sent = true
	}
	return len(p), nil
}
