package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/compression"
	"github.com/dalvdb/dalvdb/projector"
)

// Source is what is fed: a *projector.Projector.
type Source interface {
	Resume(ctx context.Context, p events.Partition, seen ...events.Position) (events.Position, error)
	WatchPartition(ctx context.Context, from events.Position, send func(*events.ChangeEvent, events.Position) error) error
	Status() []projector.PartitionStatus
}

var _ Source = (*projector.Projector)(nil)

// Config says what is fed, and where to.
type Config struct {
	// Source has the accepted events. Required.
	Source Source

	// Partitions is how many partitions the log has. Required.
	Partitions int32

	// Brokers are the addresses by which the cluster is found. Required.
	Brokers []string

	// Prefix begins the names of the topics: events go to "<Prefix>.changes", and
	// what is committed is of "<Prefix>.events". Required.
	Prefix string

	// Client says how the brokers are spoken to: TLS, credentials, another dialer.
	Client []kgo.Opt

	// Encode makes the record of an event: key, value and headers. The same event
	// gives the same record. Required.
	Encode func(*events.ChangeEvent) (*kgo.Record, error)

	// Position reads the position back from the headers of a record. An error says
	// that Encode has not made it. Required.
	Position func(*kgo.Record) (events.Position, error)

	// CommitEvery is how often what has been fed is committed. 0 is 5 s.
	CommitEvery time.Duration

	// CheckEvery is how often the settings of the topic are looked at. 0 is a minute.
	CheckEvery time.Duration

	// PauseMax is how long at most a partition waits before it begins anew. 0 is 5 s.
	PauseMax time.Duration

	// Logger gets what an operator should know. nil is slog.Default.
	Logger *slog.Logger

	// Now is the clock by which lag is told. nil is time.Now.
	Now func() time.Time
}

const (
	commitEvery = 5 * time.Second
	checkEvery  = time.Minute
	pauseMax    = 5 * time.Second
)

// Validate reports all faults at once.
func (c *Config) Validate() error {
	var faults []error
	missing := func(is bool, name string) {
		if is {
			faults = append(faults, fmt.Errorf("feed.Config.%s: required", name))
		}
	}
	missing(c.Source == nil, "Source")
	missing(c.Partitions < 1, "Partitions")
	missing(len(c.Brokers) == 0, "Brokers")
	missing(c.Prefix == "", "Prefix")
	missing(c.Encode == nil, "Encode")
	missing(c.Position == nil, "Position")
	if c.CommitEvery < 0 || c.CheckEvery < 0 || c.PauseMax < 0 {
		faults = append(faults, errors.New("feed.Config: a time is negative"))
	}
	return errors.Join(faults...)
}

// withDefaults returns the configuration with nothing left open.
func (c Config) withDefaults() Config {
	if c.CommitEvery == 0 {
		c.CommitEvery = commitEvery
	}
	if c.CheckEvery == 0 {
		c.CheckEvery = checkEvery
	}
	if c.PauseMax == 0 {
		c.PauseMax = pauseMax
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// clientOptions are for the client that writes, and asks the brokers.
func (c *Config) clientOptions() []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.MetadataMinAge(metadataAgeMin),
		kgo.DisableClientMetrics(),
		kgo.RequiredAcks(kgo.AllISRAcks()), // and idempotent, by default
		kgo.RecordPartitioner(kgo.ManualPartitioner()),

		// So long a record waits for those of other partitions, with which it shares a
		// request, unless it is written by ProduceSync: see lane.write.
		kgo.ProducerLinger(gatherMax),
		kgo.ProducerBatchMaxBytes(batchBytesMax),
		compression.Option(),

		// The room is ours to give (see lane.hold); the client must not wait for its own,
		// because then it gathers nothing.
		kgo.MaxBufferedRecords(int(c.Partitions)*chunkRecords + 1),

		// What a broker does not answer is given up, although it may be written late:
		// that doubles records, and leaves out none.
		kgo.RecordDeliveryTimeout(deliveryTimeout),
		kgo.AllowIdempotentProduceCancellation(),
	}, c.Client...)
}

const (
	metadataAgeMin = 100 * time.Millisecond
	gatherMax      = 5 * time.Millisecond

	// deliveryTimeout is how long a batch is offered to the brokers, before the
	// partition begins anew.
	deliveryTimeout = 30 * time.Second

	// batchBytesMax is the largest batch before it is compressed. It is far more than a
	// chunk, so that a single event passes whatever its size: an effect of 4 MiB may
	// come to many times that in JSON, of which what is compressed must fit the topic.
	batchBytesMax = 64 << 20
)
