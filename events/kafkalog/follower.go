package kafkalog

import (
	"context"
	"errors"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dalvdb/dalvdb/events"
)

// follower reads what is newest of the partitions that somebody follows, all with
// one client. One goroutine does it, and the client's assignment changes only
// between two polls, so that what a poll returns belongs to the assignment.
type follower struct {
	client *kgo.Client
	log    *Log

	mu      sync.Mutex
	changed map[*partition]struct{} // that may have to be followed anew, or no longer
	wake    context.CancelFunc      // ends the poll under way

	following map[*partition]int // the numbers that the client has; owned by run
}

func newFollower(l *Log, client *kgo.Client) *follower {
	return &follower{
		client: client, log: l, wake: func() {},
		changed: make(map[*partition]struct{}), following: make(map[*partition]int),
	}
}

// tell makes the follower look at a partition again.
func (f *follower) tell(p *partition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed[p] = struct{}{}
	f.wake()
}

// run follows until ctx is done.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		f.turn(ctx)
	}
}

// turn does what was told, and takes in what one poll returns. The poll ends when
// more is told.
func (f *follower) turn(ctx context.Context) {
	poll, cancel := context.WithCancel(ctx)
	defer cancel()
	f.mu.Lock()
	changed := f.changed
	f.changed, f.wake = make(map[*partition]struct{}), cancel
	f.mu.Unlock()
	f.apply(changed)
	fetches := f.client.PollFetches(poll)
	fetches.EachPartition(func(tp kgo.FetchTopicPartition) {
		if tp.Topic == f.log.topic { // not the client's way to say that the poll has ended
			f.take(f.log.partitions[tp.Partition], &tp.FetchPartition)
		}
	})
}

// apply makes the client's assignment what is wanted.
func (f *follower) apply(changed map[*partition]struct{}) {
	var drop []int32
	add := make(map[int32]kgo.Offset)
	for p := range changed {
		want, at, epoch := p.wanted()
		if want == f.following[p] {
			continue
		}
		if f.following[p] != 0 {
			drop = append(drop, int32(p.id))
			delete(f.following, p)
		}
		if want != 0 {
			add[int32(p.id)] = kgo.NewOffset().At(int64(at)).WithEpoch(epoch)
			f.following[p] = want
		}
	}
	if len(drop) > 0 {
		f.client.RemoveConsumePartitions(map[string][]int32{f.log.topic: drop})
	}
	if len(add) > 0 {
		f.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{f.log.topic: add})
	}
}

// take takes in what was read of a partition. After an error nobody follows it any
// more: the readers ask the leader, who tells what is the matter.
func (f *follower) take(p *partition, got *kgo.FetchPartition) {
	following := f.following[p]
	if end, again := p.publish(following, storedOf(got.Records)); again != nil {
		_ = f.log.lose(p, "it was read up to offset %d, and another record came at offset %d", end-1, again.Offset) // readers are told
	}
	if got.Err == nil {
		return
	}
	if loss := (*kgo.ErrDataLoss)(nil); errors.As(got.Err, &loss) {
		_ = f.log.lose(p, "it was read up to offset %d, and ends at %d", loss.ConsumedTo-1, loss.ResetTo-1) // readers are told
	} else {
		f.log.logger.Warn("following a partition is interrupted", "partition", p.id, "err", got.Err)
		p.unfollow(following)
	}
	delete(f.following, p)
	f.client.RemoveConsumePartitions(map[string][]int32{f.log.topic: {int32(p.id)}})
}

func storedOf(records []*kgo.Record) []events.Stored {
	stored := make([]events.Stored, len(records))
	for i, r := range records {
		stored[i] = events.Stored{Offset: events.Offset(r.Offset), LeaderEpoch: r.LeaderEpoch, Record: r.Value}
	}
	return stored
}
