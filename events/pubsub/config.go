package pubsub

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kslog"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const (
	deliveryTimeoutDefault = 30 * time.Second
	nackPauseDefault       = 100 * time.Millisecond
	commitIntervalDefault  = time.Second
	commitIntervalMin      = 100 * time.Millisecond // franz-go's

	// metadataAgeMin is how soon a client looks for a topic, a leader or a
	// coordinator again that it did not find.
	metadataAgeMin = 250 * time.Millisecond
)

// Kafka says how brokers are reached, and who hears of it.
type Kafka struct {
	// Brokers are addresses, host:port, of some brokers; the others are found
	// through them. Required.
	Brokers []string

	// Client is added to the options of every franz-go client that is made: TLS,
	// SASL, client id, sizes. Those that this package sets itself stand before, so
	// that these win; who changes acks, the group or its callbacks so loses what
	// the package promises.
	Client []kgo.Opt

	// Logger hears of what goes on without being anybody's error, such as a
	// commit that failed and is repeated. Nil discards it.
	Logger *slog.Logger

	// Tracer gets a span for each message published, and for each message
	// handled, from handing it out to its ack. Nil makes no spans, but the trace
	// of a published message still reaches who handles it.
	Tracer trace.TracerProvider

	// Propagator writes the trace into headers and reads it from them. Nil is
	// W3C Trace Context and Baggage.
	Propagator propagation.TextMapPropagator
}

func (k Kafka) validate() error {
	if len(k.Brokers) == 0 {
		return errors.New("brokers: at least one address is required")
	}
	return nil
}

func (k Kafka) withDefaults() Kafka {
	if k.Logger == nil {
		k.Logger = slog.New(slog.DiscardHandler)
	}
	return k
}

// client makes a franz-go client. It connects when it is first used.
func (k Kafka) client(opts ...kgo.Opt) (*kgo.Client, error) {
	all := append([]kgo.Opt{
		kgo.SeedBrokers(k.Brokers...),
		kgo.MetadataMinAge(metadataAgeMin),
		kgo.WithLogger(clientLogger{kslog.New(k.Logger.With("client", "kafka"))}),
	}, opts...)
	c, err := kgo.NewClient(append(all, k.Client...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return c, nil
}

// clientLogger is the log of a client, which tells each of its steps at the level
// at which an operator is told what there is to know: those go with the details.
type clientLogger struct{ kgo.Logger }

// Level implements kgo.Logger.
func (l clientLogger) Level() kgo.LogLevel {
	if level := l.Logger.Level(); level != kgo.LogLevelInfo {
		return level
	}
	return kgo.LogLevelWarn
}

// PublisherConfig says how a Publisher publishes.
type PublisherConfig struct {
	Kafka

	// Key returns the key of a message's record; messages with one key go to one
	// partition, the one that Kafka's Java clients choose, and so stay in order.
	// A nil key goes anywhere. An error keeps the whole Publish from sending
	// anything. Nil is KeyFromMetadata.
	Key func(topic string, m *message.Message) ([]byte, error)

	// DeliveryTimeout bounds roughly how long a message waits for its
	// acknowledgement, retries included, before Publish gives it up. Zero is 30
	// seconds. A message may be given up although the brokers have it.
	DeliveryTimeout time.Duration
}

// Validate returns all faults of the configuration at once.
func (c PublisherConfig) Validate() error {
	return errors.Join(c.Kafka.validate(), notNegative("delivery timeout", c.DeliveryTimeout))
}

func (c PublisherConfig) withDefaults() PublisherConfig {
	c.Kafka = c.Kafka.withDefaults()
	c.DeliveryTimeout = cmp.Or(c.DeliveryTimeout, deliveryTimeoutDefault)
	if c.Key == nil {
		c.Key = KeyFromMetadata
	}
	return c
}

// Start is where a subscriber begins with a partition of which its group has
// committed nothing; without a group, with every partition.
type Start int

const (
	// Oldest begins with the oldest message that is still there.
	Oldest Start = iota
	// Newest begins with the first message after the moment at which the group
	// first owns the partition. The place is committed then, so that nothing from
	// there on is missed if the partition moves before the first ack.
	Newest
)

// SubscriberConfig says how a Subscriber subscribes.
type SubscriberConfig struct {
	Kafka

	// Group is the consumer group whose members share a topic's partitions. Empty
	// is none: every Subscribe gets all messages of the topic, from Start on, and
	// nothing is committed.
	Group string

	// InstanceID makes each subscription a static member of the group, under the
	// name <InstanceID>-<topic>: one that goes and comes back under the same name
	// within SessionTimeout gets its partitions back at once, and nobody else
	// does meanwhile. It must differ between all Subscribers of a group; a
	// subscription whose name another one takes ends. Letters, digits, dot,
	// underscore, hyphen. Empty is a dynamic member.
	InstanceID string

	// SessionTimeout is how long a member may be silent before its partitions go
	// to others. Zero is 45 seconds, Kafka's default. Brokers bound it.
	SessionTimeout time.Duration

	// Start is where to begin when nothing is committed.
	Start Start

	// NackPause is how long a nacked message waits before it is handed out again;
	// other partitions go on. Zero is 100 milliseconds.
	NackPause time.Duration

	// CommitInterval is how long an ack waits at most to be committed along with
	// others, and so what is handled again after a crash. A rebalance and Close
	// commit at once. Zero is one second; less than 100 milliseconds is refused,
	// for brokers keep every commit as a record.
	CommitInterval time.Duration

	// CreateTopics, if not nil, lets SubscribeInitialize make a topic that does
	// not exist.
	CreateTopics *TopicConfig
}

// TopicConfig is how a topic is made.
type TopicConfig struct {
	Partitions        int32              // 0: as the brokers are set
	ReplicationFactor int16              // 0: as the brokers are set
	Settings          map[string]*string // settings of the topic, such as retention.ms
}

// Validate returns all faults of the configuration at once.
func (c SubscriberConfig) Validate() error {
	errs := []error{
		c.Kafka.validate(),
		notNegative("session timeout", c.SessionTimeout),
		notNegative("nack pause", c.NackPause),
	}
	if c.CommitInterval != 0 && c.CommitInterval < commitIntervalMin {
		errs = append(errs, fmt.Errorf("commit interval: %v is less than %v", c.CommitInterval, commitIntervalMin))
	}
	if c.Start != Oldest && c.Start != Newest {
		errs = append(errs, fmt.Errorf("start: no such place: %d", c.Start))
	}
	if c.InstanceID != "" && c.Group == "" {
		errs = append(errs, errors.New("instance id: only a member of a group has one"))
	}
	if t := c.CreateTopics; t != nil && (t.Partitions < 0 || t.ReplicationFactor < 0) {
		errs = append(errs, errors.New("create topics: partitions and replication factor must not be negative"))
	}
	return errors.Join(errs...)
}

func (c SubscriberConfig) withDefaults() SubscriberConfig {
	c.Kafka = c.Kafka.withDefaults()
	c.NackPause = cmp.Or(c.NackPause, nackPauseDefault)
	c.CommitInterval = cmp.Or(c.CommitInterval, commitIntervalDefault)
	return c
}

func notNegative(name string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s: must not be negative: %v", name, d)
	}
	return nil
}
