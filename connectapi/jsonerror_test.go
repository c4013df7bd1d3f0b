package connectapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
)

// wrongField returns the field that an error in JSON names in its detail.
func wrongField(body []byte) string {
	var e struct {
		Details []struct {
			Debug struct {
				FieldViolations []struct{ Field string }
			}
		}
	}
	if json.Unmarshal(body, &e) != nil || len(e.Details) != 1 || len(e.Details[0].Debug.FieldViolations) != 1 {
		return ""
	}
	return e.Details[0].Debug.FieldViolations[0].Field
}

// An error in JSON says in its detail where it is, in the client's own names.
func TestJSONErrorsHaveAPath(t *testing.T) {
	n := newNode(t)
	token := n.serviceToken(t, "shop")
	deep := strings.Repeat(`{"ops":[`, 100)
	for body, want := range map[string]string{
		`{"guarsd":[]}`: "guarsd",
		`{"user_id":"ann","ops":[{"key":"a"},{"key":"b","putt":{}}]}`:                                                  "ops[1].putt",
		"{\n  \"userId\": \"ann\",\n  \"ops\": [\n    {\"key\": \"سلام\", \"put\": {\"value\": {\"txt\": 1}}}\n  ]\n}": "ops[0].put.value.txt",
		`{"guards":[{"key":"a","version":"secret"}]}`:                                                                  "guards[0].version",
		`{"user_id":"ann","user_id":"bob"}`:                                                                            "user_id",
		`{"ops":[{"key":"a","put":{},"delete":{}}]}`:                                                                   "ops[0].delete",
		`{"meta":{"secret":"a","secret":"b"}}`:                                                                         "",
		`{"dry_run":false,"` + strings.Repeat("u", 1000) + `":1}`:                                                      strings.Repeat("u", 60) + "...",
		`{"user_id":secret}`: "",
		`{"x":` + deep:       "x",
	} {
		status, _, out := post(t, n.network.client(false), backendURL+dalvdbv1connect.BackendServiceUpdateProcedure, token, "application/json", []byte(body))
		if got := wrongField(out); status != http.StatusBadRequest || got != want || bytes.Contains(out, []byte("secret")) {
			t.Errorf("%.100s: %d %s: field %q, want %q", body, status, out, got, want)
		}
	}
	// In a stream too.
	const wrong = `{"keys":["a"],"prefxies":[]}`
	_, _, out := post(t, n.network.client(false), backendURL+dalvdbv1connect.BackendServiceWatchProcedure, token, "application/connect+json",
		fmt.Appendf(nil, "\x00\x00\x00\x00%c%s", len(wrong), wrong))
	if !bytes.Contains(out, []byte(`"field":"prefxies"`)) {
		t.Errorf("a stream: %q", out)
	}
}

// A request that breaks a limit while it is decoded names the field in the
// detail, whatever the protocol; and no client can say so itself.
func TestUndecodedRequestsHaveADetail(t *testing.T) {
	n := newNode(t)
	for _, opts := range protocols {
		shop := n.backend(n.serviceToken(t, "shop"), opts...)
		many := &dalvdbv1.UpdateManyRequest{}
		for range 1001 {
			many.Updates = append(many.Updates, update("ann", put(xs(50), "")))
		}
		wantField(t, fails(t, connect.CodeInvalidArgument, shop.UpdateMany, many), "updates")
		watch := &dalvdbv1.BackendServiceWatchRequest{}
		for range 20_000 {
			watch.Keys = append(watch.Keys, "k")
		}
		err := first(shop.Watch, t.Context(), watch)
		wantField(t, wantCode(t, err, connect.CodeInvalidArgument), "keys")
		forged := &dalvdbv1.ListUsersRequest{}
		forged.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 1<<29-1, protowire.BytesType), "forged"))
		call(t, shop.ListUsers, forged)
	}
}
