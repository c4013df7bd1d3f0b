package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/events/kafkalog"
	kafka "github.com/dalvdb/dalvdb/events/pubsub"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/projector/feed"
	"github.com/dalvdb/dalvdb/sdk/backend/pubsub"
)

// changes is a way by which accepted events come to a component.
type changes interface {
	topic() string
	// subscriber goes on where the last one was.
	subscriber(t *testing.T) message.Subscriber
	// remember returns what brings the next subscriber to where it would begin now.
	remember(t *testing.T) (goBack func())
	restartNode(t *testing.T)
}

// watchFeed is that of a node which has its log to itself.
type watchFeed struct {
	w      *world
	stored *pubsub.MemoryPositions
}

func newWatchFeed(w *world) *watchFeed { return &watchFeed{w, pubsub.NewMemoryPositions()} }

func (f *watchFeed) topic() string { return "changes" }

func (f *watchFeed) subscriber(t *testing.T) message.Subscriber {
	t.Helper()
	return f.w.subscriber(t, f.stored)
}

func (f *watchFeed) remember(t *testing.T) (goBack func()) {
	t.Helper()
	before, err := f.stored.Load(t.Context(), f.topic())
	must(t, err)
	return func() { must(t, f.stored.Store(t.Context(), f.topic(), before)) }
}

func (f *watchFeed) restartNode(t *testing.T) {
	t.Helper()
	f.w.Restart(t)
}

const (
	// brokersVariable names brokers to test with, comma separated, instead of the
	// fake ones.
	brokersVariable = "DALVDB_TEST_KAFKA"

	recommendGroup = "recommend"
)

// topicFeed is that of a node whose changes are in a topic of Kafka.
type topicFeed struct {
	w       *world
	cfg     feed.Config // but for the Source, which is another one after a restart
	admin   *kadm.Client
	feed    *feed.Feed
	end     func()
	feeding sync.WaitGroup
}

var prefixes atomic.Int64

// newTopicFeed begins to feed on fake brokers, or on real ones. It ends before the node.
func newTopicFeed(t *testing.T, w *world, format pubsub.Format) *topicFeed {
	t.Helper()
	brokers, opts := someBrokers(t)
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(brokers...))...)
	must(t, err)
	t.Cleanup(client.Close)
	f := &topicFeed{w: w, admin: kadm.NewClient(client), cfg: feed.Config{
		Partitions: w.Running().Log.Partitions(), Brokers: brokers, Client: opts,
		Prefix: fmt.Sprintf("both-%d-%d", os.Getpid(), prefixes.Add(1)), // no earlier run on the same brokers has it
		Encode: func(e *events.ChangeEvent) (*kgo.Record, error) { return record(e, format) }, Position: positionOf,
		Logger: slog.New(slog.DiscardHandler),
	}}
	_, err = kafkalog.Init(t.Context(), kafkalog.InitOptions{
		Brokers: brokers, Prefix: f.cfg.Prefix, Partitions: f.cfg.Partitions, ReplicationFactor: 1, Client: opts, Logger: f.cfg.Logger,
	})
	must(t, err)
	f.begin(t)
	t.Cleanup(func() { f.stop(t) })
	return f
}

func someBrokers(t *testing.T) (addrs []string, opts []kgo.Opt) {
	t.Helper()
	opts = []kgo.Opt{kgo.HeartbeatInterval(50 * time.Millisecond)}
	if brokers := os.Getenv(brokersVariable); brokers != "" {
		return strings.Split(brokers, ","), opts
	}
	network := new(kfake.VirtualNetwork)
	cluster, err := kfake.NewCluster(kfake.Ports(9092), kfake.ListenFn(network.Listen))
	must(t, err)
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs(), append(opts, kgo.Dialer(network.DialContext))
}

func (f *topicFeed) begin(t *testing.T) {
	t.Helper()
	cfg := f.cfg
	cfg.Source = f.w.Running().State
	var err error
	f.feed, err = feed.New(cfg)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	f.end = cancel
	f.feeding.Go(func() { f.feed.Run(ctx) })
}

func (f *topicFeed) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must(t, f.feed.Drain(ctx))
	f.end()
	f.feeding.Wait()
}

func (f *topicFeed) restartNode(t *testing.T) {
	t.Helper()
	f.stop(t)
	f.w.Restart(t)
	f.begin(t)
}

func (f *topicFeed) topic() string { return f.cfg.Prefix + ".changes" }

func (f *topicFeed) subscriber(t *testing.T) message.Subscriber {
	t.Helper()
	s, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Kafka: kafka.Kafka{Brokers: f.cfg.Brokers, Client: f.cfg.Client}, Group: f.cfg.Prefix + recommendGroup,
		NackPause: time.Millisecond, CommitInterval: 100 * time.Millisecond,
	})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func (f *topicFeed) remember(t *testing.T) (goBack func()) {
	t.Helper()
	group := f.cfg.Prefix + recommendGroup
	before, err := f.admin.FetchOffsets(t.Context(), group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // nobody has joined it yet
		t.Fatal(err)
	}
	return func() { must(t, f.admin.CommitAllOffsets(t.Context(), group, before.Offsets())) }
}

// record makes the record of an event as the command does.
func record(e *events.ChangeEvent, format pubsub.Format) (*kgo.Record, error) {
	m, err := wire.EncodeMessage(e, format)
	if err != nil {
		return nil, err
	}
	r := &kgo.Record{Key: []byte(m.User), Value: m.Payload}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Name, Value: []byte(h.Value)})
	}
	return r, nil
}

func positionOf(r *kgo.Record) (events.Position, error) {
	for _, h := range r.Headers {
		if h.Key == wire.HeaderID {
			return events.ParsePosition(string(h.Value))
		}
	}
	return events.Position{}, errors.New("no header " + wire.HeaderID)
}

// Both feeds deliver the same messages: id, metadata and payload, in either form.
func TestFeedsAreTheSame(t *testing.T) {
	for name, format := range map[string]pubsub.Format{"protobuf": pubsub.FormatProtobuf, "JSON": pubsub.FormatJSON} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nodetest.Options{})
			topic := newTopicFeed(t, w, format)
			w.write(t, 50, events.Text("متن"), events.Data([]byte{0, 255}))
			watch := w.subscriber(t, pubsub.NewMemoryPositions(), func(c *pubsub.Config) { c.Format = format })
			want := delivered(t, watch, "changes", 50)
			got := delivered(t, topic.subscriber(t), topic.topic(), 50)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-watch +topic)\n%.3000s", diff)
			}
		})
	}
}

// delivery is a message, by what a handler can see of it.
type delivery struct {
	UUID     string
	Metadata message.Metadata
	Payload  string
}

// delivered returns so many messages, by partition.
func delivered(t *testing.T, s message.Subscriber, topic string, count int) map[events.Partition][]delivery {
	t.Helper()
	messages, err := s.Subscribe(t.Context(), topic)
	must(t, err)
	all := make(map[events.Partition][]delivery)
	for range count {
		msg, _ := next(t, messages)
		p := partition(t, msg)
		all[p] = append(all[p], delivery{msg.UUID, msg.Metadata, string(msg.Payload)})
		msg.Ack()
	}
	return all
}

// A component that was away for longer than the topic keeps its records has the
// positions it came to, and goes on from there over the API: nothing is left out, and
// nothing comes twice.
func TestAwayForLongerThanTheRetention(t *testing.T) {
	w := newWorld(t, nodetest.Options{})
	topic := newTopicFeed(t, w, pubsub.FormatProtobuf)
	w.write(t, 40)
	handled := delivered(t, topic.subscriber(t), topic.topic(), 40)
	w.write(t, 40)
	topic.expire(t)
	if n := topic.count(t); n != 0 {
		t.Fatalf("the topic still has %d records", n)
	}

	kept := pubsub.NewMemoryPositions()
	must(t, kept.Store(t.Context(), "changes", lastOf(t, handled)))
	rest := delivered(t, w.subscriber(t, kept), "changes", 40)
	whole := delivered(t, w.subscriber(t, pubsub.NewMemoryPositions()), "changes", 80)
	for p, want := range whole {
		if diff := cmp.Diff(want, append(handled[p], rest[p]...)); diff != "" {
			t.Errorf("partition %d: (-all +handled and the rest)\n%.2000s", p, diff)
		}
	}
}

// lastOf returns how far each partition was handled.
func lastOf(t *testing.T, handled map[events.Partition][]delivery) (all []events.Position) {
	t.Helper()
	for p := range events.Partition(4) {
		n := len(handled[p])
		if n == 0 {
			t.Fatalf("partition %d has no messages", p)
		}
		pos, err := events.ParsePosition(handled[p][n-1].UUID)
		must(t, err)
		all = append(all, pos)
	}
	return all
}

// expire takes all records out of the topic once they are fed, as its retention does.
func (f *topicFeed) expire(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, f.feed.Drain(ctx))
	ends, err := f.admin.ListEndOffsets(ctx, f.topic())
	must(t, err)
	gone, err := f.admin.DeleteRecords(ctx, ends.Offsets())
	must(t, err)
	must(t, gone.Error())
}

// count returns how many records the topic has.
func (f *topicFeed) count(t *testing.T) (n int64) {
	t.Helper()
	starts, err := f.admin.ListStartOffsets(t.Context(), f.topic())
	must(t, err)
	ends, err := f.admin.ListEndOffsets(t.Context(), f.topic())
	must(t, err)
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		n += end.Offset - start.Offset
	})
	return n
}
