package pubsub

import (
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// tracing makes spans, named as OpenTelemetry's conventions for messaging ask, and
// carries them in headers.
type tracing struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	group      string
}

func newTracing(k Kafka, group string) tracing {
	t := tracing{propagator: k.Propagator, group: group}
	if t.propagator == nil {
		t.propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	}
	provider := k.Tracer
	if provider == nil {
		provider = noop.NewTracerProvider()
	}
	t.tracer = provider.Tracer("github.com/dalvdb/dalvdb/events/pubsub")
	return t
}

// publish begins the span of a message that is sent, and writes it into the
// headers, over what stands there of an earlier hop.
func (t tracing) publish(ctx context.Context, topic, uuid string, headers map[string]string) trace.Span {
	ctx, span := t.tracer.Start(ctx, "send "+topic, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.system", "kafka"),
		attribute.String("messaging.destination.name", topic),
		attribute.String("messaging.message.id", uuid),
	))
	t.propagator.Inject(ctx, propagation.MapCarrier(headers))
	return span
}

// handle begins the span of a message that is handed out, below the one in its
// headers.
func (t tracing) handle(ctx context.Context, r *kgo.Record, uuid string, headers map[string]string) (context.Context, trace.Span) {
	ctx = t.propagator.Extract(ctx, propagation.MapCarrier(headers))
	attributes := []attribute.KeyValue{
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.system", "kafka"),
		attribute.String("messaging.destination.name", r.Topic),
		attribute.String("messaging.message.id", uuid),
	}
	attributes = append(attributes, placeAttributes(r)...)
	if t.group != "" {
		attributes = append(attributes, attribute.String("messaging.consumer.group.name", t.group))
	}
	return t.tracer.Start(ctx, "process "+r.Topic, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attributes...))
}

func placeAttributes(r *kgo.Record) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.destination.partition.id", strconv.Itoa(int(r.Partition))),
		attribute.Int64("messaging.kafka.offset", r.Offset),
	}
}

// end ends a span, with what went wrong if anything did.
func end(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
