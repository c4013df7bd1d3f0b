package main

import (
	"context"
	"fmt"
	"net/url"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// tracesPath is where an endpoint that names no path takes traces (OTLP/HTTP).
const tracesPath = "/v1/traces"

// openTraces sends spans to --traces-endpoint, if there is one. Nobody waits for
// that: what cannot be sent is dropped, and logged. How many traces are recorded,
// what the service is called and what is sent along with them is said by the
// variables that OpenTelemetry names: OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME,
// OTEL_EXPORTER_OTLP_HEADERS and their like.
func (n *node) openTraces(ctx context.Context) error {
	if n.settings.traces == "" {
		return nil
	}
	endpoint, err := url.Parse(n.settings.traces)
	if err != nil {
		return usageError("--traces-endpoint: %w", err)
	}
	if endpoint.Path == "" || endpoint.Path == "/" {
		endpoint.Path = tracesPath
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint.String()))
	if err != nil {
		return fmt.Errorf("--traces-endpoint: %w", err)
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "dalvdb"), attribute.String("service.version", readBuildInfo().Version),
	), resource.WithFromEnv()) // the last one wins
	if err != nil {
		return fmt.Errorf("resource of traces: %w", err)
	}
	n.traces = sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(loggedExporter{exporter, n.logger, new(atomic.Bool)}))
	return nil
}

// tracer returns what spans are made with, nil when nobody takes them.
func (n *node) tracer() trace.TracerProvider {
	if n.traces == nil {
		return nil
	}
	return n.traces
}

// closeTraces sends what has been recorded.
func (n *node) closeTraces(ctx context.Context) error {
	if n.traces == nil {
		return nil
	}
	return n.traces.Shutdown(ctx)
}
