package pubsub

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// settleMax bounds how long a rebalance waits for settle.
const settleMax = 10 * time.Second

// assigned is called before anything is read of the partitions, if the group
// starts at the newest message.
//
// Without it, a message could be missed: a member begins at the end, say at 100,
// gets 100 and 101, and goes before either was acked. Nothing is committed, so the
// next member begins at the end too, which is 102 by then.
func (s *subscription) assigned(ctx context.Context, client *kgo.Client, assigned map[string][]int32) {
	numbers := assigned[s.topic]
	if len(numbers) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	if err := s.settle(ctx, client, numbers); err != nil {
		s.logger.Warn("settle where the group starts: it may miss messages until its first ack", "error", err)
	}
}

// settle commits the end of those partitions of which nothing is committed.
func (s *subscription) settle(ctx context.Context, client *kgo.Client, numbers []int32) error {
	admin := kadm.NewClient(client)
	committed, err := admin.FetchOffsets(ctx, s.cfg.Group)
	if err != nil {
		return fmt.Errorf("what is committed: %w", err)
	}
	ends, err := admin.ListEndOffsets(ctx, s.topic)
	if err != nil {
		return fmt.Errorf("ends: %w", err)
	}
	offsets := make(map[int32]kgo.EpochOffset)
	for _, number := range numbers {
		if c, ok := committed.Lookup(s.topic, number); ok && c.At >= 0 {
			continue
		}
		end, ok := ends.Lookup(s.topic, number)
		if !ok {
			continue
		}
		if end.Err != nil {
			return fmt.Errorf("end of partition %d: %w", number, end.Err)
		}
		offsets[number] = kgo.EpochOffset{Epoch: -1, Offset: end.Offset}
	}
	return s.commitAt(ctx, client, offsets)
}

func (s *subscription) commitAt(ctx context.Context, client *kgo.Client, offsets map[int32]kgo.EpochOffset) error {
	if len(offsets) == 0 {
		return nil
	}
	var failed error
	client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{s.topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			failed = err
			if err == nil {
				failed = commitError(resp)
			}
		})
	return failed
}

func commitError(resp *kmsg.OffsetCommitResponse) error {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("commit partition %d: %w", p.Partition, err)
			}
		}
	}
	return nil
}
