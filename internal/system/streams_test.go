package system_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/dalvdb/dalvdb/connectapi"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// opened is a stream of any kind.
type opened interface {
	Receive() bool
	Err() error
	Close() error
}

// slowKinds open the streams that can be read slowly, over a connection of their
// own. What each has to send is more than the connection takes.
var slowKinds = []struct {
	name string
	open func(ctx context.Context, n *nodetest.Node, over *http.Client, tokens [2]string, from events.Position) (opened, error)
}{
	{"device watch", func(ctx context.Context, n *nodetest.Node, over *http.Client, tokens [2]string, from events.Position) (opened, error) {
		return n.Replicas(over, tokens[0]).Watch(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{
			UserId: "big", DeviceId: "slow", Position: wire.EncodePosition(from),
		}))
	}},
	{"device snapshot", func(ctx context.Context, n *nodetest.Node, over *http.Client, tokens [2]string, _ events.Position) (opened, error) {
		return n.Replicas(over, tokens[0]).Snapshot(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceSnapshotRequest{UserId: "big"}))
	}},
	{"backend watch", func(ctx context.Context, n *nodetest.Node, over *http.Client, tokens [2]string, _ events.Position) (opened, error) {
		return n.Backends(over, tokens[1]).Watch(ctx, connect.NewRequest(&dalvdbv1.BackendServiceWatchRequest{Start: dalvdbv1.Start_START_BEGINNING}))
	}},
	{"history", func(ctx context.Context, n *nodetest.Node, over *http.Client, tokens [2]string, _ events.Position) (opened, error) {
		return n.Backends(over, tokens[1]).History(ctx, connect.NewRequest(&dalvdbv1.HistoryRequest{UserId: "big"}))
	}},
}

// slowMax is the node's limit here: longer than any message takes that is read.
const slowMax = time.Second

// Streams that nobody reads hold up neither writers nor those who do read. Who
// reads on after the limit is told; who never does is cut off; and the node has
// nothing of either any more.
func TestSlowReaders(t *testing.T) {
	registry := prometheus.NewRegistry()
	n := nodetest.New(t, nodetest.Options{Dir: t.TempDir(), Edge: func(c *connectapi.Config) {
		c.Registry, c.SlowReaderMax = registry, slowMax
	}})
	device := n.Device(t, "big", "slow")
	pull(t, device)
	shop := n.Service(t, "shop")
	noise := make([]byte, events.ValueBytesMax) // which does not compress
	for i := range 48 {                         // 12 MiB, and a connection holds some 4
		_, _ = rand.Read(noise) // never fails
		accepted(t, update(t, shop, "big", events.Put(events.Key(fmt.Sprintf("%02d", i)), events.Data(noise))))
	}
	tokens := [2]string{n.UserToken(t, "big"), n.ServiceToken(t, "shop")}

	var never []opened
	var slow sync.WaitGroup
	for _, kind := range slowKinds {
		over, _ := countedClient(n)
		s, err := kind.open(t.Context(), n, over, tokens, device.Position)
		must(t, err)
		never = append(never, s)
		slow.Go(func() {
			if err := readsOnLate(t.Context(), func(over *http.Client) (opened, error) {
				return kind.open(t.Context(), n, over, tokens, device.Position)
			}, n); err != nil {
				t.Errorf("%s: %v", kind.name, err)
			}
		})
	}
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	others := readersAndWriters(watching, t, n, "user")
	slow.Wait()

	// What is left are the streams that are read.
	awaitTrue(t, "the node ends the streams of slow readers", func() bool { return gauge(t, registry, "dalvdb_streams_open") == watchersBeside })
	for i, s := range never {
		for s.Receive() {
		}
		if s.Err() == nil {
			t.Errorf("%s: a stream that was cut ended as if whole", slowKinds[i].name)
		}
		_ = s.Close()
	}
	stop()
	others.Wait()
	awaitTrue(t, "the node ends all streams", func() bool { return gauge(t, registry, "dalvdb_streams_open") == 0 })
	if cut := gauge(t, registry, "dalvdb_slow_readers_cut_total"); cut < float64(2*len(slowKinds)) {
		t.Errorf("%v slow readers were counted", cut)
	}
}

// readsOnLate opens a stream, reads on when more than the limit and less than
// twice the limit has passed since the last byte came, and returns nil when it
// was told what it should be. On a machine that is too busy to read on in time
// the stream is cut without a word; then it is tried again.
func readsOnLate(ctx context.Context, open func(*http.Client) (opened, error), n *nodetest.Node) error {
	var err error
	for range 5 {
		over, lastByte := countedClient(n)
		s, failed := open(over)
		if failed != nil {
			return failed
		}
		look := time.NewTicker(slowMax / 50)
		for time.Since(lastByte()) < slowMax*5/4 {
			select {
			case <-look.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		look.Stop()
		for s.Receive() {
		}
		err = s.Err()
		_ = s.Close()
		_, isSlow := findDetail[*dalvdbv1.SlowReader](err)
		retry, hasRetry := findDetail[*errdetails.RetryInfo](err)
		switch {
		case isSlow && hasRetry && retry.GetRetryDelay().AsDuration() > 0 && connect.CodeOf(err) == connect.CodeResourceExhausted:
			return nil
		case err == nil:
			return errors.New("ended as if it had been read in time")
		case connect.IsWireError(err):
			return fmt.Errorf("got %w, want resource_exhausted, SlowReader and RetryInfo", err)
		}
	}
	return fmt.Errorf("never read on in time, at last: %w", err)
}

// countedClient returns a client with connections of its own, and when the last
// byte came over one.
func countedClient(n *nodetest.Node) (*http.Client, func() time.Time) {
	tr := n.Transport(nodetest.HTTP2)
	dial, last := tr.DialContext, new(atomic.Int64)
	last.Store(time.Now().UnixNano())
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return timedConn{c, last}, err
	}
	return &http.Client{Transport: tr}, func() time.Time { return time.Unix(0, last.Load()) }
}

type timedConn struct {
	net.Conn
	last *atomic.Int64
}

func (c timedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.last.Store(time.Now().UnixNano())
	return n, err
}

const (
	watchersBeside = 20
	writesBeside   = 50
)

// readersAndWriters lets devices of users whose names begin with name watch while
// others write, and returns when every write was accepted and every watcher has
// been shown it, or when that has failed. The watchers go on until ctx ends.
func readersAndWriters(ctx context.Context, t *testing.T, n *nodetest.Node, name string) *sync.WaitGroup {
	t.Helper()
	watchers, writers := new(sync.WaitGroup), new(sync.WaitGroup)
	reached := make(chan string, watchersBeside)
	for i := range watchersBeside {
		user := events.UserID(fmt.Sprintf("%s-%d", name, i%4))
		d := n.Device(t, user, fmt.Sprintf("reader-%d", i))
		pull(t, d)
		whole := false
		d.Shown = func(d *nodetest.Device) {
			if !whole && slices.Equal(texts(d.Values("n")), []string{fmt.Sprint(writesBeside)}) {
				whole = true
				reached <- d.ID
			}
		}
		watchers.Go(func() {
			for ctx.Err() == nil {
				err := d.Watch(ctx, func() bool { return true })
				if _, slow := findDetail[*dalvdbv1.SlowReader](err); !slow && ctx.Err() == nil { // which a busy machine may make of it
					t.Errorf("%s: %v", d.ID, err)
					return
				}
			}
		})
	}
	var failed atomic.Bool
	for i := range 4 {
		user := events.UserID(fmt.Sprintf("%s-%d", name, i))
		shop := n.Service(t, "shop")
		writers.Go(func() {
			for j := range writesBeside {
				v, err := shop.Update(ctx, user, backend.Update{Request: rand.Text(), Ops: []events.Op{events.Increment("n", 1)}})
				if err != nil || v.Outcome != events.Accepted {
					failed.Store(true)
					t.Errorf("write %d to %s: %v, %v", j, user, v.Outcome, err)
					return
				}
			}
		})
	}
	writers.Wait()
	if failed.Load() {
		return watchers
	}
	for range watchersBeside {
		select {
		case <-reached:
		case <-ctx.Done():
			t.Error("not every watcher was shown what was written")
			return watchers
		}
	}
	return watchers
}

// awaitTrue waits until so returns true. It is for what tells nobody that it
// has come; go test ends a wait that is in vain.
func awaitTrue(t *testing.T, what string, so func() bool) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !so() {
		select {
		case <-look.C:
		case <-t.Context().Done():
			t.Fatalf("in vain: %s", what)
		}
	}
}

// gauge is the sum of a metric over all its labels.
func gauge(t *testing.T, registry *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
