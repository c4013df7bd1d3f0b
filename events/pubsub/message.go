package pubsub

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// UUIDHeader is the header that holds a message's UUID. Watermill's Kafka
	// Pub/Sub on another client uses the same, so the two can share a topic.
	UUIDHeader = "_watermill_message_uuid"

	// cloudEventID is the header of the id in CloudEvents' binding to Kafka. It is
	// the UUID of a record without UUIDHeader: an event that comes twice comes under
	// one name.
	cloudEventID = "ce_id"

	// KeyMetadata is where KeyFromMetadata looks.
	KeyMetadata = "partition_key"
)

// KeyFromMetadata is the default PublisherConfig.Key: the metadata partition_key,
// and no key without it.
func KeyFromMetadata(_ string, m *message.Message) ([]byte, error) {
	if key, ok := m.Metadata[KeyMetadata]; ok {
		return []byte(key), nil
	}
	return nil, nil
}

// Place is where a message was read.
type Place struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte    // of the record; nil: it has none
	Time      time.Time // of the record

	// TopicID is the id of the topic that the record was fetched from, and not of
	// another one that has had its name before or has it by now: with it a place
	// stays one for ever. Zero where the brokers do not tell it, before Kafka 3.1.
	TopicID [16]byte
}

type placeKey struct{}

// PlaceOf returns the place of the message with this context. It is found only in
// the contexts of what a Subscriber handed out.
func PlaceOf(ctx context.Context) (Place, bool) {
	place, ok := ctx.Value(placeKey{}).(Place)
	return place, ok
}

func withPlace(ctx context.Context, topicID [16]byte, r *kgo.Record) context.Context {
	return context.WithValue(ctx, placeKey{}, Place{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Time: r.Timestamp, TopicID: topicID,
	})
}

var errReserved = errors.New("metadata " + UUIDHeader + " is reserved for the UUID")

// recordOf returns the record of a message. headers are the metadata, and what
// the propagator wrote beside them.
func recordOf(topic string, key []byte, m *message.Message, headers map[string]string) *kgo.Record {
	r := &kgo.Record{Topic: topic, Key: key, Value: m.Payload}
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: UUIDHeader, Value: []byte(m.UUID)})
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(headers[name])})
	}
	return r
}

// messageOf returns the message in a record. A header that comes twice counts
// with its last value, for metadata hold one.
func messageOf(r *kgo.Record) *message.Message {
	m := message.NewMessage("", r.Value)
	for _, h := range r.Headers {
		if h.Key == UUIDHeader {
			m.UUID = string(h.Value)
			continue
		}
		m.Metadata[h.Key] = string(h.Value)
	}
	return m
}
