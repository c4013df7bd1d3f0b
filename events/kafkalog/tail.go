package kafkalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dalvdb/dalvdb/events"
)

// What can be listed of a partition: "timestamps" of the protocol.
const (
	listEnd   = -1 // the offset after the newest record that all in-sync replicas have
	listStart = -2 // the offset of the oldest record
)

// Tail returns the offset of the newest record that all in-sync replicas have, as
// the leader says it. See the package for a leader that was deposed.
func (l *Log) Tail(ctx context.Context, p events.Partition) (events.Offset, error) {
	part, err := l.partition(p)
	if err != nil {
		return 0, err
	}
	if err := l.usable(ctx); err != nil {
		return 0, err
	}
	known := part.reached()
	end, err := l.list(ctx, part, listEnd)
	if err != nil {
		return 0, fmt.Errorf("tail of partition %d: %w", p, err)
	}
	if end <= known {
		return l.shorter(ctx, part, known, end)
	}
	return end - 1, nil
}

// shorter says what it means that a leader's log ends before what is known. If that
// was read, it was asked of no older leader than that of what was read, and records
// are lost. What was only acknowledged to us may be with a leader of whom we have
// not heard; who leads acknowledges a barrier, and where it stands tells.
func (l *Log) shorter(ctx context.Context, part *partition, known, end events.Offset) (events.Offset, error) {
	if part.isRead(known) {
		return 0, l.lose(part, "it had come to offset %d, and ends at %d", known, end-1)
	}
	return l.Barrier(ctx, part.id)
}

// list asks the leader for one end of the partition.
func (l *Log) list(ctx context.Context, part *partition, which int64) (events.Offset, error) {
	var at events.Offset
	err := l.ask(ctx, part, func(ctx context.Context, to leader) error {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID = -1
		topic := kmsg.NewListOffsetsRequestTopic()
		topic.Topic = l.topic
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = int32(part.id), which, to.epoch
		topic.Partitions = append(topic.Partitions, rp)
		req.Topics = append(req.Topics, topic)
		kresp, err := l.send(ctx, to, req)
		if err != nil {
			return err
		}
		resp, ok := kresp.(*kmsg.ListOffsetsResponse)
		if !ok || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return errors.New("the offsets of other partitions were listed")
		}
		got := &resp.Topics[0].Partitions[0]
		at = events.Offset(got.Offset)
		return kerr.ErrorForCode(got.ErrorCode)
	})
	return at, err
}
