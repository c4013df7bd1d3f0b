package main

import (
	"context"
	"log/slog"
	"sync/atomic"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// loggedExporter logs that spans cannot be sent, and that they can again, where the
// SDK would write each failure to standard error.
type loggedExporter struct {
	sdktrace.SpanExporter
	logger  *slog.Logger
	failing *atomic.Bool
}

// ExportSpans implements sdktrace.SpanExporter. It is nobody's error any more.
func (e loggedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch was := e.failing.Swap(err != nil); {
	case err != nil && !was:
		e.logger.Warn("traces cannot be sent, and are dropped", "err", err)
	case err == nil && was:
		e.logger.Info("traces are sent again")
	}
	return nil
}
