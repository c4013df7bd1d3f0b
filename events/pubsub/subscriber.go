package pubsub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// initializeMax bounds SubscribeInitialize, which Watermill gives no context.
const initializeMax = 30 * time.Second

// Subscriber hands out the messages of topics. Its methods may be called
// concurrently.
type Subscriber struct {
	cfg     SubscriberConfig
	admin   *kgo.Client // consumes nothing: topics and lag
	tracing tracing

	mu     sync.Mutex
	closed bool
	open   map[*subscription]struct{} // those that have not ended
	ended  sync.WaitGroup             // one for each of open
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// NewSubscriber returns a Subscriber. It does not connect yet.
func NewSubscriber(cfg SubscriberConfig) (*Subscriber, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("subscriber: %w", err)
	}
	cfg = cfg.withDefaults()
	admin, err := cfg.client()
	if err != nil {
		return nil, fmt.Errorf("subscriber: %w", err)
	}
	return &Subscriber{
		cfg: cfg, admin: admin, tracing: newTracing(cfg.Kafka, cfg.Group),
		open: make(map[*subscription]struct{}),
	}, nil
}

// Subscribe returns the messages of a topic. With a group, each call is a member
// of its own, and the group's members share the partitions. At most one message
// of each partition is in hand, that is, handed out and neither acked nor nacked.
//
// The channel is closed when ctx has ended, after Close, when another static member
// has taken the name, and when the topic was deleted, also if another one has its
// name by now: who subscribes again begins with that one. Acks are committed before.
// Brokers that are away and a topic that does not exist yet are waited for.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.cfg.InstanceID != "" && slices.Contains(s.topicsLocked(), topic) {
		return nil, fmt.Errorf("subscribe to %s as %s: %w", topic, s.cfg.instance(topic), ErrSubscribed)
	}
	sub, err := newSubscription(ctx, &s.cfg, s.tracing, topic)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	s.open[sub] = struct{}{}
	s.ended.Go(func() {
		sub.run(func() { s.forget(sub) })
	})
	return sub.out, nil
}

func (s *Subscriber) forget(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sub)
}

// topicsLocked returns what is subscribed to.
func (s *Subscriber) topicsLocked() []string {
	var topics []string
	for sub := range s.open {
		topics = append(topics, sub.topic)
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// SubscribeInitialize makes the topic if it does not exist and CreateTopics says
// how. Without CreateTopics it is an error if the topic does not exist.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), initializeMax)
	defer cancel()
	if s.cfg.CreateTopics == nil {
		return s.Look(ctx, topic)
	}
	// Minus one leaves it to the brokers.
	partitions, replicas := s.cfg.CreateTopics.Partitions, s.cfg.CreateTopics.ReplicationFactor
	if partitions == 0 {
		partitions = -1
	}
	if replicas == 0 {
		replicas = -1
	}
	_, err := kadm.NewClient(s.admin).CreateTopic(ctx, partitions, replicas, s.cfg.CreateTopics.Settings, topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return nil
}

// Look asks the brokers for a topic. If it does not exist the error is a
// kerr.UnknownTopicOrPartition.
func (s *Subscriber) Look(ctx context.Context, topic string) error {
	topics, err := kadm.NewClient(s.admin).ListTopics(ctx, topic)
	if err == nil {
		err = topics[topic].Err
	}
	if err != nil {
		return fmt.Errorf("look for topic %s: %w", topic, err)
	}
	return nil
}

// Close ends all subscriptions: the contexts of messages in hand end with the
// cause ErrClosed, what was acked is committed, and the channels are closed. It
// returns when that is done. Messages in hand come again to whoever subscribes next.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	for sub := range s.open {
		sub.cancel(ErrClosed)
	}
	s.mu.Unlock()
	s.ended.Wait()
	s.admin.Close()
	return nil
}
