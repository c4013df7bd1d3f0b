package pubsub

import (
	"fmt"
	"maps"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
)

// Publisher publishes Watermill messages as records. Its methods may be called
// concurrently.
type Publisher struct {
	cfg     PublisherConfig
	client  *kgo.Client
	tracing tracing

	mu         sync.Mutex
	closed     bool
	publishing sync.WaitGroup // calls of Publish; none is added when closed
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher returns a Publisher. It does not connect yet.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	cfg = cfg.withDefaults()
	client, err := cfg.client(
		kgo.RequiredAcks(kgo.AllISRAcks()), // and idempotent, as franz-go is unless told otherwise
		kgo.RecordDeliveryTimeout(cfg.DeliveryTimeout),
		// Without it a record whose request is under way is never given up, and
		// Publish and Close would hang for as long as the brokers are away. The
		// price is that what was given up may be there.
		kgo.AllowIdempotentProduceCancellation(),
	)
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	return &Publisher{cfg: cfg, client: client, tracing: newTracing(cfg.Kafka, "")}, nil
}

// Publish sends the messages and returns when each is acknowledged by all in-sync
// replicas, or given up: DeliveryTimeout has passed, the message's context has
// ended, or the brokers refused it. Messages of one key are stored in the order
// given. The error is a *PublishError if anything was sent; any other one says
// that nothing was.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if !p.enter() {
		return ErrClosed
	}
	defer p.publishing.Done()
	keys, err := p.keys(topic, messages)
	if err != nil {
		return err
	}
	errs := make([]error, len(messages)) // one for each, written before its Done
	var sent sync.WaitGroup
	sent.Add(len(messages))
	for i, m := range messages {
		p.send(topic, keys[i], m, func(err error) {
			errs[i] = err
			sent.Done()
		})
	}
	sent.Wait()
	return publishError(topic, messages, errs)
}

// enter tells whether Publish may go on; then the caller calls publishing.Done.
func (p *Publisher) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.publishing.Add(1)
	}
	return !p.closed
}

// keys returns the key of each message, if all can be sent.
func (p *Publisher) keys(topic string, messages []*message.Message) ([][]byte, error) {
	keys := make([][]byte, len(messages))
	for i, m := range messages {
		var err error
		if keys[i], err = p.cfg.Key(topic, m); err != nil {
			return nil, fmt.Errorf("key of message %d (%s): %w", i, m.UUID, err)
		}
		if _, ok := m.Metadata[UUIDHeader]; ok {
			return nil, fmt.Errorf("message %d (%s): %w", i, m.UUID, errReserved)
		}
	}
	return keys, nil
}

func (p *Publisher) send(topic string, key []byte, m *message.Message, done func(error)) {
	// A copy, for Publish must leave the message as it is.
	headers := make(map[string]string, len(m.Metadata)+1)
	maps.Copy(headers, m.Metadata)
	span := p.tracing.publish(m.Context(), topic, m.UUID, headers)
	p.client.Produce(m.Context(), recordOf(topic, key, m, headers), func(r *kgo.Record, err error) {
		endSend(span, r, err)
		done(err)
	})
}

func endSend(span trace.Span, r *kgo.Record, err error) {
	if err == nil {
		span.SetAttributes(placeAttributes(r)...)
	}
	end(span, err)
}

func publishError(topic string, messages []*message.Message, errs []error) error {
	var failed []PublishFailure
	for i, err := range errs {
		if err != nil {
			failed = append(failed, PublishFailure{Index: i, UUID: messages[i].UUID, Err: err})
		}
	}
	if failed == nil {
		return nil
	}
	return &PublishError{Topic: topic, Failed: failed, Total: len(messages)}
}

// Close waits for the calls of Publish that are under way, each of which ends
// within about DeliveryTimeout, and ends the connections.
func (p *Publisher) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.publishing.Wait()
	p.client.Close()
	return nil
}
