package process_test

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
)

// streams are calls that wait for changes: one of each kind, under way, and how
// each is made.
type streams struct {
	calls []func(context.Context) error
	ended chan error
}

// waitForChanges opens a Watch of a device and of a backend, and a Sync that is
// held, for a user of whom there is something.
func waitForChanges(t *testing.T, n *node) *streams {
	t.Helper()
	clients := newClients(n)
	device, shop := clients.replica(0, "ann"), clients.backend(2, "shop")
	state, err := device.Sync(brief(t), connect.NewRequest(&dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone"}))
	if err != nil {
		t.Fatal(err)
	}
	at := state.Msg.GetPosition()
	s := &streams{ended: make(chan error, 3)}
	begun := make(chan struct{}, 16) // of each watch, once it has begun
	s.calls = []func(context.Context) error{
		func(ctx context.Context) error {
			w, err := device.Watch(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{UserId: "ann", DeviceId: "phone", Position: at}))
			return toTheEnd(w, err, begun)
		},
		func(ctx context.Context) error {
			w, err := shop.Watch(ctx, connect.NewRequest(&dalvdbv1.BackendServiceWatchRequest{}))
			return toTheEnd(w, err, begun)
		},
		func(ctx context.Context) error {
			_, err := device.Sync(ctx, connect.NewRequest(&dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone", Position: at, WaitSeconds: 55}))
			return err
		},
	}
	for _, call := range s.calls {
		go func() { s.ended <- call(brief(t)) }()
	}
	for range 2 {
		select {
		case <-begun:
		case err := <-s.ended:
			t.Fatal(err)
		}
	}
	await(t, "the Sync is held", func() bool {
		return strings.Contains(get(t, n.urls().Backends+"/metrics"), `dalvdb_streams_open{procedure="ReplicaService/Sync"} 1`)
	})
	return s
}

// toTheEnd reads a stream, and returns how it ends. It says when it has begun.
func toTheEnd[M any](s *connect.ServerStreamForClient[M], err error, begun chan<- struct{}) error {
	if err != nil {
		return err
	}
	for first := true; s.Receive(); first = false {
		if first {
			begun <- struct{}{}
		}
	}
	return s.Err()
}

// wantNoContact checks that all of them have ended because the node does not reach
// its log, and that who comes back is refused.
func (s *streams) wantNoContact(t *testing.T) {
	t.Helper()
	for range s.calls {
		wantNoContact(t, <-s.ended)
	}
	for _, call := range s.calls {
		wantNoContact(t, call(brief(t)))
	}
}

func wantNoContact(t *testing.T, err error) {
	t.Helper()
	if code, retry := codeOf[*errdetails.RetryInfo](err); code != connect.CodeUnavailable || retry == nil || !strings.Contains(err.Error(), "no contact") {
		t.Errorf("what waits for changes without contact to the log ends with %v", err)
	}
}
