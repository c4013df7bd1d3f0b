package connectapi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// A stream ends when its token does, to the second, and says so.
func TestStreamEndsWithItsToken(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		n := newBubble(t, &core{watchUser: idle, watchAll: func(ctx context.Context, send func(*events.FeedPart) error) error {
			must(t, send(&events.FeedPart{}))
			<-ctx.Done()
			return ctx.Err()
		}})
		expires := time.Now().Add(90 * time.Second)
		device := n.deviceOver(n.network.client(h2), n.token(t, auth.Identity{Role: auth.Device, User: "ann", Expires: expires}))
		s, err := device.Watch(t.Context(), watchRequest())
		must(t, err)
		receive(t, s)
		if s.Receive() {
			t.Fatalf("got %v", s.Msg())
		}
		_ = wantCode(t, s.Err(), connect.CodeUnauthenticated)
		if !time.Now().Equal(expires) {
			t.Errorf("ended at %v, want %v", time.Now(), expires)
		}

		expires = time.Now().Add(time.Minute)
		shop := n.backendOver(n.network.client(h2), n.token(t, auth.Identity{Role: auth.Backend, Service: "shop", Expires: expires}))
		f, err := shop.Watch(t.Context(), connect.NewRequest(&dalvdbv1.BackendServiceWatchRequest{}))
		must(t, err)
		receive(t, f)
		if f.Receive() {
			t.Fatalf("got %v", f.Msg())
		}
		_ = wantCode(t, f.Err(), connect.CodeUnauthenticated)
		if !time.Now().Equal(expires) {
			t.Errorf("ended at %v, want %v", time.Now(), expires)
		}
	})
}

// Draining ends streams with unavailable and answers held Syncs at once, so that
// the servers can stop; who comes later is told the same.
func TestDrain(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		reg := prometheus.NewRegistry()
		var logged syncBuffer
		n := newBubble(t, &core{
			watchUser: idle, delta: func() events.Delta { return events.Delta{} },
			awaitChange: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		}, func(c *connectapi.Config) { c.Registry, c.Logger = reg, slog.New(slog.NewTextHandler(&logged, nil)) })
		device := n.deviceOver(n.network.client(h2), n.userToken(t, "ann"))
		s, err := device.Watch(t.Context(), watchRequest())
		must(t, err)
		receive(t, s)
		held := make(chan error, 1)
		go func() {
			held <- unary(device.Sync, t.Context(), &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d", WaitSeconds: 55})
		}()
		synctest.Wait()
		if got := counter(t, reg, "dalvdb_streams_open", map[string]string{"procedure": "ReplicaService/Sync"}); got != 1 {
			t.Errorf("%v Syncs are held", got)
		}
		begin := time.Now()
		n.api.Drain()
		must(t, <-held)
		if s.Receive() {
			t.Fatalf("got %v", s.Msg())
		}
		_ = wantCode(t, s.Err(), connect.CodeUnavailable)
		s, err = device.Watch(t.Context(), watchRequest())
		must(t, err)
		if s.Receive() && s.Receive() { //nolint:staticcheck // two messages
			t.Fatalf("got %v", s.Msg())
		}
		_ = wantCode(t, s.Err(), connect.CodeUnavailable)
		must(t, unary(device.Sync, t.Context(), &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d"})) // no stream
		if !time.Now().Equal(begin) {
			t.Errorf("took %v", time.Since(begin))
		}
		n.network.closeIdle()
		for _, srv := range n.servers {
			must(t, srv.Shutdown(t.Context()))
		}
		for _, p := range []string{"Sync", "Watch"} {
			if got := counter(t, reg, "dalvdb_streams_open", map[string]string{"procedure": "ReplicaService/" + p}); got != 0 {
				t.Errorf("%v streams of %s are open", got, p)
			}
		}
		if text := logged.take(); strings.Contains(text, "level=WARN") { // there may be 50,000 streams
			t.Errorf("logged\n%s", text)
		}
	})
}

// The delta beside a verdict has reached it, and says nothing of a position
// where a snapshot is required.
func TestDeltaReachesTheVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := events.Position{Log: events.LogID{1}, Offset: 7}
		var asked events.DeltaQuery
		c := &core{
			submit: func(context.Context) (events.Decision, error) {
				return events.Decision{Outcome: events.Duplicate, Verdict: events.Verdict{Outcome: events.Accepted, Position: at}}, nil
			},
			query: func(q events.DeltaQuery) { asked = q },
			delta: func() events.Delta {
				return events.Delta{Position: at, SnapshotRequired: true, Changes: []events.Change{{Key: "a", Kind: events.Deleted}}}
			},
		}
		n := newBubble(t, c)
		from := &dalvdbv1.Position{LogId: at.Log.String(), Offset: 3}
		got := call(t, n.device(n.userToken(t, "ann")).Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d", Position: from, Push: push(1)})
		if asked.AtLeast != 7 || asked.From.Offset != 3 || asked.User != "ann" {
			t.Errorf("asked for %+v", asked)
		}
		if !got.GetSnapshotRequired() || got.GetPosition() != nil || len(got.GetChanges()) != 0 || got.GetVerdict().GetPosition().GetOffset() != 7 {
			t.Errorf("got %v", got)
		}
	})
}

// A held Sync is answered at the first change.
func TestHeldSync(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		var mu sync.Mutex
		changed := make(chan struct{}, 1)
		var d events.Delta
		c := &core{
			delta: func() events.Delta { mu.Lock(); defer mu.Unlock(); return d },
			awaitChange: func(ctx context.Context) error {
				select {
				case <-changed:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			},
		}
		n := newBubble(t, c)
		device := n.deviceOver(n.network.client(h2), n.userToken(t, "ann"))
		sync := func(wait int32) (*dalvdbv1.SyncResponse, time.Duration) {
			begin := time.Now()
			res := call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d", WaitSeconds: wait})
			return res, time.Since(begin)
		}
		if _, took := sync(0); took != 0 {
			t.Errorf("not asked to wait, and took %v", took)
		}
		if res, took := sync(55); took != 55*time.Second || len(res.GetChanges()) != 0 {
			t.Errorf("nothing changed: %v after %v", res, took)
		}
		go func() {
			time.Sleep(5 * time.Second) //nolint:forbidigo // virtual time
			changed <- struct{}{}       // something that devices do not see
			time.Sleep(5 * time.Second) //nolint:forbidigo // virtual time
			mu.Lock()
			d.Changes = []events.Change{{Key: "a", Kind: events.Deleted}}
			mu.Unlock()
			changed <- struct{}{}
		}()
		if res, took := sync(55); took != 10*time.Second || len(res.GetChanges()) != 1 {
			t.Errorf("changed after 10 s: %v after %v", res, took)
		}
		if _, took := sync(55); took != 0 {
			t.Errorf("there are changes, and it took %v", took)
		}
	})
}

// A held Sync ends with its token, as an answer: the next one will be refused.
func TestHeldSyncEndsWithItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBubble(t, &core{
			delta:       func() events.Delta { return events.Delta{} },
			awaitChange: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		})
		device := n.device(n.token(t, auth.Identity{Role: auth.Device, User: "ann", Expires: time.Now().Add(20 * time.Second)}))
		begin := time.Now()
		call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d", WaitSeconds: 55})
		if took := time.Since(begin); took != 20*time.Second {
			t.Errorf("took %v", took)
		}
		_ = fails(t, connect.CodeUnauthenticated, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d"})
	})
}

// A state that is not reached in time is unavailable, and nothing is written.
func TestPositionIsNotReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := func(ctx context.Context) (bool, error) {
			<-ctx.Done()
			return false, fmt.Errorf("%w: %w", events.ErrUnavailable, ctx.Err())
		}
		n := newBubble(t, &core{
			reach:  late,
			submit: func(context.Context) (events.Decision, error) { panic("a push was submitted") },
			watchAll: func(ctx context.Context, _ func(*events.FeedPart) error) error {
				_, err := late(ctx)
				return err
			},
			snapshot: func(ctx context.Context) error {
				_, err := late(ctx)
				return err
			},
		})
		device, shop := n.device(n.userToken(t, "ann")), n.backend(n.serviceToken(t, "shop"))
		pos := &dalvdbv1.Position{LogId: events.LogID{1}.String(), Offset: 7}
		for name, f := range map[string]func() error{
			"Sync": func() error {
				return unary(device.Sync, t.Context(), &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d", Position: pos, Push: push(1)})
			},
			"Watch": func() error { return first(device.Watch, t.Context(), watchRequest().Msg) },
			"Snapshot": func() error {
				return first(device.Snapshot, t.Context(), &dalvdbv1.ReplicaServiceSnapshotRequest{UserId: "ann", Position: pos})
			},
			"Snapshot from nothing": func() error {
				return first(device.Snapshot, t.Context(), &dalvdbv1.ReplicaServiceSnapshotRequest{UserId: "ann"})
			},
			"Snapshot to a backend": func() error {
				return first(shop.Snapshot, t.Context(), &dalvdbv1.BackendServiceSnapshotRequest{UserId: "ann"})
			},
			"Watch of all": func() error {
				return first(shop.Watch, t.Context(), &dalvdbv1.BackendServiceWatchRequest{})
			},
		} {
			begin := time.Now()
			_ = wantCode(t, f(), connect.CodeUnavailable)
			if took := time.Since(begin); took != connectapi.ReadTimeout {
				t.Errorf("%s: took %v", name, took)
			}
		}
	})
}

// A client that goes takes its stream with it.
func TestClientGoes(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		ended := make(chan error, 1)
		n := newBubble(t, &core{watchUser: func(ctx context.Context, send func(*events.WatchPart) error) error {
			err := idle(ctx, send)
			ended <- err
			return err
		}})
		ctx, cancel := context.WithCancel(t.Context())
		s, err := n.deviceOver(n.network.client(h2), n.userToken(t, "ann")).Watch(ctx, watchRequest())
		must(t, err)
		receive(t, s)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
