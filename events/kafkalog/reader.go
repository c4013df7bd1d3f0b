package kafkalog

import (
	"context"
	"fmt"

	"github.com/dalvdb/dalvdb/events"
)

// batchRecordsMax bounds what Next returns at once of what is in memory, so that
// a reader gets to look at its context now and then.
const batchRecordsMax = 256

// Read returns a reader of the records at and after from. It asks nothing of the
// brokers.
func (l *Log) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	part, err := l.partition(p)
	if err != nil {
		return nil, err
	}
	if err := l.usable(context.Background()); err != nil {
		return nil, err
	}
	return &reader{log: l, part: part, next: max(from, 0), epoch: -1}, nil
}

// reader reads one partition, for one goroutine: from memory what is newest, from
// the leader what is older.
type reader struct {
	log    *Log
	part   *partition
	next   events.Offset
	epoch  int32 // leader epoch of the record before next; -1: none was read
	joined bool  // it is one of those who follow
	closed bool

	batch []events.Stored // what the last Next returned
}

var _ events.Reader = (*reader)(nil)

// Next returns the next records, and waits for one. An error that wraps
// events.ErrCorrupt says that records have been lost.
func (r *reader) Next(ctx context.Context) ([]events.Stored, error) {
	for tries := 0; ; {
		if r.closed {
			return nil, events.ErrClosed
		}
		if err := r.log.usable(ctx); err != nil {
			return nil, err
		}
		batch, grown, err := r.part.look(r.next, r.batch[:0])
		if err != nil {
			return nil, err
		}
		if r.batch = batch; len(batch) == 0 && grown == nil {
			if err := r.load(ctx, tries); err != nil {
				return nil, fmt.Errorf("read partition %d at %d: %w", r.part.id, r.next, err)
			}
			tries++
		}
		if len(r.batch) > 0 {
			return r.advance(), nil
		}
		if grown == nil {
			continue
		}
		select {
		case <-grown:
		case <-ctx.Done():
		case <-r.log.alive.Done():
		}
	}
}

func (r *reader) advance() []events.Stored {
	last := r.batch[len(r.batch)-1]
	r.next, r.epoch = last.Offset+1, last.LeaderEpoch
	return r.batch
}

// load asks the leader for the next records. When there are none it becomes one of
// those who follow the partition.
func (r *reader) load(ctx context.Context, tries int) error {
	if tries > 1 { // something is on its way: a new leader, or the follower
		if err := pause(ctx, tries); err != nil {
			return err
		}
	}
	got, err := r.log.fetch(ctx, r.part, r.next, r.epoch)
	if err != nil {
		return err
	}
	// Not the array of what was there before: the follower's records are in it only
	// by reference, and those of the leader are new.
	r.batch = append(r.batch[:0], got.records...)
	if len(got.records) > 0 {
		return nil
	}
	r.next = max(r.next, got.next)
	var tell bool
	if r.joined {
		tell = r.part.again(got.end, r.epoch)
	} else {
		r.joined = true
		tell = r.part.join(got.end, r.epoch)
	}
	if tell {
		r.log.follower.tell(r.part)
	}
	return nil
}

// Close lets go of what the reader holds.
func (r *reader) Close() error {
	if r.joined && r.part.leave() {
		r.log.follower.tell(r.part)
	}
	r.closed, r.joined, r.batch = true, false, nil
	return nil
}
