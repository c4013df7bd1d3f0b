package connectapi_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// post sends bytes as curl would, and returns status, header and body.
func post(t testing.TB, c *http.Client, url, token, contentType string, body []byte, header ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	must(t, err)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	must(t, err)
	out, err := io.ReadAll(res.Body)
	must(t, err)
	must(t, res.Body.Close())
	return res.StatusCode, res.Header, out
}

// The API is JSON over POST for who wants it so: names as in the schema, int64
// and bytes as strings, enums by name.
func TestCurl(t *testing.T) {
	n := newNode(t)
	c := n.network.client(false)
	shop, ann := n.serviceToken(t, "shop"), n.userToken(t, "ann")

	status, _, body := post(t, c, backendURL+"/dalvdb.v1.BackendService/Update", shop, "application/json",
		[]byte(`{"user_id":"ann","request_id":"r-1","ops":[{"key":"theme","put":{"value":{"text":"dark"}}},{"key":"n","increment":{"by":2}}],"meta":{"why":"test"}}`))
	var updated struct {
		Verdict struct {
			Outcome  string
			Position struct{ Offset string }
		}
	}
	must(t, json.Unmarshal(body, &updated))
	if status != http.StatusOK || updated.Verdict.Outcome != "OUTCOME_ACCEPTED" || updated.Verdict.Position.Offset == "" {
		t.Fatalf("%d %s", status, body)
	}
	status, _, body = post(t, c, deviceURL+"/dalvdb.v1.ReplicaService/Sync", ann, "application/json",
		[]byte(`{"userId":"ann","deviceId":"phone"}`))
	var synced struct {
		Changes []struct {
			Key      string
			Replaced struct {
				Values []struct{ Text, Number string }
			}
			Writer struct {
				Kind string
				ID   string `json:"id"`
			}
		}
		HistoryID string `json:"historyId"`
	}
	must(t, json.Unmarshal(body, &synced))
	if status != http.StatusOK || len(synced.Changes) != 2 || synced.Changes[1].Replaced.Values[0].Text != "dark" ||
		synced.Changes[0].Replaced.Values[0].Number != "2" || synced.Changes[1].Writer.Kind != "WRITER_KIND_BACKEND" {
		t.Fatalf("%d %s", status, body)
	}
	// An absent key is an error with what is known of it.
	status, _, body = post(t, c, backendURL+"/dalvdb.v1.BackendService/Get", shop, "application/json", []byte(`{"user_id":"ann","key":"no"}`))
	if status != http.StatusNotFound || !strings.Contains(string(body), `"code":"not_found"`) || !strings.Contains(string(body), "dalvdb.v1.NotFound") {
		t.Fatalf("%d %s", status, body)
	}
	// A GET is no way to ask.
	if status, _ := get(t, n, backendURL+"/dalvdb.v1.BackendService/Get?message=%7B%7D&encoding=json&connect=v1", shop); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", status)
	}
}

// A field that is not known is an error wherever it stands in JSON, and the
// error names it; values are never repeated.
func TestUnknownAndWrongFieldsInJSON(t *testing.T) {
	n := newNode(t)
	c := n.network.client(false)
	shop, ann := n.serviceToken(t, "shop"), n.userToken(t, "ann")
	update, syncPath := backendURL+dalvdbv1connect.BackendServiceUpdateProcedure, deviceURL+dalvdbv1connect.ReplicaServiceSyncProcedure
	for _, tt := range []struct{ url, token, body, want string }{
		{update, shop, `{"user_id":"ann","request_id":"r","guarsd":[]}`, `unknown field \"guarsd\"`},
		{update, shop, `{"user_id":"ann","request_id":"r","ops":[{"key":"a","putt":{}}]}`, `unknown field \"putt\"`},
		{update, shop, `{"user_id":"ann","request_id":"r","ops":[{"key":"a","put":{"value":{"txt":"secret"}}}]}`, `unknown field \"txt\"`},
		{syncPath, ann, `{"user_id":"ann","device_id":"d","positoin":{}}`, `unknown field \"positoin\"`},
		{syncPath, ann, `{"user_id":"ann","device_id":"d","push":{"seq":1,"x":"secret"}}`, `unknown field \"x\"`},
		{update, shop, `{"user_id":"ann","request_id":"r","guards":[{"key":"a","version":"secret"}]}`, `invalid value for int64 field version`},
		{update, shop, `{"user_id":"ann","user_id":"bob"}`, `duplicate field \"user_id\"`},
		{update, shop, `{"ops":[{"key":"a","put":{},"delete":{}}]}`, `oneof`},
		{update, shop, `{"user_id":secret}`, `not the JSON of this message`},
		{update, shop, `secret`, `not the JSON of this message`},
		{update, shop, ``, `want a JSON object`},
		{update, shop, `{"` + strings.Repeat("u", 1<<16) + `":1}`, `uuu...`},
	} {
		status, _, body := post(t, c, tt.url, tt.token, "application/json", []byte(tt.body))
		if status != http.StatusBadRequest || !strings.Contains(string(body), tt.want) || !strings.Contains(string(body), `"invalid_argument"`) {
			t.Errorf("%.80s: %d %s, want %s", tt.body, status, body, tt.want)
		}
		if strings.Contains(string(body), "secret") || len(body) > 1000 {
			t.Errorf("%.80s: the error has a value, or is long: %.200s", tt.body, body)
		}
	}
	if users := call(t, n.backend(shop).ListUsers, &dalvdbv1.ListUsersRequest{}).GetUsers(); len(users) != 0 {
		t.Errorf("something was written: %v", users)
	}
}

// In binary, what is inside a push or an update is refused the same way, over
// every protocol; around it a newer client may say more.
func TestUnknownFieldsInBinary(t *testing.T) {
	n := newNode(t)
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 7)
	for protocol, opts := range protocols {
		device, shop := n.device(n.userToken(t, "ann"), opts...), n.backend(n.serviceToken(t, "shop"), opts...)

		p := push(1, put("a", "1"))
		p.Ops[0].GetPut().GetValue().ProtoReflect().SetUnknown(unknown)
		wantField(t, fails(t, connect.CodeInvalidArgument, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d", Push: p}), "push.ops[0].put.value.99")

		u := update("ann", put("a", "1"))
		u.ProtoReflect().SetUnknown(unknown)
		wantField(t, fails(t, connect.CodeInvalidArgument, shop.Update, u), "99")

		many := call(t, shop.UpdateMany, &dalvdbv1.UpdateManyRequest{Updates: []*dalvdbv1.UpdateRequest{u, update("bob/"+protocol, put("a", "1"))}})
		if e := many.GetResults()[0].GetError(); e.GetCode() != "invalid_argument" || !strings.Contains(e.GetMessage(), "99") {
			t.Errorf("%s: got %v", protocol, many)
		}
		accepted(t, many.GetResults()[1].GetVerdict())

		around := &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d"}
		around.ProtoReflect().SetUnknown(unknown)
		if got := call(t, device.Sync, around); len(got.GetChanges()) != 0 {
			t.Errorf("%s: something was written: %v", protocol, got)
		}
	}
}

// wantField checks the path of an invalid field, in the detail and in the text.
func wantField(t testing.TB, ce *connect.Error, field string) {
	t.Helper()
	v := detail[*errdetails.BadRequest](t, ce).GetFieldViolations()
	if len(v) != 1 || v[0].GetField() != field || v[0].GetDescription() == "" || !strings.Contains(ce.Message(), field) {
		t.Errorf("got %v with %v, want field %s", ce, v, field)
	}
}

// A request is read up to its limit, and decompressed no further; nothing of one
// that is larger is carried out.
func TestRequestSize(t *testing.T) {
	n := newNode(t)
	shop := n.serviceToken(t, "shop")
	url := backendURL + dalvdbv1connect.BackendServiceUpdateProcedure
	message := func(size int) []byte {
		u := update("ann", put("a", "1"))
		u.Meta = map[string]string{"pad": ""}
		b, err := proto.Marshal(u)
		must(t, err)
		u.Meta["pad"] = strings.Repeat("x", size-len(b)-4) // two lengths grow by two bytes each
		b, err = proto.Marshal(u)
		must(t, err)
		if len(b) != size {
			t.Fatalf("a message of %d bytes, want %d", len(b), size)
		}
		return b
	}
	for _, tt := range []struct {
		name string
		body []byte
		gzip bool
		want int
	}{
		{"just inside", message(events.RequestBytesMax), false, http.StatusOK}, // refused for its meta: it was read
		{"just outside", message(events.RequestBytesMax + 1), false, http.StatusTooManyRequests},
		{"just inside, compressed", compress(t, message(events.RequestBytesMax)), true, http.StatusOK},
		{"just outside, compressed", compress(t, message(events.RequestBytesMax+1)), true, http.StatusTooManyRequests},
		{"a bomb", compress(t, make([]byte, 16<<20)), true, http.StatusTooManyRequests},
	} {
		for _, h2 := range []bool{false, true} {
			var header []string
			if tt.gzip {
				header = []string{"Content-Encoding", "gzip"}
			}
			status, _, body := post(t, n.network.client(h2), url, shop, "application/proto", tt.body, header...)
			if status != tt.want {
				t.Errorf("%s (h2 %v): %d %s", tt.name, h2, status, body)
			}
			if status != http.StatusOK && (!strings.Contains(string(body), `"resource_exhausted"`) || strings.Contains(string(body), "RetryInfo")) {
				t.Errorf("%s: %s", tt.name, body)
			}
			if tt.name == "a bomb" && strings.Contains(string(body), "message size 1") {
				t.Errorf("it was decompressed to its end: %s", body)
			}
		}
	}
}

// What comes after the limit is not even taken from the network.
func TestEndlessBody(t *testing.T) {
	n := newNode(t)
	for _, contentType := range []string{"application/proto", "application/grpc+proto", "application/connect+proto"} {
		for _, h2 := range []bool{false, true} {
			body := &countingReader{r: endless{}}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, backendURL+dalvdbv1connect.BackendServiceUpdateProcedure, body)
			must(t, err)
			req.Header.Set("Content-Type", contentType)
			req.Header.Set("Authorization", "Bearer "+n.serviceToken(t, "shop"))
			if res, err := n.network.client(h2).Do(req); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				must(t, res.Body.Close())
			}
			if sent := body.n.Load(); sent > 32<<20 {
				t.Errorf("%s (h2 %v): %d bytes were taken", contentType, h2, sent)
			}
		}
	}
}

// endless is bytes without end; as an envelope it announces the largest message.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 0x7f
	}
	if len(p) > 0 {
		p[0] = 0
	}
	return len(p), nil
}

func compress(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	must(t, err)
	must(t, w.Close())
	return out.Bytes()
}

// Small answers are not compressed, large ones are for who takes it.
func TestAnswersAreCompressed(t *testing.T) {
	n := newNode(t)
	shop := n.serviceToken(t, "shop")
	accepted(t, call(t, n.backend(shop).Update, update("ann", put("large", strings.Repeat("x", 10_000)), put("small", "x"))).GetVerdict())
	for key, want := range map[string]string{"large": "gzip", "small": ""} {
		b, err := proto.Marshal(&dalvdbv1.GetRequest{UserId: "ann", Key: key})
		must(t, err)
		_, header, _ := post(t, n.network.client(false), backendURL+dalvdbv1connect.BackendServiceGetProcedure, shop, "application/proto", b, "Accept-Encoding", "gzip")
		if got := header.Get("Content-Encoding"); got != want {
			t.Errorf("%s: encoding %q, want %q", key, got, want)
		}
	}
}

// A request has a name: the client's where it is one, else ours.
func TestRequestID(t *testing.T) {
	n := newNode(t)
	shop := n.serviceToken(t, "shop")
	url := backendURL + dalvdbv1connect.BackendServiceGetDomainsProcedure
	for given, kept := range map[string]bool{"abc-1.2:3_Z": true, "": false, "with space": false, strings.Repeat("a", 65): false, "a\"b": false} {
		_, header, _ := post(t, n.network.client(false), url, shop, "application/json", []byte("{}"), "X-Request-Id", given)
		got := header.Get("X-Request-Id")
		if kept != (got == given && given != "") || got == "" {
			t.Errorf("given %q: got %q", given, got)
		}
	}
}

// FuzzRequest: bytes that claim to be a request never panic, and get an answer
// with a code of the table; what is known of one that passes is what wire says.
func FuzzRequest(f *testing.F) {
	n := newNode(f)
	shop, ann := n.serviceToken(f, "shop"), n.userToken(f, "ann")
	client := n.network.client(false)
	seed := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		must(f, err)
		return b
	}
	f.Add(true, false, seed(update("ann", put("a", "1"))))
	f.Add(false, false, seed(&dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d", Push: push(1, put("a", "1"))}))
	f.Add(true, true, []byte(`{"user_id":"ann","request_id":"r","ops":[{"key":"a","put":{"value":{"text":"dark"}}}]}`))
	f.Add(false, true, []byte(`{"user_id":"ann","device_id":"d","push":{"seq":"1","id":"AAAAAAAAAAAAAAAAAAAAAQ==","ops":[{"key":"a"}]},"wait_seconds":0}`))
	f.Fuzz(func(t *testing.T, update, text bool, body []byte) {
		url, token := deviceURL+dalvdbv1connect.ReplicaServiceSyncProcedure, ann
		if update {
			url, token = backendURL+dalvdbv1connect.BackendServiceUpdateProcedure, shop
		}
		contentType := "application/proto"
		if text {
			contentType = "application/json"
		}
		// A held Sync would make the fuzzer wait.
		var m dalvdbv1.SyncRequest
		if !update && (proto.Unmarshal(body, &m) != nil || m.GetWaitSeconds() != 0) && (!text || bytes.Contains(body, []byte("wait"))) {
			return
		}
		status, _, out := post(t, client, url, token, contentType, body)
		switch status {
		case http.StatusOK:
			var u dalvdbv1.UpdateRequest
			if update && !text && proto.Unmarshal(body, &u) == nil && wire.CheckKnown(&u, "") != nil {
				t.Errorf("an update with a field that is not known passed: %s", out)
			}
		case http.StatusBadRequest, http.StatusForbidden: // invalid_argument, failed_precondition, permission_denied
		default:
			t.Errorf("%d %s", status, out)
		}
	})
}
