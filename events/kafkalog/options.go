package kafkalog

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kslog"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/compression"
)

const (
	// PrefixDefault begins the names of the topics when nothing is said.
	PrefixDefault = "dalvdb"

	// PartitionsMax bounds the partitions, as in the embedded log.
	PartitionsMax = 10_000

	// checkEvery is how often the topic is looked at when nothing is said.
	checkEvery = time.Minute
)

// Options say where the log is and how it is opened.
type Options struct {
	// Brokers are the addresses by which the cluster is found. Required.
	Brokers []string

	// Prefix begins the names of the topics: the log is "<Prefix>.events". Empty is
	// PrefixDefault.
	Prefix string

	// Partitions is how many partitions a log that is empty gets; 0 is as many as
	// its topic has. A log that has been made keeps its own, and another count than
	// 0 or that is an error.
	Partitions int32

	// Domains are the first domain rules of a log that is empty; nil is
	// events.DefaultDomains. One that has been made has its own.
	Domains events.Domains

	// AllowWeakTopics opens a topic although it has fewer copies than three, or
	// acknowledges what fewer than two of them have, or although the brokers do not
	// tell one of its settings. What would let records vanish is refused all the same.
	AllowWeakTopics bool

	// ReadOnly opens a log to be read, and writes nothing: one that has not been made
	// is an ErrNoLog, Begin and Append fail, and how its topic is set is no matter.
	ReadOnly bool

	// CheckEvery is how often the topic is looked at; 0 is a minute.
	CheckEvery time.Duration

	// ClientID is what the brokers know this node by; empty leaves it to the client.
	ClientID string

	// Client says how the brokers are spoken to: TLS, credentials, another dialer.
	Client []kgo.Opt

	// Hooks returns who hears what a client does, for metrics and traces. It is asked
	// once for each of the clients: WriterClient and FollowerClient. nil is nobody.
	Hooks func(client string) []kgo.Hook

	// Now is the clock of control records; nil is time.Now.
	Now func() time.Time

	// NewID makes the log ids; nil makes them from crypto/rand.
	NewID func() events.LogID

	// Logger gets what an operator should know; nil is slog.Default.
	Logger *slog.Logger
}

// withDefaults returns the options with nothing left open, or all their faults.
func (o Options) withDefaults() (Options, error) {
	faults := []error{validBrokers(o.Brokers)}
	if o.Partitions < 0 || o.Partitions > PartitionsMax {
		faults = append(faults, fmt.Errorf("%d partitions: want at least 1 and at most %d", o.Partitions, PartitionsMax))
	}
	if o.Domains == nil {
		o.Domains = events.DefaultDomains()
	}
	if err := o.Domains.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("domains: %w", err))
	}
	if o.CheckEvery < 0 {
		faults = append(faults, fmt.Errorf("the topic cannot be checked every %v", o.CheckEvery))
	}
	if o.Prefix == "" {
		o.Prefix = PrefixDefault
	}
	if o.CheckEvery == 0 {
		o.CheckEvery = checkEvery
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = randomID
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, errors.Join(faults...)
}

func validBrokers(brokers []string) error {
	if len(brokers) == 0 {
		return errors.New("no brokers are given")
	}
	for _, b := range brokers {
		if strings.TrimSpace(b) == "" {
			return errors.New("the address of a broker is empty")
		}
	}
	return nil
}

func randomID() (id events.LogID) {
	rand.Read(id[:])
	return id
}

func eventsTopic(prefix string) string { return prefix + ".events" }

// The clients of a log.
const (
	WriterClient   = "writer"   // appends, asks, and reads what is not new
	FollowerClient = "follower" // reads what is newest
)

// clientOptions are for any client of the log, with the hooks of the named one.
func (o *Options) clientOptions(name string) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(o.Brokers...),
		kgo.WithLogger(clientLogger{kslog.New(o.Logger.With("client", "kafka"))}),

		// Two answers of a broker that leads no more would otherwise cost ten seconds.
		kgo.MetadataMinAge(metadataAgeMin),

		// What the client would report of itself to the brokers, Hooks report to ours.
		kgo.DisableClientMetrics(),
	}
	if o.ClientID != "" {
		opts = append(opts, kgo.ClientID(o.ClientID))
	}
	if o.Hooks != nil {
		opts = append(opts, kgo.WithHooks(o.Hooks(name)...))
	}
	return append(opts, o.Client...)
}

// clientLogger is the log of a client, which tells each of its steps at the level
// at which we tell an operator what there is to know: those go with the details.
type clientLogger struct{ kgo.Logger }

// Level implements kgo.Logger.
func (l clientLogger) Level() kgo.LogLevel {
	if level := l.Logger.Level(); level != kgo.LogLevelInfo {
		return level
	}
	return kgo.LogLevelWarn
}

const metadataAgeMin = 100 * time.Millisecond

// writerOptions are for the client that appends, and asks the brokers.
func (o *Options) writerOptions() []kgo.Opt {
	return append(o.clientOptions(WriterClient),
		kgo.RequiredAcks(kgo.AllISRAcks()), // and idempotent, by default
		kgo.RecordPartitioner(kgo.ManualPartitioner()),

		kgo.ProducerLinger(0), // what is to go out together leaves the gate together

		// One record of any size fits, and a batch never exceeds what the topic takes.
		kgo.ProducerBatchMaxBytes(messageBytesMin),

		compression.Option(), // the log is kept for ever, so that size counts

		// Room is ours to give (see Append), because who waits for it must be able to
		// give up, and then knows for certain that nothing was written.
		kgo.MaxBufferedRecords(waitingBytesMax),

		// What no broker takes for so long fails, instead of being written when
		// nobody remembers it. It is not for records whose fate is open.
		kgo.RecordDeliveryTimeout(deliveryTimeout),
		kgo.UnknownTopicRetries(-1), // a topic that was there is there again, or Check says so
	)
}

// followerOptions are for the client that reads what is newest.
func (o *Options) followerOptions() []kgo.Opt {
	return append(o.clientOptions(FollowerClient),
		// None: a place that the log does not have is never left for another one.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),

		// A request that waits holds up a partition that is to be followed besides.
		kgo.FetchMaxWait(fetchWaitMax),
		kgo.FetchMaxPartitionBytes(fetchBytesMax),
		kgo.FetchMaxBytes(fetchRequestBytesMax),
	)
}

const (
	fetchWaitMax         = 250 * time.Millisecond
	fetchBytesMax        = 1 << 20
	fetchRequestBytesMax = 16 << 20
)
