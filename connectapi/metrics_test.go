package connectapi_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dalvdb/dalvdb/connectapi"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
)

// procedures lists those of a schema file.
func procedures(f protoreflect.FileDescriptor) (names []string) {
	for i := range f.Services().Len() {
		methods := f.Services().Get(i).Methods()
		for j := range methods.Len() {
			names = append(names, string(methods.Get(j).Name()))
		}
	}
	return names
}

// counter returns the sum of the counters or gauges of a name with these labels, 0 when
// there is none.
func counter(t testing.TB, reg *prometheus.Registry, name string, labels map[string]string) float64 {
	t.Helper()
	families, err := reg.Gather()
	must(t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want != l.GetValue() {
					continue metrics
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// Requests are counted by procedure and code, and no label names a user.
func TestMetrics(t *testing.T) {
	n := newNode(t)
	const user = "a-user-of-note"
	device := n.device(n.userToken(t, user))
	call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: user, DeviceId: "phone-of-note", Push: push(1, put("key-of-note", "1"))})
	_ = unary(device.Sync, t.Context(), &dalvdbv1.SyncRequest{UserId: user})
	shop := n.backend(n.serviceToken(t, "shop"))
	_ = unary(shop.Get, t.Context(), &dalvdbv1.GetRequest{UserId: user, Key: "key-of-note-2"})
	status, _ := get(t, n, backendURL+"/dalvdb.v1.BackendService/Nothing", n.serviceToken(t, "shop"))
	if status != http.StatusNotFound {
		t.Errorf("status %d", status)
	}

	_, text := get(t, n, backendURL+"/metrics", "")
	for _, want := range []string{
		`dalvdb_rpc_requests_total{code="ok",procedure="ReplicaService/Sync"} 1`,
		`dalvdb_rpc_requests_total{code="invalid_argument",procedure="ReplicaService/Sync"} 1`,
		`dalvdb_rpc_requests_total{code="not_found",procedure="BackendService/Get"} 1`,
		`dalvdb_rpc_requests_total{code="not_decoded",procedure="other"} 1`,
		`dalvdb_rpc_duration_seconds_count{procedure="ReplicaService/Sync"} 2`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "of-note") {
		t.Errorf("a name of a user, device or key is in\n%s", text)
	}
}

// What is alarmed on is there before it happens for the first time: an alarm on
// the growth of a counter does not see one that appears.
func TestAlarmsAreThereFromTheStart(t *testing.T) {
	n := newNode(t)
	_, text := get(t, n, backendURL+"/metrics", "")
	for _, want := range []string{
		`dalvdb_slow_readers_cut_total{procedure="ReplicaService/Watch"} 0`,
		`dalvdb_slow_readers_cut_total{procedure="BackendService/History"} 0`,
		`dalvdb_slow_readers_cut_total{procedure="backup"} 0`,
		`dalvdb_positions_of_other_history_total{port="device"} 0`,
		`dalvdb_positions_of_other_history_total{port="backend"} 0`,
		`dalvdb_auth_failures_total{port="device",reason="signature"} 0`,
		`dalvdb_auth_failures_total{port="backend",reason="keys_missing"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

// get returns what a GET gets.
func get(t testing.TB, n *node, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := n.network.client(false).Do(req)
	must(t, err)
	body, err := io.ReadAll(res.Body)
	must(t, err)
	must(t, res.Body.Close())
	return res.StatusCode, string(body)
}

// A position of another history is counted, so that it can be alarmed on.
func TestLostPositionsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	n := newNode(t, func(c *connectapi.Config) { c.Registry = reg })
	other := &dalvdbv1.Position{LogId: "00112233445566778899aabbccddeeff", Offset: 1}
	device, shop := n.device(n.userToken(t, "ann")), n.backend(n.serviceToken(t, "shop"))
	call(t, device.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone", Position: other})
	must(t, first(device.Watch, t.Context(), &dalvdbv1.ReplicaServiceWatchRequest{UserId: "ann", DeviceId: "phone", Position: other}))
	_ = unary(shop.Get, t.Context(), &dalvdbv1.GetRequest{UserId: "ann", Key: "a", Read: &dalvdbv1.Read{Mode: &dalvdbv1.Read_AtLeast{AtLeast: other}}})
	_ = first(shop.Watch, t.Context(), &dalvdbv1.BackendServiceWatchRequest{Positions: []*dalvdbv1.Position{other}})
	for _, port := range []string{"device", "backend"} {
		if got := counter(t, reg, "dalvdb_positions_of_other_history_total", map[string]string{"port": port}); got != 2 {
			t.Errorf("%s: %v counted, want 2", port, got)
		}
	}
}
