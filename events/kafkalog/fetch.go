package kafkalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
)

// errOutOfRange is what a leader says of an offset that it does not have.
var errOutOfRange = errors.New("offset out of range")

// fetched is what the leader has at and after an offset.
type fetched struct {
	records []events.Stored
	raw     []*kgo.Record // the same, with their keys and headers
	next    events.Offset // without records: none stands before it
	end     events.Offset // without records: where the partition can be followed from
}

// damagedTries is how often a batch that does not read is fetched. What is wrong
// on the way, and not on a disk, does not stay so.
const damagedTries = 3

// fetch asks the leader for the records at and after an offset, and does not wait
// for one. Epoch is the leader epoch of the record before it, -1 when that was not
// read: with it the leader tells whether that record is still the one it has.
func (l *Log) fetch(ctx context.Context, part *partition, from events.Offset, epoch int32) (fetched, error) {
	var got fetched
	damaged := 0
	err := l.ask(ctx, part, func(ctx context.Context, to leader) (err error) {
		rp, err := l.fetchOnce(ctx, part, to, from, epoch)
		if err != nil {
			return err
		}
		if got, err = readBatches(part, rp, from); err != nil {
			if damaged++; damaged >= damagedTries {
				return l.lose(part, "what stands at offset %d does not read: %v", from, err)
			}
		}
		return err
	})
	if errors.Is(err, errOutOfRange) {
		return l.outOfRange(ctx, part, from)
	}
	if err == nil {
		part.saw(got.records)
	}
	return got, err
}

// fetchOnce sends one request that does not wait.
func (l *Log) fetchOnce(ctx context.Context, part *partition, to leader, from events.Offset, epoch int32) (*kmsg.FetchResponseTopicPartition, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes = 0, fetchRequestBytesMax
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = l.topic, l.leaders.topicID
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = int32(part.id), int64(from), fetchBytesMax
	rp.CurrentLeaderEpoch, rp.LastFetchedEpoch = to.epoch, epoch
	topic.Partitions = append(topic.Partitions, rp)
	req.Topics = append(req.Topics, topic)

	kresp, err := l.send(ctx, to, req)
	if err != nil {
		return nil, err
	}
	resp, ok := kresp.(*kmsg.FetchResponse)
	if !ok {
		return nil, fmt.Errorf("fetch was answered with %T", kresp)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, errors.New("fetch was answered for other partitions")
	}
	got := &resp.Topics[0].Partitions[0]
	switch err := kerr.ErrorForCode(got.ErrorCode); {
	case errors.Is(err, kerr.OffsetOutOfRange):
		return nil, errOutOfRange
	case err != nil:
		return nil, err
	}
	if d := got.DivergingEpoch; d.EndOffset >= 0 {
		return nil, l.lose(part, "it was read up to offset %d, and parts from that at %d", from-1, d.EndOffset)
	}
	return got, nil
}

// readBatches reads what a leader sent. What comes before a damaged batch is good.
func readBatches(part *partition, rp *kmsg.FetchResponseTopicPartition, from events.Offset) (fetched, error) {
	fp, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: int64(from), Partition: int32(part.id),
	}, rp, kgo.DefaultDecompressor(), nil)
	if len(fp.Records) > 0 {
		return fetched{records: storedOf(fp.Records), raw: fp.Records}, nil
	}
	if fp.Err != nil {
		return fetched{}, fp.Err
	}
	return fetched{next: events.Offset(next), end: events.Offset(next)}, nil
}

// outOfRange says what it means that the leader does not have an offset: that it
// has not come to it yet, or that records are lost.
func (l *Log) outOfRange(ctx context.Context, part *partition, from events.Offset) (fetched, error) {
	known := part.reached()
	start, err := l.list(ctx, part, listStart)
	if err != nil {
		return fetched{}, err
	}
	if from < start {
		return fetched{}, l.lose(part, "it begins at offset %d, and %d is to be read", start, from)
	}
	end, err := l.list(ctx, part, listEnd)
	if err != nil {
		return fetched{}, err
	}
	if end <= known {
		if _, err := l.shorter(ctx, part, known, end); err != nil {
			return fetched{}, err
		}
	}
	return fetched{next: from, end: min(from, end)}, nil
}
