package kafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// endMax is how long a broker that is asked to end may take before it is killed.
// It takes two seconds; with no majority of controllers left it would wait for
// minutes to hand over what it leads.
const endMax = 15 * time.Second

// broker is one broker, which is a controller too, and the process that runs it
// while one does.
type broker struct {
	id         int32
	dir        string // of its configuration, its data and its log
	addr       string // for clients
	controller string // for the other controllers
	server     *server
	shortLived bool
	died       chan<- error // has room for one: why a broker ended that was not asked to

	mu   sync.Mutex
	life *life // the last one; nil before the first
}

// life is one process of a broker.
type life struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended

	mu    sync.Mutex
	asked bool // it is to end
}

// format makes the broker's storage, if there is none. A storage that was made in
// part only is made anew: its last file tells.
func (b *broker) format(ctx context.Context, cluster string) error {
	if exists(filepath.Join(b.dir, "data", "meta.properties")) {
		return nil
	}
	cmd := b.java(ctx, true, "-Xmx256m", "kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", configName)
	cmd.WaitDelay = endMax
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format the storage of broker %d: %w\n%s", b.id, err, lastLines(out, 15))
	}
	return nil
}

const configName = "server.properties"

// java is a process of Java in the broker's directory, which ends with ctx. In one
// that is short-lived nothing is worth more than the first pass of optimising.
func (b *broker) java(ctx context.Context, shortLived bool, args ...string) *exec.Cmd {
	options := []string{"-cp", b.server.classpath(), "-XX:+UseSerialGC"}
	if shortLived {
		options = append(options, "-XX:TieredStopAtLevel=1")
	}
	args = append(options, args...)
	cmd := exec.CommandContext(ctx, b.server.java, args...)
	cmd.Dir, cmd.SysProcAttr = b.dir, ownGroup()
	return cmd
}

// spawn starts the process and returns at once.
func (b *broker) spawn() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.life != nil && !b.life.hasEnded() {
		return fmt.Errorf("broker %d runs already", b.id)
	}
	log, err := os.OpenFile(b.logFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	// It outlives the call that starts it; kill and stop end it.
	cmd := b.java(context.Background(), b.shortLived, "-Xms128m", "-Xmx384m", "kafka.Kafka", configName)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	l := &life{cmd: cmd, ended: make(chan struct{})}
	b.life = l
	go func() {
		_ = cmd.Wait() // how it ended is in its ProcessState
		if !l.isAsked() {
			select {
			case b.died <- b.complaint(l):
			default: // another one was first
			}
		}
		close(l.ended)
	}()
	return nil
}

// current returns the broker's last life, or one that has ended.
func (b *broker) current() *life {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.life
}

func (b *broker) runs() bool {
	l := b.current()
	return l != nil && !l.hasEnded()
}

// kill is kill -9. It returns when the process has ended.
func (b *broker) kill() error {
	l := b.current()
	if l == nil {
		return nil
	}
	if err := l.signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill broker %d: %w", b.id, err)
	}
	<-l.ended
	return nil
}

// stop asks the process to end, and returns when it has.
func (b *broker) stop() error {
	l := b.current()
	if l == nil {
		return nil
	}
	if err := l.signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop broker %d: %w", b.id, err)
	}
	late := time.NewTimer(endMax)
	defer late.Stop()
	select {
	case <-l.ended:
		return nil
	case <-late.C:
		return errors.Join(fmt.Errorf("broker %d had not stopped after %v and was killed", b.id, endMax), b.kill())
	}
}

func (b *broker) logFile() string { return filepath.Join(b.dir, "broker.log") }

// complaint is the error of a broker that has ended and was not to: the last that
// it has logged.
func (b *broker) complaint(l *life) error {
	text, _ := os.ReadFile(b.logFile())
	return fmt.Errorf("broker %d ended: %v; the end of %s:\n%s", b.id, l.cmd.ProcessState, b.logFile(), lastLines(text, 15))
}

// signal sends a signal after which the process is to end.
func (l *life) signal(s syscall.Signal) error {
	l.mu.Lock()
	l.asked = true
	l.mu.Unlock()
	if err := l.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

func (l *life) isAsked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

func (l *life) hasEnded() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}
