package system_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
)

// A request of a device is read up to 2 MiB, although no push in it may be that
// large: that is then a verdict, and beyond it nothing is looked at.
func TestLimit_RequestOfADevice(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	rpc := n.Replicas(n.Client(nodetest.HTTP2), n.UserToken(t, "ann"))
	request := func(device string, size int) *dalvdbv1.SyncRequest {
		ev := &events.Event{Push: events.Push{Seq: 1, ID: events.PushID{1}}}
		for i := range 9 {
			ev.Ops = append(ev.Ops, events.Put(events.Key(fmt.Sprint(i)), text(xs(232_000))))
		}
		m := &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: device, Push: wire.EncodePush(ev)}
		ev.Ops[8] = events.Put("8", text(xs(232_000+size-proto.Size(m)))) // one has just the right length
		m.Push = wire.EncodePush(ev)
		if proto.Size(m) != size {
			t.Fatalf("a request of %d bytes, want %d", proto.Size(m), size)
		}
		return m
	}
	res, err := rpc.Sync(t.Context(), connect.NewRequest(request("in", events.RequestBytesMax)))
	must(t, err)
	v, err := wire.DecodeVerdict(res.Msg.GetVerdict(), "verdict")
	must(t, err)
	wantViolation(t, v, "", events.ReasonTooLong, events.EventBytesMax)
	before := markOf(t, n, "ann")
	_, err = rpc.Sync(t.Context(), connect.NewRequest(request("out", events.RequestBytesMax+1)))
	wantTooLarge(t, err)
	if after := markOf(t, n, "ann"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("before %v, after %v", before, after)
	}
}

// A verdict lists 100 violations, of whatever is wrong: found in the form of the
// write, or by the fold in its domains.
func TestLimit_Violations(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	for name, bad := range map[string]func(i int) events.Op{
		"form":   func(int) events.Op { return events.Put("", text("v")) },
		"domain": func(i int) events.Op { return events.Put(events.Key(fmt.Sprint("system/", i)), text("v")) },
	} {
		for _, wrong := range []int{events.ViolationsMax - 1, events.ViolationsMax, events.ViolationsMax + 1} {
			t.Run(fmt.Sprint(name, "/", wrong), func(t *testing.T) {
				d := n.Device(t, "ann", fmt.Sprint(name, wrong))
				ops := []events.Op{events.Put("good", text("v"))}
				for i := range wrong {
					ops = append(ops, bad(i))
				}
				v := push(t, d, ops...)
				wantOutcome(t, v, events.Refused)
				inOps := 0
				for _, violation := range v.Violations {
					if violation.Part == events.PartOp {
						inOps++
					}
				}
				if len(v.Violations) > events.ViolationsMax || inOps == 0 || len(v.Violations) < min(wrong, events.ViolationsMax) {
					t.Errorf("%d ops are wrong, and %d violations are told", wrong, len(v.Violations))
				}
				wantDevice(t, d, "good")
			})
		}
	}
}

// A token is read up to 8 KiB.
func TestLimit_Token(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	ask := func(size int) error {
		token := n.PaddedToken(t, auth.Identity{Role: auth.Device, User: "ann"}, size)
		if len(token) != size {
			t.Fatalf("a token of %d bytes, want %d", len(token), size)
		}
		_, err := n.Replicas(n.Client(nodetest.HTTP2), token).Sync(t.Context(), connect.NewRequest(&dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone"}))
		return err
	}
	must(t, ask(events.TokenBytesMax))
	wantCode(t, ask(events.TokenBytesMax+1), connect.CodeUnauthenticated)
}

// A service's name is at most 64 bytes: no longer one is signed, and no token
// that names one is good.
func TestLimit_ServiceName(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	get := func(service string) error {
		token := n.PaddedToken(t, auth.Identity{Role: auth.Backend, Service: service}, 1<<10)
		_, err := n.Backends(n.Client(nodetest.HTTP2), token).ListEntries(t.Context(), connect.NewRequest(&dalvdbv1.ListEntriesRequest{UserId: "ann"}))
		return err
	}
	must(t, get(xs(events.NameBytesMax)))
	wantCode(t, get(xs(events.NameBytesMax+1)), connect.CodeUnauthenticated)

	key, err := auth.NewKey()
	must(t, err)
	now := time.Now()
	for size, good := range map[int]bool{events.NameBytesMax: true, events.NameBytesMax + 1: false} {
		_, err := auth.Keys{key}.Sign(auth.Identity{Role: auth.Backend, Service: xs(size), Expires: now.Add(time.Hour)}, now)
		var told *auth.Error
		if (err == nil) != good || err != nil && !errors.As(err, &told) {
			t.Errorf("a token for a service of %d bytes: %v", size, err)
		}
	}
}
