package nodetest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/ingest"
	"github.com/dalvdb/dalvdb/projector"
)

// Options say what is unusual about a node. The zero Options are good.
type Options struct {
	// Partitions of a new log. 0: 4, few enough that users share one.
	Partitions int32

	// Now stamps events. nil: time.Now.
	Now func() time.Time

	// TombstonesKeep and BookmarkEvery are those of projector.Config.
	TombstonesKeep, BookmarkEvery time.Duration

	// Edge changes the configuration of the edge; nil leaves it.
	Edge func(*connectapi.Config)

	// TLS serves both ports with a certificate of its own, which the node's
	// clients trust.
	TLS bool

	// Logs is where the log is kept. nil: Embedded.
	Logs Logs

	// Log returns the log as those see it who append to it and fold it; nil is
	// as it is.
	Log func(events.Log) events.Log

	// Serving hears that a node that starts can be reached, although it may not
	// have caught up with its log yet; nil does not.
	Serving func()

	// Dir is a directory for the node's data on a real disk, where power cannot be
	// cut nor a copy be put in place. Empty: a disk in memory.
	Dir string
}

// A Node is one node: its disk, and the process on it while it runs. Its
// methods that stop or start it are for one goroutine; clients, tokens and
// Running may be used by many.
type Node struct {
	opts        Options
	keys        auth.Keys
	certificate *tls.Certificate // nil without TLS
	logs        OpenLog

	disk *Disk // of a node that runs: not to be touched

	mu         sync.Mutex
	process    *process // nil while it does not run
	transports []*http.Transport
}

// New returns a node that runs on an empty disk, and ends with the test.
func New(t testing.TB, o Options) *Node {
	t.Helper()
	if o.Partitions == 0 {
		o.Partitions = 4
	}
	if o.Logs == nil {
		o.Logs = Embedded
	}
	key, err := auth.NewKey()
	must(t, err)
	n := &Node{opts: o, keys: auth.Keys{key}, logs: o.Logs(t), disk: NewDisk()}
	if o.TLS {
		n.certificate, err = newCertificate()
		must(t, err)
	}
	t.Cleanup(func() {
		must(t, n.StopNow())
		for _, tr := range n.transports {
			tr.CloseIdleConnections()
		}
	})
	n.Start(t)
	return n
}

// Start starts a node that does not run, and returns when it has caught up.
func (n *Node) Start(t testing.TB) {
	t.Helper()
	must(t, n.StartNow(t.Context()))
}

// Stop ends a node as a signal does: requests under way come to an end first.
func (n *Node) Stop(t testing.TB) {
	t.Helper()
	must(t, n.StopNow())
}

// Restart stops the node and starts it again.
func (n *Node) Restart(t testing.TB) {
	t.Helper()
	n.Stop(t)
	n.Start(t)
}

// StartNow is Start for a test that goes on after an error.
func (n *Node) StartNow(ctx context.Context) error {
	if err := startProcess(ctx, n); err != nil {
		return fmt.Errorf("start node: %w", err)
	}
	return nil
}

// StopNow is Stop for a test that goes on after an error. It does nothing to a
// node that does not run.
func (n *Node) StopNow() error {
	p := n.leave()
	if p == nil {
		return nil
	}
	p.api.Drain()
	stopped := make(chan error, 1)
	go func() { stopped <- p.stop(true) }()
	// A server of HTTP/2 gives its peers a second to go, unless they do of
	// themselves: those who have nothing under way do, as that comes to its end.
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-stopped:
			// What has become idle since the last look is of a process that is no more, and
			// would fail the first request that is sent on it.
			n.closeIdle()
			return err
		case <-again.C:
			n.closeIdle()
		}
	}
}

// CutPower ends the node as a power cut does, and leaves its disk in the state
// that the cut found it in. Of what was not synced rng keeps some, and nothing
// when it is nil.
func (n *Node) CutPower(rng *rand.Rand) error {
	p := n.leave()
	if p == nil {
		return errors.New("the node does not run")
	}
	p.cable.cut()
	n.disk = n.disk.afterPowerCut(rng)
	return p.stop(false)
}

// found lets clients find a process, as soon as it serves.
func (n *Node) found(p *process) {
	n.mu.Lock()
	n.process = p
	n.mu.Unlock()
	if n.opts.Serving != nil {
		n.opts.Serving()
	}
}

// leave takes the process, so that nobody finds it any more.
func (n *Node) leave() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.process
	n.process = nil
	return p
}

// DropState loses the state of a node that does not run, and keeps its log.
func (n *Node) DropState() error { return n.keep(logDir) }

// DropLog loses the log of a node that does not run, and keeps its state.
func (n *Node) DropLog() error { return n.keep(stateDir) }

func (n *Node) keep(dir string) (err error) {
	n.disk, err = n.disk.clone(dir)
	return err
}

// CopyDisk returns the disk of a running node as it is in this moment, as a copy
// of the machine would have it: what has been answered is in it.
func (n *Node) CopyDisk() *Disk { return n.disk.afterPowerCut(nil) }

// PutDisk puts a copy of another disk in place of that of a node that does not
// run. The other stays as it is.
func (n *Node) PutDisk(d *Disk) (err error) {
	n.disk, err = d.clone(logDir, stateDir)
	return err
}

// Disk returns the disk in memory.
func (n *Node) Disk() *Disk { return n.disk }

// fs and path say where the node's data is.
func (n *Node) fs() vfs.FS {
	if n.opts.Dir != "" {
		return vfs.Default
	}
	return n.disk.fs
}

func (n *Node) path(dir string) string { return filepath.Join(n.opts.Dir, dir) }

// ReadLog calls each with every record of a partition of a node that runs, up
// to where its log stands now.
func (n *Node) ReadLog(ctx context.Context, id events.Partition, each func(events.Stored) error) error {
	log := n.Running().Log
	tail, err := log.Tail(ctx, id)
	if err != nil {
		return err
	}
	r, err := log.Read(id, 0)
	if err != nil {
		return err
	}
	for last := events.Offset(-1); last < tail; {
		batch, err := r.Next(ctx)
		if err != nil {
			return errors.Join(err, r.Close())
		}
		for _, s := range batch {
			if last = s.Offset; last > tail {
				break
			}
			if err := each(s); err != nil {
				return errors.Join(err, r.Close())
			}
		}
	}
	return r.Close()
}

// Parts are what a running node is made of.
type Parts struct {
	Log    events.Log
	State  *projector.Projector
	Ingest *ingest.Ingester
	API    *connectapi.API
}

// Running returns the parts of a node that runs; of one that does not, none.
func (n *Node) Running() Parts {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return Parts{}
	}
	return Parts{n.process.log, n.process.state, n.process.ingest, n.process.api}
}

// A process is a node while it runs.
type process struct {
	log      Log
	state    *projector.Projector
	ingest   *ingest.Ingester
	verifier *auth.Verifier
	api      *connectapi.API

	endFold          context.CancelFunc
	running          sync.WaitGroup      // the fold and the servers
	requests         connectapi.Requests // under way
	servers          []*http.Server
	devices, backend net.Addr
	cable            *cable
}

// startProcess starts what runs on the node's disk, in the order of the command.
func startProcess(ctx context.Context, n *Node) (err error) {
	p := &process{cable: new(cable)}
	defer func() {
		if err != nil {
			_ = n.leave()
			err = errors.Join(err, p.stop(false))
		}
	}()
	quiet := slog.New(slog.DiscardHandler)
	if p.log, err = n.openLog(ctx); err != nil {
		return err
	}
	var log events.Log = p.log
	if n.opts.Log != nil {
		log = n.opts.Log(log)
	}
	p.state, err = projector.Open(ctx, projector.Config{
		Log: log, Dir: n.path(stateDir), FS: n.fs(), CacheBytes: 8 << 20, Logger: quiet,
		TombstonesKeep: n.opts.TombstonesKeep, BookmarkEvery: n.opts.BookmarkEvery,
	})
	if err != nil {
		return err
	}
	if err := p.log.Begin(ctx); err != nil {
		return err
	}
	fold, end := context.WithCancel(context.WithoutCancel(ctx))
	p.endFold = end
	p.running.Go(func() { _ = p.state.Run(fold) }) // halted partitions are asked for below
	if p.ingest, err = ingest.New(log, p.state, ingest.Config{Now: n.opts.Now}); err != nil {
		return err
	}
	if p.verifier, err = auth.NewVerifier(auth.Config{Keys: n.keys}); err != nil {
		return err
	}
	if err := p.serve(ctx, n); err != nil {
		return err
	}
	n.found(p)
	<-p.state.CaughtUp()
	return p.state.Ready()
}

func (p *process) serve(ctx context.Context, n *Node) (err error) {
	cfg := connectapi.Config{Submitter: p.ingest, State: p.state, Verifier: p.verifier, Ready: p.state.Ready}
	cfg.Backup, _ = p.log.(connectapi.Backup) // or this log makes none
	if n.opts.Edge != nil {
		n.opts.Edge(&cfg)
	}
	if p.api, err = connectapi.New(cfg); err != nil {
		return err
	}
	if p.devices, err = p.listen(ctx, n, p.api.ReplicaHandler()); err != nil {
		return err
	}
	p.backend, err = p.listen(ctx, n, p.api.BackendHandler())
	return err
}

// listen serves a port of loopback, and returns its address.
func (p *process) listen(ctx context.Context, n *Node, h http.Handler) (net.Addr, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	var secure *tls.Config
	if n.certificate != nil {
		secure = &tls.Config{Certificates: []tls.Certificate{*n.certificate}, MinVersion: tls.VersionTLS12}
	}
	server := connectapi.NewServer(p.requests.Through(h), secure, nil)
	p.servers = append(p.servers, server)
	p.running.Go(func() {
		if secure != nil {
			_ = server.ServeTLS(l, "", "") // ends with ErrServerClosed
			return
		}
		_ = server.Serve(l)
	})
	return l.Addr(), nil
}

// stop ends the process in the order of the command, as far as it was started:
// politely, or with every connection broken off.
func (p *process) stop(polite bool) error {
	var failed []error
	for _, s := range p.servers {
		if polite {
			ctx, cancel := context.WithTimeout(context.Background(), connectapi.ShutdownTimeout)
			failed = append(failed, s.Shutdown(ctx))
			cancel()
		}
		failed = append(failed, s.Close())
	}
	if p.api != nil {
		p.api.Drain() // ends handlers whose connection is gone, and that do not know it
	}
	p.requests.End()
	if p.verifier != nil {
		p.verifier.Close()
	}
	if p.endFold != nil {
		p.endFold()
	}
	p.running.Wait()
	if p.state != nil {
		failed = append(failed, p.state.Close())
	}
	if p.log != nil {
		failed = append(failed, p.log.Close())
	}
	return errors.Join(failed...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
