package commands

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/pubsub"
)

const (
	// sessionTimeout is how long a node may be silent before its partitions go to
	// others. One that comes back under its name gets them at once; one that comes
	// back without its directory, and so under another name, has to wait so long.
	// Brokers take no less than six seconds unless they are told to.
	sessionTimeout = 8 * time.Second

	// rebalanceTimeout is how long a rebalance waits for members of which nothing is
	// heard. Who is there gives up its partitions at once.
	rebalanceTimeout = sessionTimeout

	// heartbeatEvery leaves room for three that get lost.
	heartbeatEvery = 2 * time.Second

	// nackPause is how soon a command comes again whose handler panicked. All other
	// ends of a handler are the ends of its partition's time, too.
	nackPause = 5 * time.Second

	// poisonBytesMax is what a command at its limit takes with what was said of it,
	// and what the poison topic takes.
	poisonBytesMax = 4 << 20

	retryMinDefault = 50 * time.Millisecond
	retryMaxDefault = 5 * time.Second
)

// A Submitter writes events. It is an *ingest.Ingester, and its errors mean what
// they mean there.
type Submitter interface {
	Submit(ctx context.Context, ev *events.Event, dryRun bool) (events.Decision, error)
}

// Config says how a Router works.
type Config struct {
	// Kafka says how brokers are reached, and who hears of what goes on.
	Kafka pubsub.Kafka

	// Prefix is what the names of the topics, and of the group, begin with. Required.
	Prefix string

	// Instance names this node among all that take commands of these topics, and is
	// the same whenever it is started. Required: see pubsub.SubscriberConfig.InstanceID.
	Instance string

	// Submitter is where commands go. Required.
	Submitter Submitter

	// Decode returns the event that a command asks for, without what names it,
	// writer and time. Its error goes into the poison topic. Required.
	Decode func(key []byte, contentType string, payload []byte) (*events.Event, error)

	// Tell returns a verdict on an event that did not take effect in words and for
	// machines. Both go into headers. Required.
	Tell func(ev *events.Event, v events.Verdict) (words string, verdict []byte)

	// OnFault is told why no commands are taken for now. It is called by Run, and
	// again when the reason is another one. Nil logs it.
	OnFault func(error)

	// RetryMin and RetryMax bound the pauses between attempts, which grow from one
	// to the other. Zero is 50 milliseconds and 5 seconds.
	RetryMin, RetryMax time.Duration
}

// Validate returns all faults of the configuration at once.
func (c Config) Validate() error {
	var faults []error
	require := func(missing bool, name string) {
		if missing {
			faults = append(faults, errors.New(name+": required"))
		}
	}
	require(len(c.Kafka.Brokers) == 0, "brokers")
	require(c.Prefix == "", "prefix")
	require(c.Instance == "", "instance")
	require(c.Submitter == nil, "submitter")
	require(c.Decode == nil, "decode")
	require(c.Tell == nil, "tell")
	if c.RetryMin < 0 || c.RetryMax < 0 {
		faults = append(faults, errors.New("retry: must not be negative"))
	}
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	c.RetryMin = cmp.Or(c.RetryMin, retryMinDefault)
	c.RetryMax = max(cmp.Or(c.RetryMax, retryMaxDefault), c.RetryMin)
	if c.Kafka.Logger == nil {
		c.Kafka.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnFault == nil {
		c.OnFault = func(err error) { c.Kafka.Logger.Error("no commands are taken for now", "err", err) }
	}
	return c
}

func (c Config) topic() string  { return c.Prefix + ".commands" }
func (c Config) poison() string { return c.Prefix + ".commands.poison" }

func (c Config) subscriber() pubsub.SubscriberConfig {
	k := c.Kafka
	k.Client = append([]kgo.Opt{kgo.HeartbeatInterval(heartbeatEvery), kgo.RebalanceTimeout(rebalanceTimeout)}, k.Client...)
	return pubsub.SubscriberConfig{
		Kafka: k, Group: c.topic(), InstanceID: c.Instance, SessionTimeout: sessionTimeout,
		Start: pubsub.Oldest, NackPause: nackPause,
	}
}

func (c Config) publisher() pubsub.PublisherConfig {
	k := c.Kafka
	k.Client = append([]kgo.Opt{kgo.ProducerBatchMaxBytes(poisonBytesMax)}, k.Client...)
	return pubsub.PublisherConfig{Kafka: k, Key: keyAsItCame}
}
