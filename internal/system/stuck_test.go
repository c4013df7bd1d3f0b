package system_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dalvdb/dalvdb/connectapi"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

const (
	// cutFar is the limit of slow readers here: nobody is cut while the test lasts.
	cutFar = 20 * time.Minute

	// stuckPatience is how long the rest of the node may take beside readers that are stuck.
	stuckPatience = 2 * time.Minute
)

// Readers who do not read hold up nobody, also as long as they are not cut: all
// writes are decided, to their user too, and all who do read are shown them, in a
// time in which each of the stuck streams is in the midst of one and the same send.
func TestStuckReadersDelayNobody(t *testing.T) {
	registry, state := prometheus.NewRegistry(), new(sendingState)
	n := nodetest.New(t, nodetest.Options{Dir: t.TempDir(), Edge: func(c *connectapi.Config) {
		state.State = c.State
		c.Registry, c.SlowReaderMax, c.State = registry, cutFar, state
	}})
	device := n.Device(t, stuckUser, "stuck")
	pull(t, device)
	shop := n.Service(t, "shop")
	noise := make([]byte, events.ValueBytesMax) // which does not compress
	for i := range 48 {                         // 12 MiB, and a connection holds some 4
		_, _ = rand.Read(noise) // never fails
		accepted(t, update(t, shop, stuckUser, events.Put(events.Key(fmt.Sprintf("%02d", i)), events.Data(noise))))
	}
	openStuck(t, n, device.Position)
	awaitTrue(t, "the streams begin", func() bool { return len(state.sends()) == 4 })

	ctx, cancel := context.WithTimeout(t.Context(), stuckPatience)
	defer cancel()
	for round := 0; ; round++ {
		before := state.sends()
		watching, stop := context.WithCancel(ctx)
		others := readersAndWriters(watching, t, n, fmt.Sprintf("round-%d", round))
		v, err := shop.Update(ctx, stuckUser, backend.Update{Request: rand.Text(), Ops: []events.Op{events.Increment("n", 1)}})
		stop()
		others.Wait()
		if err != nil || v.Outcome != events.Accepted {
			t.Errorf("a write to the user whose device is stuck: %v, %v", v.Outcome, err)
		}
		if t.Failed() {
			break
		}
		// Else the connections were not full yet.
		if after := state.sends(); slices.Equal(before, after) && !slices.ContainsFunc(after, func(n int64) bool { return n%2 == 0 }) {
			break
		}
	}
	if cut := gauge(t, registry, "dalvdb_slow_readers_cut_total"); cut != 0 {
		t.Errorf("%v readers were cut, which may have let the others go on", cut)
	}
}

// stuckUser has a device that does not read, and more than a connection holds.
const stuckUser = "big"

// openStuck opens a watch of a device and one of a backend over each version of
// HTTP, and reads none of them.
func openStuck(t *testing.T, n *nodetest.Node, from events.Position) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	for _, v := range []nodetest.HTTP{nodetest.HTTP1, nodetest.HTTP2} {
		s, err := n.Replicas(n.Client(v), n.UserToken(t, stuckUser)).Watch(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{
			UserId: stuckUser, DeviceId: "stuck", Position: wire.EncodePosition(from),
		}))
		must(t, err)
		t.Cleanup(func() { _ = s.Close() })
		f, err := n.Backends(n.Client(v), n.ServiceToken(t, "stuck")).Watch(ctx, connect.NewRequest(&dalvdbv1.BackendServiceWatchRequest{Start: dalvdbv1.Start_START_BEGINNING}))
		must(t, err)
		t.Cleanup(func() { _ = f.Close() })
	}
	t.Cleanup(cancel) // before they are closed, which would read on
}

// sendingState is the state of a node; it knows of the streams that are stuck, or
// are to be, what they send.
type sendingState struct {
	connectapi.State

	mu      sync.Mutex
	streams []*atomic.Int64 // how many sends have begun and how many have returned: odd amid one
}

func (s *sendingState) sends() (counts []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.streams {
		counts = append(counts, n.Load())
	}
	return counts
}

func (s *sendingState) WatchUser(ctx context.Context, u events.UserID, from events.Position, send func(*events.WatchPart) error) error {
	if u == stuckUser {
		send = countSends(s, send)
	}
	return s.State.WatchUser(ctx, u, from, send)
}

func (s *sendingState) WatchAll(ctx context.Context, q events.FeedQuery, send func(*events.FeedPart) error) error {
	return s.State.WatchAll(ctx, q, countSends(s, send))
}

func countSends[P any](s *sendingState, send func(*P) error) func(*P) error {
	count := new(atomic.Int64)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams = append(s.streams, count)
	return func(p *P) error {
		count.Add(1)
		defer count.Add(1)
		return send(p)
	}
}
