package system_test

import (
	"fmt"
	"testing"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
)

// A delta that does not fit one answer is announced, beside the verdict on what
// was pushed, and taken from Watch: in parts, of which only the last says where
// it leads. Then the device has what a snapshot has.
func TestDeltaThatDoesNotFitOneAnswer(t *testing.T) { onEachLog(t, deltaThatDoesNotFitOneAnswer) }

func deltaThatDoesNotFitOneAnswer(t *testing.T, logs nodetest.Logs) {
	n := nodetest.New(t, nodetest.Options{Logs: logs, Partitions: 1})
	phone, shop := n.Device(t, "ann", "phone"), n.Service(t, "shop")
	accepted(t, push(t, phone, events.Put("gone", text("x")), events.Put("kept", text("y")), events.Add("list", text("a")), events.Add("list", text("b"))))
	accepted(t, update(t, shop, "ann", events.Delete("gone"), events.Remove("list", text("a")), events.Put("private/risk", text("high"))))
	value := func(i int) events.Value { return text(fmt.Sprintf("%03d", i) + xs(events.ValueBytesMax-3)) }
	const fits = events.DeltaBytesMax / events.ValueBytesMax
	for i := range fits + 1 {
		accepted(t, update(t, shop, "ann", events.Put(events.Key(fmt.Sprintf("big/%03d", i)), value(i))))
	}

	// The bare answers first.
	known := phone.Position
	rpc := n.Replicas(n.Client(nodetest.HTTP2), n.UserToken(t, "ann"))
	res, err := rpc.Sync(t.Context(), connect.NewRequest(phone.Request()))
	must(t, err)
	at, err := wire.DecodePosition(res.Msg.GetPosition(), "position")
	must(t, err)
	if !res.Msg.GetMore() || len(res.Msg.GetChanges()) > 0 || res.Msg.GetSnapshotRequired() || at != known {
		t.Errorf("got more=%v, %d changes at %v, want more, and none at %v", res.Msg.GetMore(), len(res.Msg.GetChanges()), at, known)
	}
	stream, err := rpc.Watch(t.Context(), connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{
		UserId: "ann", DeviceId: "phone", Position: wire.EncodePosition(known),
	}))
	must(t, err)
	raw, parts := phone.Clone(), 0
	var changes []events.Change
	for raw.Position == known && stream.Receive() {
		part, err := wire.DecodeWatch(stream.Msg())
		must(t, err)
		parts++
		changes = append(changes, part.Changes...)
		if !part.Position.IsZero() {
			raw.Take(changes, part.Position)
		}
	}
	must(t, stream.Err())
	must(t, stream.Close())
	if parts < 10 {
		t.Errorf("a delta of more than %d bytes came in %d parts", events.DeltaBytesMax, parts)
	}

	// A device that pushes has its verdict, and takes the rest from Watch.
	verdict := push(t, phone, events.Put("own", text("1")), events.Put("kept", text("z")))
	own := accepted(t, verdict)
	fresh := n.Device(t, "ann", "fresh")
	must(t, fresh.Snapshot(t.Context()))
	if phone.Position.Offset < own.Offset || phone.Position.Offset > fresh.Position.Offset || phone.String() != fresh.String() {
		t.Errorf("by Sync and Watch the phone has come to %v, and a snapshot to %v; the same: %v", phone.Position, fresh.Position, phone.String() == fresh.String())
	}
	wantDevice(t, phone, "gone")
	wantDevice(t, phone, "list", "b")
	if phone.Snapshots > 0 || phone.Version("big/000") == 0 {
		t.Errorf("the phone took %d snapshots, and has big/000 at %d", phone.Snapshots, phone.Version("big/000"))
	}
	// The raw one has all but that push.
	pull(t, raw)
	if raw.String() != fresh.String() {
		t.Error("what came in parts, and what came after it, is not what a snapshot has")
	}

	// One value less fits.
	laptop := n.Device(t, "bob", "laptop")
	accepted(t, push(t, laptop, events.Put("a", text("1"))))
	for i := range fits - 1 {
		accepted(t, update(t, shop, "bob", events.Put(events.Key(fmt.Sprintf("big/%03d", i)), value(i))))
	}
	res, err = n.Replicas(n.Client(nodetest.HTTP2), n.UserToken(t, "bob")).Sync(t.Context(), connect.NewRequest(laptop.Request()))
	must(t, err)
	if res.Msg.GetMore() || len(res.Msg.GetChanges()) != fits-1 {
		t.Errorf("got more=%v and %d changes, want all %d", res.Msg.GetMore(), len(res.Msg.GetChanges()), fits-1)
	}
}
