package pubsub_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events/pubsub"
)

// What is published arrives as it was, and says where it was read.
func TestMessageArrivesWhole(t *testing.T) {
	k := newKafka(t)
	topic := k.topic(t, 4)
	sent := message.NewMessage("the id", []byte("payload"))
	sent.Metadata = message.Metadata{"a": "1", "empty": "", "partition_key": "ann"}
	must(t, k.publisher(t).Publish(topic, sent))

	got := receive(t, subscribe(t, k.subscriber(t), topic))
	if !got.Equals(sent) {
		t.Errorf("got %q %q %v", got.UUID, got.Payload, got.Metadata)
	}
	place, ok := pubsub.PlaceOf(got.Context())
	if !ok || place.Topic != topic || place.Offset != 0 || string(place.Key) != "ann" || place.Time.IsZero() {
		t.Errorf("place %+v, %v", place, ok)
	}
	if _, ok := pubsub.PlaceOf(sent.Context()); ok {
		t.Error("a message that was not handed out has a place")
	}
	if n := len(sent.Metadata); n != 3 {
		t.Errorf("Publish has changed the message: %v", sent.Metadata)
	}
}

// Any producer's records are messages: without a UUID the id of CloudEvents or else
// the place is the name, and of two headers with one name the last one counts.
func TestForeignRecord(t *testing.T) {
	k := newKafka(t)
	topic := k.topic(t, 1)
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(k.Brokers...)}, k.Client...)...)
	must(t, err)
	defer c.Close()
	r := &kgo.Record{Topic: topic, Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte("2")}}}
	event := &kgo.Record{Topic: topic, Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("an event")}}}
	must(t, c.ProduceSync(testContext(t), r, event).FirstErr())

	messages := subscribe(t, k.subscriber(t), topic)
	got := receive(t, messages)
	if got.UUID != topic+"/0/0" || len(got.Payload) != 0 || got.Metadata["h"] != "2" {
		t.Errorf("got %q %q %v", got.UUID, got.Payload, got.Metadata)
	}
	got.Ack()
	if got := receive(t, messages); got.UUID != "an event" || got.Metadata["ce_id"] != "an event" {
		t.Errorf("got %q %v", got.UUID, got.Metadata)
	}
}

// The key decides the partition, and messages of one key keep their order.
func TestKeyDecidesPartition(t *testing.T) {
	k := newKafka(t)
	topic := k.topic(t, 8)
	p := k.publisher(t, func(c *pubsub.PublisherConfig) {
		c.Key = func(got string, m *message.Message) ([]byte, error) { return []byte(m.Metadata["user"]), nil }
	})
	var all []*message.Message
	for i := range 40 {
		m := message.NewMessage(strconv.Itoa(i), nil)
		m.Metadata["user"] = strconv.Itoa(i % 4)
		all = append(all, m)
	}
	must(t, p.Publish(topic, all...))
	partitions, last := map[string]int32{}, map[string]int{}
	messages := subscribe(t, k.subscriber(t), topic)
	for range all {
		m := receive(t, messages)
		place, _ := pubsub.PlaceOf(m.Context())
		user := m.Metadata["user"]
		if p, seen := partitions[user]; seen && p != place.Partition {
			t.Errorf("user %s is in partitions %d and %d", user, p, place.Partition)
		}
		partitions[user] = place.Partition
		i, err := strconv.Atoi(m.UUID)
		must(t, err)
		if before, seen := last[user]; seen && i < before {
			t.Errorf("user %s: message %d after %d", user, i, before)
		}
		last[user] = i
		m.Ack()
	}
	if want := partitionOf(t, k, topic, "1"); partitions["1"] != want {
		t.Errorf("user 1 is in partition %d, a client with defaults puts it into %d", partitions["1"], want)
	}
}

// partitionOf asks a client that has nothing set, which is what Java's does.
func partitionOf(t *testing.T, k *kafka, topic, key string) int32 {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(k.Brokers...)}, k.Client...)...)
	must(t, err)
	defer c.Close()
	r := &kgo.Record{Topic: topic, Key: []byte(key)}
	must(t, c.ProduceSync(testContext(t), r).FirstErr())
	return r.Partition
}

// One message too large: it alone fails, and the error says that it did.
func TestPublishSaysWhichFailed(t *testing.T) {
	k := newKafka(t)
	topic := k.topic(t, 1)
	p := k.publisher(t, func(c *pubsub.PublisherConfig) {
		c.Client = append(slices.Clip(c.Client), kgo.ProducerBatchMaxBytes(1024), kgo.ProducerBatchCompression(kgo.NoCompression()))
	})
	err := p.Publish(topic, message.NewMessage("a", []byte("x")),
		message.NewMessage("b", []byte(strings.Repeat("x", 4096))), message.NewMessage("c", []byte("x")))
	failed, ok := errors.AsType[*pubsub.PublishError](err)
	if !ok || failed.Topic != topic || failed.Total != 3 || len(failed.Failed) != 1 ||
		failed.Failed[0].Index != 1 || failed.Failed[0].UUID != "b" || !errors.Is(err, kerr.MessageTooLarge) {
		t.Fatalf("got %+v", err)
	}
	messages := subscribe(t, k.subscriber(t), topic)
	for _, want := range []string{"a", "c"} {
		m := receive(t, messages)
		if m.UUID != want {
			t.Errorf("got %s, want %s", m.UUID, want)
		}
		m.Ack()
	}
}

// What the brokers refuse is not published.
func TestPublishRefused(t *testing.T) {
	k := newFake(t)
	topic := k.topic(t, 1)
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.TopicAuthorizationFailed})
	p := k.publisher(t)
	if err := p.Publish(topic, message.NewMessage("a", nil)); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("got %v", err)
	}
	must(t, p.Publish(topic, message.NewMessage("a", nil)))
}

// A message that cannot have a record keeps the others from being sent.
func TestPublishSendsNothing(t *testing.T) {
	k := newKafka(t)
	topic := k.topic(t, 1)
	errKey := errors.New("no key")
	p := k.publisher(t, func(c *pubsub.PublisherConfig) {
		c.Key = func(_ string, m *message.Message) ([]byte, error) {
			if m.UUID == "b" {
				return nil, errKey
			}
			return nil, nil
		}
	})
	if err := p.Publish(topic, message.NewMessage("a", nil), message.NewMessage("b", nil)); !errors.Is(err, errKey) {
		t.Errorf("a message without its key: %v", err)
	}
	reserved := message.NewMessage("c", nil)
	reserved.Metadata[pubsub.UUIDHeader] = "d"
	if err := p.Publish(topic, message.NewMessage("a", nil), reserved); err == nil {
		t.Error("a reserved name was published")
	}
	must(t, p.Publish(topic, message.NewMessage("e", nil)))
	if m := receive(t, subscribe(t, k.subscriber(t), topic)); m.UUID != "e" {
		t.Errorf("%s was published", m.UUID)
	}
}

// Brokers that are away: Publish gives up, and so Close ends.
func TestPublishGivesUp(t *testing.T) {
	k := newFake(t)
	topic := k.topic(t, 1)
	p := k.publisher(t, func(c *pubsub.PublisherConfig) { c.DeliveryTimeout = time.Second })
	must(t, p.Publish(topic, message.NewMessage("a", nil)))
	// An answer that says to try again, for ever.
	tooFew := k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotEnoughReplicas, Count: -1})
	if err := p.Publish(topic, message.NewMessage("a", nil)); !errors.Is(err, kgo.ErrRecordTimeout) {
		t.Errorf("too few replicas: %v", err)
	}
	tooFew.Remove()
	k.Close()
	err := p.Publish(topic, message.NewMessage("b", nil))
	if failed, ok := errors.AsType[*pubsub.PublishError](err); !ok || failed.Failed[0].UUID != "b" {
		t.Errorf("got %v", err)
	}
	// Who waits no longer says so by the message's context.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	patient := k.publisher(t)
	if err := patient.Publish(topic, message.NewMessageWithContext(ctx, "c", nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Close lets what is under way be acknowledged, and nothing begin.
func TestCloseWaitsForPublish(t *testing.T) {
	k := newFake(t)
	topic := k.topic(t, 1)
	produced, release := make(chan struct{}), make(chan struct{})
	k.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.SleepControl(func() {
			close(produced)
			<-release
		})
		return nil, nil, false
	})
	p := k.publisher(t)
	published, closed := make(chan error, 1), make(chan error, 1)
	go func() { published <- p.Publish(topic, message.NewMessage("a", nil)) }()
	done(t, "the message is on its way", produced)
	go func() { closed <- p.Close() }()
	eventually(t, "Close begins", func() bool { return errors.Is(p.Publish(topic), pubsub.ErrClosed) })
	select {
	case err := <-closed:
		close(release)
		t.Fatalf("Close has not waited: %v", err)
	default:
		close(release)
	}
	must(t, <-closed)
	must(t, <-published)
	if err := p.Publish(topic, message.NewMessage("b", nil)); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	must(t, p.Close())
}

func TestConfigsAreValidated(t *testing.T) {
	bad := pubsub.SubscriberConfig{
		InstanceID: "a", SessionTimeout: -1, NackPause: -1, CommitInterval: time.Millisecond, Start: 7,
		CreateTopics: &pubsub.TopicConfig{Partitions: -1},
	}
	var faults []string
	for line := range strings.Lines(bad.Validate().Error()) {
		fault, _, _ := strings.Cut(line, ":")
		faults = append(faults, fault)
	}
	want := []string{"brokers", "session timeout", "nack pause", "commit interval", "start", "instance id", "create topics"}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Error(diff)
	}
	if _, err := pubsub.NewSubscriber(bad); err == nil {
		t.Error("a Subscriber was made of it")
	}
	if _, err := pubsub.NewPublisher(pubsub.PublisherConfig{DeliveryTimeout: -1}); err == nil {
		t.Error("a Publisher without brokers was made")
	}
}
