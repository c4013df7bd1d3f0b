package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/events/pubsub"
)

func TestMain(m *testing.M) {
	// The multiplier of Watermill's suite goes on passing messages to a reader who
	// has stopped.
	const multiplier = "github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe."
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(multiplier+"func2"), goleak.IgnoreAnyFunction(multiplier+"func3"))
}

const (
	// brokersVariable names brokers to test with, comma separated, instead of the
	// fake ones. Tests that make the fake ones fail do not run then.
	brokersVariable = "DALVDB_TEST_KAFKA"

	// timeout is how long anything may take that must happen: far above what it needs.
	timeout = time.Minute

	// heartbeat is how soon a member hears of a rebalance.
	heartbeat = 50 * time.Millisecond
)

// kafka is where a test runs: fake brokers on a network of their own, or real ones.
type kafka struct {
	*kfake.Cluster // nil: real ones
	pubsub.Kafka
	network *kfake.VirtualNetwork
	opts    []kfake.Opt
}

var fakes atomic.Int64

func newKafka(t testing.TB) *kafka {
	t.Helper()
	if brokers := os.Getenv(brokersVariable); brokers != "" {
		return &kafka{Kafka: pubsub.Kafka{Brokers: strings.Split(brokers, ","), Client: []kgo.Opt{kgo.HeartbeatInterval(heartbeat)}}}
	}
	return newFake(t)
}

// newFake makes fake brokers, for tests that make them fail.
func newFake(t testing.TB, opts ...kfake.Opt) *kafka {
	t.Helper()
	k := &kafka{network: new(kfake.VirtualNetwork)}
	k.opts = append([]kfake.Opt{kfake.Ports(9092, 9093, 9094), kfake.ListenFn(k.network.Listen)}, opts...)
	k.Kafka.Client = []kgo.Opt{kgo.HeartbeatInterval(heartbeat), kgo.Dialer(k.dial)}
	k.start(t)
	k.Brokers = k.ListenAddrs()
	t.Cleanup(func() { k.Cluster.Close() })
	return k
}

func (k *kafka) start(t testing.TB) {
	t.Helper()
	var err error
	k.Cluster, err = kfake.NewCluster(k.opts...)
	must(t, err)
}

// restart stops the brokers, cutting every connection, and starts them again with
// what they have on disk.
func (k *kafka) restart(t testing.TB) {
	t.Helper()
	k.Cluster.Close()
	k.start(t)
}

func (k *kafka) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return k.network.DialContext(ctx, network, address)
}

// topic makes a topic.
func (k *kafka) topic(t testing.TB, partitions int32) string {
	t.Helper()
	name := unique("topic")
	sub := k.subscriber(t, func(c *pubsub.SubscriberConfig) {
		c.CreateTopics = &pubsub.TopicConfig{Partitions: partitions}
	})
	must(t, sub.SubscribeInitialize(name))
	must(t, sub.Close())
	return name
}

// unique returns a name that no other test has, nor an earlier run on the same brokers.
func unique(what string) string {
	return fmt.Sprintf("%s-%d-%d", what, os.Getpid(), fakes.Add(1))
}

func (k *kafka) publisher(t testing.TB, changes ...func(*pubsub.PublisherConfig)) *pubsub.Publisher {
	t.Helper()
	cfg := pubsub.PublisherConfig{Kafka: k.Kafka}
	for _, change := range changes {
		change(&cfg)
	}
	p, err := pubsub.NewPublisher(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	return p
}

func (k *kafka) subscriber(t testing.TB, changes ...func(*pubsub.SubscriberConfig)) *pubsub.Subscriber {
	t.Helper()
	cfg := pubsub.SubscriberConfig{Kafka: k.Kafka, NackPause: time.Millisecond, CommitInterval: 100 * time.Millisecond}
	for _, change := range changes {
		change(&cfg)
	}
	s, err := pubsub.NewSubscriber(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// inGroup is a change of a SubscriberConfig.
func inGroup(name string) func(*pubsub.SubscriberConfig) {
	return func(c *pubsub.SubscriberConfig) { c.Group = name }
}

func (k *kafka) admin(t testing.TB) *kadm.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(k.Brokers...)}, k.Kafka.Client...)...)
	must(t, err)
	t.Cleanup(c.Close)
	return kadm.NewClient(c)
}

// committed returns where a group goes on in partition 0; -1 if nothing is committed.
func committed(t testing.TB, admin *kadm.Client, group, topic string) int64 {
	t.Helper()
	offsets, err := admin.FetchOffsets(testContext(t), group)
	if errors.Is(err, kerr.GroupIDNotFound) { // nobody has joined it yet
		return -1
	}
	must(t, err)
	if o, ok := offsets.Lookup(topic, 0); ok {
		return o.At
	}
	return -1
}

func subscribe(t testing.TB, s *pubsub.Subscriber, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := s.Subscribe(context.Background(), topic)
	must(t, err)
	return messages
}

// receive returns the next message.
func receive(t testing.TB, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, ok := <-messages:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return m
	case <-time.After(timeout):
		t.Fatal("no message comes")
	}
	return nil
}

// done waits for what must happen.
func done(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(timeout):
		t.Fatalf("%s: does not happen", what)
	}
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
