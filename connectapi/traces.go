package connectapi

import (
	"connectrpc.com/connect"
	"connectrpc.com/otelconnect"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// newTraces returns what makes a span of each call to a port, nil if nobody takes
// them. A backend's span is below the one that it sent along. A device has a trace
// of its own, with a link to what it sent: were it believed, anybody could have all
// of its calls recorded, and write into the traces of others.
func newTraces(provider trace.TracerProvider, p port) (connect.Interceptor, error) {
	if provider == nil {
		return nil, nil
	}
	opts := []otelconnect.Option{
		otelconnect.WithTracerProvider(provider),
		otelconnect.WithPropagator(propagation.TraceContext{}),
		otelconnect.WithoutMetrics(), // those are ours
	}
	if p == backendPort {
		opts = append(opts, otelconnect.WithTrustRemote())
	}
	return otelconnect.NewInterceptor(opts...)
}
