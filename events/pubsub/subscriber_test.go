package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events/pubsub"
)

// fill publishes count messages to each partition, whose payloads say which and where.
func fill(t testing.TB, k *kafka, topic string, partitions, from, count int) {
	t.Helper()
	p := k.publisher(t, func(c *pubsub.PublisherConfig) { c.Client = append(slices.Clip(c.Client), byKey(t)) })
	var all []*message.Message
	for i := range partitions * count {
		m := message.NewMessage("", fmt.Appendf(nil, "%d/%d", i%partitions, from+i/partitions))
		m.Metadata[pubsub.KeyMetadata] = strconv.Itoa(i % partitions)
		all = append(all, m)
	}
	must(t, p.Publish(topic, all...))
	must(t, p.Close())
}

// byKey makes the key the number of the partition.
func byKey(t testing.TB) kgo.Opt {
	return kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
		return func(r *kgo.Record, _ int) int {
			n, err := strconv.Atoi(string(r.Key))
			must(t, err)
			return n
		}
	}))
}

func placeOf(t testing.TB, m *message.Message) pubsub.Place {
	t.Helper()
	place, ok := pubsub.PlaceOf(m.Context())
	if !ok {
		t.Fatal("a message without a place")
	}
	return place
}

// A nacked message comes again before any later one of its partition.
func TestNackKeepsOrder(t *testing.T) {
	k := newKafka(t)
	topic := k.topic(t, 4)
	fill(t, k, topic, 4, 0, 50)
	messages := subscribe(t, k.subscriber(t, inGroup(unique("nack"))), topic)
	next, nacks := map[int32]int64{}, map[int32]int{}
	for acked := 0; acked < 200; {
		m := receive(t, messages)
		place := placeOf(t, m)
		if place.Offset != next[place.Partition] {
			t.Fatalf("partition %d: %d comes, %d is next", place.Partition, place.Offset, next[place.Partition])
		}
		if want := fmt.Sprintf("%d/%d", place.Partition, place.Offset); string(m.Payload) != want {
			t.Fatalf("got %s, want %s", m.Payload, want)
		}
		if place.Offset%3 == 0 && nacks[place.Partition] < 2 {
			nacks[place.Partition]++
			m.Nack()
			continue
		}
		nacks[place.Partition] = 0
		next[place.Partition]++
		acked++
		m.Ack()
	}
}

// While one partition's message is in hand, and another's waits after a nack, the
// others go on.
func TestPartitionsDoNotWait(t *testing.T) {
	k := newKafka(t)
	topic := k.topic(t, 4)
	fill(t, k, topic, 4, 0, 100)
	s := k.subscriber(t, inGroup(unique("wait")), func(c *pubsub.SubscriberConfig) { c.NackPause = time.Hour })
	messages := subscribe(t, s, topic)
	for range 202 {
		m := receive(t, messages)
		switch placeOf(t, m).Partition {
		case 0: // never acked
		case 1:
			m.Nack()
		default:
			m.Ack()
		}
	}
	select {
	case m := <-messages:
		t.Errorf("%s comes, whose partition waits", m.Payload)
	default:
	}
}

// A handler far slower than the brokers: fetching stops and goes on, and nothing is
// lost or comes out of order.
func TestSlowHandlerLosesNothing(t *testing.T) {
	const count = 12_000 // more than a partition holds ahead
	k := newKafka(t)
	topic := k.topic(t, 2)
	fill(t, k, topic, 2, 0, count)
	messages := subscribe(t, k.subscriber(t, inGroup(unique("slow"))), topic)
	// Partition 0 is in hand until the other one has passed.
	var held *message.Message
	for next := int64(0); next < count; {
		m := receive(t, messages)
		if place := placeOf(t, m); place.Partition == 0 {
			held = m
			continue
		} else if place.Offset != next {
			t.Fatalf("%d comes, %d is next", place.Offset, next)
		}
		next++
		m.Ack()
	}
	if held == nil {
		held = receive(t, messages)
	}
	for next := int64(0); ; held = receive(t, messages) {
		if got := placeOf(t, held).Offset; got != next {
			t.Fatalf("%d comes, %d is next", got, next)
		}
		next++
		held.Ack()
		if next == count {
			return
		}
	}
}

// Close while a message is in hand: its context tells, Close does not wait for it,
// what was acked is committed although no interval has passed, and what was not comes again.
func TestCloseWhileHandling(t *testing.T) {
	for _, instance := range []string{"", "static"} {
		t.Run(instance, func(t *testing.T) { closeWhileHandling(t, instance) })
	}
}

func closeWhileHandling(t *testing.T, instance string) {
	t.Helper()
	k := newKafka(t)
	member := func(c *pubsub.SubscriberConfig) { c.InstanceID = instance }
	topic, group := k.topic(t, 1), unique("close")
	fill(t, k, topic, 1, 0, 3)
	s := k.subscriber(t, inGroup(group), member, func(c *pubsub.SubscriberConfig) { c.CommitInterval = time.Hour })
	messages := subscribe(t, s, topic)
	receive(t, messages).Ack()
	inHand := receive(t, messages)
	select {
	case <-inHand.Context().Done():
		t.Fatal("the context of a message in hand has ended")
	default:
	}
	must(t, s.Close())
	if cause := context.Cause(inHand.Context()); !errors.Is(cause, pubsub.ErrClosed) {
		t.Errorf("the context ended with %v", cause)
	}
	if _, open := <-messages; open {
		t.Error("the channel is open")
	}
	inHand.Ack()
	if at := committed(t, k.admin(t), group, topic); at != 1 {
		t.Errorf("committed is %d, acked was the message before 1", at)
	}
	if _, err := s.Subscribe(context.Background(), topic); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("Subscribe after Close: %v", err)
	}
	again := receive(t, subscribe(t, k.subscriber(t, inGroup(group), member), topic))
	if !again.Equals(inHand) {
		t.Errorf("%s comes, %s was in hand", again.Payload, inHand.Payload)
	}
}

// One subscription ends with its context, and the others of the Subscriber go on.
func TestSubscriptionEndsWithItsContext(t *testing.T) {
	k := newKafka(t)
	one, other := k.topic(t, 1), k.topic(t, 1)
	fill(t, k, one, 1, 0, 1)
	fill(t, k, other, 1, 0, 1)
	s := k.subscriber(t, inGroup(unique("context")))
	ctx, cancel := context.WithCancel(testContext(t))
	ending, err := s.Subscribe(ctx, one)
	must(t, err)
	staying := subscribe(t, s, other)
	inHand := receive(t, ending)
	cancel()
	if _, open := <-ending; open {
		t.Error("a message comes after the end")
	}
	if cause := context.Cause(inHand.Context()); !errors.Is(cause, context.Canceled) {
		t.Errorf("the context ended with %v", cause)
	}
	receive(t, staying).Ack()
	receive(t, subscribe(t, s, one)).Ack()
}

// A group that starts at the newest message gets all from then on, even if whoever
// got it first went without an ack.
func TestNewestMissesNothingLater(t *testing.T) {
	k := newKafka(t)
	topic, group := k.topic(t, 1), unique("newest")
	newest := func(c *pubsub.SubscriberConfig) { c.Start = pubsub.Newest }
	fill(t, k, topic, 1, 0, 3)
	first := k.subscriber(t, inGroup(group), newest)
	messages := subscribe(t, first, topic)
	admin := k.admin(t)
	eventually(t, "the start is settled", func() bool { return committed(t, admin, group, topic) == 3 })
	fill(t, k, topic, 1, 3, 2)
	if m := receive(t, messages); string(m.Payload) != "0/3" {
		t.Fatalf("%s comes first", m.Payload)
	}
	must(t, first.Close())
	fill(t, k, topic, 1, 5, 1)
	messages = subscribe(t, k.subscriber(t, inGroup(group), newest), topic)
	for i := 3; i < 6; i++ {
		m := receive(t, messages)
		if want := fmt.Sprintf("0/%d", i); string(m.Payload) != want {
			t.Fatalf("%s comes, %s is next", m.Payload, want)
		}
		m.Ack()
	}
}

// Without a group, Newest is the moment of subscribing.
func TestNewestWithoutGroup(t *testing.T) {
	k := newKafka(t)
	topic := k.topic(t, 1)
	fill(t, k, topic, 1, 0, 3)
	messages := subscribe(t, k.subscriber(t, func(c *pubsub.SubscriberConfig) { c.Start = pubsub.Newest }), topic)
	// Nothing tells when it stands there, so messages are sent until one comes.
	for i := 3; ; i++ {
		fill(t, k, topic, 1, i, 1)
		select {
		case m := <-messages:
			if place := placeOf(t, m); place.Offset < 3 {
				t.Errorf("%s is old", m.Payload)
			}
			return
		default:
		}
	}
}

// eventually asks until the answer is yes.
func eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for ctx := testContext(t); !yes(); {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s: does not happen", what)
		}
	}
}

func TestSubscribeInitialize(t *testing.T) {
	k := newKafka(t)
	topic := unique("initialize")
	if err := k.subscriber(t).SubscribeInitialize(topic); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("a topic that is not there, and may not be made: %v", err)
	}
	makes := k.subscriber(t, func(c *pubsub.SubscriberConfig) {
		retention := "60000"
		c.CreateTopics = &pubsub.TopicConfig{Partitions: 3, Settings: map[string]*string{"retention.ms": &retention}}
	})
	for range 2 {
		must(t, makes.SubscribeInitialize(topic))
	}
	must(t, k.subscriber(t).SubscribeInitialize(topic))
	topics, err := k.admin(t).ListTopics(testContext(t), topic)
	must(t, err)
	if n := len(topics[topic].Partitions); n != 3 {
		t.Errorf("made with %d partitions", n)
	}
	asSet := k.subscriber(t, func(c *pubsub.SubscriberConfig) { c.CreateTopics = &pubsub.TopicConfig{} })
	must(t, asSet.SubscribeInitialize(unique("initialize")))
	tooMany := k.subscriber(t, func(c *pubsub.SubscriberConfig) { c.CreateTopics = &pubsub.TopicConfig{ReplicationFactor: 100} })
	if err := tooMany.SubscribeInitialize(unique("initialize")); !errors.Is(err, kerr.InvalidReplicationFactor) {
		t.Errorf("a hundred replicas: %v", err)
	}
}

// A topic is deleted, and another one gets its name: the subscription ends, because
// an offset of one is none of the other. Who subscribes again gets the new one from
// its beginning, under another id.
func TestTopicIsMadeAgain(t *testing.T) {
	k := newKafka(t)
	topic, group := k.topic(t, 1), unique("again")
	fill(t, k, topic, 1, 0, 4)
	messages := subscribe(t, k.subscriber(t, inGroup(group)), topic)
	m := receive(t, messages)
	old := placeOf(t, m)
	m.Ack()
	receive(t, messages).Ack()
	admin := k.admin(t)
	eventually(t, "two are committed", func() bool { return committed(t, admin, group, topic) == 2 })
	_, err := admin.DeleteTopic(testContext(t), topic)
	must(t, err)
	eventually(t, "the topic is made again", func() bool {
		_, err := admin.CreateTopic(testContext(t), 1, 1, nil, topic)
		return err == nil
	})
	fill(t, k, topic, 1, 7, 5)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for range messages { // what was fetched of the old one is not acked
		}
	}()
	done(t, "the subscription ends", closed)

	again := subscribe(t, k.subscriber(t, inGroup(group)), topic)
	for i := range 5 {
		m := receive(t, again)
		place := placeOf(t, m)
		if place.Offset != int64(i) || string(m.Payload) != fmt.Sprintf("0/%d", 7+i) {
			t.Errorf("%s comes from %d, want %d of the new topic", m.Payload, place.Offset, i)
		}
		if place.TopicID == old.TopicID || place.TopicID == [16]byte{} || old.TopicID == [16]byte{} {
			t.Errorf("topic ids %x and %x", old.TopicID, place.TopicID)
		}
		m.Ack()
	}
}
