package kafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options say what cluster is wanted.
type Options struct {
	// Brokers is how many there are: 1, which is also the meaning of 0, or 3. Each
	// is a controller too. A directory keeps the number it was made with.
	Brokers int
	// Dir is where all is kept, a directory for each broker. It is made if it is
	// not there. Required.
	Dir string
	// Port is that of the first broker; those of the others follow. 0 is free ones,
	// which are others when the directory is started again.
	Port int
	// ShortLived is for brokers that live for seconds, as in tests: they start in
	// three fifths of the time, and never become as fast as the others.
	ShortLived bool
	// More is added to the configuration of each broker: lines of NAME=VALUE.
	More string
}

// Cluster is Apache Kafka, running. Its methods may be called by several
// goroutines, but not two at the same time for one broker.
type Cluster struct {
	brokers []*broker // immutable; by id, which begins at 1
	died    chan error
	held    []io.Closer // what Close gives back: the directory, the ports

	close sync.Once
	err   error // of Close
}

// startMax bounds a start: seconds on a machine that has nothing else to do.
const startMax = 2 * time.Minute

// Start starts the brokers and returns when all answer. The server is fetched first
// if it is not there. An error that wraps ErrTools says what the machine lacks.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Brokers == 0 {
		o.Brokers = 1
	}
	if o.Brokers != 1 && o.Brokers != 3 {
		return nil, fmt.Errorf("%d brokers: want 1 or 3", o.Brokers)
	}
	if o.Dir == "" {
		return nil, errors.New("a cluster needs a directory")
	}
	server, err := findServer(ctx)
	if err != nil {
		return nil, err
	}
	c := &Cluster{died: make(chan error, 1)}
	if err := c.start(ctx, o, server); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, o Options, server *server) error {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	lock, err := tryLock(filepath.Join(o.Dir, "lock"))
	if err != nil {
		return err
	}
	c.held = append(c.held, lock)
	cluster, err := clusterID(o.Dir, o.Brokers)
	if err != nil {
		return err
	}
	if err := c.configure(o, server); err != nil {
		return err
	}
	g, formatting := errgroup.WithContext(ctx)
	for _, b := range c.brokers {
		g.Go(func() error { return b.format(formatting, cluster) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.StartBroker(ctx, c.IDs()...)
}

// configure finds ports for the brokers and writes down what they are to know.
func (c *Cluster) configure(o Options, server *server) error {
	clients, controllers, claim, err := findPorts(o)
	if err != nil {
		return err
	}
	c.held = append(c.held, claim)
	for i := range o.Brokers {
		id := int32(i + 1)
		c.brokers = append(c.brokers, &broker{
			id: id, dir: filepath.Join(o.Dir, strconv.Itoa(int(id))), server: server, died: c.died, shortLived: o.ShortLived,
			addr: local(clients + i), controller: local(controllers + i),
		})
	}
	for _, b := range c.brokers {
		if err := os.MkdirAll(b.dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.dir, configName), []byte(properties(b, c.brokers)+o.More), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// findPorts returns where the ports for clients begin, and those of the
// controllers.
func findPorts(o Options) (clients, controllers int, claim net.Listener, err error) {
	if o.Port == 0 {
		clients, claim, err = claimPorts(2 * o.Brokers)
		return clients, clients + o.Brokers, claim, err
	}
	if err := probePorts(o.Port, o.Brokers); err != nil {
		return 0, 0, nil, err
	}
	controllers, claim, err = claimPorts(o.Brokers)
	return o.Port, controllers, claim, err
}

// IDs returns the ids of all brokers. They begin at 1.
func (c *Cluster) IDs() []int32 {
	var ids []int32
	for _, b := range c.brokers {
		ids = append(ids, b.id)
	}
	return ids
}

// Addrs returns the addresses of all brokers for clients, by id.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, b := range c.brokers {
		addrs = append(addrs, b.addr)
	}
	return addrs
}

// LogFiles returns the files that the brokers log to, by id.
func (c *Cluster) LogFiles() []string {
	var files []string
	for _, b := range c.brokers {
		files = append(files, b.logFile())
	}
	return files
}

// Kill ends a broker as kill -9 does. Nothing happens if it has ended before.
func (c *Cluster) Kill(id int32) error {
	b, err := c.broker(id)
	if err != nil {
		return err
	}
	return b.kill()
}

// Stop ends a broker in order: it hands over what it leads. Nothing happens if it
// has ended before.
func (c *Cluster) Stop(id int32) error {
	b, err := c.broker(id)
	if err != nil {
		return err
	}
	return b.stop()
}

// PID returns the process of a broker, for signals such as SIGSTOP; 0 if it does not
// run.
func (c *Cluster) PID(id int32) (int, error) {
	b, err := c.broker(id)
	if err != nil || !b.runs() {
		return 0, err
	}
	return b.current().cmd.Process.Pid, nil
}

// StartBroker starts brokers that were stopped or killed, on the ports they had,
// and returns when each lists all that run. That takes a majority: of three that
// have all ended, two are to be started in one call. One that was killed
// is taken back when its session has ended, which is after 9 seconds; one that was
// not ready in time runs on.
func (c *Cluster) StartBroker(ctx context.Context, ids ...int32) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startMax, fmt.Errorf("it took longer than %v", startMax))
	defer cancel()
	var started []*broker
	for _, id := range ids {
		b, err := c.broker(id)
		if err != nil {
			return err
		}
		if err := b.spawn(); err != nil {
			return fmt.Errorf("start broker %d: %w", id, err)
		}
		started = append(started, b)
	}
	var wanted []int32
	for _, b := range c.brokers {
		if b.runs() {
			wanted = append(wanted, b.id)
		}
	}
	for _, b := range started {
		if err := b.awaitReady(ctx, wanted); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) broker(id int32) (*broker, error) {
	if id < 1 || int(id) > len(c.brokers) {
		return nil, fmt.Errorf("there is no broker %d: they are 1 to %d", id, len(c.brokers))
	}
	return c.brokers[id-1], nil
}

// Wait returns when ctx ends, or with an error when a broker has ended that nobody
// has stopped or killed.
func (c *Cluster) Wait(ctx context.Context) error {
	select {
	case err := <-c.died:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Close stops all brokers and returns when they have ended. The directory stays,
// and Start may be called with it again.
func (c *Cluster) Close() error {
	c.close.Do(func() {
		var g errgroup.Group
		for _, b := range c.brokers {
			g.Go(b.stop)
		}
		c.err = g.Wait()
		for _, held := range c.held {
			c.err = errors.Join(c.err, held.Close())
		}
	})
	return c.err
}

// identity is what a directory knows of its cluster.
type identity struct {
	ID      string `json:"id"`
	Brokers int    `json:"brokers"`
}

// clusterID returns the id of the cluster in a directory, and makes one if there is
// none.
func clusterID(dir string, brokers int) (string, error) {
	name := filepath.Join(dir, "cluster.json")
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return newClusterID(name, brokers)
	} else if err != nil {
		return "", err
	}
	var is identity
	if err := json.Unmarshal(text, &is); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if is.Brokers != brokers {
		return "", fmt.Errorf("%s holds a cluster of %d brokers, not %d", dir, is.Brokers, brokers)
	}
	return is.ID, nil
}

func newClusterID(name string, brokers int) (string, error) {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails
	raw[0] &= 0x7f        // so that the id does not begin with "-", as an option does
	is := identity{ID: base64.RawURLEncoding.EncodeToString(raw), Brokers: brokers}
	text, err := json.Marshal(is)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(name+".new", append(text, '\n'), 0o644); err != nil {
		return "", err
	}
	return is.ID, os.Rename(name+".new", name)
}
