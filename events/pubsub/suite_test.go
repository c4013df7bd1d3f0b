package pubsub_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/dalvdb/dalvdb/events/pubsub"
)

// Watermill's suite for every Pub/Sub, in the three ways in which this one can be
// used. Not told here: a restart of the brokers (TestReconnect), which is a command
// of the operating system to the suite, and the fake brokers have no process of
// their own; TestBrokersComeBack stands for it.

// Many partitions, no keys: the members of a group share the messages.
func TestSuiteOfGroups(t *testing.T) {
	k := newKafka(t)
	inGroup := suiteOf(k, nil)
	tests.TestPubSub(t, tests.Features{ConsumerGroups: true, Persistent: true},
		func(t *testing.T) (message.Publisher, message.Subscriber) { return inGroup(t, "suite-groups") }, inGroup)
}

// The payload is the key, so that messages of one payload are in order.
func TestSuiteInOrder(t *testing.T) {
	k := newKafka(t)
	inGroup := suiteOf(k, func(_ string, m *message.Message) ([]byte, error) { return m.Payload, nil })
	tests.TestPubSub(t, tests.Features{ConsumerGroups: true, Persistent: true, GuaranteedOrder: true},
		func(t *testing.T) (message.Publisher, message.Subscriber) { return inGroup(t, "suite-order") }, inGroup)
}

// No group: everyone gets everything, and all that is old.
func TestSuiteWithoutGroup(t *testing.T) {
	k := newKafka(t)
	inGroup := suiteOf(k, nil)
	tests.TestPubSub(t, tests.Features{Persistent: true, NewSubscriberReceivesOldMessages: true},
		func(t *testing.T) (message.Publisher, message.Subscriber) { return inGroup(t, "") }, inGroup)
}

// suiteOf returns what makes a Publisher and a Subscriber of a group. The suite
// closes what it is given.
func suiteOf(k *kafka, key func(string, *message.Message) ([]byte, error)) tests.ConsumerGroupPubSubConstructor {
	return func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		p := k.publisher(t, func(c *pubsub.PublisherConfig) { c.Key = key })
		s := k.subscriber(t, inGroup(group), func(c *pubsub.SubscriberConfig) {
			c.NackPause = time.Millisecond
			c.CreateTopics = &pubsub.TopicConfig{Partitions: 8}
		})
		return p, s
	}
}
