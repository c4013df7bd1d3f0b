package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"github.com/dalvdb/dalvdb/events"
)

// recentBytesMax bounds what all partitions have in memory, and recentBytesMin is
// what each of them may have at least.
const (
	recentBytesMax = 64 << 20
	recentBytesMin = 64 << 10
)

// Open opens the log in a topic that Init has made. A log whose partitions are
// empty is made by it. Records can be read at once; Append works after Begin. Once
// a broker has answered, it asks until those that lead do, or ctx is done.
//
// Errors: *TopicError when the topic would not keep what is acknowledged; one that
// wraps events.ErrCorrupt when what is stored cannot be what was written.
func Open(ctx context.Context, opts Options) (*Log, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("options of the log: %w", err)
	}
	l, err := connect(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := l.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open topic %s: %w", l.topic, err), l.Close())
	}
	l.running.Go(func() { l.follower.run(l.alive) })
	if !opts.ReadOnly {
		l.running.Go(func() { l.watch(l.alive) })
		l.running.Go(func() { l.lookForContact(l.alive) })
	}
	return l, nil
}

func (l *Log) open(ctx context.Context) error {
	if err := l.find(ctx); err != nil {
		return err
	}
	if !l.opts.ReadOnly {
		if err := l.firstCheck(ctx); err != nil {
			return err
		}
	}
	return l.make(ctx)
}

// connect makes the clients of a log whose topic has not been looked at yet.
func connect(ctx context.Context, opts Options) (*Log, error) {
	l := &Log{
		opts: opts, topic: eventsTopic(opts.Prefix), logger: opts.Logger,
		room: semaphore.NewWeighted(waitingBytesMax), gate: &gate{every: gatherMax}, contact: newContact(),
	}
	l.opts.Hooks = func(client string) []kgo.Hook {
		hooks := []kgo.Hook{l.contact}
		if opts.Hooks != nil {
			hooks = append(hooks, opts.Hooks(client)...)
		}
		return hooks
	}
	l.alive, l.end = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	if l.writer, err = kgo.NewClient(l.opts.writerOptions()...); err != nil {
		return nil, fmt.Errorf("options of the log: %w", err)
	}
	client, err := kgo.NewClient(l.opts.followerOptions()...)
	if err != nil {
		l.writer.Close()
		return nil, fmt.Errorf("options of the log: %w", err)
	}
	l.admin, l.follower = kadm.NewClient(l.writer), newFollower(l, client)
	return l, nil
}

// find finds the topic, and how many partitions it has.
func (l *Log) find(ctx context.Context) error {
	topic, err := awaitTopic(ctx, l.admin, l.topic, triesNew)
	if err != nil {
		return err
	}
	l.leaders = newLeaders(topic.ID)
	count := len(topic.Partitions)
	if count > PartitionsMax {
		return fmt.Errorf("it has %d partitions: want at most %d", count, PartitionsMax)
	}
	for p := range events.Partition(count) {
		l.partitions = append(l.partitions, &partition{
			id: p, recentMax: max(recentBytesMin, recentBytesMax/count), known: -1, read: -1, epoch: -1,
		})
	}
	return nil
}

// firstCheck is Check until the brokers have answered. One that was killed is taken
// for a leader until its session ends, and a node may start just then.
func (l *Log) firstCheck(ctx context.Context) error {
	for tries := 0; ; tries++ {
		err := l.Check(ctx)
		if !isPassing(err) || ctx.Err() != nil {
			return err
		}
		if tries == triesQuiet {
			l.logger.Warn("the topic cannot be checked, and the log waits for that", "topic", l.topic, "err", err)
		}
		if err := pause(ctx, tries); err != nil {
			return err
		}
	}
}

// isPassing reports whether an error says that a broker is away, or not yet or no
// longer the one to ask.
func isPassing(err error) bool {
	network := (*net.OpError)(nil)
	return kerr.IsRetriable(err) || errors.As(err, &network)
}

// triesNew is how often a topic that nobody knows is asked for: for some seconds, in
// which a broker hears of a topic that another one has made.
const triesNew = 9

// awaitTopic is findTopic for a topic that may have been made just now.
func awaitTopic(ctx context.Context, admin *kadm.Client, name string, triesMax int) (topic kadm.TopicDetail, err error) {
	for tries := range triesMax {
		if topic, err = findTopic(ctx, admin, name); !errors.Is(err, ErrNoTopic) {
			break
		}
		if err := pause(ctx, tries); err != nil {
			return topic, err
		}
	}
	return topic, err
}

// findTopic returns what the brokers know of a topic.
func findTopic(ctx context.Context, admin *kadm.Client, name string) (kadm.TopicDetail, error) {
	all, err := admin.ListTopics(ctx, name)
	if err != nil {
		return kadm.TopicDetail{}, err
	}
	topic := all[name]
	switch {
	case errors.Is(topic.Err, kerr.UnknownTopicOrPartition):
		return topic, fmt.Errorf("%w: it is made by Init", ErrNoTopic)
	case topic.Err != nil:
		return topic, topic.Err
	case len(topic.Partitions) == 0:
		return topic, errors.New("the brokers tell no partition of it")
	}
	return topic, nil
}

// Errors of Open.
var (
	// ErrNoTopic says that there is no topic for the log.
	ErrNoTopic = errors.New("there is no such topic")

	// ErrNoLog says that the topic has no log yet, or not all of it, and that none is
	// made (Options.ReadOnly).
	ErrNoLog = errors.New("there is no log in it")

	// ErrCopying says that a copy into the topic has not ended. What is there has no
	// end of its own: who went on with it would write where records are to come that
	// others have seen. It is copied to its end, or the topic is made anew.
	ErrCopying = errors.New("a copy of a log into it has not ended")
)
