package main

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kotel"
	"github.com/twmb/franz-go/plugin/kprom"
	"go.opentelemetry.io/otel/propagation"
)

// kafkaMetrics returns metrics of one client that speaks to Kafka, under its name.
func (n *node) kafkaMetrics(client string) kgo.Hook {
	return kprom.NewMetrics("dalvdb_kafka",
		kprom.Registerer(n.registry), kprom.Gatherer(n.registry),
		kprom.WithStaticLabel(prometheus.Labels{"client": client}),
		kprom.Histograms(kprom.RequestDurationE2E, kprom.RequestThrottled),
	)
}

// kafkaHooks returns who hears what one client of the log does: metrics under its
// name, and spans of what it writes.
func (n *node) kafkaHooks(client string) []kgo.Hook {
	hooks := []kgo.Hook{n.kafkaMetrics(client)}
	if tracer := n.tracer(); tracer != nil {
		hooks = append(hooks, writeSpans{kotel.NewTracer(
			kotel.TracerProvider(tracer),
			// Into no header: what is in the log is read once by all, and not by who
			// goes on with the trace, and a record of full size has no room left.
			kotel.TracerPropagator(propagation.NewCompositeTextMapPropagator()),
			kotel.KeyFormatter(func(*kgo.Record) (string, error) { return "", errPrivate }),
		)})
	}
	return hooks
}

// errPrivate keeps the key of a record, which is a user, out of its span.
var errPrivate = errors.New("not told")

// writeSpans makes spans of records that are written. Those that are read are read
// by the fold, which is nobody's request.
type writeSpans struct{ tracer *kotel.Tracer }

var (
	_ kgo.HookProduceRecordBuffered   = writeSpans{}
	_ kgo.HookProduceRecordUnbuffered = writeSpans{}
)

// OnProduceRecordBuffered implements kgo.HookProduceRecordBuffered.
func (s writeSpans) OnProduceRecordBuffered(r *kgo.Record) { s.tracer.OnProduceRecordBuffered(r) }

// OnProduceRecordUnbuffered implements kgo.HookProduceRecordUnbuffered.
func (s writeSpans) OnProduceRecordUnbuffered(r *kgo.Record, err error) {
	s.tracer.OnProduceRecordUnbuffered(r, err)
}
