package pubsub_test

import (
	"context"
	"encoding/binary"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"go.opentelemetry.io/otel/trace/noop"
)

// The trace goes from the caller of Publish through the brokers to the handler, a
// nacked message gets a span for each time, and a forwarded one goes on in it.
func TestTrace(t *testing.T) {
	spans := new(recorder)
	k := newKafka(t)
	k.Tracer = spans
	topic, next := k.topic(t, 1), k.topic(t, 1)
	ctx, root := spans.Tracer("").Start(context.Background(), "caller")
	p, s := k.publisher(t), k.subscriber(t, inGroup(unique("trace")))
	must(t, p.Publish(topic, message.NewMessageWithContext(ctx, "a", nil)))
	root.End()

	messages := subscribe(t, s, topic)
	receive(t, messages).Nack()
	m := receive(t, messages)
	forwarded := m.Copy()
	forwarded.SetContext(m.Context())
	must(t, p.Publish(next, forwarded))
	m.Ack()
	forwarded = receive(t, subscribe(t, s, next))
	if got := trace.SpanContextFromContext(forwarded.Context()).TraceID(); got != root.SpanContext().TraceID() {
		t.Errorf("the handler is in trace %v, the caller in %v", got, root.SpanContext().TraceID())
	}
	forwarded.Ack()
	must(t, s.Close())

	want := []string{
		"caller",
		"send " + topic + " < caller",
		"process " + topic + " < send " + topic + " (nacked)",
		"process " + topic + " < send " + topic,
		"send " + next + " < process " + topic,
		"process " + next + " < send " + next,
	}
	if diff := cmp.Diff(want, spans.story()); diff != "" {
		t.Error(diff)
	}
	if got := spans.all[2].attributes["messaging.destination.partition.id"]; got != "0" {
		t.Errorf("the handler's span is of partition %q", got)
	}
}

// Without a tracer the trace still passes through.
func TestTracePassesThrough(t *testing.T) {
	k := newKafka(t)
	topic := k.topic(t, 1)
	ctx, root := new(recorder).Tracer("").Start(context.Background(), "caller")
	must(t, k.publisher(t).Publish(topic, message.NewMessageWithContext(ctx, "a", nil)))
	m := receive(t, subscribe(t, k.subscriber(t), topic))
	if got := trace.SpanContextFromContext(m.Context()).SpanID(); got != root.SpanContext().SpanID() {
		t.Errorf("the handler is below %v, the caller is %v", got, root.SpanContext().SpanID())
	}
}

// recorder is a TracerProvider that keeps its spans, in the order of their start.
type recorder struct {
	embedded.TracerProvider

	ending func(*span) // called before a span ends; nil: nothing is

	mu  sync.Mutex
	all []*span
}

type span struct {
	noop.Span
	of         *recorder
	name       string
	parent     trace.SpanID
	context    trace.SpanContext
	attributes map[attribute.Key]string
	failed     string
	ended      bool
}

var _ trace.Tracer = tracer{}

type tracer struct {
	embedded.Tracer
	r *recorder
}

func (r *recorder) Tracer(string, ...trace.TracerOption) trace.Tracer { return tracer{r: r} }

func (t tracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	above := trace.SpanContextFromContext(ctx)
	cfg := trace.SpanContextConfig{TraceID: above.TraceID(), TraceFlags: trace.FlagsSampled}
	binary.BigEndian.PutUint64(cfg.SpanID[:], uint64(len(t.r.all)+1))
	if !above.IsValid() {
		cfg.TraceID[0] = 1
	}
	s := &span{of: t.r, name: name, parent: above.SpanID(), context: trace.NewSpanContext(cfg), attributes: map[attribute.Key]string{}}
	start := trace.NewSpanStartConfig(opts...)
	for _, a := range start.Attributes() {
		s.attributes[a.Key] = a.Value.String()
	}
	t.r.all = append(t.r.all, s)
	return trace.ContextWithSpan(ctx, s), s
}

func (s *span) SpanContext() trace.SpanContext { return s.context }

func (s *span) SetStatus(_ codes.Code, description string) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.failed = description
}

func (s *span) End(...trace.SpanEndOption) {
	if s.of.ending != nil {
		s.of.ending(s)
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.ended = true
}

// story tells each span with the one above it and what went wrong.
func (r *recorder) story() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := map[trace.SpanID]string{}
	var lines []string
	for _, s := range r.all {
		names[s.context.SpanID()] = s.name
		line := s.name
		if above, ok := names[s.parent]; ok {
			line += " < " + above
		}
		if s.failed != "" {
			line += " (" + s.failed + ")"
		}
		if !s.ended {
			line += " never ends"
		}
		lines = append(lines, line)
	}
	return lines
}

var _ trace.TracerProvider = (*recorder)(nil)
