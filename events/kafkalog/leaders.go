package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
)

// leader is the broker that leads a partition, and since when.
type leader struct{ node, epoch int32 }

// leaders are who leads the partitions, as far as is known.
type leaders struct {
	topicID kadm.TopicID  // immutable
	asking  chan struct{} // holds a token while somebody asks for them

	mu    sync.Mutex
	known map[events.Partition]leader
}

func newLeaders(id kadm.TopicID) *leaders {
	return &leaders{topicID: id, asking: make(chan struct{}, 1), known: make(map[events.Partition]leader)}
}

// newest returns the leader, unless a record of a later one has been read: where
// that one's log ends, the one before it does not know.
func (s *leaders) newest(p *partition) (leader, bool) {
	s.mu.Lock()
	l, ok := s.known[p.id]
	s.mu.Unlock()
	return l, ok && p.hear(l.epoch)
}

func (s *leaders) set(p events.Partition, l leader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[p] = l
}

// forget takes it that l leads p no more.
func (s *leaders) forget(p events.Partition, l leader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[p] == l {
		delete(s.known, p)
	}
}

// leaderOf returns who leads the partition. Of many who do not know one asks, for
// all partitions.
func (l *Log) leaderOf(ctx context.Context, part *partition) (leader, error) {
	if got, ok := l.leaders.newest(part); ok {
		return got, nil
	}
	select {
	case l.leaders.asking <- struct{}{}:
		defer func() { <-l.leaders.asking }()
	case <-ctx.Done():
		return leader{}, ctx.Err()
	}
	if got, ok := l.leaders.newest(part); ok {
		return got, nil
	}
	if err := l.askLeaders(ctx); err != nil {
		return leader{}, err
	}
	got, ok := l.leaders.newest(part)
	if !ok {
		return leader{}, fmt.Errorf("partition %d: %w", part.id, kerr.LeaderNotAvailable)
	}
	return got, nil
}

func (l *Log) askLeaders(ctx context.Context) error {
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &l.topic
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, l.writer)
	if err != nil {
		return fmt.Errorf("ask for the leaders of %s: %w", l.topic, err)
	}
	if len(resp.Topics) != 1 {
		return fmt.Errorf("ask for the leaders of %s: the answer names %d topics", l.topic, len(resp.Topics))
	}
	t := &resp.Topics[0]
	if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
		return fmt.Errorf("ask for the leaders of %s: %w", l.topic, err)
	}
	if err := l.sameTopic(t.TopicID); err != nil {
		return err
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		// A broker that is behind may name one that was deposed, of whom we know.
		if int(p.Partition) < len(l.partitions) && p.Leader >= 0 && l.partitions[p.Partition].hear(p.LeaderEpoch) {
			l.leaders.set(events.Partition(p.Partition), leader{p.Leader, p.LeaderEpoch})
		}
	}
	return nil
}

// sameTopic loses everything when the topic was deleted, and another one of its
// name has been made.
func (l *Log) sameTopic(id kadm.TopicID) error {
	if id == l.leaders.topicID {
		return nil
	}
	var err error
	for _, part := range l.partitions {
		err = l.lose(part, "topic %s was deleted, and made anew", l.topic)
	}
	return err
}

// lose ends a partition, in which records have been lost, and returns the error
// that everybody gets.
func (l *Log) lose(part *partition, format string, args ...any) error {
	first, err := part.lose(fmt.Errorf("partition %d: %s: %w", part.id, fmt.Sprintf(format, args...), events.ErrCorrupt))
	if first {
		l.logger.Error("records of the log are lost: the partition is neither read nor written until the log is opened again",
			"topic", l.topic, "partition", part.id, "err", err)
	}
	return err
}

// ask asks the leader of a partition until it answers, or says what cannot change
// by asking again.
func (l *Log) ask(ctx context.Context, part *partition, request func(context.Context, leader) error) error {
	ctx, stop := l.within(ctx)
	defer stop()
	for tries := 0; ; tries++ {
		if err := part.isLost(); err != nil {
			return err
		}
		lead, err := l.leaderOf(ctx, part)
		if err == nil {
			err = request(ctx, lead)
		}
		if err == nil || errors.Is(err, events.ErrCorrupt) || errors.Is(err, errOutOfRange) {
			return err
		}
		if ctx.Err() != nil {
			return l.reason(ctx, ctx.Err())
		}
		l.leaders.forget(part.id, lead)
		if tries >= triesQuiet {
			l.logger.Warn("a partition cannot be read, and is tried again", "partition", part.id, "err", err)
		}
		if err := pause(ctx, tries); err != nil {
			return l.reason(ctx, err)
		}
	}
}

// triesQuiet is how many tries a change of leaders may take without a word.
const triesQuiet = 5

// answer is what a broker said.
type answer struct {
	resp kmsg.Response
	err  error
}

// send sends a request to a leader. The request goes on when ctx ends: the client
// would close the connection, and with it end the requests of others.
func (l *Log) send(ctx context.Context, to leader, req kmsg.Request) (kmsg.Response, error) {
	answered := make(chan answer, 1)
	l.using.RLock()
	if l.alive.Err() != nil {
		l.using.RUnlock()
		return nil, events.ErrClosed
	}
	l.running.Go(func() {
		resp, err := l.writer.Broker(int(to.node)).Request(l.alive, req)
		answered <- answer{resp, err}
	})
	l.using.RUnlock()
	select {
	case a := <-answered:
		return a.resp, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
