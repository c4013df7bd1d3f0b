package pubsub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// pollRecordsMax bounds what one poll takes, and so for how long a poll holds
	// up a rebalance.
	pollRecordsMax = 1000

	// fetchWaitMax is how long a broker holds a fetch that finds nothing. A client
	// has one fetch under way at a broker, and a partition that is assigned or
	// resumed meanwhile waits for its end; franz-go's 5 seconds would be felt.
	fetchWaitMax = 500 * time.Millisecond

	// leaveMax bounds the last commit and the farewell to the group, when the
	// brokers are away.
	leaveMax = 10 * time.Second
)

// subscription is one Subscribe: a client of its own that is one member of the
// group, a loop that polls it, and a goroutine for each partition it owns.
//
// A rebalance waits while the loop passes on what it polled. So whoever passes
// something on owns the partition, and when a partition is revoked nothing of it
// is on its way: its goroutine is ended, what it acked is committed, and only then
// may another member have it.
type subscription struct {
	cfg     *SubscriberConfig // immutable
	tracing tracing
	topic   string
	client  *kgo.Client
	logger  *slog.Logger
	out     chan *message.Message // closed by run, when no partition is left

	ctx    context.Context // of all messages; ends when the subscription is to end
	cancel context.CancelCauseFunc

	mu         sync.Mutex
	partitions map[int32]*partition // those that have had a message since they were assigned
}

func newSubscription(ctx context.Context, cfg *SubscriberConfig, tracing tracing, topic string) (*subscription, error) {
	s := &subscription{
		cfg: cfg, tracing: tracing, topic: topic, logger: cfg.Logger.With("topic", topic, "group", cfg.Group),
		out: make(chan *message.Message), partitions: make(map[int32]*partition),
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	var err error
	if s.client, err = cfg.client(s.options()...); err != nil {
		s.cancel(err)
		return nil, err
	}
	return s, nil
}

// options has the client call back about the group. It does so from a goroutine that
// it starts while it is made, and what is called must not read the field client: it
// uses the client that it is handed.
func (s *subscription) options() []kgo.Opt {
	start := kgo.NewOffset().AtStart()
	if s.cfg.Start == Newest {
		start = kgo.NewOffset().AtEnd()
	}
	opts := []kgo.Opt{
		kgo.ConsumeTopics(s.topic),
		kgo.FetchMaxWait(fetchWaitMax),
		kgo.ConsumeStartOffset(start),
		// A place that is no longer there: twice is better than never.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}
	if s.cfg.Group == "" {
		return opts
	}
	opts = append(opts,
		kgo.ConsumerGroup(s.cfg.Group),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.BlockRebalanceOnPoll(),
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(s.cfg.CommitInterval),
		kgo.OnPartitionsRevoked(s.revoked),
		kgo.OnPartitionsLost(s.lost),
	)
	if s.cfg.Start == Newest {
		opts = append(opts, kgo.OnPartitionsAssigned(s.assigned))
	}
	if s.cfg.SessionTimeout != 0 {
		opts = append(opts, kgo.SessionTimeout(s.cfg.SessionTimeout))
	}
	if s.cfg.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(s.cfg.instance(s.topic)))
	}
	return opts
}

// instance is the name of a subscription as a static member. One Subscriber is a
// member for each topic, so its own name is not enough.
func (c *SubscriberConfig) instance(topic string) string { return c.InstanceID + "-" + topic }

// run hands out messages until the subscription's context ends, and then gives
// back all it has. forget is called before the channel is closed, so that who sees
// it closed may subscribe again.
func (s *subscription) run(forget func()) {
	defer close(s.out)
	defer forget()
	for s.poll() {
	}
	s.cancel(nil) // of the context, which may have ended because the one above it has
	s.leave()
}

// poll passes on what has arrived, and returns false at the end.
func (s *subscription) poll() bool {
	fetches := s.client.PollRecords(s.ctx, pollRecordsMax)
	// Also when nothing came: a poll that returned errors alone counts too.
	defer s.client.AllowRebalance()
	if s.ctx.Err() != nil || fetches.IsClientClosed() {
		return false
	}
	fetches.EachError(s.failed)
	fetches.EachTopic(func(t kgo.FetchTopic) {
		t.EachPartition(func(f kgo.FetchPartition) {
			if len(f.Records) > 0 {
				s.partition(t.TopicID, f.Partition).queue.put(f.Records)
			}
		})
	})
	return true
}

// failed hears of what went wrong while nothing is anybody's call. The client goes
// on by itself, but for two things. To get back a name that another member has taken
// would end that one, and so on for ever. And a topic that was deleted is not the one
// that is made under its name later: the offsets of one mean nothing in the other.
func (s *subscription) failed(_ string, p int32, err error) {
	switch {
	case errors.Is(err, kerr.FencedInstanceID):
		s.logger.Error("another member has taken this name; the subscription ends", "instance", s.cfg.instance(s.topic))
		s.cancel(fmt.Errorf("%w: %w", ErrRevoked, err))
	case errors.Is(err, kerr.UnknownTopicID):
		s.logger.Error("the topic was deleted; the subscription ends")
		s.cancel(fmt.Errorf("%w: %w", ErrRevoked, err))
	default:
		s.logger.Warn("consuming", "partition", p, "error", err)
	}
}

// partition returns the partition with this number, which is ours.
func (s *subscription) partition(topicID [16]byte, number int32) *partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[number]
	if p == nil {
		p = newPartition(s, topicID, number)
		s.partitions[number] = p
		go p.run() // ended and waited for by drop
	}
	return p
}

// drop ends partitions and returns when each of them has ended.
func (s *subscription) drop(numbers []int32) {
	for _, p := range s.take(numbers) {
		p.end()
	}
}

// take removes partitions and tells them to end, all at once.
func (s *subscription) take(numbers []int32) []*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	var taken []*partition
	for _, number := range numbers {
		if p := s.partitions[number]; p != nil {
			delete(s.partitions, number)
			p.cancel(ErrRevoked) // unless the context has ended for another cause
			taken = append(taken, p)
		}
	}
	return taken
}

func (s *subscription) owned() []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.partitions))
}

// revoked is called before other members may have the partitions.
func (s *subscription) revoked(ctx context.Context, client *kgo.Client, revoked map[string][]int32) {
	s.drop(revoked[s.topic])
	s.commit(ctx, client)
}

// lost is called when other members may have the partitions already, so that there
// is nothing left to commit.
func (s *subscription) lost(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	s.drop(lost[s.topic])
}

// commit commits what was acked.
func (s *subscription) commit(ctx context.Context, client *kgo.Client) {
	if err := client.CommitMarkedOffsets(ctx); err != nil {
		s.logger.Warn("commit: what was acked comes again", "error", err)
	}
}

// leave ends all that is under way and leaves the group, which calls revoked with
// all partitions and so commits. A static member only stays away: it may come back
// for them.
func (s *subscription) leave() {
	// No poll follows, so none is added.
	s.drop(s.owned())
	if s.cfg.Group != "" {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), leaveMax)
		defer cancel()
		if err := s.client.LeaveGroupContext(ctx); err != nil {
			s.logger.Warn("leave the group", "error", err)
		}
	}
	s.client.Close()
	// Close leaves once more, in a goroutine that it does not wait for since the
	// group is left, and polls a last time, which may hold that goroutine up for good.
	s.client.AllowRebalance()
}
