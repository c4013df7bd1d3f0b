package main

import (
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/connectapi/auth"
)

// spans is what a collector was sent.
type spans struct {
	mu      sync.Mutex
	all     []*tracepb.Span
	service string
	raw     strings.Builder
}

// collectSpans returns a collector, and its URL.
func collectSpans(t *testing.T) (*spans, string) {
	t.Helper()
	s := new(spans)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		request := new(collector.ExportTraceServiceRequest)
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, request) != nil {
			http.Error(w, "not what a collector takes", http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.raw.Write(body)
		for _, of := range request.GetResourceSpans() {
			for _, a := range of.GetResource().GetAttributes() {
				if a.GetKey() == "service.name" {
					s.service = a.GetValue().GetStringValue()
				}
			}
			for _, scope := range of.GetScopeSpans() {
				s.all = append(s.all, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(server.Close)
	return s, server.URL
}

func (s *spans) named(name string) []*tracepb.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*tracepb.Span
	for _, span := range s.all {
		if span.GetName() == name {
			found = append(found, span)
		}
	}
	return found
}

// A trace that somebody else has begun.
const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	traceParent = "00-" + traceID + "-b7ad6b7169203331-01"
)

// Calls have spans: a backend's goes on with the trace that the backend sent along,
// and a device's only names it. Nothing in them says who the user is.
func TestTraces(t *testing.T) {
	got, url := collectSpans(t)
	s := temporarySettings(filepath.Join(t.TempDir(), "data"))
	s.traces = url
	n := newTestNode(t, s)
	keys, err := readSigningKeys(s.data)
	if err != nil {
		t.Fatal(err)
	}
	expires := time.Now().Add(time.Hour)
	traced(t, n.backendURL+"/dalvdb.v1.BackendService/Get", `{"userId": "a-user-of-note", "keys": ["k"]}`, keys,
		auth.Identity{Role: auth.Backend, Service: "shop", Expires: expires})
	traced(t, n.deviceURL+"/dalvdb.v1.ReplicaService/Sync", `{"deviceId": "d"}`, keys,
		auth.Identity{Role: auth.Device, User: "a-user-of-note", Expires: expires})
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	calls := got.named("dalvdb.v1.BackendService/Get")
	if len(calls) != 1 || hex.EncodeToString(calls[0].GetTraceId()) != traceID {
		t.Errorf("spans of the backend's call: %v", calls)
	}
	syncs := got.named("dalvdb.v1.ReplicaService/Sync")
	if len(syncs) != 1 || hex.EncodeToString(syncs[0].GetTraceId()) == traceID ||
		len(syncs[0].GetLinks()) != 1 || hex.EncodeToString(syncs[0].GetLinks()[0].GetTraceId()) != traceID {
		t.Errorf("spans of the device's call: %v", syncs)
	}
	if got.service != "dalvdb" {
		t.Errorf("the service is %q", got.service)
	}
	if strings.Contains(got.raw.String(), "a-user-of-note") {
		t.Error("a user is named")
	}
}

// traced makes a call that belongs to the trace. It is not looked at what is answered.
func traced(t *testing.T, url, body string, keys auth.Keys, who auth.Identity) {
	t.Helper()
	token, err := keys.Sign(who, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	call, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	call.Header.Set("Content-Type", "application/json")
	call.Header.Set("Authorization", "Bearer "+token)
	call.Header.Set("Traceparent", traceParent)
	web := benchHTTP(1)
	defer web.CloseIdleConnections()
	answer, err := web.Do(call)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
}

// What is written to Kafka has a span below that of who wrote it, without the
// user, and the client has metrics.
func TestKafkaIsWatched(t *testing.T) {
	got, url := collectSpans(t)
	s := temporarySettings(filepath.Join(t.TempDir(), "data"))
	s.traces = url
	n := newNode(s, slog.New(slog.DiscardHandler))
	if err := n.openTraces(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(fakeKafka(t, kfake.SeedTopics(1, "dalvdb.events")), ",")...),
		kgo.WithHooks(n.kafkaHooks("writer")...))
	if err != nil {
		t.Fatal(err)
	}
	id, err := trace.TraceIDFromHex(traceID)
	if err != nil {
		t.Fatal(err)
	}
	ctx := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: id, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled,
	}))
	record := &kgo.Record{Topic: "dalvdb.events", Key: []byte("a-user-of-note"), Value: []byte("v")}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if len(record.Headers) > 0 {
		t.Errorf("the record has headers: %v", record.Headers)
	}
	metrics, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range metrics {
		names = append(names, m.GetName())
		if m.GetName() == "dalvdb_kafka_connects_total" && !strings.Contains(m.String(), `"writer"`) {
			t.Errorf("no client is named: %v", m)
		}
	}
	if !strings.Contains(strings.Join(names, " "), "dalvdb_kafka_connects_total") {
		t.Errorf("metrics: %v", names)
	}
	client.Close()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	written := got.named("dalvdb.events publish")
	if len(written) != 1 || hex.EncodeToString(written[0].GetTraceId()) != traceID {
		t.Errorf("spans of the write: %v", written)
	}
	if strings.Contains(got.raw.String(), "a-user-of-note") {
		t.Error("a user is named")
	}
}

// A collector that is not there holds up nothing, and is told of once.
func TestNoCollector(t *testing.T) {
	s := temporarySettings(filepath.Join(t.TempDir(), "data"))
	s.traces = "http://127.0.0.1:1"
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
	var said strings.Builder
	n := newNode(s, slog.New(slog.NewTextHandler(&said, nil)))
	if err := n.openTraces(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, span := n.tracer().Tracer("test").Start(t.Context(), "span")
		span.End()
		_ = n.traces.ForceFlush(t.Context()) // what was to be sent is dropped
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if strings.Count(said.String(), "traces cannot be sent") != 1 {
		t.Errorf("it says: %s", said.String())
	}
}
