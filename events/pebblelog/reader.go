package pebblelog

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
)

// What Next returns at most: enough that reading from the beginning is not held
// up by beginning, little enough to be held by every reader there is.
const (
	batchRecordsMax = 256
	batchBytesMax   = 1 << 20
)

// Read returns a reader of the records at and after from.
func (l *Log) Read(p events.Partition, from events.Offset) (events.Reader, error) {
	part, err := l.partition(p)
	if err != nil {
		return nil, err
	}
	if err := l.ended(); err != nil {
		return nil, err
	}
	return &reader{log: l, partition: p, part: part, next: max(from, 0)}, nil
}

// reader reads one partition, for one goroutine. It holds nothing of the store
// between two calls, so that a slow one keeps no old tables alive.
type reader struct {
	log       *Log
	partition events.Partition
	part      *partition
	next      events.Offset
	closed    bool

	batch []events.Stored // what the last Next returned
	bytes []byte          // of the records in batch that came from the store
}

var _ events.Reader = (*reader)(nil)

// Next returns the next durable records, and waits for one. An error that wraps
// events.ErrCorrupt says that a record is damaged or missing.
func (r *reader) Next(ctx context.Context) ([]events.Stored, error) {
	for {
		if r.closed {
			return nil, events.ErrClosed
		}
		if err := r.log.usable(ctx); err != nil {
			return nil, err
		}
		batch, end, grown := r.part.look(r.next, r.batch[:0])
		if r.batch = batch; len(batch) > 0 {
			return r.advance(), nil
		}
		if grown == nil {
			if err := r.load(end); err != nil {
				return nil, fmt.Errorf("read partition %d at %d: %w", r.partition, r.next, err)
			}
			return r.advance(), nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
		case <-r.log.done:
		}
	}
}

func (r *reader) advance() []events.Stored {
	r.next = r.batch[len(r.batch)-1].Offset + 1
	return r.batch
}

// Close lets go of what the reader holds.
func (r *reader) Close() error {
	r.closed, r.batch, r.bytes = true, nil, nil
	return nil
}

// load fills the batch with records from the store, which must have all of those
// before end.
func (r *reader) load(end events.Offset) (err error) {
	r.log.using.RLock()
	defer r.log.using.RUnlock()
	if err := r.log.ended(); err != nil {
		return err // the store may be closed
	}
	end = min(end, r.next+batchRecordsMax)
	lower, upper := keyOf(r.partition, r.next), keyOf(r.partition, end)
	iter, err := r.log.db.NewIter(&pebble.IterOptions{LowerBound: lower[:], UpperBound: upper[:]})
	if err != nil {
		return markCorrupt(err)
	}
	defer func() { err = errors.Join(err, markCorrupt(iter.Close())) }()
	r.bytes = r.bytes[:0]
	for ok := iter.First(); ok && len(r.bytes) < batchBytesMax; ok = iter.Next() {
		if err := r.add(iter); err != nil {
			return err
		}
	}
	if err := iter.Error(); err != nil {
		return markCorrupt(err)
	}
	if at := r.next + events.Offset(len(r.batch)); at < end && len(r.bytes) < batchBytesMax {
		return fmt.Errorf("there is no record at %d: %w", at, events.ErrCorrupt)
	}
	return nil
}

// add puts the record that the iterator is at into the batch.
func (r *reader) add(iter *pebble.Iterator) error {
	offset, err := offsetOf(iter.Key(), r.partition)
	if err != nil {
		return err
	}
	if want := r.next + events.Offset(len(r.batch)); offset != want {
		return fmt.Errorf("offset %d stands where %d should: %w", offset, want, events.ErrCorrupt)
	}
	value, err := iter.ValueAndErr()
	if err != nil {
		return markCorrupt(err)
	}
	begin := len(r.bytes)
	r.bytes = append(r.bytes, value...) // when it moves, the records before stay where they were
	r.batch = append(r.batch, events.Stored{
		Offset: offset, LeaderEpoch: -1, Record: r.bytes[begin:len(r.bytes):len(r.bytes)],
	})
	return nil
}

// markCorrupt wraps what the store says of damage in the word of the contract.
func markCorrupt(err error) error {
	if err != nil && pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", events.ErrCorrupt, err)
	}
	return err
}
