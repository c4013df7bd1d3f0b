package connectapi_test

import (
	"context"
	"errors"
	"io"
	"net/http"
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

// What tells one state to its end is not cut off when a token that was good at
// the beginning is no more.
func TestStateIsToldToItsEnd(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		n := newBubble(t, &core{snapshot: func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Second):
				return nil
			}
		}}, func(c *connectapi.Config) {
			c.Backup = backups(func(_ context.Context, w io.Writer) error {
				for range 360 {
					time.Sleep(time.Second) //nolint:forbidigo // virtual time
					if _, err := w.Write(make([]byte, 32<<10)); err != nil {
						return err
					}
				}
				return nil
			})
		})
		client := n.network.client(h2)
		expires := func(after time.Duration, who auth.Identity) string {
			who.Expires = time.Now().Add(after)
			return n.token(t, who)
		}
		device := n.deviceOver(client, expires(4*time.Second, auth.Identity{Role: auth.Device, User: "ann"}))
		must(t, first(device.Snapshot, t.Context(), &dalvdbv1.ReplicaServiceSnapshotRequest{UserId: "ann"}))
		shop := n.backendOver(client, expires(4*time.Second, auth.Identity{Role: auth.Backend, Service: "shop"}))
		must(t, first(shop.Snapshot, t.Context(), &dalvdbv1.BackendServiceSnapshotRequest{UserId: "ann"}))

		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, backendURL+"/backup", nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+expires(5*time.Minute, auth.Identity{Role: auth.Backend, Service: "shop"}))
		res, err := client.Do(req)
		must(t, err)
		got, err := io.Copy(io.Discard, res.Body)
		if err != nil || got != 360*32<<10 {
			t.Errorf("a backup of six minutes: %d bytes, %v", got, err)
		}
		must(t, res.Body.Close())
	})
}

// A stream whose handler meets a mistake of ours leaves its seat.
func TestPanicLeavesNoSeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		n := newBubble(t, &core{
			delta:       func() events.Delta { return events.Delta{} },
			awaitChange: func(context.Context) error { panic("mistake") },
			watchUser:   func(context.Context, func(*events.WatchPart) error) error { panic("mistake") },
			watchAll:    func(context.Context, func(*events.FeedPart) error) error { panic("mistake") },
			snapshot:    func(context.Context) error { panic("mistake") },
		}, func(c *connectapi.Config) {
			c.Registry, c.StreamsMax = reg, 1
			c.Backup = backups(func(context.Context, io.Writer) error { panic("mistake") })
		})
		device, shop := n.device(n.userToken(t, "ann")), n.backend(n.serviceToken(t, "shop"))
		for name, f := range map[string]func() error{
			"Sync": func() error {
				return unary(device.Sync, t.Context(), &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d", WaitSeconds: 1})
			},
			"Watch": func() error { return first(device.Watch, t.Context(), watchRequest().Msg) },
			"Snapshot": func() error {
				return first(device.Snapshot, t.Context(), &dalvdbv1.ReplicaServiceSnapshotRequest{UserId: "ann"})
			},
			"Snapshot to a backend": func() error {
				return first(shop.Snapshot, t.Context(), &dalvdbv1.BackendServiceSnapshotRequest{UserId: "ann"})
			},
			"Watch of all": func() error {
				return first(shop.Watch, t.Context(), &dalvdbv1.BackendServiceWatchRequest{})
			},
			"backup": func() error {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, backendURL+"/backup", nil)
				must(t, err)
				req.Header.Set("Authorization", "Bearer "+n.serviceToken(t, "shop"))
				if res, err := n.network.client(false).Do(req); err == nil {
					must(t, res.Body.Close())
					t.Errorf("a backup that panics: %d", res.StatusCode)
				}
				return connect.NewError(connect.CodeInternal, errors.New("broken off"))
			},
		} {
			_ = wantCode(t, f(), connect.CodeInternal)
			synctest.Wait()
			if got := counter(t, reg, "dalvdb_streams_open", nil); got != 0 {
				t.Errorf("%s: %v streams are open", name, got)
			}
		}
		if err := first(device.Watch, t.Context(), watchRequest().Msg); connect.CodeOf(err) != connect.CodeInternal {
			t.Errorf("the only seat is taken: %v", err)
		}
	})
}

// A Sync that nobody has room to hold is answered at once: it has an answer.
func TestSyncWithoutSeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBubble(t, &core{
			delta:       func() events.Delta { return events.Delta{} },
			awaitChange: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			watchUser:   idle,
		}, func(c *connectapi.Config) { c.StreamsMax = 1 })
		device := n.device(n.userToken(t, "ann"))
		s, err := device.Watch(t.Context(), watchRequest())
		must(t, err)
		receive(t, s)
		begin := time.Now()
		call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "e", WaitSeconds: 55})
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %v", took)
		}
		must(t, s.Close())
	})
}
