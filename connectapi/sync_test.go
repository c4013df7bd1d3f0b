package connectapi_test

import (
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
)

// Two devices of one user and a backend, over every protocol: what one writes
// the others see, a rejected push says what stands there, and its renewed
// guard is accepted.
func TestSyncOverEveryProtocol(t *testing.T) {
	n := newNode(t)
	h1, h2 := n.network.client(false), n.network.client(true)
	for _, p := range []struct {
		name string
		http *http.Client
		opts []connect.ClientOption
	}{
		{"Connect-HTTP1", h1, nil},
		{"Connect-h2c", h2, nil},
		{"Connect-JSON", h1, []connect.ClientOption{connect.WithProtoJSON()}},
		{"Connect-gzip", h2, []connect.ClientOption{connect.WithSendGzip()}},
		{"gRPC", h2, []connect.ClientOption{connect.WithGRPC()}},
		{"gRPC-JSON", h2, []connect.ClientOption{connect.WithGRPC(), connect.WithProtoJSON()}},
		{"gRPC-Web-HTTP1", h1, []connect.ClientOption{connect.WithGRPCWeb()}},
		{"gRPC-Web-h2c", h2, []connect.ClientOption{connect.WithGRPCWeb()}},
	} {
		t.Run(p.name, func(t *testing.T) {
			user := "ann/" + p.name
			syncStory(t, user, n.deviceOver(p.http, n.userToken(t, user), p.opts...), n.backendOver(p.http, n.serviceToken(t, "shop"), p.opts...))
		})
	}
}

func syncStory(t *testing.T, user string, device dalvdbv1connect.ReplicaServiceClient, shop dalvdbv1connect.BackendServiceClient) {
	// The phone writes. It sees its own effect, at or after the verdict.
	first := call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: user, DeviceId: "phone", Push: push(1, put("theme", "dark"), add("list", "a"))})
	at := accepted(t, first.GetVerdict())
	if len(first.GetChanges()) != 2 || first.GetPosition().GetOffset() < at.GetOffset() || first.GetHistoryId() == "" {
		t.Fatalf("got %v", first)
	}
	// The laptop starts from nothing, and a second pull brings nothing more.
	laptop := call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: user, DeviceId: "laptop"})
	if len(laptop.GetChanges()) != 2 || laptop.GetHistoryId() != first.GetHistoryId() {
		t.Fatalf("got %v", laptop)
	}
	again := call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: user, DeviceId: "laptop", Position: laptop.GetPosition()})
	if len(again.GetChanges()) != 0 || again.GetVerdict() != nil || again.GetSnapshotRequired() {
		t.Fatalf("got %v", again)
	}
	// A backend deletes a key: the deletion reaches both.
	accepted(t, call(t, shop.Update, update(user, del("theme"))).GetVerdict())
	again = call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: user, DeviceId: "laptop", Position: laptop.GetPosition()})
	if c := again.GetChanges(); len(c) != 1 || c[0].GetDeleted() == nil || c[0].GetWriter().GetId() != "shop" {
		t.Fatalf("got %v", again)
	}
	// The laptop guards what is gone: rejected, told who and when, and not what.
	old := push(1, put("theme", "light"))
	old.LogId, old.Guards = at.GetLogId(), []*dalvdbv1.Guard{{Key: "theme", Version: at.GetOffset()}}
	no := call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: user, DeviceId: "laptop", Position: laptop.GetPosition(), Push: old})
	if no.GetVerdict().GetOutcome() != dalvdbv1.Outcome_OUTCOME_REJECTED || len(no.GetVerdict().GetConflicts()) != 1 {
		t.Fatalf("got %v", no)
	}
	if c := no.GetVerdict().GetConflicts()[0]; c.GetKey() != "theme" || c.GetVersion() != 0 || c.GetWriter().GetId() != "shop" || c.GetTime() == nil || c.GetEntry() != nil {
		t.Fatalf("got %v", c)
	}
	// With its guard renewed it is accepted, and a lost answer is repeated.
	renewed := push(2, put("theme", "light"))
	renewed.Guards = []*dalvdbv1.Guard{{Key: "theme"}}
	req := &dalvdbv1.SyncRequest{UserId: user, DeviceId: "laptop", Position: no.GetPosition(), Push: renewed}
	yes := call(t, device.Sync, req)
	want := accepted(t, yes.GetVerdict())
	if got := accepted(t, call(t, device.Sync, req).GetVerdict()); got.GetOffset() != want.GetOffset() {
		t.Fatalf("the same push got %v and %v", want, got)
	}
	// A stream works over the protocol too.
	stream, err := device.Watch(t.Context(), connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{UserId: user, DeviceId: "phone", Position: first.GetPosition()}))
	must(t, err)
	got := receive(t, stream)
	if len(got.GetChanges()) != 1 || got.GetChanges()[0].GetReplaced().GetValues()[0].GetText() != "light" || got.GetPosition() == nil {
		t.Fatalf("got %v", got)
	}
	must(t, stream.Close())
}

// A clone of a device is told that its history is another one, and which push
// of it was accepted last.
func TestForked(t *testing.T) {
	n := newNode(t)
	device := n.device(n.userToken(t, "ann"))
	p := push(1, put("a", "1"))
	at := accepted(t, call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone", Push: p}).GetVerdict())
	ce := fails(t, connect.CodeFailedPrecondition, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone", Push: push(1, put("a", "2"))})
	forked := detail[*dalvdbv1.Forked](t, ce)
	if string(forked.GetId()) != string(p.GetId()) || forked.GetOffset() != at.GetOffset() {
		t.Errorf("got %v, want the push at %v", forked, at)
	}
	if !strings.Contains(ce.Message(), "higher seq, a new id, and as after the id") {
		t.Errorf("who composed the push is not told what is wrong with it: %s", ce.Message())
	}
}

// Another user's data is not even looked at: neither the position nor the push
// of the request has to be right.
func TestWrongUser(t *testing.T) {
	n := newNode(t)
	device := n.device(n.userToken(t, "ann"))
	bad := &dalvdbv1.Position{LogId: "?", Partition: -1}
	ce := fails(t, connect.CodePermissionDenied, device.Sync, &dalvdbv1.SyncRequest{
		UserId: "bob", DeviceId: "phone", Position: bad, Push: push(1, put("a", "1")),
	})
	detail[*dalvdbv1.WrongUser](t, ce)
	shop := n.backend(n.serviceToken(t, "shop"))
	if got := call(t, shop.ListEntries, &dalvdbv1.ListEntriesRequest{UserId: "bob"}); len(got.GetEntries()) != 0 {
		t.Errorf("bob has %v", got)
	}
}

// A position of a history that is not this one asks for a snapshot, and the
// push is judged nevertheless.
func TestOtherHistory(t *testing.T) {
	n := newNode(t)
	device := n.device(n.userToken(t, "ann"))
	here := call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone", Push: push(1, put("a", "1"))}).GetPosition()
	other := &dalvdbv1.Position{LogId: "00112233445566778899aabbccddeeff", Partition: here.GetPartition(), Offset: here.GetOffset()}
	got := call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "laptop", Position: other, Push: push(1, put("b", "2"))})
	accepted(t, got.GetVerdict())
	if !got.GetSnapshotRequired() || got.GetPosition() != nil || len(got.GetChanges()) != 0 || got.GetHistoryId() == "" {
		t.Errorf("got %v", got)
	}
	// Watch says the same in its last message, and ends without an error.
	stream, err := device.Watch(t.Context(), connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{UserId: "ann", DeviceId: "laptop", Position: other}))
	must(t, err)
	if m := receive(t, stream); !m.GetSnapshotRequired() || m.GetHistoryId() == "" || stream.Receive() || stream.Err() != nil {
		t.Errorf("got %v, then %v", m, stream.Err())
	}
	// A snapshot ignores it.
	snap, err := device.Snapshot(t.Context(), connect.NewRequest(&dalvdbv1.ReplicaServiceSnapshotRequest{UserId: "ann", Position: other}))
	must(t, err)
	if m := receive(t, snap); len(m.GetEntries()) != 2 || len(m.GetUnchanged()) != 0 {
		t.Errorf("got %v", m)
	}
	must(t, snap.Close())
	// A backend that reads from there is told so.
	shop := n.backend(n.serviceToken(t, "shop"))
	read := &dalvdbv1.Read{Mode: &dalvdbv1.Read_AtLeast{AtLeast: other}}
	detail[*dalvdbv1.OtherHistory](t, fails(t, connect.CodeFailedPrecondition, shop.Get, &dalvdbv1.GetRequest{UserId: "ann", Key: "a", Read: read}))
	feed, err := shop.Watch(t.Context(), connect.NewRequest(&dalvdbv1.BackendServiceWatchRequest{Positions: []*dalvdbv1.Position{other}}))
	must(t, err)
	if feed.Receive() {
		t.Errorf("got %v", feed.Msg())
	}
	detail[*dalvdbv1.OtherHistory](t, wantCode(t, feed.Err(), connect.CodeFailedPrecondition))
}

// A dry run says the verdict and leaves everything as it was: what it judged can
// be sent afterwards.
func TestDryRun(t *testing.T) {
	n := newNode(t)
	device := n.device(n.userToken(t, "ann"))
	p := push(1, put("a", "1"))
	req := &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone", Push: p, DryRun: true}
	got := call(t, device.Sync, req)
	accepted(t, got.GetVerdict())
	if len(got.GetChanges()) != 0 || got.GetPosition() != nil || got.GetHistoryId() == "" {
		t.Errorf("got %v", got)
	}
	if all := call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone"}); len(all.GetChanges()) != 0 {
		t.Errorf("a dry run wrote %v", all.GetChanges())
	}
	req.DryRun = false
	accepted(t, call(t, device.Sync, req).GetVerdict())

	shop := n.backend(n.serviceToken(t, "shop"))
	u := update("ann", put("b", "1"))
	u.DryRun = true
	accepted(t, call(t, shop.Update, u).GetVerdict())
	_ = fails(t, connect.CodeNotFound, shop.Get, &dalvdbv1.GetRequest{UserId: "ann", Key: "b"})
	u.DryRun = false
	accepted(t, call(t, shop.Update, u).GetVerdict())
}

// What is wrong inside a push is a verdict, beside which changes flow.
func TestRefusedPushStillPulls(t *testing.T) {
	n := newNode(t)
	device := n.device(n.userToken(t, "ann"))
	accepted(t, call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone", Push: push(1, put("a", "1"))}).GetVerdict())
	got := call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "laptop", Push: push(1, put("b", "1"), &dalvdbv1.Op{Key: "c"}, put("system/x", "1"))})
	v := got.GetVerdict()
	if v.GetOutcome() != dalvdbv1.Outcome_OUTCOME_REFUSED || len(v.GetViolations()) == 0 || len(got.GetChanges()) != 1 || got.GetPosition() == nil {
		t.Fatalf("got %v", got)
	}
	if f := v.GetViolations()[0]; f.GetOp() != 1 || f.GetReason() != dalvdbv1.Reason_REASON_REQUIRED {
		t.Errorf("got %v", f)
	}
	// The fold refuses what a device may not write.
	got = call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "laptop", Push: push(1, put("system/x", "1"))})
	if f := got.GetVerdict().GetViolations(); len(f) != 1 || f[0].GetReason() != dalvdbv1.Reason_REASON_DOMAIN || len(got.GetChanges()) != 1 {
		t.Errorf("got %v", got)
	}
}
