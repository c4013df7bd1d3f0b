package process_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// node is a data directory, and the process that serves it while one does.
type node struct {
	tb    testing.TB
	data  string
	flags []string // of "serve"
	wrap  []string // a command that runs the binary, such as strace

	ended chan struct{} // closed when the test ends

	mu      sync.Mutex
	process *process      // the last one started
	up      chan struct{} // closed while the node can be called
	starts  int
}

// process is one life of a node.
type process struct {
	cmd  *exec.Cmd
	log  *output
	told addresses
	done chan struct{} // closed when it has ended
}

// addresses are what a node says of itself when it serves.
type addresses struct{ Devices, Backends string }

// newNode returns a node with a fresh data directory, which does not run yet.
func newNode(tb testing.TB, flags ...string) *node {
	return nodeOn(tb, filepath.Join(tb.TempDir(), "data"), flags...)
}

// nodeOn returns a node with a data directory, which does not run yet.
func nodeOn(tb testing.TB, data string, flags ...string) *node {
	n := &node{tb: tb, data: data, flags: flags, ended: make(chan struct{}), up: make(chan struct{})}
	tb.Cleanup(func() {
		close(n.ended)
		if n.process != nil && !n.process.hasEnded() {
			n.kill()
		}
	})
	return n
}

// start starts the node and returns when it is ready.
func (n *node) start() {
	n.tb.Helper()
	n.spawn()
	n.awaitReady()
}

// spawn starts the process and returns at once.
func (n *node) spawn() *process {
	n.tb.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.starts++
	p := &process{done: make(chan struct{}), log: &output{}}
	args := append([]string{}, n.wrap...)
	args = append(args, theBinary(n.tb), "serve", "--data", n.data, "--listen", "127.0.0.1:0",
		"--backend-listen", "127.0.0.1:0", "--output", "json")
	args = append(args, n.flags...)
	p.cmd = exec.Command(args[0], args[1:]...)
	// A planted bug of a binary that was built with them (see theBinary).
	p.cmd.Env = append(cleanEnv(), "DALVDB_PLANTED="+os.Getenv("PROCESS_PLANTED"))
	p.cmd.SysProcAttr, p.cmd.Stderr = noOrphan(), p.log
	serving := &firstLine{then: func(line []byte) { n.serves(p, line) }}
	p.cmd.Stdout = serving
	if err := p.cmd.Start(); err != nil {
		n.tb.Fatal(err)
	}
	n.process = p
	go func() {
		_ = p.cmd.Wait() // how it ended is in the ProcessState
		n.left(p)
	}()
	return p
}

// serves notes where the process can be reached, as it says itself.
func (n *node) serves(p *process, line []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != p {
		return
	}
	if err := json.Unmarshal(line, &p.told); err != nil {
		n.tb.Errorf("serve prints %q: %v", line, err)
		return
	}
	close(n.up)
}

// left notes that the process has ended.
func (n *node) left(p *process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == p && isClosed(n.up) {
		n.up = make(chan struct{})
	}
	log := p.log.String()
	for _, never := range []string{"DATA RACE", "panic:", "msg=panic", "fatal error:"} {
		if bytes.Contains([]byte(log), []byte(never)) {
			n.tb.Errorf("the node logged %q:\n%s", never, log)
		}
	}
	close(p.done)
}

// awaitReady waits until /readyz says yes.
func (n *node) awaitReady() {
	n.tb.Helper()
	p := n.current()
	await(n.tb, "the node is ready", func() bool {
		if p.hasEnded() {
			n.tb.Fatalf("the node ended: %v\n%s", p.cmd.ProcessState, p.log)
		}
		n.mu.Lock()
		base := p.told.Backends
		n.mu.Unlock()
		if base == "" {
			return false
		}
		res, err := http.Get(base + "/readyz")
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
}

func (n *node) current() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// isUp returns what is closed while the node can be called.
func (n *node) isUp() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.up
}

// urls returns where the node that runs now can be reached.
func (n *node) urls() addresses {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process.told
}

// signal sends a signal to the node itself, also where another command runs it.
func (n *node) signal(s syscall.Signal) {
	n.tb.Helper()
	p := n.current()
	pid := p.cmd.Process.Pid
	if len(n.wrap) > 0 {
		pid = holder(n.data)
	}
	if err := syscall.Kill(pid, s); err != nil && !p.hasEnded() {
		n.tb.Fatalf("signal %v: %v", s, err)
	}
}

// kill is kill -9. It returns when the process has ended.
func (n *node) kill() {
	n.tb.Helper()
	p := n.current()
	n.signal(syscall.SIGKILL)
	<-p.done
}

// stop asks the node to end, and returns when it has. It must end with code 0.
func (n *node) stop() {
	n.tb.Helper()
	n.signal(syscall.SIGTERM)
	if code := n.exited(); code != 0 {
		n.tb.Fatalf("exit code %d after SIGTERM\n%s", code, n.current().log)
	}
}

// exited waits until the process has ended and returns its exit code.
func (n *node) exited() int {
	n.tb.Helper()
	p := n.current()
	await(n.tb, "the node ends", p.hasEnded)
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) hasEnded() bool { return isClosed(p.done) }

// holder returns the process that says to hold a data directory.
func holder(data string) int {
	var said struct{ PID int }
	text, err := os.ReadFile(filepath.Join(data, "log", "HOLDER"))
	if err != nil || json.Unmarshal(text, &said) != nil || said.PID <= 1 {
		return -1 << 30 // no process
	}
	return said.PID
}

var errTestEnded = errors.New("the test has ended")

// dial connects to a port of the node as it runs now: "devices" or "backends",
// whatever the port's number. While it does not run, dial waits for it, as a
// caller does that tries again until it is there.
func (n *node) dial(ctx context.Context, network, host string) (net.Conn, error) {
	n.mu.Lock()
	up := n.up
	n.mu.Unlock()
	select {
	case <-up:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.ended:
		return nil, errTestEnded
	}
	told := n.urls()
	name, _, _ := net.SplitHostPort(host)
	at, err := url.Parse(map[string]string{"devices": told.Devices, "backends": told.Backends}[name])
	if err != nil || at.Host == "" {
		return nil, fmt.Errorf("no port %q of the node", host)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, at.Host)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// output keeps what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// firstLine calls then with the first line written to it.
type firstLine struct {
	line []byte
	then func([]byte)
	done bool
}

func (f *firstLine) Write(p []byte) (int, error) {
	if f.done {
		return len(p), nil
	}
	f.line = append(f.line, p...)
	if line, _, whole := bytes.Cut(f.line, []byte("\n")); whole {
		f.done = true
		f.then(line)
	}
	return len(p), nil
}
