package pubsub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

var (
	// ErrClosed is returned by Subscribe after Close.
	ErrClosed = errors.New("subscriber is closed")

	// ErrSubscribed is returned by Subscribe for a topic whose channel has not been
	// closed yet: its positions are of one reader.
	ErrSubscribed = errors.New("topic is subscribed to already")
)

// A Subscriber delivers accepted events as messages. It may be used by many
// goroutines at once.
type Subscriber struct {
	cfg      Config        // whole; immutable after New
	patience time.Duration // that of new subscriptions; immutable after New

	closing context.Context // ends with Close
	end     context.CancelFunc
	running sync.WaitGroup // subscriptions; added to under mu while not closed

	mu     sync.Mutex
	closed bool
	topics map[string]bool // subscribed to
}

var _ message.Subscriber = (*Subscriber)(nil)

// New returns a Subscriber. Close it.
func New(cfg Config) (*Subscriber, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Subscriber{cfg: cfg.whole(), patience: patienceMax, topics: make(map[string]bool)}
	s.closing, s.end = context.WithCancel(context.Background())
	return s, nil
}

// Subscribe begins with a topic where its positions say, or at Config.Start, and
// returns when the node has answered: what is accepted after that is delivered.
// The channel is closed when ctx ends, at Close, or when the subscription ends by
// itself (Config.OnEnd).
//
// Errors: that of Positions.Load or of the first Store, events.ErrOtherHistory, a
// credential that is refused, a node that could not be reached for as long as the
// client tries, ErrClosed, ErrSubscribed.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	sub := newSubscription(&s.cfg, topic, s.patience)
	ended := make(chan error, 1)
	if err := s.begin(ctx, sub, ended); err != nil {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, err)
	}
	select {
	case <-sub.begun:
		return sub.out, nil
	case err := <-ended:
		if sub.hasBegun() {
			return sub.out, nil // it has told OnEnd
		}
		return nil, fmt.Errorf("subscribe to %q: %w", topic, err)
	}
}

// begin starts what runs a subscription; ended gets why it ended.
func (s *Subscriber) begin(ctx context.Context, sub *subscription, ended chan<- error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.topics[sub.topic]:
		return ErrSubscribed
	}
	s.topics[sub.topic] = true
	s.running.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.closing, cancel)()
		err := sub.run(ctx)
		if ctx.Err() == nil && sub.hasBegun() {
			s.cfg.OnEnd(sub.topic, err)
		}
		if s.closing.Err() != nil {
			err = ErrClosed
		}
		s.leave(sub.topic)
		close(sub.out)
		ended <- err
	})
	return nil
}

func (s *Subscriber) leave(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.topics, topic)
}

// Close ends all subscriptions: the contexts of the messages in hand end, and
// what was acknowledged is stored. It returns when all channels are closed. An
// Ack after that has no effect.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.running.Wait()
	return nil
}
