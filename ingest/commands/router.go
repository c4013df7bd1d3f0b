package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/dalvdb/dalvdb/events/pubsub"
)

// ErrNoTopic says that a topic does not exist.
var ErrNoTopic = errors.New("topic does not exist")

// errEnded says that a subscription ended by itself.
var errEnded = errors.New("the topic of commands was deleted, or another node has this one's name")

// A Router takes commands. Run runs it; Close follows.
type Router struct {
	cfg    Config // immutable after New, with its defaults
	logger *slog.Logger
	sub    *pubsub.Subscriber
	poison *pubsub.Publisher

	stats Stats
}

// Stats counts what a Router has done since it was made. Its fields may be read at
// any time.
type Stats struct {
	// Done counts the commands that need no more, by what became of them. One that
	// is delivered again counts again.
	Done [outcomes]atomic.Int64
	// Attempts counts those that failed, of whatever has to succeed before a command
	// is done.
	Attempts atomic.Int64
	// Waiting is how many commands are tried again and again now. Each holds up its
	// partition.
	Waiting atomic.Int64
}

// New returns a Router. It does not connect yet.
func New(cfg Config) (*Router, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("commands: %w", err)
	}
	cfg = cfg.withDefaults()
	sub, err := pubsub.NewSubscriber(cfg.subscriber())
	if err != nil {
		return nil, fmt.Errorf("commands: %w", err)
	}
	poison, err := pubsub.NewPublisher(cfg.publisher())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("commands: %w", err), sub.Close())
	}
	return &Router{cfg: cfg, logger: cfg.Kafka.Logger, sub: sub, poison: poison}, nil
}

// Stats returns what has been done.
func (r *Router) Stats() *Stats { return &r.stats }

// Subscriber returns what tells how far the group is behind.
func (r *Router) Subscriber() *pubsub.Subscriber { return r.sub }

// Run takes commands until ctx ends. What is in hand then comes again, to whoever
// runs next.
func (r *Router) Run(ctx context.Context) {
	pauses, said := r.pauses(), ""
	for {
		began := time.Now()
		err := r.route(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > r.cfg.RetryMax {
			pauses.Reset()
			said = ""
		}
		if err.Error() != said {
			said = err.Error()
			r.cfg.OnFault(err)
		}
		if !pause(ctx, pauses.NextBackOff()) {
			return
		}
	}
}

// route takes commands until ctx or the subscription ends.
func (r *Router) route(ctx context.Context) error {
	for _, topic := range []string{r.cfg.topic(), r.cfg.poison()} {
		err := r.sub.Look(ctx, topic)
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("%s: %w", topic, ErrNoTopic)
		}
		if err != nil {
			return err
		}
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: neverLeave}, r.watermillLogger())
	if err != nil {
		return err
	}
	router.AddConsumerHandler("commands", r.cfg.topic(), staysOpen{r.sub}, r.handle)
	if err := router.Run(ctx); err != nil {
		return err
	}
	return errEnded
}

// neverLeave has Watermill's router wait for handlers, however long: they end when
// their messages' contexts do.
const neverLeave = 24 * time.Hour

// staysOpen keeps Watermill's router, which ends with a subscription, from closing
// the Subscriber, which makes the next one.
type staysOpen struct{ message.Subscriber }

func (staysOpen) Close() error { return nil }

// watermillLogger passes on what Watermill has to say as what it is here.
func (r *Router) watermillLogger() watermill.LoggerAdapter {
	return watermill.NewSlogLoggerWithLevelMapping(r.logger, map[slog.Level]slog.Level{slog.LevelInfo: slog.LevelDebug})
}

// Close ends the connections. It is called when Run has returned.
func (r *Router) Close() error { return errors.Join(r.sub.Close(), r.poison.Close()) }

func (r *Router) pauses() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = r.cfg.RetryMin, r.cfg.RetryMax, 2
	return b
}

// pause returns false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
