package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
)

// kafkaOpenTimeout is how long the brokers may take until a log can be read.
const kafkaOpenTimeout = time.Minute

var errKafkaSilent = errors.New("no broker answers, or they take too long")

// readLog opens the log in Kafka to be read, and only as far as it has come now.
func (k *kafkaSettings) readLog(ctx context.Context, logger *slog.Logger) (events.Log, error) {
	log, err := k.openLog(ctx, func(o *kafkalog.Options) { o.ReadOnly, o.Logger = true, logger })
	if err != nil {
		return nil, err
	}
	fixed := &endedLog{Log: log}
	for p := range events.Partition(log.Partitions()) {
		tail, err := log.Tail(ctx, p)
		if err != nil {
			return nil, errors.Join(err, log.Close())
		}
		fixed.tails = append(fixed.tails, tail)
	}
	return fixed, nil
}

// openLog opens the log in Kafka for a verb, which does not wait for brokers for ever.
func (k *kafkaSettings) openLog(ctx context.Context, change func(*kafkalog.Options)) (*kafkalog.Log, error) {
	client, err := k.client()
	if err != nil {
		return nil, err
	}
	opts := kafkalog.Options{Brokers: k.brokers, Prefix: k.prefix, Client: client}
	change(&opts)
	waiting, cancel := context.WithTimeoutCause(ctx, kafkaOpenTimeout, errKafkaSilent)
	defer cancel()
	log, err := kafkalog.Open(waiting, opts)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", context.Cause(waiting), err)
	}
	return log, err
}

// endedLog is a log that others go on with, as far as it had come when it was opened.
type endedLog struct {
	events.Log
	tails []events.Offset
}

// Tail returns where the partition ended.
func (l *endedLog) Tail(_ context.Context, p events.Partition) (events.Offset, error) {
	return l.tails[p], nil
}
