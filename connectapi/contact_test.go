package connectapi_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/dalvdb/dalvdb/connectapi"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// quietCore is a core in which nothing changes.
func quietCore() *core {
	return &core{
		watchUser: idle, delta: func() events.Delta { return events.Delta{} },
		awaitChange: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		watchAll: func(ctx context.Context, send func(*events.FeedPart) error) error {
			if err := send(&events.FeedPart{}); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		},
	}
}

// Without contact to the log streams end, held Syncs too, and new ones are refused;
// what the node has is still told. With contact all is as before.
func TestNoContact(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		var contact atomic.Pointer[context.Context]
		first, lose := context.WithCancel(context.Background())
		contact.Store(&first)
		n := newBubble(t, quietCore(), func(c *connectapi.Config) { c.Contact = func() context.Context { return *contact.Load() } })
		device := n.deviceOver(n.network.client(h2), n.userToken(t, "ann"))
		shop := n.backendOver(n.network.client(h2), n.serviceToken(t, "shop"))
		watch := func() (*connect.ServerStreamForClient[dalvdbv1.ReplicaServiceWatchResponse], *connect.ServerStreamForClient[dalvdbv1.BackendServiceWatchResponse]) {
			t.Helper()
			s, err := device.Watch(t.Context(), watchRequest())
			must(t, err)
			f, err := shop.Watch(t.Context(), connect.NewRequest(&dalvdbv1.BackendServiceWatchRequest{}))
			must(t, err)
			return s, f
		}
		hold := func() error {
			return unary(device.Sync, t.Context(), &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d", WaitSeconds: 55})
		}
		wantUnavailable := func(err error) {
			t.Helper()
			if after := detail[*errdetails.RetryInfo](t, wantCode(t, err, connect.CodeUnavailable)).GetRetryDelay().AsDuration(); after <= 0 {
				t.Errorf("to be tried again after %v", after)
			}
		}
		s, f := watch()
		receive(t, s)
		receive(t, f)
		held := make(chan error, 1)
		go func() { held <- hold() }()
		synctest.Wait()

		begin := time.Now()
		lose()
		for range 2 { // those that were under way, and those that come back
			if s.Receive() || f.Receive() {
				t.Fatal("a stream goes on")
			}
			wantUnavailable(s.Err())
			wantUnavailable(f.Err())
			s, f = watch()
		}
		wantUnavailable(<-held)
		wantUnavailable(hold())
		must(t, unary(device.Sync, t.Context(), &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d"}))
		if !time.Now().Equal(begin) {
			t.Errorf("took %v", time.Since(begin))
		}

		again := context.Background()
		contact.Store(&again)
		s, f = watch()
		receive(t, s)
		receive(t, f)
		must(t, hold())
	})
}
