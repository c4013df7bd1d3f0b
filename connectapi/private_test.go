package connectapi_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
)

// listening collects everything that a device is answered, as text.
type listening struct{ heard strings.Builder }

func (l *listening) hear(m any, err error) {
	if pm, ok := m.(proto.Message); ok {
		l.heard.WriteString(protojson.Format(pm))
	}
	if err != nil {
		fmt.Fprint(&l.heard, err)
		if ce, ok := err.(*connect.Error); ok { //nolint:errorlint // Connect's clients return it so
			for _, d := range ce.Details() {
				v, _ := d.Value()
				l.hear(v, nil)
			}
		}
	}
}

// No answer to a device names a private key or anyone who wrote one, on any
// path: delta, whole state, snapshot, unchanged, watch, conflicts, violations,
// and after a key has become private.
func TestDevicesNeverSeePrivateKeys(t *testing.T) {
	n := newNode(t)
	shop := n.backend(n.serviceToken(t, "shop"))
	spy := n.backend(n.serviceToken(t, "tell-nobody"))
	device := n.device(n.userToken(t, "ann"))
	var l listening
	sync := func(req *dalvdbv1.SyncRequest) *dalvdbv1.SyncResponse {
		req.UserId, req.DeviceId = "ann", "phone"
		res, err := device.Sync(t.Context(), connect.NewRequest(req))
		if err != nil {
			l.hear(nil, err)
			return nil
		}
		l.hear(res.Msg, nil)
		return res.Msg
	}
	begin := sync(&dalvdbv1.SyncRequest{}).GetPosition()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch, err := device.Watch(ctx, connect.NewRequest(&dalvdbv1.ReplicaServiceWatchRequest{UserId: "ann", DeviceId: "phone", Position: begin}))
	must(t, err)
	l.hear(receive(t, watch), nil)

	both := update("ann", put("private/tell-nobody", "tell-nobody"), put("shown", "1"))
	accepted(t, call(t, shop.Update, both).GetVerdict())
	private := accepted(t, call(t, spy.Update, update("ann", put("private/tell-nobody", "tell-nobody-2"), put("private/other", "tell-nobody"))).GetVerdict())
	l.hear(receive(t, watch), nil)

	sync(&dalvdbv1.SyncRequest{})
	sync(&dalvdbv1.SyncRequest{Position: begin})
	for _, req := range []*dalvdbv1.ReplicaServiceSnapshotRequest{{UserId: "ann"}, {UserId: "ann", Position: private}, {UserId: "ann", AfterKey: "o"}} {
		s, err := device.Snapshot(t.Context(), connect.NewRequest(req))
		must(t, err)
		for s.Receive() {
			l.hear(s.Msg(), nil)
		}
		must(t, s.Err())
	}
	// Writing and guarding it is refused by place, not by name.
	refused := push(1, put("private/x", "mine"))
	refused.Guards = []*dalvdbv1.Guard{{Key: "private/x"}}
	if v := sync(&dalvdbv1.SyncRequest{Push: refused}).GetVerdict(); v.GetOutcome() != dalvdbv1.Outcome_OUTCOME_REFUSED || len(v.GetViolations()) != 2 {
		t.Errorf("got %v", v)
	}

	// A key that the device guarded becomes private: the same push then gets the
	// same verdict, and no news of who has changed the key since.
	guarded := push(2, put("mine", "1"))
	guarded.Guards = []*dalvdbv1.Guard{{Key: "later"}}
	accepted(t, call(t, shop.Update, update("ann", put("later", "shown"))).GetVerdict())
	first := sync(&dalvdbv1.SyncRequest{Push: guarded}).GetVerdict()
	if len(first.GetConflicts()) != 1 || first.GetConflicts()[0].GetWriter().GetId() != "shop" || first.GetConflicts()[0].GetEntry() != nil {
		t.Fatalf("got %v", first)
	}
	call(t, shop.SetDomains, &dalvdbv1.SetDomainsRequest{Patterns: []*dalvdbv1.DomainRule{
		{Pattern: "private/**", Domain: dalvdbv1.Domain_DOMAIN_PRIVATE}, {Pattern: "later", Domain: dalvdbv1.Domain_DOMAIN_PRIVATE},
	}})
	accepted(t, call(t, spy.Update, update("ann", put("later", "tell-nobody"))).GetVerdict())
	again := sync(&dalvdbv1.SyncRequest{Push: guarded}).GetVerdict()
	if len(again.GetConflicts()) != 1 || again.GetPosition().GetOffset() != first.GetPosition().GetOffset() || again.GetConflicts()[0].GetWriter() != nil {
		t.Errorf("got %v, want %v without the writer", again, first)
	}
	for watch.Receive() { // until it says that a snapshot is required
		l.hear(watch.Msg(), nil)
	}
	sync(&dalvdbv1.SyncRequest{})

	if text := l.heard.String(); strings.Contains(text, "tell-nobody") || strings.Contains(text, "private/") {
		t.Errorf("a device was told\n%s", text)
	} else if !strings.Contains(text, "shown") {
		t.Error("nothing was heard at all")
	}
}
