package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
)

// lastRecord returns the position of the last record of a partition of the topic
// that is one of ours, none if there is none.
//
// The offset before the end may have no record: where a transaction of somebody
// else has ended, where one was aborted. And it may have one that is not ours. So
// this looks back, further each time. What consumers do not see, because its
// transaction is open or aborted, does not count.
func (f *Feed) lastRecord(ctx context.Context, p events.Partition) (events.Position, error) {
	at, err := f.findPartition(ctx, p)
	if err != nil {
		return events.Position{}, err
	}
	start, err := f.listOffset(ctx, p, listStart)
	if err != nil {
		return events.Position{}, err
	}
	end, err := f.listOffset(ctx, p, listEnd)
	if err != nil {
		return events.Position{}, err
	}
	floor := max(start, end-lookBackMax)
	var found lookedBack
	for to, width := end, int64(1); to > floor && !found.ok && err == nil; width *= 4 {
		from := max(floor, to-width)
		err = f.lookBack(ctx, at, from, to, &found)
		to = from
	}
	if found.foreign > 0 {
		f.logger.Error("somebody else has written to the topic of the changes: consumers get what is none",
			"topic", f.topic, "partition", p, "records", found.foreign, "offset", found.at, "err", found.why)
	}
	return found.position, err
}

// lookedBack is what was found at the end of a partition.
type lookedBack struct {
	position events.Position // of the last record of ours
	ok       bool            // there is one

	foreign int   // how many records behind it are not ours
	at      int64 // offset of the first of them that was met
	why     error // it is not ours
}

// lookBackMax is how far is looked back past what is not ours.
const lookBackMax = 20_000

// lookBack takes in the records in [from, to).
func (f *Feed) lookBack(ctx context.Context, at place, from, to int64, found *lookedBack) error {
	behind := found.foreign
	for from < to {
		records, next, err := f.fetch(ctx, at, from)
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.Offset >= to {
				break
			}
			pos, err := f.cfg.Position(r)
			if err == nil && pos.Partition != at.partition {
				err = fmt.Errorf("it is of partition %d of the log", pos.Partition)
			}
			if err != nil {
				found.foreign, found.at, found.why = found.foreign+1, r.Offset, err
				continue
			}
			found.position, found.ok, found.foreign = pos, true, behind
		}
		if next <= from {
			break // nothing more can be seen yet
		}
		from = next
	}
	return nil
}

// place is where a partition of the topic is now.
type place struct {
	partition events.Partition
	topicID   [16]byte
	leader    int32
	epoch     int32
}

func (f *Feed) findPartition(ctx context.Context, p events.Partition) (place, error) {
	topics, err := f.admin.ListTopics(ctx, f.topic)
	if err != nil {
		return place{}, err
	}
	topic := topics[f.topic]
	if topic.Err != nil {
		return place{}, topic.Err
	}
	part, ok := topic.Partitions[int32(p)]
	switch {
	case !ok:
		return place{}, kerr.UnknownTopicOrPartition
	case part.Err != nil:
		return place{}, part.Err
	}
	return place{partition: p, topicID: topic.ID, leader: part.Leader, epoch: part.LeaderEpoch}, nil
}

// What offsets are asked for.
const (
	listEnd   = -1
	listStart = -2
)

const readCommitted = 1

// listOffset asks for the first offset of a partition, or for the one behind the
// last that consumers see.
func (f *Feed) listOffset(ctx context.Context, p events.Partition, which int64) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = readCommitted
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = f.topic
	part := kmsg.NewListOffsetsRequestTopicPartition()
	part.Partition, part.Timestamp = int32(p), which
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, f.client)
	if err != nil {
		return 0, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, errors.New("offsets were told of other partitions")
	}
	got := resp.Topics[0].Partitions[0]
	return got.Offset, kerr.ErrorForCode(got.ErrorCode)
}

// fetch asks the leader for what stands at and after an offset, and says where to
// go on.
func (f *Feed) fetch(ctx context.Context, at place, from int64) ([]*kgo.Record, int64, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes, req.IsolationLevel = 0, fetchBytesMax, readCommitted
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = f.topic, at.topicID
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = int32(at.partition), from, fetchBytesMax
	part.CurrentLeaderEpoch = at.epoch
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	kresp, err := f.client.Broker(int(at.leader)).Request(ctx, req)
	if err != nil {
		return nil, 0, err
	}
	resp, ok := kresp.(*kmsg.FetchResponse)
	if !ok {
		return nil, 0, fmt.Errorf("fetch was answered with %T", kresp)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, 0, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, 0, errors.New("fetch was answered for other partitions")
	}
	fetched, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, Partition: int32(at.partition), Topic: f.topic, IsolationLevel: kgo.ReadCommitted(),
	}, &resp.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	if n := len(fetched.Records); n > 0 { // before a damaged one, if there is one
		return fetched.Records, max(next, fetched.Records[n-1].Offset+1), nil
	}
	return nil, next, fetched.Err
}

const fetchBytesMax = 1 << 20
