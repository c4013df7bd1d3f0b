package connectapi_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// Tests that are about time run in bubbles, over connections in memory, and
// before a core that does what a test says. The real one is met in the others.

// core is a State and a Submitter of which a test writes what it needs.
type core struct {
	connectapi.State
	submit      func(ctx context.Context) (events.Decision, error)
	reach       func(ctx context.Context) (bool, error)
	query       func(events.DeltaQuery)
	delta       func() events.Delta
	awaitChange func(ctx context.Context) error
	watchUser   func(ctx context.Context, send func(*events.WatchPart) error) error
	snapshot    func(ctx context.Context) error
	watchAll    func(ctx context.Context, send func(*events.FeedPart) error) error
}

func (c *core) Submit(ctx context.Context, _ *events.Event, _ bool) (events.Decision, error) {
	return c.submit(ctx)
}
func (c *core) SetDomains(context.Context, events.Domains) error { return nil }
func (c *core) HistoryID(events.UserID) events.LogID             { return events.LogID{1} }
func (c *core) Reach(ctx context.Context, _ events.UserID, _ events.Position) (bool, error) {
	if c.reach == nil {
		return true, nil
	}
	return c.reach(ctx)
}

func (c *core) Delta(_ context.Context, q events.DeltaQuery) (events.Delta, error) {
	if c.query != nil {
		c.query(q)
	}
	return c.delta(), nil
}

func (c *core) AwaitChange(ctx context.Context, _ events.UserID, _ events.Position) error {
	return c.awaitChange(ctx)
}

func (c *core) WatchUser(ctx context.Context, _ events.UserID, _ events.Position, send func(*events.WatchPart) error) error {
	return c.watchUser(ctx, send)
}

func (c *core) Snapshot(ctx context.Context, _ events.SnapshotQuery, _ func(*events.SnapshotPart) error) error {
	return c.snapshot(ctx)
}

func (c *core) WatchAll(ctx context.Context, _ events.FeedQuery, send func(*events.FeedPart) error) error {
	return c.watchAll(ctx, send)
}

// pipes is a listener in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.IPAddr{} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// newBubble starts the edge before a core, in memory. It returns once the
// bubble's clean-up is sure to end everything in it.
func newBubble(t *testing.T, c *core, change ...func(*connectapi.Config)) *node {
	t.Helper()
	device, backend := newPipes(), newPipes()
	nw := &network{device: device, backend: backend}
	nw.dial = func(ctx context.Context, port string) (net.Conn, error) {
		if port == "backend" {
			return backend.dial(ctx)
		}
		return device.dial(ctx)
	}
	key, err := auth.NewKey()
	must(t, err)
	verifier, err := auth.NewVerifier(auth.Config{Keys: auth.Keys{key}})
	must(t, err)
	cfg := connectapi.Config{Submitter: c, State: c, Verifier: verifier}
	for _, f := range change {
		f(&cfg)
	}
	n := &node{keys: auth.Keys{key}, network: nw}
	n.api, err = connectapi.New(cfg)
	must(t, err)
	n.serve(n.api.ReplicaHandler(), device)
	n.serve(n.api.BackendHandler(), backend)
	t.Cleanup(func() {
		n.api.Drain()
		nw.closeIdle()
		for _, s := range n.servers {
			_ = s.Close()
		}
		nw.wait()
		verifier.Close()
	})
	return n
}

func watchRequest() *connect.Request[dalvdbv1.ReplicaServiceWatchRequest] {
	return connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{UserId: "ann", DeviceId: "d", Position: &dalvdbv1.Position{LogId: events.LogID{1}.String()}})
}

func idle(ctx context.Context, send func(*events.WatchPart) error) error {
	if err := send(&events.WatchPart{History: events.LogID{1}}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// both runs a test over HTTP/1.1 and over h2c.
func both(t *testing.T, f func(t *testing.T, h2 bool)) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%v", h2), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, h2) })
		})
	}
}
