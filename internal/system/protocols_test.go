package system_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
)

// A phone writes, a laptop that watches shows it, a service that watches gets
// it: over every protocol, in the clear and under TLS.
func TestProtocol_SyncAndWatch(t *testing.T) { onEachLog(t, syncAndWatch) }

func syncAndWatch(t *testing.T, logs nodetest.Logs) {
	for _, secure := range []bool{false, true} {
		n := nodetest.New(t, nodetest.Options{Logs: logs, TLS: secure})
		h1, h2 := n.Client(nodetest.HTTP1), n.Client(nodetest.HTTP2)
		for _, p := range []struct {
			name  string
			http  *http.Client
			major int
			opts  []connect.ClientOption
		}{
			{"Connect/HTTP1", h1, 1, nil},
			{"Connect/HTTP2", h2, 2, nil},
			{"Connect-JSON/HTTP1", h1, 1, []connect.ClientOption{connect.WithProtoJSON()}},
			{"gRPC/HTTP2", h2, 2, []connect.ClientOption{connect.WithGRPC()}},
			{"gRPC-gzip/HTTP2", h2, 2, []connect.ClientOption{connect.WithGRPC(), connect.WithSendGzip()}},
			{"gRPC-Web/HTTP1", h1, 1, []connect.ClientOption{connect.WithGRPCWeb()}},
			{"gRPC-Web/HTTP2", h2, 2, []connect.ClientOption{connect.WithGRPCWeb()}},
		} {
			t.Run(fmt.Sprintf("TLS=%v/%s", secure, p.name), func(t *testing.T) {
				spoken := &versions{next: p.http}
				protocolStory(t, n, spoken, p.opts)
				if !spoken.only(p.major, secure) {
					t.Errorf("spoke %v, want HTTP/%d, TLS %v", spoken.seen, p.major, secure)
				}
			})
		}
	}
}

// versions notes how requests went.
type versions struct {
	next *http.Client
	seen []string
}

func (v *versions) Do(req *http.Request) (*http.Response, error) {
	res, err := v.next.Do(req)
	if err == nil {
		v.seen = append(v.seen, fmt.Sprintf("HTTP/%d TLS %v", res.ProtoMajor, res.TLS != nil))
	}
	return res, err
}

func (v *versions) only(major int, secure bool) bool {
	for _, s := range v.seen {
		if s != fmt.Sprintf("HTTP/%d TLS %v", major, secure) {
			return false
		}
	}
	return len(v.seen) > 0
}

func protocolStory(t *testing.T, n *nodetest.Node, c connect.HTTPClient, opts []connect.ClientOption) {
	user := events.UserID(t.Name())
	phone := n.DeviceOver(c, n.UserToken(t, user), user, "phone", opts...)
	laptop := n.DeviceOver(c, n.UserToken(t, user), user, "laptop", opts...)
	shop := n.Backends(c, n.ServiceToken(t, "shop"), opts...)
	accepted(t, push(t, phone, events.Put("theme", text("dark")), events.Add("list", text("a"))))
	pull(t, laptop)

	watching, stop := context.WithCancel(t.Context())
	defer stop()
	feed, err := shop.Watch(watching, connect.NewRequest(&dalvdbv1.BackendServiceWatchRequest{Keys: []string{"theme"}}))
	must(t, err)
	if !feed.Receive() || len(feed.Msg().GetPositions()) != 4 {
		t.Fatalf("first message: %v, %v", feed.Msg(), feed.Err())
	}
	// The stream's first part comes although nothing has changed, so that what
	// follows is live.
	var shown []string
	must(t, laptop.Watch(watching, func() bool {
		if shown = append(shown, laptop.String()); len(shown) == 1 {
			accepted(t, push(t, phone, events.Put("theme", text("light")), events.Add("list", text("b"))))
		}
		return len(laptop.Values("list")) < 2
	}))
	wantDevice(t, laptop, "theme", "light")
	wantDevice(t, laptop, "list", "a", "b")
	ev := nextEvent(t, feed)
	// All changes of the event, in the order of its ops.
	if cs := ev.GetChanges(); len(cs) != 2 || cs[0].GetKey() != "theme" || cs[0].GetReplaced().GetValues()[0].GetText() != "light" || cs[1].GetKey() != "list" {
		t.Errorf("the service got %v", ev)
	}
	stop()
	for feed.Receive() {
		t.Errorf("the service got %v", feed.Msg())
	}
	_ = feed.Close() // it was broken off
	// A snapshot, and an error with its detail.
	fresh := n.DeviceOver(c, n.UserToken(t, user), user, "fresh", opts...)
	must(t, fresh.Snapshot(t.Context()))
	if fresh.String() != laptop.String() {
		t.Errorf("a snapshot has\n%s", fresh.String())
	}
	_, err = shop.Get(t.Context(), connect.NewRequest(&dalvdbv1.GetRequest{UserId: string(user), Key: "never"}))
	wantCode(t, err, connect.CodeNotFound)
	detail[*dalvdbv1.NotFound](t, err)
}

// nextEvent skips bookmarks.
func nextEvent(t *testing.T, feed *connect.ServerStreamForClient[dalvdbv1.BackendServiceWatchResponse]) *dalvdbv1.ChangeEvent {
	t.Helper()
	for feed.Receive() {
		if ev := feed.Msg().GetEvent(); ev != nil {
			return ev
		}
	}
	t.Fatalf("the feed ended: %v", feed.Err())
	return nil
}

// post sends JSON as curl would, and returns the answer.
func post(t *testing.T, n *nodetest.Node, url, token, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := n.Client(nodetest.HTTP1).Do(req)
	must(t, err)
	b, err := io.ReadAll(res.Body)
	must(t, err)
	must(t, res.Body.Close())
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %v in %q", url, err, b)
	}
	return res.StatusCode, out
}

// JSON as curl sends it, on both ports. A field that is misspelt is refused with
// its name, wherever it is, and nothing is written.
func TestProtocol_JSONByHand(t *testing.T) {
	n := nodetest.New(t, nodetest.Options{})
	sync, update := n.DeviceURL()+dalvdbv1connect.ReplicaServiceSyncProcedure, n.BackendURL()+dalvdbv1connect.BackendServiceUpdateProcedure
	ann, shop := n.UserToken(t, "ann"), n.ServiceToken(t, "shop")
	const id = `"id":"MDEyMzQ1Njc4OWFiY2RlZg=="`
	for _, tt := range []struct{ name, url, token, body, misspelt string }{
		{"push.gaurds", sync, ann, `{"userId":"ann","deviceId":"curl","push":{"seq":1,` + id + `,"gaurds":[{"key":"k"}],"ops":[{"key":"k","put":{"value":{"text":"v"}}}]}}`, "gaurds"},
		{"op.dlete", sync, ann, `{"userId":"ann","deviceId":"curl","push":{"seq":1,` + id + `,"ops":[{"key":"k","dlete":{}}]}}`, "dlete"},
		{"wait", sync, ann, `{"userId":"ann","deviceId":"curl","wait":5}`, "wait"},
		{"update.guard", update, shop, `{"userId":"ann","requestId":"r","guard":[{"key":"k"}],"ops":[{"key":"k","put":{"value":{"text":"v"}}}]}`, "guard"},
		{"value.txt", update, shop, `{"userId":"ann","requestId":"r","ops":[{"key":"k","put":{"value":{"txt":"v"}}}]}`, "txt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := markOf(t, n, "ann")
			status, got := post(t, n, tt.url, tt.token, tt.body)
			message, _ := got["message"].(string)
			if status != http.StatusBadRequest || got["code"] != "invalid_argument" || !strings.Contains(message, `"`+tt.misspelt+`"`) {
				t.Errorf("got %d %v, want invalid_argument that names %q", status, got, tt.misspelt)
			}
			if after := markOf(t, n, "ann"); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("before %v, after %v", before, after)
			}
		})
	}
	status, got := post(t, n, sync, ann, `{"userId":"ann","deviceId":"curl","push":{"seq":"1",`+id+`,"guards":[{"key":"k"}],"ops":[{"key":"k","put":{"value":{"text":"v"}}}]}}`)
	verdict, _ := got["verdict"].(map[string]any)
	if status != http.StatusOK || verdict["outcome"] != "OUTCOME_ACCEPTED" {
		t.Errorf("got %d %v", status, got)
	}
	status, got = post(t, n, update, shop, `{"user_id":"ann","request_id":"r","ops":[{"key":"n","increment":{"by":"2"}}]}`) // the names of the schema do too
	verdict, _ = got["verdict"].(map[string]any)
	if status != http.StatusOK || verdict["outcome"] != "OUTCOME_ACCEPTED" {
		t.Errorf("got %d %v", status, got)
	}
	c := n.Service(t, "shop")
	wantNode(t, c, "ann", "k", "v")
	wantNode(t, c, "ann", "n", "2")
	// What binary clients send in fields we do not know is refused as well.
	unknown := &dalvdbv1.UpdateRequest{UserId: "ann", RequestId: "s", Ops: wire.EncodeOps([]events.Op{events.Put("k", text("w"))})}
	unknown.ProtoReflect().SetUnknown([]byte{0xfa, 0x3f, 0x01, 'x'}) // field 1023
	_, err := n.Backends(n.Client(nodetest.HTTP2), shop).Update(t.Context(), connect.NewRequest(unknown))
	wantCode(t, err, connect.CodeInvalidArgument)
	if !strings.Contains(err.Error(), "1023") {
		t.Errorf("got %v, want the number of the field", err)
	}
	wantNode(t, c, "ann", "k", "v")
}
