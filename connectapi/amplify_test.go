package connectapi_test

import (
	"net/http"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/events"
)

// A request costs memory by its size, not by what two bytes of it can be made
// into: one that compresses a million empty ops is refused before they are
// decoded.
func TestAmplification(t *testing.T) {
	n := newNode(t)
	device, shop := n.userToken(t, "ann"), n.serviceToken(t, "shop")
	syncURL := deviceURL + dalvdbv1connect.ReplicaServiceSyncProcedure
	manyURL := backendURL + dalvdbv1connect.BackendServiceUpdateManyProcedure
	empty := func(field byte) []byte { return []byte(strings.Repeat(string([]byte{field<<3 | 2, 0}), (2<<20-200)/2)) }
	pushed := func(user string) []byte {
		p, err := proto.Marshal(push(1))
		must(t, err)
		m, err := proto.Marshal(&dalvdbv1.SyncRequest{UserId: user, DeviceId: "d"})
		must(t, err)
		return protowire.AppendBytes(protowire.AppendTag(m, 4, protowire.BytesType), append(p, empty(6)...))
	}
	inJSON := `{"user_id":"ann","device_id":"d","push":{"seq":1,"ops":[{}` + strings.Repeat(",{}", 600_000) + `]}}`
	for _, tt := range []struct {
		name, url, token, contentType string
		body                          []byte
		want                          string
	}{
		{"ops", syncURL, device, "application/proto", pushed("ann"), "push.ops"},
		{"ops of another user", syncURL, device, "application/proto", pushed("bob"), "push.ops"},
		{"updates", manyURL, shop, "application/proto", empty(1), "updates"},
		{"ops in JSON", syncURL, device, "application/json", []byte(inJSON), "more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const memoryMax = 24 << 20 // the request, as it came and decompressed, in buffers that grow; both ends
			body := compress(t, tt.body)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			status, _, out := post(t, n.network.client(true), tt.url, tt.token, tt.contentType, body, "Content-Encoding", "gzip")
			runtime.ReadMemStats(&after)
			if status != http.StatusBadRequest || !strings.Contains(string(out), `"invalid_argument"`) || !strings.Contains(string(out), tt.want) {
				t.Errorf("%d %s, want %s", status, out, tt.want)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > memoryMax {
				t.Errorf("%d bytes became %d in memory", len(body), took)
			}
		})
	}
}

// A push with too many ops is told so by a verdict, also when it has several
// times as many.
func TestTooManyOpsIsAVerdict(t *testing.T) {
	n := newNode(t)
	p := push(1)
	for range 5 * events.OpsMax {
		p.Ops = append(p.Ops, put("some key", "some value"))
	}
	v := call(t, n.device(n.userToken(t, "ann")).Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d", Push: p}).GetVerdict()
	if f := v.GetViolations(); v.GetOutcome() != dalvdbv1.Outcome_OUTCOME_REFUSED || len(f) != 1 || f[0].GetReason() != dalvdbv1.Reason_REASON_TOO_MANY {
		t.Errorf("got %v", v)
	}
}
