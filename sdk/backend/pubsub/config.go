package pubsub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// A Watcher follows the accepted events of all users. It is a *backend.Client.
type Watcher interface {
	Watch(ctx context.Context, q events.FeedQuery) iter.Seq2[*events.FeedPart, error]
}

var _ Watcher = (*backend.Client)(nil)

// A Format is how payloads are written.
type Format = wire.Format

// The formats.
const (
	FormatProtobuf = wire.FormatProtobuf
	FormatJSON     = wire.FormatJSON
)

// A Filter says which events pass: those that change one of Keys or a key below
// one of Prefixes, whole. The zero Filter passes all.
type Filter struct {
	Keys     []events.Key
	Prefixes []events.Key
}

// Config is how a Subscriber works.
type Config struct {
	// Client watches the node. Required.
	Client Watcher

	// Positions keeps how far each topic has been handled. Required: NewFilePositions
	// for a service whose work is elsewhere, NewMemoryPositions for one that begins
	// anew with each start, or the service's own, beside its data.
	Positions Positions

	// Start says where a topic begins in a partition that no position is stored
	// of. Zero is events.StartNow: what is accepted after Subscribe has returned.
	Start events.Start

	// Filter says what a topic passes. A topic is nothing but a name to the node;
	// positions are kept under it. nil passes everything in every topic, as a
	// topic of Kafka does. A component that shall run on either must itself look at
	// the keys.
	Filter func(topic string) Filter

	// Format is that of the payloads. Zero is FormatProtobuf.
	Format Format

	// NackPause is how long a message waits that is to come again. Zero is one
	// second.
	NackPause time.Duration

	// OnEnd hears that a subscription has ended by itself after it had begun, and
	// why: events.ErrOtherHistory, a credential that is refused. It is called
	// before the channel of the messages is closed, and must return soon. nil logs
	// the error.
	OnEnd func(topic string, err error)

	// Logger gets what operators must know. nil is slog.Default: a feed that has
	// ended is not to be missed.
	Logger *slog.Logger
}

const nackPauseDefault = time.Second

// Validate reports all that is wrong.
func (c *Config) Validate() error {
	var wrong []error
	if c.Client == nil {
		wrong = append(wrong, errors.New("pubsub: Client is required"))
	}
	if c.Positions == nil {
		wrong = append(wrong, errors.New("pubsub: Positions is required"))
	}
	if c.Start != events.StartNow && c.Start != events.StartBeginning {
		wrong = append(wrong, fmt.Errorf("pubsub: there is no Start %d", c.Start))
	}
	if c.Format != FormatProtobuf && c.Format != FormatJSON {
		wrong = append(wrong, fmt.Errorf("pubsub: there is no Format %d", c.Format))
	}
	if c.NackPause < 0 {
		wrong = append(wrong, errors.New("pubsub: NackPause is negative"))
	}
	return errors.Join(wrong...)
}

// whole fills in the defaults.
func (c Config) whole() Config {
	if c.NackPause == 0 {
		c.NackPause = nackPauseDefault
	}
	if c.Filter == nil {
		c.Filter = func(string) Filter { return Filter{} }
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.OnEnd == nil {
		logger := c.Logger
		c.OnEnd = func(topic string, err error) {
			logger.Error("a subscription has ended by itself", "topic", topic, "error", err)
		}
	}
	return c
}
