package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/projector/feed"
)

// What --feed says of the topic of the changes.
const (
	feedProtobuf = "protobuf"
	feedJSON     = "json"
	feedOff      = "off"
)

func (n *node) feedConfig() (feed.Config, error) {
	k := &n.settings.kafka
	client, err := k.client()
	format := n.feedFormat()
	return feed.Config{
		Source: n.state, Partitions: n.log.Partitions(), Brokers: k.brokers, Prefix: k.prefix,
		Client:   append(client, kgo.WithHooks(n.kafkaMetrics("feed"))),
		Encode:   func(e *events.ChangeEvent) (*kgo.Record, error) { return changeRecord(e, format) },
		Position: changePosition, Logger: n.logger,
	}, err
}

func (n *node) feedFormat() wire.Format {
	if n.settings.feed == feedJSON {
		return wire.FormatJSON
	}
	return wire.FormatProtobuf
}

// startFeed writes what is accepted to the topic of the changes until stop ends it:
// not until ctx is done, because what requests that are drained have written is fed.
func (n *node) startFeed(ctx context.Context) error {
	if n.settings.log != kafkaLog || n.settings.feed == feedOff {
		return nil
	}
	cfg, err := n.feedConfig()
	if err != nil {
		return err
	}
	if n.feed, err = feed.New(cfg); err != nil {
		return err
	}
	ctx, n.endFeed = context.WithCancel(context.WithoutCancel(ctx))
	n.feeding.Go(func() { n.feed.Run(ctx) })
	return nil
}

// stopFeed ends the feed once it has all that was folded, or when that takes too
// long: the next start goes on where it was.
func (n *node) stopFeed(ctx context.Context) error {
	if n.feed == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, feedDrainMax)
	defer cancel()
	if err := n.feed.Drain(ctx); err != nil {
		n.logger.Warn("the changes are not fed to the end", "err", err)
	}
	n.endFeed()
	n.feeding.Wait()
	return nil
}

// feedDrainMax is how long a node that stops waits for its feed.
const feedDrainMax = 5 * time.Second

// changeRecord makes the record of an accepted event.
func changeRecord(e *events.ChangeEvent, format wire.Format) (*kgo.Record, error) {
	m, err := wire.EncodeMessage(e, format)
	if err != nil {
		return nil, err
	}
	return kafkaRecord(m), nil
}

// kafkaRecord makes the record of a message.
func kafkaRecord(m *wire.Message) *kgo.Record {
	r := &kgo.Record{Key: []byte(m.User), Value: m.Payload, Headers: make([]kgo.RecordHeader, len(m.Headers))}
	for i, h := range m.Headers {
		r.Headers[i] = kgo.RecordHeader{Key: h.Name, Value: []byte(h.Value)}
	}
	return r
}

// changePosition reads the position of an event from the headers of its record.
func changePosition(r *kgo.Record) (events.Position, error) {
	text := fmt.Sprintf("%s/%s/%s",
		headerOf(r, wire.HeaderLog), headerOf(r, wire.HeaderPartition), headerOf(r, wire.HeaderOffset))
	pos, err := events.ParsePosition(text)
	if err != nil {
		return pos, fmt.Errorf("headers %s, %s and %s: %w", wire.HeaderLog, wire.HeaderPartition, wire.HeaderOffset, err)
	}
	return pos, nil
}

// headerOf returns a header of a record, and "" if it has none of that name.
func headerOf(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
